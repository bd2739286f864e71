//! Ctrl-C, SIGTERM and SIGHUP.
//!
//! Everything that must survive a dead builder survives `kill -9`: mounts and
//! processes live in namespaces that end with us, files appear by rename. So a
//! signal needs no careful unwinding, only speed: the handler kills the running
//! child, gives the main flow a moment to say what happened and clear its
//! scratch files, and then ends the process itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Context, Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static CHILD_GROUP: Mutex<Option<Pid>> = Mutex::new(None);

/// How long the main flow may take to end after a signal.
const GRACE: Duration = Duration::from_millis(1500);

/// Installs the handler; call once, early in `main`.
pub fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context(|| "cannot install the signal handler".into())?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            kill_child();
            std::thread::spawn(|| {
                std::thread::sleep(GRACE);
                std::process::exit(130);
            });
        }
    });
    Ok(())
}

/// Fails when a signal arrived; long loops call it.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        Err(Error::interrupted())
    } else {
        Ok(())
    }
}

/// Kills the registered process group, if any.
pub(crate) fn kill_child() {
    if let Ok(guard) = CHILD_GROUP.lock()
        && let Some(pid) = *guard
    {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Keeps a child's process group registered while it lives.
pub(crate) struct Registered;

impl Registered {
    pub(crate) fn new(child: &std::process::Child) -> Self {
        if let Ok(mut guard) = CHILD_GROUP.lock() {
            *guard = Pid::from_raw(child.id().cast_signed());
        }
        // The signal may have come between spawn and registration.
        if INTERRUPTED.load(Ordering::SeqCst) {
            kill_child();
        }
        Self
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Ok(mut guard) = CHILD_GROUP.lock() {
            *guard = None;
        }
    }
}
