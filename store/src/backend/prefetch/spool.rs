//! What has come, what is coming, and what is planned.
//!
//! One lock guards all of it, and one condition wakes whoever waits for bytes. The
//! bytes themselves are in scratch files, one an object, at their own offsets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::coalesce::CoalescedRange;
use super::ranges::Ranges;
use crate::backend::client::{Caution, too_short};
use crate::error::{Error, ErrorKind, Result};

/// Bytes that are kept although nobody said that they would be needed.
const UNPLANNED_MAX: u64 = 1 << 30;

/// The content of a store that has come so far.
pub(super) struct Spool {
    scratch: PathBuf,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Object>,
    /// Objects that were not what they should be.
    distrusted: HashMap<String, Distrust>,
    planned: VecDeque<CoalescedRange>,
    coming: Vec<Transfer>,
    failed: Vec<(CoalescedRange, Error)>,
    workers: usize,
    unplanned: u64,
    next: u64,
}

/// What is known of an object that came wrong.
#[derive(Default)]
struct Distrust {
    /// What came wrong once.
    ranges: HashSet<Range<u64>>,
    /// Something came wrong again: all of it is asked for, once.
    whole: bool,
}

struct Object {
    file: Arc<File>,
    have: Ranges,
    /// Its size, when all of it came.
    complete: Option<u64>,
}

struct Transfer {
    number: u64,
    run: CoalescedRange,
}

/// What there is of a range.
pub(super) enum Lookup {
    Here(Arc<File>),
    /// Nothing, and nothing is on the way.
    Nowhere(Caution),
}

/// A transfer under way. When it is dropped, nobody waits for it any more.
pub(super) struct Incoming<'a> {
    spool: &'a Spool,
    number: u64,
    key: String,
}

impl Spool {
    pub(super) fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_owned(),
            state: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the range is on its way, and says whether it is here then.
    pub(super) fn find(&self, key: &str, range: &Range<u64>, store: &str) -> Result<Lookup> {
        let mut state = self.state();
        loop {
            if let Some(object) = state.objects.get(key) {
                if object.have.contains(range) {
                    return Ok(Lookup::Here(Arc::clone(&object.file)));
                }
                if let Some(size) = object.complete.filter(|size| *size < range.end) {
                    return Err(too_short(key, store, size, range));
                }
            }
            let meets = |run: &CoalescedRange| {
                run.key == key && run.range.start < range.end && range.start < run.range.end
            };
            if let Some(at) = state.failed.iter().position(|(run, _)| meets(run)) {
                return Err(state.failed.swap_remove(at).1);
            }
            let holds = |run: &CoalescedRange| {
                run.key == key && run.range.start <= range.start && range.end <= run.range.end
            };
            if !state.coming.iter().any(|transfer| holds(&transfer.run)) {
                let planned = state.planned.iter().position(holds);
                let Some(at) = planned.filter(|_| state.workers > 0) else {
                    return Ok(Lookup::Nowhere(state.caution(key)));
                };
                // It is needed now: it comes next.
                if let Some(run) = state.planned.remove(at) {
                    state.planned.push_front(run);
                }
            }
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds runs whose bytes are neither here nor on the way. Returns how many
    /// workers must be started, of which there may be `most`; they count as started.
    pub(super) fn plan(&self, runs: Vec<CoalescedRange>, most: usize) -> usize {
        let mut state = self.state();
        for run in runs {
            let here =
                |object: &Object| object.complete.is_some() || object.have.contains(&run.range);
            let same = |other: &CoalescedRange| {
                other.key == run.key
                    && other.range.start <= run.range.start
                    && run.range.end <= other.range.end
            };
            if !state.objects.get(&run.key).is_some_and(here)
                && !state.coming.iter().any(|transfer| same(&transfer.run))
                && !state.planned.iter().any(same)
            {
                state.planned.push_back(run);
            }
        }
        let needed = state.planned.len().min(most).saturating_sub(state.workers);
        state.workers += needed;
        needed
    }

    /// The next run for a worker, which ends when there is none.
    pub(super) fn next_run(&self) -> Option<(CoalescedRange, Caution, Incoming<'_>)> {
        let mut state = self.state();
        let Some(run) = state.planned.pop_front() else {
            drop(state);
            self.worker_ends();
            return None;
        };
        let caution = state.caution(&run.key);
        let coming = self.begin(&mut state, run.clone());
        Some((run, caution, coming))
    }

    pub(super) fn worker_ends(&self) {
        self.state().workers -= 1;
        self.moved.notify_all();
    }

    /// Forgets all plans.
    pub(super) fn abandon(&self) {
        self.state().planned.clear();
    }

    fn begin(&self, state: &mut State, run: CoalescedRange) -> Incoming<'_> {
        state.next += 1;
        let (number, key) = (state.next, run.key.clone());
        state.coming.push(Transfer { number, run });
        Incoming {
            spool: self,
            number,
            key,
        }
    }

    /// A transfer of a whole object, unless there is one already.
    pub(super) fn take_whole(&self, key: &str) -> Option<Incoming<'_>> {
        let mut state = self.state();
        if state.whole_is_coming(key) {
            return None;
        }
        let run = CoalescedRange {
            key: key.to_owned(),
            range: 0..u64::MAX,
        };
        state.planned.retain(|run| run.key != key);
        Some(self.begin(&mut state, run))
    }

    pub(super) fn caution(&self, key: &str) -> Caution {
        self.state().caution(key)
    }

    /// Forgets bytes that were not what they should be. False when there is no better way to ask for
    /// them.
    pub(super) fn forget(&self, key: &str, range: &Range<u64>) -> bool {
        let mut state = self.state();
        let distrust = state.distrusted.entry(key.to_owned()).or_default();
        if distrust.whole {
            return false;
        }
        // Whoever wanted all of it had all of it.
        let is_part = range.end != u64::MAX;
        distrust.whole = !distrust.ranges.insert(range.clone()) && is_part;
        if let Some(object) = state.objects.get_mut(key) {
            object.have.remove(range);
            object.complete = None;
        }
        true
    }

    /// Keeps bytes for whoever needs them next, within reason: if that fails, they
    /// are asked for again.
    pub(super) fn keep(&self, key: &str, at: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        if self.state().unplanned + len <= UNPLANNED_MAX && self.write(key, at, bytes).is_ok() {
            self.state().unplanned += len;
        }
    }

    fn write(&self, key: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let file = self.file(key)?;
        let failed = |error| {
            Error::io("write a scratch file below", &self.scratch, error)
                .with_hint("TMPDIR names a directory with room for the packs of an image")
        };
        file.write_all_at(bytes, at).map_err(failed)?;
        if let Some(object) = self.state().objects.get_mut(key) {
            object.have.add(at..at + bytes.len() as u64);
        }
        self.moved.notify_all();
        Ok(())
    }

    fn file(&self, key: &str) -> Result<Arc<File>> {
        let mut state = self.state();
        if let Some(object) = state.objects.get(key) {
            return Ok(Arc::clone(&object.file));
        }
        let file = tempfile::tempfile_in(&self.scratch).map_err(|error| {
            Error::io("make a scratch file below", &self.scratch, error)
                .with_hint("TMPDIR names a directory for it")
        })?;
        let file = Arc::new(file);
        let object = Object {
            file: Arc::clone(&file),
            have: Ranges::default(),
            complete: None,
        };
        state.objects.insert(key.to_owned(), object);
        Ok(file)
    }
}

impl State {
    fn caution(&self, key: &str) -> Caution {
        match self.distrusted.get(key) {
            None => Caution::None,
            Some(distrust) if distrust.whole => Caution::Whole,
            Some(_) => Caution::Fresh,
        }
    }

    fn whole_is_coming(&self, key: &str) -> bool {
        self.coming
            .iter()
            .any(|transfer| transfer.run.key == key && transfer.run.range.end == u64::MAX)
    }
}

impl Incoming<'_> {
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.spool.write(&self.key, at, bytes)
    }

    /// The server sends the whole object instead of a run. False if it does so for
    /// somebody else already.
    pub(super) fn becomes_whole(&self) -> bool {
        let mut state = self.spool.state();
        let others = state.coming.iter();
        let others = others.filter(|transfer| transfer.number != self.number);
        let mut others = others.map(|transfer| &transfer.run);
        if others.any(|run| run.key == self.key && run.range.end == u64::MAX) {
            return false;
        }
        state.planned.retain(|run| run.key != self.key);
        let ours = state
            .coming
            .iter_mut()
            .find(|transfer| transfer.number == self.number);
        if let Some(transfer) = ours {
            transfer.run.range = 0..u64::MAX;
        }
        true
    }

    /// The whole object has come.
    pub(super) fn completed(self) {
        let mut state = self.spool.state();
        if let Some(object) = state.objects.get_mut(&self.key) {
            // It came from its first byte, so this is where it ends.
            object.complete = Some(object.have.end());
        }
    }

    /// The transfer ended early: whoever waits for it learns why, and no plan is
    /// followed any further, because readers can ask for themselves.
    pub(super) fn failed(self, error: Error) {
        let mut state = self.spool.state();
        if error.kind() == ErrorKind::Busy {
            return;
        }
        state.planned.clear();
        let ours = state
            .coming
            .iter()
            .find(|transfer| transfer.number == self.number);
        if let Some(run) = ours.map(|transfer| transfer.run.clone()) {
            state.failed.push((run, error));
        }
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        self.spool
            .state()
            .coming
            .retain(|transfer| transfer.number != self.number);
        self.spool.moved.notify_all();
    }
}

/// Reads bytes that have come.
pub(super) fn read(file: &File, range: &Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(|error| Error::io("read", "a scratch file", error))?;
    Ok(bytes)
}
