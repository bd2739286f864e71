//! The spool, sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::receipt::{MAX_BYTES, SignedReceipt};
use store::{ClientOptions, ObjectFolder};

use super::settings::{self, Settings};
use super::spool::{self, Waiting};
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Error, Result};
use crate::node::Node;

/// How often somebody looks whether sending is to end.
const TICK: Duration = Duration::from_millis(50);

/// What came of sending.
#[derive(Debug)]
pub struct Sent {
    /// How many receipts were put.
    pub sent: usize,
    /// How many still wait.
    pub left: usize,
    /// Counters under which another receipt with this node's key was there already.
    pub taken: Vec<u64>,
    /// Why not all went.
    pub failed: Option<Error>,
}

/// The last time that receipts were sent, or could not be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastSent {
    schema: u32,
    /// When that was.
    pub time: Timestamp,
    /// How many receipts went.
    pub sent: usize,
    /// Why not all did.
    pub failed: Option<String>,
}

fn file(node: &Node<'_>) -> PathBuf {
    node.state.receipts().join("sent.json")
}

/// What came of the last attempt; `None` before the first.
pub fn last_sent(node: &Node<'_>) -> Result<Option<LastSent>> {
    let path = file(node);
    let found: Option<LastSent> = atomic_file::read_json(&path)?;
    if let Some(found) = &found {
        check_schema(&path, found.schema)?;
    }
    Ok(found)
}

/// Sends what waits, the oldest first, for no longer than `limit`.
///
/// The work is done by a thread of its own, which is left behind when the time is over: nobody
/// knows how long a network file system keeps one waiting.
pub fn send(node: &Node<'_>, limit: Duration) -> Result<Sent> {
    let settings = settings::required(node)?;
    let _alone = spool::take(node, "sending", Duration::ZERO)?;
    let waiting = spool::waiting(node)?;
    let all = waiting.len();
    let access = access(limit)?;
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (sender, receiver) = mpsc::channel();
    let theirs = (Arc::clone(&stop), Arc::clone(&sent));
    let to = settings.to.clone();
    thread::spawn(move || {
        let mut taken = Vec::new();
        let done = ObjectFolder::open(&to, &access)
            .map_err(Error::from)
            .and_then(|folder| {
                let go_on = || !theirs.0.load(Ordering::Relaxed);
                put_all(&folder, &waiting, &go_on, &theirs.1, &mut taken)
            });
        // Nobody may listen any more.
        let _ = sender.send((taken, done.err()));
    });
    let until = Instant::now() + limit;
    // Ctrl-C is not kept waiting: what was not sent goes next time.
    let answer = loop {
        match receiver.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout)
                if Instant::now() < until && node.check_cancelled().is_ok() => {}
            answer => break answer,
        }
    };
    stop.store(true, Ordering::Relaxed);
    let (taken, failed) = match answer {
        Ok(done) => done,
        Err(_) if node.check_cancelled().is_err() => (Vec::new(), node.check_cancelled().err()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            (Vec::new(), Some(too_slow(&settings, limit)))
        }
    };
    let sent = sent.load(Ordering::Relaxed);
    let last = LastSent {
        schema: SCHEMA,
        time: Timestamp::now(),
        sent,
        failed: failed.as_ref().map(ToString::to_string),
    };
    atomic_file::write_json(&file(node), &last)?;
    Ok(Sent {
        sent,
        left: all.saturating_sub(sent),
        taken,
        failed,
    })
}

/// Sends what waits while the caller goes on with other work, and remembers what came of it. What is
/// under way when this process ends goes next time.
pub fn send_meanwhile(node: &Node<'_>, limit: Duration) -> Result<()> {
    let settings = settings::required(node)?;
    let alone = spool::take(node, "sending", Duration::ZERO)?;
    let waiting = spool::waiting(node)?;
    let access = access(limit)?;
    let file = file(node);
    let until = Instant::now() + limit;
    thread::spawn(move || {
        let _alone = alone;
        let sent = AtomicUsize::new(0);
        let go_on = || Instant::now() < until;
        let done = ObjectFolder::open(&settings.to, &access)
            .map_err(Error::from)
            .and_then(|folder| put_all(&folder, &waiting, &go_on, &sent, &mut Vec::new()));
        let failed = done.err().map(|error| error.to_string());
        let late = (!go_on()).then(|| too_slow(&settings, limit).to_string());
        let last = LastSent {
            schema: SCHEMA,
            time: Timestamp::now(),
            sent: sent.into_inner(),
            failed: failed.or(late),
        };
        // Only `receipts show` says it.
        let _ = atomic_file::write_json(&file, &last);
    });
    Ok(())
}

fn too_slow(settings: &Settings, limit: Duration) -> Error {
    Error::failed(format!(
        "no answer of {} for {} s",
        settings.to,
        limit.as_secs()
    ))
}

/// How the folder is asked, where that may take so long.
fn access(limit: Duration) -> Result<ClientOptions> {
    let mut access = ClientOptions::from_environment(&|name| std::env::var(name).ok())?;
    access.patience = access.patience.min(limit);
    access.attempts = 1;
    Ok(access)
}

fn put_all(
    folder: &ObjectFolder,
    waiting: &[Waiting],
    go_on: &dyn Fn() -> bool,
    sent: &AtomicUsize,
    taken: &mut Vec<u64>,
) -> Result<()> {
    let mut damaged = None;
    for one in waiting {
        if !go_on() {
            break;
        }
        // What was dropped meanwhile is not there.
        let Some(bytes) = atomic_file::read(&one.path)? else {
            continue;
        };
        // It stays for people to see, and holds up nobody else's way.
        let Ok(receipt) = SignedReceipt::read(&bytes) else {
            damaged.get_or_insert(&one.path);
            continue;
        };
        if put(folder, &receipt, &bytes)? {
            taken.push(one.counter);
        }
        atomic_file::remove(&one.path)?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    match damaged {
        Some(path) => Err(Error::failed(format!("{} is damaged", path.display()))
            .hint("remove it: `imgbuild fleet status` then names the gap")),
        None => Ok(()),
    }
}

/// Puts a receipt; true if its name has another one.
fn put(folder: &ObjectFolder, receipt: &SignedReceipt, bytes: &[u8]) -> Result<bool> {
    let key = receipt.key();
    if folder.put_new(&key, bytes)? {
        return Ok(false);
    }
    // An attempt whose answer was lost, or somebody else with our key. Who may not read does not
    // know, and puts it a second time: that is the same receipt for whoever reads.
    let there = folder.get(&key, MAX_BYTES);
    if there
        .as_ref()
        .is_ok_and(|there| there.as_deref() == Some(bytes))
    {
        return Ok(false);
    }
    folder.put_new(&receipt.second_key(), bytes)?;
    Ok(there.is_ok())
}
