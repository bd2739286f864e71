//! Leases and locks in a bucket: objects that their owner renews.
//!
//! Every such object is changed by compare and swap only, and each renewal makes it
//! another object (a number in it goes up). Whoever takes over what was not renewed
//! in time swaps it as well; so of owner and heir exactly one succeeds, and the
//! owner learns it at its next renewal. Clocks decide only when somebody tries.
//!
//! An owner counts by its own clock, which runs on while the machine sleeps, and
//! gives up early: it writes nothing more when two thirds of the time are over
//! since it began to renew for the last time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::BucketClient;
use crate::backend::ETag;
use crate::error::{Error, ErrorKind, Result};

/// The longest such object that is read: a lease that holds a hundred thousand keys.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// What is in a lease or lock.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LeaseRecord {
    schema: u32,
    /// The owner; empty when it is free.
    pub(super) owner: String,
    /// Goes up with each renewal.
    renewal: u64,
    /// The keys that a lease holds.
    #[serde(default)]
    pub(super) held: BTreeSet<String>,
}

impl LeaseRecord {
    /// What is in a lock that nobody has.
    pub(super) fn free() -> Self {
        Self {
            schema: 1,
            renewal: random(),
            ..Self::default()
        }
    }

    /// A note that cannot be read is nobody's.
    pub(super) fn parse(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a note has a JSON form")
    }
}

/// A lease or lock of this process.
pub(super) struct Lease {
    key: String,
    state: Mutex<(LeaseRecord, ETag)>,
    /// When its last renewal began, by [`clock`].
    renewed: AtomicU64,
    lost: AtomicBool,
}

/// Renews what is kept until it is dropped.
pub(super) struct LeaseRenewer {
    client: Arc<BucketClient>,
    lifetime: Duration,
    all: Mutex<Vec<Weak<Lease>>>,
    over: Arc<(Mutex<bool>, Condvar)>,
    running: AtomicBool,
    /// Set when something that was kept is lost.
    dead: AtomicBool,
}

impl LeaseRenewer {
    pub(super) fn new(client: Arc<BucketClient>, lifetime: Duration) -> Arc<Self> {
        Arc::new(Self {
            client,
            lifetime,
            all: Mutex::default(),
            over: Arc::default(),
            running: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        })
    }

    /// Puts a note where `seen` was, or nothing; `None` if something else is there.
    pub(super) fn take(
        self: &Arc<Self>,
        key: &str,
        held: BTreeSet<String>,
        seen: Option<&ETag>,
    ) -> Result<Option<Arc<Lease>>> {
        let note = LeaseRecord {
            schema: 1,
            owner: format!("{:016x}{:016x}", random(), random()),
            renewal: 1,
            held,
        };
        let began = clock();
        let Some(version) = self.client.swap(key, &note.to_json(), seen)? else {
            return Ok(None);
        };
        let kept = Arc::new(Lease {
            key: key.to_owned(),
            state: Mutex::new((note, version)),
            renewed: AtomicU64::new(began),
            lost: AtomicBool::new(false),
        });
        lock(&self.all).push(Arc::downgrade(&kept));
        self.run();
        Ok(Some(kept))
    }

    /// Renews a note now, with more keys in it.
    pub(super) fn renew(&self, kept: &Lease, more: &[String]) -> Result<()> {
        let mut state = lock(&kept.state);
        let (note, version) = &mut *state;
        let began = clock();
        note.renewal += 1;
        note.held.extend(more.iter().cloned());
        let swapped = self
            .client
            .swap(&kept.key, &note.to_json(), Some(version))?;
        let Some(now) = swapped else {
            kept.lost.store(true, Ordering::SeqCst);
            self.dead.store(true, Ordering::SeqCst);
            return Err(self.lost());
        };
        *version = now;
        kept.renewed.store(began, Ordering::SeqCst);
        Ok(())
    }

    /// Releases a lock.
    pub(super) fn free(&self, kept: &Lease) {
        if kept.lost.load(Ordering::SeqCst) {
            return;
        }
        let state = lock(&kept.state);
        // Otherwise others wait until its time is over.
        let _ = self
            .client
            .swap(&kept.key, &LeaseRecord::free().to_json(), Some(&state.1));
    }

    /// Refuses to go on when others may have taken this writer for dead.
    pub(super) fn check(&self) -> Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(self.lost());
        }
        let most = self.lifetime.as_millis() as u64 / 3 * 2;
        let now = clock();
        let late = |kept: &Arc<Lease>| now - kept.renewed.load(Ordering::SeqCst).min(now) > most;
        let late: Vec<_> = self.living().into_iter().filter(late).collect();
        // One renewal that succeeds says that nobody did.
        late.iter().try_for_each(|kept| self.renew(kept, &[]))
    }

    fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Busy,
            format!(
                "this command stood still for so long that others took it for dead; it writes \
                 nothing more to {}",
                self.client.describe()
            ),
        )
        .with_hint("run it again")
    }

    fn living(&self) -> Vec<Arc<Lease>> {
        let mut all = lock(&self.all);
        all.retain(|kept| kept.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Begins to renew, once.
    fn run(self: &Arc<Self>) {
        if self.running.swap(true, Ordering::SeqCst) {
            return;
        }
        let (renewer, over) = (Arc::downgrade(self), Arc::clone(&self.over));
        let pause = self.lifetime / 5;
        let run = move || {
            let (ended, woken) = &*over;
            loop {
                let ended = lock(ended);
                let waited = woken.wait_timeout_while(ended, pause, |ended| !*ended);
                let (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
                let (false, Some(renewer)) = (*ended, renewer.upgrade()) else {
                    return;
                };
                drop(ended);
                for kept in renewer.living() {
                    if !kept.lost.load(Ordering::SeqCst) {
                        // One that fails is tried again; `check` looks at the time.
                        let _ = renewer.renew(&kept, &[]);
                    }
                }
            }
        };
        if thread::Builder::new()
            .name("lease".into())
            .spawn(run)
            .is_err()
        {
            // Then `check` renews when it is time.
            self.running.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for LeaseRenewer {
    fn drop(&mut self) {
        *lock(&self.over.0) = true;
        self.over.1.notify_all();
    }
}

impl Lease {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        lock(&self.state).0.held.contains(key)
    }
}

/// Milliseconds of a clock that nobody sets and that runs on while the machine sleeps.
fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// A number that nobody else has.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = crate::random::fill(&mut bytes);
    filled.map_or_else(|_| clock(), |()| u64::from_le_bytes(bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
