//! Ctrl-C, SIGTERM and SIGHUP.
//!
//! Everything that must survive a dead builder survives `kill -9`: mounts and
//! processes live in namespaces that end with us, files appear by rename. So a
//! signal needs no careful unwinding, only speed: the handler kills the running
//! children, gives the main flow a moment to say what happened and clear its
//! scratch files, and then ends the process itself.
//!
//! A signal that the caller has set to be ignored (nohup(1), a job in the
//! background of a script) stays ignored.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Context, Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static TOLD: AtomicBool = AtomicBool::new(false);
static HELD: AtomicBool = AtomicBool::new(false);
static CHILD_GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// How long the main flow may take to end after a signal.
const GRACE: Duration = Duration::from_millis(1500);

/// Installs the handler; call once, early in `main`. `tell` shows the error of
/// a main flow that did not end in time.
pub fn install(tell: fn(&Error)) -> Result<()> {
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter();
    let wanted = wanted.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals =
        Signals::new(wanted).context(|| "cannot install the signal handler".into())?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && HELD.load(Ordering::SeqCst) {
                continue;
            }
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                end(tell);
            }
            kill_children();
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                end(tell);
            });
        }
    });
    Ok(())
}

/// The mask of proc(5), `SigIgn`.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok())
        .unwrap_or(0)
}

fn end(tell: fn(&Error)) -> ! {
    let error = Error::interrupted();
    if tell_once() {
        tell(&error);
    }
    std::process::exit(i32::from(error.kind().exit_code()))
}

/// Whether nobody has shown the interruption yet; from now on somebody has.
pub fn tell_once() -> bool {
    !TOLD.swap(true, Ordering::SeqCst)
}

/// Fails when a signal arrived; long loops call it.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        Err(Error::interrupted())
    } else {
        Ok(())
    }
}

/// While it lives, Ctrl-C belongs to the program on the terminal.
pub(crate) struct Held;

impl Held {
    pub(crate) fn new() -> Self {
        HELD.store(true, Ordering::SeqCst);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.store(false, Ordering::SeqCst);
    }
}

/// Kills the registered process groups.
fn kill_children() {
    if let Ok(groups) = CHILD_GROUPS.lock() {
        for group in groups.iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// Keeps a child's process group registered while it lives.
pub(crate) struct Registered(Option<Pid>);

impl Registered {
    pub(crate) fn new(child: &std::process::Child) -> Self {
        let group = Pid::from_raw(child.id().cast_signed());
        if let Ok(mut groups) = CHILD_GROUPS.lock() {
            groups.extend(group);
        }
        // The signal may have come between spawn and registration.
        if INTERRUPTED.load(Ordering::SeqCst) {
            kill_children();
        }
        Self(group)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Ok(mut groups) = CHILD_GROUPS.lock() {
            groups.retain(|group| Some(*group) != self.0);
        }
    }
}
