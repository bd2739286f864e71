//! Receipts that wait to be sent, and what is remembered from one to the next.
//!
//! ```text
//! receipts/memory.json               the last counter and digest, what was dropped, what systems did
//! receipts/spool/COUNTER.KIND        a receipt; KIND is `operation` or `heartbeat`
//! receipts/lock                      flock of who writes a receipt
//! ```
//! The receipt is there before the memory of it. One that the memory does not know was written by a
//! process that was killed then, and the next goes on from it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Sha256;
use store::receipt::{LastOperation, MAX_DROPPED, SignedReceipt};

use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::system::SystemName;

/// The most receipts that wait.
const MOST: usize = 200;

/// The most bytes that wait.
const MOST_BYTES: u64 = 4 << 20;

/// How long another process may take to write a receipt.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is remembered between two receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    schema: u32,
    /// The counter of the last receipt.
    pub(super) counter: u64,
    /// The digest of the last receipt.
    pub(super) last: Option<Sha256>,
    /// Receipts that were dropped and no receipt says so yet.
    pub(super) dropped: Vec<(u64, u64)>,
    /// What was last done with each system.
    pub(super) systems: BTreeMap<SystemName, SystemMemory>,
}

/// What was last done with a system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemMemory {
    pub(super) last: Option<LastOperation>,
    /// How its session failed, until one is begun or ended in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session_failed: Option<LastOperation>,
    /// The generation that was compared with what was signed, and was it; and when.
    pub(super) verified: Option<(u64, Timestamp)>,
}

/// A receipt that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Its counter.
    pub counter: u64,
    /// Whether it says nothing but that the node lives.
    pub is_heartbeat: bool,
    /// Its file.
    pub(super) path: PathBuf,
    /// How long it is.
    bytes: u64,
}

fn memory_file(node: &Node<'_>) -> PathBuf {
    node.state.receipts().join("memory.json")
}

fn spool(node: &Node<'_>) -> PathBuf {
    node.state.receipts().join("spool")
}

/// Takes the lock of who writes.
pub(super) fn lock(node: &Node<'_>) -> Result<File> {
    take(node, "lock", PATIENCE)
}

/// Takes one of the locks of receipts.
pub(super) fn take(node: &Node<'_>, name: &str, patience: Duration) -> Result<File> {
    let path = node.state.receipts().join(name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .context(|| format!("cannot open {}", path.display()))?;
    let until = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                let what = "another imgnode is at work with the receipts of this node";
                return Err(Error::new(Kind::Busy, what));
            }
            Err(TryLockError::Error(error)) => return Err(error).context(|| "cannot lock a file"),
        }
    }
}

/// Begins a memory for a key that has signed nothing yet.
pub(super) fn begin(node: &Node<'_>) -> Result<()> {
    let memory = Memory {
        schema: SCHEMA,
        counter: 0,
        last: None,
        dropped: Vec::new(),
        systems: BTreeMap::new(),
    };
    write(node, &memory)
}

/// Removes all that waits, and the memory.
pub(super) fn forget(node: &Node<'_>) -> Result<()> {
    atomic_file::remove_tree(&spool(node))?;
    atomic_file::remove(&memory_file(node))
}

/// What is remembered, brought up to what is in the spool.
pub(super) fn read(node: &Node<'_>) -> Result<Memory> {
    let path = memory_file(node);
    let Some(mut memory) = atomic_file::read_json::<Memory>(&path)? else {
        return Err(
            Error::failed(format!("{} is gone, and the key is there", path.display()))
                .cause("how many receipts it has signed is not known")
                .hint("imgnode receipts key --new makes another key, to be enrolled again"),
        );
    };
    check_schema(&path, memory.schema)?;
    if let Some(last) = waiting(node)?.last()
        && last.counter > memory.counter
    {
        let bytes = atomic_file::read(&last.path)?.unwrap_or_default();
        memory.counter = last.counter;
        memory.last = Some(Sha256::of(&bytes));
        // It says them, and another that says them again does no harm. A damaged one is missed by
        // those who read the next.
        if let Ok(written) = SignedReceipt::read(&bytes) {
            merge(&mut memory.dropped, &written.receipt.dropped);
        }
        write(node, &memory)?;
    }
    Ok(memory)
}

pub(super) fn write(node: &Node<'_>, memory: &Memory) -> Result<()> {
    atomic_file::write_json(&memory_file(node), memory)
}

/// The receipts that wait, in the order of their counters.
pub fn waiting(node: &Node<'_>) -> Result<Vec<Waiting>> {
    let directory = spool(node);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(|| format!("cannot list {}", directory.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
        let name = entry.file_name();
        let Some((digits, kind)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let (Ok(counter), "operation" | "heartbeat") = (digits.parse(), kind) else {
            continue;
        };
        found.push(Waiting {
            counter,
            is_heartbeat: kind == "heartbeat",
            bytes: entry.metadata().map_or(0, |meta| meta.len()),
            path: entry.path(),
        });
    }
    found.sort();
    Ok(found)
}

/// Reads a receipt that waits.
pub(super) fn load(one: &Waiting) -> Result<SignedReceipt> {
    let damaged = || format!("{} is damaged", one.path.display());
    let bytes = atomic_file::read(&one.path)?.unwrap_or_default();
    SignedReceipt::read(&bytes).context(damaged)
}

/// Puts a receipt into the spool.
pub(super) fn add(node: &Node<'_>, receipt: &SignedReceipt, is_heartbeat: bool) -> Result<()> {
    let directory = spool(node);
    atomic_file::create_directory(&directory, 0o700)?;
    let kind = if is_heartbeat {
        "heartbeat"
    } else {
        "operation"
    };
    let name = format!("{:012}.{kind}", receipt.receipt.counter);
    atomic_file::write(&directory.join(name), &receipt.to_json(), 0o600)
}

/// Makes room for one more receipt: the oldest heartbeats go, then the oldest of all. What went is
/// remembered until a receipt says it.
pub(super) fn make_room(node: &Node<'_>, memory: &mut Memory) -> Result<()> {
    let mut all = waiting(node)?;
    let mut bytes: u64 = all.iter().map(|one| one.bytes).sum();
    while all.len() >= MOST || bytes > MOST_BYTES {
        let oldest = all.iter().position(|one| one.is_heartbeat);
        let gone = all.remove(oldest.unwrap_or(0));
        bytes -= gone.bytes;
        // What it would have said of others that went.
        if let Ok(receipt) = load(&gone) {
            merge(&mut memory.dropped, &receipt.receipt.dropped);
        }
        merge(&mut memory.dropped, &[(gone.counter, gone.counter)]);
        // The memory first: what was killed in between was dropped and is there, which does no harm.
        write(node, memory)?;
        atomic_file::remove(&gone.path)?;
    }
    Ok(())
}

/// Adds ranges to ranges. Where they are more than a receipt takes, the two that are nearest to each
/// other become one: what is between them was sent, and is not missed for being said to be dropped.
fn merge(ranges: &mut Vec<(u64, u64)>, more: &[(u64, u64)]) {
    ranges.extend_from_slice(more);
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges.drain(..) {
        match merged.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    while merged.len() > MAX_DROPPED {
        let gap = |at: &usize| merged[at + 1].0 - merged[*at].1;
        let at = (0..merged.len() - 1).min_by_key(gap).unwrap_or(0);
        merged[at].1 = merged[at + 1].1;
        merged.remove(at + 1);
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_bounded() {
        let mut ranges = vec![(1, 3), (7, 7)];
        merge(&mut ranges, &[(4, 4), (9, 9), (2, 2)]);
        assert_eq!(ranges, [(1, 4), (7, 7), (9, 9)]);
        let many: Vec<_> = (0..100).map(|n| (n * 100 + 20, n * 100 + 20)).collect();
        merge(&mut ranges, &many);
        assert_eq!(ranges.len(), MAX_DROPPED);
        assert!(ranges.is_sorted_by(|a, b| a.1 < b.0));
        let is_said = |counter| ranges.iter().any(|(a, b)| (a..=b).contains(&&counter));
        assert!(many.iter().all(|(counter, _)| is_said(*counter)));
        assert!(!is_said(9_999));
    }
}
