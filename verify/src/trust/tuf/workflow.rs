//! Section 5 of the TUF specification, in its order and with its numbers.
//!
//! Every run starts from the local state and nothing else, so whatever a failed
//! run had in memory is gone with it. A file reaches the state only after every
//! check that can be made on it has passed, *including* those against floors
//! that the file itself does not know: a timestamp that leads to a snapshot
//! which is then refused must not have moved anything that the refusal relied
//! on. That is why the floors of the snapshot live in their own file and not in
//! the snapshot that happens to be stored.
//!
//! The stored snapshot and targets are only copies that save a download: they
//! are used when the current timestamp vouches for them and fetched anew when
//! it does not.

use common::percent;
use jiff::{SignedDuration, Timestamp as Time};
use serde_json::Value;
use store::digest::Sha256;
use store::name::EnvName;

use super::core::{self, Core, Listing, News, Pin, Refusal, TIMELESS};
use super::error::{Error, ErrorKind, Result};
use super::limits::{MOST_ROOTS, ROOT_LIMIT, SNAPSHOT_LIMIT, TARGETS_LIMIT, TIMESTAMP_LIMIT};
use super::precheck;
use super::refusal::{refused, rollback, too_large};
use super::repository::Repository;
use super::state::{Floor, SnapshotFloor, State, Void, not_initialised};
use crate::error::INCOMPLETE;

/// How far a clock may go back: clocks are set in steps of less than a second all the time.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);
/// The earliest time that a clock can be right about, 2025-01-01: no environment that this program
/// can follow is older.
const FIRST_TIME: Time = Time::constant(1_735_689_600, 0);

/// Names a file of metadata by its role, as python-tuf does it: all but letters,
/// digits and `_.-~` percent-encoded.
pub(super) fn encoded(role: &str) -> String {
    percent::encode(role, b"")
}

/// The result of a run: trusted metadata, and the floors it was held against.
pub(super) struct Trusted {
    pub(super) core: Box<dyn Core>,
    pub(super) floor: Floor,
}

impl Trusted {
    /// The list of releases, and the floors that it was held against.
    pub(super) fn list(&self) -> (&dyn Listing, &Floor) {
        (&*self.core, &self.floor)
    }
}

/// Runs the client workflow once. `env` is the name that root and targets must
/// carry; `now` is the fixed start time (5.1).
pub(super) fn refresh(
    state: &State,
    env: Option<&EnvName>,
    repository: &dyn Repository,
    now: Time,
) -> Result<Trusted> {
    let mut run = Run::load(state, env, repository, now)?;
    run.update_root()?;
    run.update_timestamp()?;
    run.update_snapshot()?;
    run.update_targets()?;
    run.remember()?;
    Ok(Trusted {
        core: run.core,
        floor: run.floor,
    })
}

/// Checks a root that a person vouches for: it must be a well-formed root of
/// `env`, signed by its own keys. It may have run out (5.2 does not ask), as
/// long as the environment has a newer one.
pub(super) fn examine_root(bytes: &[u8], env: Option<&EnvName>) -> Result<()> {
    let file = "the root file";
    if bytes.len() as u64 > ROOT_LIMIT {
        return Err(too_large(file, ROOT_LIMIT));
    }
    let facts = precheck::root(bytes, file)?;
    core::begin(bytes)?.map_err(|refusal| refused(file, refusal, None))?;
    same_environment(facts.environment.as_deref(), env, file)
}

struct Run<'a> {
    state: &'a State,
    env: Option<&'a EnvName>,
    repository: &'a dyn Repository,
    now: Time,
    core: Box<dyn Core>,
    root: precheck::Root,
    floor: Floor,
}

impl<'a> Run<'a> {
    /// 5.2: load the trusted root, and finish what a kill interrupted.
    fn load(
        state: &'a State,
        env: Option<&'a EnvName>,
        repository: &'a dyn Repository,
        now: Time,
    ) -> Result<Self> {
        let Some(bytes) = state.read("root.json")? else {
            return Err(not_initialised(state.directory()));
        };
        let floor = state.floor()?;
        // The clock's floor is ours and not TUF's, like the environment's name.
        if env.is_some() {
            check_clock(now, floor.last_seen)?;
        }
        let damaged = |e: &dyn std::fmt::Display| state.corrupt("root.json", e);
        let root = precheck::root(&bytes, "it").map_err(|e| damaged(&e))?;
        same_environment(root.environment.as_deref(), env, "it").map_err(|e| damaged(&e))?;
        let core =
            core::begin(&bytes)?.map_err(|refusal| damaged(&refused("it", refusal, None)))?;
        if core.root_version() < floor.root {
            let older = format!(
                "it is root {}, and {} was trusted",
                core.root_version(),
                floor.root
            );
            return Err(damaged(&older));
        }
        let mut run = Self {
            state,
            env,
            repository,
            now,
            core,
            root,
            floor,
        };
        run.carry_out_void()?;
        Ok(run)
    }

    /// 5.3: walk the chain of roots to its end.
    fn update_root(&mut self) -> Result<()> {
        let first = self.core.root_version();
        let mut newest = None;
        let mut void = Void {
            at_root: first,
            timestamp_and_snapshot: false,
            seq: false,
        };
        let walked = loop {
            // 5.3.2, 5.3.3: version N+1, up to a length, or the end of the chain.
            let file = format!("{}.root.json", self.core.root_version().saturating_add(1));
            let bytes = match self.repository.metadata(&file, ROOT_LIMIT) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            };
            if self.core.root_version() - first >= MOST_ROOTS {
                let text = format!("there are more than {MOST_ROOTS} new roots after root {first}");
                return Err(Error::new(ErrorKind::TooManyRoots, text).with_hint(
                    "if that is true, start again from the environment's current root file",
                ));
            }
            // 5.3.4 to 5.3.7: by both the old and the new keys, and exactly N+1.
            // Its expiry does not matter yet (5.3.6).
            match self.accept_root(&bytes, &file) {
                Ok(next) => {
                    void.at_root = self.core.root_version();
                    // 5.3.11. A changed threshold counts as a change of keys:
                    // what met the old one need not meet the new one.
                    void.timestamp_and_snapshot |= self.root.rotates(&next, "timestamp")
                        || self.root.rotates(&next, "snapshot");
                    void.seq |= self.root.rotates(&next, "targets");
                    self.root = next;
                    newest = Some(bytes);
                }
                Err(e) => break Err(e),
            }
        };
        // 5.3.8: what was accepted stays accepted, even if a later one was not.
        if let Some(bytes) = newest {
            if void.timestamp_and_snapshot || void.seq {
                self.floor.void = Some(void);
                self.state.write_floor(&self.floor)?;
            }
            self.state.write("root.json", &bytes)?;
            self.carry_out_void()?;
        }
        walked?;
        // 5.3.10: now it must not have run out.
        self.fresh(
            &format!("{}.root.json", self.core.root_version()),
            self.core.root_expires(),
        )
    }

    fn accept_root(&mut self, bytes: &[u8], file: &str) -> Result<precheck::Root> {
        let next = precheck::root(bytes, file)?;
        // Asked before the core is: it takes what it accepts, and a foreign
        // root must not become the start of anything.
        same_environment(next.environment.as_deref(), self.env, file)?;
        self.core
            .update_root(bytes)
            .map_err(|r| refused(file, r, Some(self.now)))?;
        Ok(next)
    }

    /// 5.3.11: after a change of keys, what the old keys had said is void: a
    /// stolen key may have pushed the versions so high that nothing honest
    /// could ever follow.
    fn carry_out_void(&mut self) -> Result<()> {
        let Some(void) = self.floor.void.take() else {
            return Ok(());
        };
        if void.at_root <= self.core.root_version() {
            if void.timestamp_and_snapshot {
                self.state.remove("timestamp.json")?;
                self.state.remove("snapshot.json")?;
                self.floor.timestamp = 0;
                self.floor.snapshot = None;
            }
            if void.seq {
                self.floor.seq.clear();
            }
        }
        self.state.write_floor(&self.floor)
    }

    /// 5.4: the timestamp, the one file that is always fetched.
    fn update_timestamp(&mut self) -> Result<()> {
        let file = "timestamp.json";
        // The trusted one comes first. That it may have run out since does not
        // matter: it is a floor.
        if let Some(stored) = &self.state.read(file)? {
            precheck::signed(stored, "it").map_err(|e| self.state.corrupt(file, &e))?;
            self.core
                .update_timestamp(stored, TIMELESS)
                .map_err(|refusal| self.state.corrupt(file, &refused("it", refusal, None)))?;
        }
        let version = self.core.timestamp_version().unwrap_or_default();
        if version < self.floor.timestamp {
            let was = self.floor.timestamp;
            let older = format!("it is version {version} or missing, and {was} was trusted");
            return Err(self.state.corrupt(file, &older));
        }
        // 5.4.1
        let bytes = self.fetch(file, TIMESTAMP_LIMIT)?;
        precheck::signed(&bytes, file)?;
        // 5.4.2 signatures; 5.4.3.1 its version, an equal one being dropped
        // quietly; 5.4.3.2 the version of the snapshot that it pins; 5.4.4.
        let news = self.core.update_timestamp(&bytes, self.now);
        let news = news.map_err(|r| refused(file, r, Some(self.now)))?;
        let expires = self.core.timestamp_expires().unwrap_or(TIMELESS);
        self.fresh(file, expires)?;
        if let (Some(floor), Some(pin)) = (&self.floor.snapshot, self.core.snapshot_pin())
            && pin.version < floor.version
        {
            return Err(rollback(
                "the snapshot that timestamp.json pins",
                floor.version,
                pin.version,
            ));
        }
        // 5.4.5
        if news == News::Newer {
            self.state.write(file, &bytes)?;
        }
        self.floor.timestamp = self.core.timestamp_version().unwrap_or_default();
        Ok(())
    }

    /// 5.5: the snapshot that the timestamp pins.
    fn update_snapshot(&mut self) -> Result<()> {
        let unpinned = || precheck::malformed("timestamp.json", &"it pins no snapshot.json");
        let pin = self.core.snapshot_pin().ok_or_else(unpinned)?;
        if let Some((stored, _)) = self.stored("snapshot.json", &pin)?
            && self.core.update_snapshot(&stored, TIMELESS).is_ok()
            && self
                .core
                .snapshot_expires()
                .is_some_and(|end| end > self.now)
        {
            return self.check_snapshot_floor("snapshot.json");
        }
        // 5.5.1, 5.5.2
        let (file, bytes) = self.fetch_pinned("snapshot.json", &pin, SNAPSHOT_LIMIT)?;
        precheck::signed(&bytes, &file)?;
        // 5.5.3 signatures, 5.5.4 version
        let taken = self.core.update_snapshot(&bytes, self.now);
        taken.map_err(|r| refused(&file, r, Some(self.now)))?;
        // 5.5.5 nothing that was pinned before may be gone or older
        self.check_snapshot_floor(&file)?;
        // 5.5.6
        self.fresh(&file, self.core.snapshot_expires().unwrap_or(TIMELESS))?;
        // 5.5.7. The floor first: from here on nothing older is accepted,
        // whether or not the copy of the file gets to the disk.
        self.floor.snapshot = Some(SnapshotFloor {
            version: pin.version,
            pins: self.core.snapshot_lists().into_iter().collect(),
        });
        self.state.write_floor(&self.floor)?;
        self.state.write("snapshot.json", &bytes)
    }

    fn check_snapshot_floor(&self, file: &str) -> Result<()> {
        let Some(floor) = &self.floor.snapshot else {
            return Ok(());
        };
        let lists: std::collections::BTreeMap<_, _> =
            self.core.snapshot_lists().into_iter().collect();
        for (name, &trusted) in &floor.pins {
            match lists.get(name) {
                Some(&new) if new >= trusted => {}
                Some(&new) => {
                    return Err(rollback(
                        &format!("the {name} that {file} pins"),
                        trusted,
                        new,
                    ));
                }
                None => {
                    let text = format!("{file} no longer lists {name}, which was trusted before");
                    return Err(Error::new(ErrorKind::Rollback, text));
                }
            }
        }
        Ok(())
    }

    /// 5.6: the targets that the snapshot pins.
    fn update_targets(&mut self) -> Result<()> {
        let unpinned = || precheck::malformed("the snapshot", &"it pins no targets.json");
        let pin = self.core.targets_pin().ok_or_else(unpinned)?;
        if let Some((stored, signed)) = self.stored("targets.json", &pin)?
            && self.core.update_targets(&stored, TIMELESS).is_ok()
            && self
                .core
                .targets_expires()
                .is_some_and(|end| end > self.now)
        {
            return self.same_environment(&signed, "targets.json");
        }
        // 5.6.1, 5.6.2
        let (file, bytes) = self.fetch_pinned("targets.json", &pin, TARGETS_LIMIT)?;
        let signed = precheck::signed(&bytes, &file)?;
        // 5.6.3 signatures, 5.6.4 version
        let taken = self.core.update_targets(&bytes, self.now);
        taken.map_err(|r| refused(&file, r, Some(self.now)))?;
        self.same_environment(&signed, &file)?;
        // 5.6.5
        self.fresh(&file, self.core.targets_expires().unwrap_or(TIMELESS))?;
        // 5.6.6
        self.state.write("targets.json", &bytes)
    }

    /// The run has succeeded: its time and its releases become floors.
    fn remember(&mut self) -> Result<()> {
        let mut floor = self.floor.clone();
        floor.last_seen = floor.last_seen.max(Some(self.now));
        floor.root = self.core.root_version();
        for target in self.core.target_names() {
            if let Some((name, seq)) = store::tuf::paths::parse_target_name(target) {
                let highest = floor.seq.entry(name.to_string()).or_default();
                *highest = seq.max(*highest);
            }
        }
        self.state.write_floor(&floor)?;
        self.floor = floor;
        Ok(())
    }

    /// The stored copy of a file, if it is the one that `pin` is about. A copy
    /// that is not JSON any more means that the disk loses what we trust. With its signed part.
    fn stored(&self, file: &str, pin: &Pin) -> Result<Option<(Vec<u8>, Value)>> {
        let Some(bytes) = self.state.read(file)? else {
            return Ok(None);
        };
        let signed = precheck::signed(&bytes, "it").map_err(|e| self.state.corrupt(file, &e))?;
        let current = signed.get("version").and_then(Value::as_u64) == Some(pin.version);
        Ok((current && fits(&bytes, pin).is_ok()).then_some((bytes, signed)))
    }

    fn fetch(&self, file: &str, limit: u64) -> Result<Vec<u8>> {
        fetch(self.repository, file, limit)
    }

    fn fetch_pinned(&self, file: &str, pin: &Pin, limit: u64) -> Result<(String, Vec<u8>)> {
        fetch_pinned(&*self.core, self.repository, file, pin, limit)
    }

    fn fresh(&self, file: &str, expires: Time) -> Result<()> {
        if expires > self.now {
            return Ok(());
        }
        Err(refused(file, Refusal::Expired { expires }, Some(self.now)))
    }

    fn same_environment(&self, signed: &Value, file: &str) -> Result<()> {
        same_environment(precheck::environment(signed).as_deref(), self.env, file)
    }
}

/// Whether the repository still has the files that are trusted, byte by byte.
/// The workflow does not ask: what was verified and kept is not fetched again.
/// But a file that changed under its version means that somebody has touched
/// the repository, and that is no place to install from.
pub(super) fn audit(state: &State, trusted: &Trusted, repository: &dyn Repository) -> Result<()> {
    let core = &*trusted.core;
    let root = format!("{}.root.json", core.root_version());
    if let (Some(kept), Some(served)) = (
        state.read("root.json")?,
        repository.metadata(&root, ROOT_LIMIT)?,
    ) && kept != served
    {
        let text = format!("{root} is not the file that was verified before");
        return Err(Error::new(ErrorKind::Mismatch, text));
    }
    for (file, pin, limit) in [
        ("snapshot.json", core.snapshot_pin(), SNAPSHOT_LIMIT),
        ("targets.json", core.targets_pin(), TARGETS_LIMIT),
    ] {
        if let Some(pin) = pin {
            fetch_pinned(core, repository, file, &pin, limit)?;
        }
    }
    Ok(())
}

fn fetch(repository: &dyn Repository, file: &str, limit: u64) -> Result<Vec<u8>> {
    let bytes = repository.metadata(file, limit)?.ok_or_else(|| {
        Error::new(ErrorKind::Missing, format!("the environment has no {file}"))
            .with_hint("check the address of the store and the name of the environment")
    })?;
    if bytes.len() as u64 > limit {
        return Err(too_large(file, limit));
    }
    Ok(bytes)
}

/// Fetches a file of which another one knows version, length and hash; with
/// consistent snapshots (5.3.12) under the name of that version.
pub(super) fn fetch_pinned(
    core: &dyn Core,
    repository: &dyn Repository,
    file: &str,
    pin: &Pin,
    limit: u64,
) -> Result<(String, Vec<u8>)> {
    let file = if core.consistent_snapshot() {
        format!("{}.{file}", pin.version)
    } else {
        file.to_owned()
    };
    let announced = pin.length.unwrap_or(limit);
    if announced > limit {
        return Err(too_large(&file, limit));
    }
    let bytes = fetch(repository, &file, announced).map_err(|e| match e.kind() {
        ErrorKind::Missing => {
            let text = format!("{e}, which its signed files name");
            Error::new(ErrorKind::Incomplete, text).with_hint(INCOMPLETE)
        }
        _ => e,
    })?;
    fits(&bytes, pin).map_err(|why| {
        let text = format!("{file} is not the file that was signed for: {why}");
        Error::new(ErrorKind::Mismatch, text)
    })?;
    Ok((file, bytes))
}

pub(super) fn fits(bytes: &[u8], pin: &Pin) -> Result<(), String> {
    if let Some(length) = pin.length
        && bytes.len() as u64 != length
    {
        return Err(format!("it has {} bytes, not {length}", bytes.len()));
    }
    if let Some(sha256) = &pin.sha256
        && !Sha256::of(bytes).hex().eq_ignore_ascii_case(sha256)
    {
        return Err("its sha256 differs".to_owned());
    }
    Ok(())
}

fn same_environment(found: Option<&str>, wanted: Option<&EnvName>, file: &str) -> Result<()> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    if found == Some(wanted.as_str()) {
        return Ok(());
    }
    let found = found.map_or("no environment".to_owned(), |name| {
        format!("the environment {name:?}")
    });
    let text = format!("{file} was signed for {found}, and this node follows {wanted}");
    Err(Error::new(ErrorKind::Environment, text))
}

/// The clock may not be before a time at which a refresh succeeded.
fn check_clock(now: Time, last_seen: Option<Time>) -> Result<()> {
    let floor = last_seen.unwrap_or(FIRST_TIME).max(FIRST_TIME);
    if now >= floor || floor.duration_since(now) <= CLOCK_TOLERANCE {
        return Ok(());
    }
    let text = format!("the clock of this machine says {now}, but it has been {floor} already");
    Err(Error::new(ErrorKind::Clock, text)
        .with_hint("set the clock (timedatectl set-ntp true), then try again"))
}
