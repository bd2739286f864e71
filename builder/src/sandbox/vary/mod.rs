//! The varied sandbox: to prove that an image is what its lock says, it is
//! built again where everything is different that must not matter.
//!
//! # What a varied build varies
//!
//! | what | how | where |
//! |---|---|---|
//! | clock | `CLOCK_REALTIME` and its kin are [`AHEAD`]: year, month, day, weekday and hour differ | every process of a step, this module |
//! | directory read order | the names that one getdents64(2) returns come in reverse | every process of a step, this module |
//! | CPU count | one CPU, in `sched_getaffinity(2)` and in `/sys/devices/system/cpu/online` | every process of a step, `init` |
//! | build path | another work directory, of another length | imgbuild |
//! | host name, locale, time zone, umask | others than the caller's | imgbuild itself, in `caller` |
//! | time of the build, process ids, inode numbers, addresses | differ between any two builds | nobody has to do anything |
//!
//! The first three are what no namespace can fence, so a step sees them; the
//! others a step must not see at all, and the second build proves that.
//!
//! # How
//!
//! `init`, the first process of the sandbox, becomes the tracer (ptrace(2)) of
//! the step's command and, as the kernel attaches it to every child, of all its
//! descendants: forks, vforks, threads, daemons. A seccomp(2) filter, installed
//! between fork and exec and inherited by all, stops a process only at the calls
//! that matter; everything else runs at full speed. The clock normally needs no
//! call: the C library reads it in the vDSO (vdso(7)). So at each exec the
//! tracer strikes the vDSO from the auxiliary vector (getauxval(3)), and every
//! libc, static ones and Go's included, falls back to real calls.
//!
//! A program that computes a deadline from the clock and waits for it (futex(2),
//! `clock_nanosleep(2)`, timers, message queues) hands in a time of its own
//! world; the tracer moves it back for the duration of the call.
//!
//! The call itself always runs: only its results in memory are changed. So
//! permissions, errors, restarts after signals and descriptors are the kernel's.
//! When the tracer dies, the kernel kills all that it traced, and the PID
//! namespace with it.
//!
//! # What it does not vary
//!
//! - **File times.** Two builds never write a file at the same second, so what
//!   copies a file's time into its content is found without help; to stop at
//!   each stat(2) would double the time of a build. The clock of a varied step
//!   is thus ahead of the files that it writes; a program that compares the two
//!   (a watchdog that touches a file) may be surprised. `make` and dpkg are not.
//! - **Directories over one read.** The order is reversed within what one call
//!   returns, 32 KiB or some 800 names with glibc; seekdir(3) to the middle of
//!   such a block would repeat names.
//! - **Programs of another architecture** (i386 on amd64), `CLOCK_MONOTONIC`
//!   (since boot: differs anyway), the TSC, memory addresses (random anyway).
//! - **The recipe's tests.** They cannot change the image, so a varied build
//!   leaves them out.
//!
//! A step that traces its own processes (strace, gdb) cannot do so here: a
//! process has one tracer. What is in reach of the namespaces, host name and
//! umask and environment inside the sandbox, is part of what a recipe is
//! promised, and the same in every build.

mod call;
pub(super) mod caller;
mod filter;
mod process;

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Result};
use call::{Call, Pending};
use process::{Event, Resume, Tracee};

/// How far ahead the clock of a varied build is: a year, a month, a week and a
/// day, and some hours, minutes and seconds.
pub const AHEAD: Duration = Duration::from_secs(((365 + 31 + 8) * 24 + 5) * 3600 + 7 * 60 + 9);

/// Runs the command to its end in a varied sandbox; returns its exit code, 128+n
/// after signal n. Reaps every orphan meanwhile, as PID 1 has to.
pub(super) fn run(command: Command) -> Result<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let main = process::start(command, filter::program())
        .context(|| format!("cannot start {name} under the tracer"))?;
    let mut open: HashMap<Tracee, Pending> = HashMap::new();
    loop {
        let (tracee, event) =
            process::next().context(|| "cannot wait for the traced processes".into())?;
        let resume = match event {
            Event::Ended(code) if tracee == main => return Ok(code),
            Event::Ended(_) => {
                open.remove(&tracee);
                continue;
            }
            Event::Exec => {
                open.remove(&tracee);
                strike_vdso(tracee);
                Resume::Run
            }
            Event::Call => match Call::entered(tracee) {
                Some(pending) => {
                    open.insert(tracee, pending);
                    Resume::UntilReturn
                }
                None => Resume::Run,
            },
            Event::Returned => {
                if let Some(pending) = open.remove(&tracee) {
                    pending.returned(tracee);
                }
                Resume::Run
            }
            Event::Signal(signal) => Resume::Deliver(signal),
            Event::Stopped => Resume::Listen,
            Event::Other => Resume::Run,
        };
        // One that was killed meanwhile is reported as ended.
        tracee.resume(resume);
    }
}

/// Makes the vDSO's entry of a fresh program's auxiliary vector one to ignore.
///
/// The initial stack (System V ABI, "Process Initialization"): the number of
/// arguments, their addresses, 0, those of the environment, 0, then pairs of
/// type and value until the type 0.
fn strike_vdso(tracee: Tracee) {
    const AT_NULL: u64 = 0;
    const AT_IGNORE: u64 = 1;
    const AT_SYSINFO_EHDR: u64 = 33;
    let Some(stack) = tracee.stack().filter(|stack| stack.native) else {
        return;
    };
    let mut words = Words::new(tracee, stack.pointer);
    let mut walk = || -> Option<u64> {
        let arguments = words.next()?;
        words.skip(arguments.checked_add(1)?);
        while words.next()? != 0 {}
        loop {
            let at = words.at;
            match (words.next()?, words.next()?) {
                (AT_NULL, _) => return None,
                (AT_SYSINFO_EHDR, _) => return Some(at),
                _ => {}
            }
        }
    };
    if let Some(at) = walk() {
        tracee.write_word(at, AT_IGNORE);
    }
}

/// Words of a process's memory, read by the page.
struct Words {
    tracee: Tracee,
    at: u64,
    page: Vec<u8>,
    from: u64,
}

impl Words {
    fn new(tracee: Tracee, at: u64) -> Self {
        Self {
            tracee,
            at,
            page: Vec::new(),
            from: at,
        }
    }

    fn skip(&mut self, words: u64) {
        self.at = self.at.saturating_add(words.saturating_mul(8));
    }

    fn next(&mut self) -> Option<u64> {
        let inside = |from: u64, page: &[u8]| {
            let start = usize::try_from(self.at.checked_sub(from)?).ok()?;
            let bytes = page.get(start..start.checked_add(8)?)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let word = inside(self.from, &self.page).or_else(|| {
            // To the end of its page: the next one may not be there.
            let rest = 4096 - self.at % 4096;
            self.page = self.tracee.read(self.at, usize::try_from(rest).ok()?)?;
            self.from = self.at;
            inside(self.from, &self.page)
        })?;
        self.at += 8;
        Some(word)
    }
}
