//! The further processes of a session, as /proc shows them.
//!
//! Nothing notes them, so that one which a killed command began is found as any other. Each is
//! started by a schroot of the host that leads a session of its own (setsid(2)) and waits for it; the
//! command line of that schroot, which no app can change, has the label and the session. What belongs
//! to it is in that session of the kernel, or, after somebody killed the schroot, has the label in its
//! environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::processes::{Process, all_pids, inside, leader_of, lives_in, parent_of};

/// The variable that has the label, `worker.1`.
pub(super) const LABEL: &str = "IMGNODE_PROCESS";

/// A further process of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The program of the host that waits for it; without one it is not taken for running.
    pub(super) wrapper: Option<i32>,
    /// The process that the command became; none while it is on its way, or where it left others behind.
    pub(super) main: Option<Process>,
    /// All that belongs to it, that one included.
    pub(super) members: Vec<Process>,
}

/// The further processes of the session `id` by label.
pub(super) fn look(root: &Path, id: &str) -> BTreeMap<String, Seen> {
    let mut found: BTreeMap<String, Seen> = BTreeMap::new();
    for pid in all_pids() {
        if let Some(label) = waits_for(pid, root, id) {
            found.entry(label).or_default().wrapper = Some(pid);
        }
    }
    for process in inside(root) {
        let leader = leader_of(process.pid);
        let led = |(label, seen): (&String, &Seen)| {
            let is = seen.wrapper.is_some() && seen.wrapper == leader;
            is.then(|| label.clone())
        };
        let label = found.iter().find_map(led);
        let Some(label) = label.or_else(|| own_label(process.pid)) else {
            continue;
        };
        let seen = found.entry(label).or_default();
        if seen.wrapper.is_some() && parent_of(process.pid) == seen.wrapper {
            seen.main = Some(process.clone());
        }
        seen.members.push(process);
    }
    found
}

/// The label of what a program of the host waits for, or is about to start, in a session.
fn waits_for(pid: i32, root: &Path, id: &str) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    // The words of `App::enter`.
    words.find(|word| *word == b"--chroot")?;
    if words.next() != Some(id.as_bytes()) {
        return None;
    }
    let label = words.find_map(label_in)?;
    (is_roots(pid) && !lives_in(pid, root)).then_some(label)
}

/// The label in a process' own environment, as it began.
fn own_label(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(label_in)
}

fn label_in(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok()?;
    let label = word.strip_prefix(LABEL)?.strip_prefix('=')?;
    Some(label.to_owned())
}

/// Whether root began it: a user who may enter sessions has words of his own.
fn is_roots(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().next()) == Some("0")
}
