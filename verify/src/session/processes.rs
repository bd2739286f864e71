//! The processes of a session.
//!
//! A process belongs to a session when its root directory is the session's mount point, as schroot's
//! own `15killprocs` sees it, or below that: servers lock themselves in with chroot(2). A process is
//! signalled through a pidfd that was opened before its root was looked at, so a number that the
//! kernel gave to somebody else in between is never hit.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Clock ticks of /proc/PID/stat in a second: `USER_HZ`, times(2).
const TICKS: u64 = 100;

/// A process as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The number of the process.
    pub pid: i32,
    /// The command line, cut to a readable length.
    pub command: String,
}

/// The process that a session stands and falls with. Numbers come again, so it is known by its time
/// as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MainProcess {
    /// The number of the process.
    pub pid: i32,
    /// When it began, in clock ticks since the machine did.
    pub since: u64,
}

impl MainProcess {
    /// What `start` became: the process that the program `by` began, as long as that waits for it,
    /// else the only one that no other of the session began. Where there are several, none is it.
    /// Those in `except` are not looked at.
    pub(super) fn find(root: &Path, by: Option<u32>, except: &[i32]) -> Option<Self> {
        let first = find_first(root, except);
        let parent = by.and_then(|by| i32::try_from(by).ok());
        let began = first
            .iter()
            .find(|one| parent.is_some() && parent_of(one.pid) == parent);
        let pid = match (began, first.as_slice()) {
            (Some(one), _) | (None, [one]) => one.pid,
            _ => return None,
        };
        Some(Self {
            pid,
            since: began_at(pid)?,
        })
    }

    /// This very process.
    pub(super) fn of_self() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let since = began_at(pid)?;
        Some(Self { pid, since })
    }

    /// Whether it lives, wherever.
    pub(super) fn lives(self) -> bool {
        began_at(self.pid) == Some(self.since)
    }

    /// A pidfd of it, while it lives.
    pub(super) fn open(self, root: &Path) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let same = began_at(self.pid) == Some(self.since);
        (same && lives_in(self.pid, root)).then_some(handle)
    }
}

/// The processes whose root is `root` or below it, by number.
pub fn inside(root: &Path) -> Vec<Process> {
    let mut found: Vec<Process> = all_pids()
        .into_iter()
        .filter(|pid| lives_in(*pid, root))
        .map(|pid| Process {
            pid,
            command: command_of(pid),
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The numbers of all processes of this machine.
pub(super) fn all_pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(super) fn lives_in(pid: i32, root: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/root")).is_ok_and(|found| found.starts_with(root))
        && !is_zombie(pid)
}

fn is_zombie(pid: i32) -> bool {
    stat(pid, 0).is_some_and(|state| state == "Z")
}

/// A field of /proc/PID/stat, counted from the state, which is 0.
fn stat(pid: i32, field: usize) -> Option<String> {
    // "PID (NAME) STATE ...", and the name may hold parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(field).map(str::to_owned)
}

fn began_at(pid: i32) -> Option<u64> {
    stat(pid, 19)?.parse().ok()
}

/// Since when a process runs, whatever somebody did to the clock.
pub(super) fn age_of(pid: i32) -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    let began = Duration::from_millis(began_at(pid)? * 1000 / TICKS);
    Some(uptime.saturating_sub(began))
}

fn command_of(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let text: String = words
        .join(" ")
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect();
    if text.is_empty() {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    } else {
        text
    }
}

/// Sends a signal to every process of a session; says which were there.
pub fn signal_all(root: &Path, signal: Signal) -> Vec<Process> {
    let mut reached = inside(root);
    reached.retain(|process| send(process, root, signal));
    reached
}

/// Sends a signal to a process of a session, if it is that still.
pub(super) fn send(process: &Process, root: &Path, signal: Signal) -> bool {
    open(process, root).is_some_and(|handle| pidfd_send_signal(&handle, signal).is_ok())
}

/// Kills a program of the host.
pub(super) fn kill_program(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may be gone this moment.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A pidfd of a process of a session, if it is that still.
fn open(process: &Process, root: &Path) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid)?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    lives_in(process.pid, root).then_some(handle)
}

/// The process that began another, or that it was left to.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    stat(pid, 1)?.parse().ok()
}

/// The process that leads the session (setsid(2)) of another.
pub(super) fn leader_of(pid: i32) -> Option<i32> {
    stat(pid, 3)?.parse().ok()
}

/// Sends a signal to the first processes of a session. Says which were there.
pub(super) fn signal_first(root: &Path, signal: Signal, except: &[i32]) -> Vec<Process> {
    let mut first = find_first(root, except);
    first.retain(|process| send(process, root, signal));
    first
}

/// Pidfds of the first processes of a session.
pub(super) fn first(root: &Path, except: &[i32]) -> Vec<OwnedFd> {
    let first = find_first(root, except);
    first.iter().filter_map(|one| open(one, root)).collect()
}

/// Those processes of a session that no other of its processes began: what `start` became.
fn find_first(root: &Path, except: &[i32]) -> Vec<Process> {
    let mut all = inside(root);
    all.retain(|process| !except.contains(&process.pid));
    let began = |process: &Process| {
        let parent = parent_of(process.pid);
        !all.iter().any(|other| Some(other.pid) == parent)
    };
    all.iter().filter(|one| began(one)).cloned().collect()
}

/// Waits until a session has no process left, at most `timeout`; says which remain.
pub fn wait_empty(root: &Path, timeout: Duration) -> Vec<Process> {
    let until = Instant::now() + timeout;
    loop {
        let left = inside(root);
        if left.is_empty() || Instant::now() >= until {
            return left;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends every process of a session: asks with SIGTERM, then, after `timeout`, kills. Says which
/// were killed.
pub fn end_all(root: &Path, timeout: Duration) -> Vec<Process> {
    signal_all(root, Signal::TERM);
    let mut killed = Vec::new();
    let mut left = wait_empty(root, timeout);
    // A process that forks while it is killed needs another round; a few are enough for any that
    // does not do it on purpose, and schroot reports what still holds the mount.
    for _ in 0..10 {
        if left.is_empty() {
            break;
        }
        killed.extend(signal_all(root, Signal::KILL));
        left = wait_empty(root, Duration::from_millis(500));
    }
    killed.dedup();
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_live_in_our_own_root() {
        let root = fs::read_link("/proc/self/root").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(inside(&root).iter().any(|process| process.pid == me));
        assert!(inside(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn a_process_is_known_by_number_and_time() {
        let root = fs::read_link("/proc/self/root").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let since = began_at(pid).unwrap();
        assert!(MainProcess { pid, since }.open(&root).is_some());
        let another = MainProcess {
            pid,
            since: since + 1,
        };
        assert!(another.open(&root).is_none());
    }

    #[test]
    fn a_process_has_an_age() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(age_of(pid).unwrap() < Duration::from_secs(50));
        // Nothing is older than the machine.
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(age_of(1).unwrap().as_secs_f64() <= uptime + 60.0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(age_of(pid), None);
    }

    #[test]
    fn an_empty_session_needs_no_waiting() {
        assert!(end_all(Path::new("/nonexistent"), Duration::from_secs(60)).is_empty());
    }
}
