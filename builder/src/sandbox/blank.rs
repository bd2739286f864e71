//! What a process inherits from whoever started imgbuild, set to fixed values:
//! limits, dispositions of signals, open descriptors, the terminal.
//!
//! sigaction(2) for every signal and close-on-exec for descriptors that somebody
//! else opened have no safe wrapper: hence the two unsafe calls here.
#![allow(unsafe_code)]

use std::fs;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use crate::error::{Context, Result};

/// Soft and hard limits of every step (setrlimit(2), its units). The number of
/// files is what systemd gives a service; a crash writes no core.
const LIMITS: [(Resource, Option<u64>, Option<u64>); 16] = [
    (Resource::As, None, None),
    (Resource::Core, Some(0), Some(0)),
    (Resource::Cpu, None, None),
    (Resource::Data, None, None),
    (Resource::Fsize, None, None),
    (Resource::Locks, None, None),
    (Resource::Memlock, Some(8 << 20), Some(8 << 20)),
    (Resource::Msgqueue, Some(819_200), Some(819_200)),
    (Resource::Nice, Some(0), Some(0)),
    (Resource::Nofile, Some(1024), Some(524_288)),
    (Resource::Nproc, None, None),
    (Resource::Rss, None, None),
    (Resource::Rtprio, Some(0), Some(0)),
    (Resource::Rttime, None, None),
    (Resource::Sigpending, Some(65_536), Some(65_536)),
    (Resource::Stack, Some(8 << 20), None),
];
/// Highest number of a signal (signal(7), "Real-time signals").
const LAST_SIGNAL: i32 = 64;

/// From here on, what this process starts has nothing of the caller's but the
/// standard streams; on a terminal, for a shell, that as well.
pub(super) fn inherit_nothing() -> Result<()> {
    // The kernel's sigaction: handler, flags, restorer, mask; all zero is
    // SIG_DFL. The C library keeps two signals to itself, ignored ones as well.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the kernel only reads the struct, which is as long as its own
        // or longer, and no handler is installed. It fails for SIGKILL and
        // SIGSTOP: they cannot be ignored.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    if !std::io::stdin().is_terminal() {
        // A session of its own: no way to the caller's terminal (tty(4)).
        setsid().context(|| "cannot make a session".into())?;
    }
    for (resource, soft, hard) in LIMITS {
        limit(resource, soft, hard)?;
    }
    descriptors()
}

fn limit(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    let wanted = Rlimit {
        current: soft,
        maximum: hard,
    };
    if setrlimit(resource, wanted).is_ok() {
        return Ok(());
    }
    // Without CAP_SYS_RESOURCE nobody goes above what the machine allows.
    let most = getrlimit(resource).maximum;
    let within = |value: Option<u64>| match (value, most) {
        (Some(value), Some(most)) => Some(value.min(most)),
        (value, most) => value.or(most),
    };
    let possible = Rlimit {
        current: within(soft),
        maximum: within(hard),
    };
    setrlimit(resource, possible).context(|| format!("cannot set the limit {resource:?}"))
}

/// Nothing but the standard streams outlives exec.
fn descriptors() -> Result<()> {
    let failed = || "cannot look at the open descriptors".to_owned();
    for entry in fs::read_dir("/proc/self/fd").context(failed)? {
        let name = entry.context(failed)?.file_name();
        let number = name.to_str().and_then(|n| n.parse().ok());
        if let Some(number) = number.filter(|n| *n > 2) {
            // SAFETY: used at once, and only to set a flag; a number that is
            // not open any more fails.
            let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}
