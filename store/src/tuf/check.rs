//! Every file of an environment compared with what vouches for it.
//!
//! Opening an environment reads what is current. History stands behind that: earlier
//! versions, which a client that was away walks through, and the log. Each is judged by
//! the roots there were.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Result;
use super::history::History;
use super::log::{LogEntry, LogHead};
use super::metadata::{MetaFile, Role, Root, SignedFile, Snapshot, Targets, Timestamp};
use super::metadata_store::LIMIT;
use super::{Environment, MetadataStore, consistency, paths, witness};
use crate::digest::Sha256;
use crate::name::EnvName;

/// The findings of a check of one environment.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Keys of what is damaged or missing, and why.
    pub(crate) damage: BTreeMap<String, String>,
    /// Keys of what is no part of an environment.
    pub(crate) foreign: Vec<String>,
    /// Keys of what an interrupted change may have left.
    pub(crate) strays: Vec<String>,
}

struct Check<'s> {
    store: &'s dyn MetadataStore,
    name: &'s EnvName,
    keys: &'s BTreeSet<String>,
    found: Findings,
}

/// Checks all files of an environment; `keys` are all that lie below its folder. What the
/// manifests of current releases say is for others to compare.
pub(crate) fn check(
    store: &dyn MetadataStore,
    name: &EnvName,
    keys: &BTreeSet<String>,
) -> Findings {
    let mut check = Check {
        store,
        name,
        keys,
        found: Findings::default(),
    };
    check.all();
    check.found
}

impl Check<'_> {
    fn all(&mut self) {
        let mut versions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        let (mut logs, mut targets) = (BTreeSet::new(), Vec::new());
        let mut witnesses = Vec::new();
        let home = paths::home(self.name);
        for key in self.keys {
            let inner = key.strip_prefix(&home).unwrap_or_default();
            if let Some(file) = inner.strip_prefix("metadata/") {
                match file.split_once('.') {
                    Some((number, role @ ("root.json" | "targets.json" | "snapshot.json")))
                        if exact(number).is_some() =>
                    {
                        versions.entry(role).or_default().extend(exact(number));
                    }
                    _ if file == "timestamp.json" => {}
                    _ => self.found.foreign.push(key.clone()),
                }
            } else if let Some(number) = inner
                .strip_prefix("log/")
                .and_then(|file| exact(file.strip_suffix(".json")?))
            {
                logs.insert(number);
            } else if inner == "history.json" {
                // Read below.
            } else if let Some(id) = inner
                .strip_prefix("witness/")
                .and_then(|file| file.strip_suffix(".json"))
            {
                witnesses.push((key.clone(), id));
            } else if let Some((_, file)) = inner
                .strip_prefix("targets/")
                .and_then(|rest| rest.split_once('/'))
                && let Some((digest, seq)) = file
                    .strip_suffix(".json")
                    .and_then(|file| file.split_once('.'))
                && let (Ok(digest), Some(_)) = (Sha256::from_hex(digest), exact(seq))
            {
                targets.push((key.clone(), digest));
            } else {
                self.found.foreign.push(key.clone());
            }
        }
        let of = |role| versions.get(role).cloned().unwrap_or_default();
        let roots = self.roots(&of("root.json"));
        let snapshots = self.role::<Snapshot>(&of("snapshot.json"), &roots);
        let releases = self.role::<Targets>(&of("targets.json"), &roots);
        if let Some(pin) = self.timestamp(&roots) {
            self.current("snapshot.json", pin, &of("snapshot.json"));
            let snapshot = snapshots.get(&pin).map(|(snapshot, _)| &snapshot.meta);
            if let Some(pin) = snapshot.and_then(|meta| meta.get("targets.json")) {
                self.current("targets.json", pin.version, &of("targets.json"));
            }
        }
        self.current("root.json", 1, &of("root.json"));
        for (snapshot, _) in snapshots.values() {
            self.pinned(snapshot, &releases);
        }
        for (key, digest) in targets {
            match self.store.read(&key, LIMIT) {
                Ok(Some(bytes)) if Sha256::of(&bytes) != digest => {
                    self.damaged(key, "its digest is not its name");
                }
                Err(error) => self.damaged(key, error),
                Ok(_) => {}
            }
        }
        let Ok(environment) = Environment::open(self.store, self.name) else {
            // Said already, or by whoever opens it.
            return;
        };
        let current = &environment.current;
        let (targets, snapshot) = (&current.targets.signed.head, &current.snapshot.signed.head);
        let retired = self.history(&of("targets.json"), &of("snapshot.json"), &releases, &roots);
        let lasts = [
            ("root.json", 0, current.root.signed.head.version),
            ("targets.json", retired.0, targets.version),
            ("snapshot.json", retired.1, snapshot.version),
        ];
        for (role, retired, last) in lasts {
            let there = of(role);
            for version in (retired + 1..=last).filter(|version| !there.contains(version)) {
                let key = paths::metadata(self.name, &format!("{version}.{role}"));
                self.damaged(key, "it is missing");
            }
            for version in there.into_iter().filter(|version| *version > last) {
                let key = paths::metadata(self.name, &format!("{version}.{role}"));
                self.found.strays.push(key);
            }
        }
        // Of a log that is damaged itself, that is said below.
        if let Ok(entries) = environment.log(usize::MAX)
            && let Ok(Some(why)) = consistency::contradiction(&current.targets.signed, &entries)
        {
            let file = format!("{}.targets.json", targets.version);
            self.damaged(paths::metadata(self.name, &file), why);
        }
        let end = current.targets.signed.log;
        let entries = self.log(end);
        for (key, id) in witnesses {
            self.witness(key, id, environment.fingerprint(), &entries);
        }
        let length = end.map_or(0, |end| end.length);
        for number in logs.into_iter().filter(|number| *number > length) {
            self.found.strays.push(paths::log(self.name, number));
        }
    }

    fn damaged(&mut self, key: String, why: impl std::fmt::Display) {
        let why = why.to_string();
        self.found.damage.entry(key).or_insert(why);
    }

    /// The chain of roots, as far as it holds.
    fn roots(&mut self, versions: &BTreeSet<u64>) -> Vec<Root> {
        let mut roots: Vec<Root> = Vec::new();
        for version in versions {
            let file = format!("{version}.root.json");
            let read = self.file::<Root>(&file, *version).and_then(|(file, _)| {
                if let Some(before) = roots.last() {
                    file.check(before)?;
                }
                file.check(&file.signed)?;
                Ok(file.signed)
            });
            match read {
                Ok(root) => roots.push(root),
                Err(error) => {
                    self.damaged(paths::metadata(self.name, &file), error);
                    break;
                }
            }
        }
        roots
    }

    /// All versions of a role's file that one of the roots vouches for.
    fn role<T: Role>(
        &mut self,
        versions: &BTreeSet<u64>,
        roots: &[Root],
    ) -> BTreeMap<u64, (T, Vec<u8>)> {
        let mut good = BTreeMap::new();
        for version in versions {
            let file = format!("{version}.{}.json", T::TYPE);
            match self.trusted::<T>(&file, *version, roots) {
                Ok(read) => {
                    good.insert(*version, read);
                }
                Err(error) => self.damaged(paths::metadata(self.name, &file), error),
            }
        }
        good
    }

    fn trusted<T: Role>(&self, file: &str, version: u64, roots: &[Root]) -> Result<(T, Vec<u8>)> {
        let (read, bytes) = self.file::<T>(file, version)?;
        let mut last = Ok(());
        for root in roots.iter().rev() {
            last = read.check(root);
            if last.is_ok() {
                break;
            }
        }
        last.map(|()| (read.signed, bytes))
    }

    fn file<T: Role>(&self, file: &str, version: u64) -> Result<(SignedFile<T>, Vec<u8>)> {
        let bytes = super::environment::expect(self.store, self.name, file)?;
        let read = SignedFile::<T>::read(&bytes, file)?.expect_version(version)?;
        Ok((read, bytes))
    }

    /// Says that a version is missing that others lead to.
    fn current(&mut self, role: &str, version: u64, there: &BTreeSet<u64>) {
        if !there.contains(&version) {
            let key = paths::metadata(self.name, &format!("{version}.{role}"));
            self.damaged(key, "it is missing");
        }
    }

    /// The one file that has no version in its name. Returns the snapshot that it leads to.
    fn timestamp(&mut self, roots: &[Root]) -> Option<u64> {
        let file = "timestamp.json";
        let key = paths::metadata(self.name, file);
        let read = super::environment::expect(self.store, self.name, file)
            .and_then(|bytes| SignedFile::<Timestamp>::read(&bytes, file))
            .and_then(|read| {
                roots.last().map_or(Ok(()), |root| read.check(root))?;
                Ok(read.signed)
            });
        let timestamp = read.map_err(|error| self.damaged(key, error)).ok()?;
        timestamp.meta.get("snapshot.json").map(|pin| pin.version)
    }

    /// Compares files with the digests in a snapshot.
    fn pinned(&mut self, snapshot: &Snapshot, releases: &BTreeMap<u64, (Targets, Vec<u8>)>) {
        let fits = |pin: &MetaFile| {
            releases
                .get(&pin.version)
                .is_none_or(|(_, bytes)| pin.fits(bytes))
        };
        if let Some(pin) = snapshot.meta.get("targets.json").filter(|pin| !fits(pin)) {
            let key = paths::metadata(self.name, &format!("{}.targets.json", pin.version));
            self.damaged(key, "its digest is not the one that its snapshot names");
        }
    }

    /// The history, made again from the oldest targets that are there. Returns up to which
    /// version targets and snapshots may be missing.
    fn history(
        &mut self,
        targets: &BTreeSet<u64>,
        snapshots: &BTreeSet<u64>,
        releases: &BTreeMap<u64, (Targets, Vec<u8>)>,
        roots: &[Root],
    ) -> (u64, u64) {
        let key = paths::history(self.name);
        // What is missing from the first one on is in the history, or was.
        let begin = |there: &BTreeSet<u64>| there.first().map_or(0, |first| first - 1);
        let gone = (begin(targets), begin(snapshots));
        let history = match History::read(self.store, self.name) {
            Ok(Some(history)) => history,
            Ok(None) if gone.0 > 0 && gone.1 > 0 => {
                self.damaged(key, "it is missing");
                return gone;
            }
            Ok(None) => return (0, 0),
            Err(error) => {
                self.damaged(key, error);
                return gone;
            }
        };
        // What is left of it is damaged itself, and said to be.
        if releases.contains_key(&(history.targets() + 1)) {
            let mut bad = None;
            let walked = history.walk(self.store, self.name, 1, &mut |version, targets| {
                if !roots.iter().any(|root| targets.check(root).is_ok()) {
                    bad = bad.or(Some(version));
                }
                Ok(())
            });
            if let Err(error) = walked {
                self.damaged(key, error);
            } else if let Some(version) = bad {
                self.damaged(
                    key,
                    format_args!("its targets {version} are not as they were signed"),
                );
            }
        }
        (history.targets(), history.snapshots)
    }

    /// The log, from its signed end back to the first entry: those that can be believed.
    fn log(&mut self, end: Option<LogHead>) -> Vec<LogHead> {
        let (mut entries, mut next) = (Vec::new(), end);
        while let Some(head) = next {
            let key = paths::log(self.name, head.length);
            let entry = match self.store.read(&key, LIMIT) {
                Ok(Some(text)) => LogEntry::read(&text, head).map_err(|e| e.to_string()),
                Ok(None) => Err("it is missing".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            entries.push(head);
            match entry {
                Ok(entry) => {
                    next = entry.previous.map(|sha256| LogHead {
                        length: head.length - 1,
                        sha256,
                    });
                }
                Err(error) => {
                    self.damaged(key, error);
                    break;
                }
            }
        }
        entries
    }

    /// What a witness signed: by the key that its name is of, and about this log.
    fn witness(&mut self, key: String, id: &str, fingerprint: Sha256, entries: &[LogHead]) {
        match witness::read(self.store, self.name, &key) {
            Ok(Some(said)) if said.key.id() != id => {
                self.damaged(key, "it was signed with another key than its name says");
            }
            Ok(Some(said)) if said.checkpoint.fingerprint != fingerprint => {
                self.damaged(key, "the witness saw another environment of this name");
            }
            Ok(Some(said)) => {
                let seen = &said.checkpoint;
                let entry = entries.iter().find(|head| head.length == seen.length);
                // Below an entry that is damaged nothing is known.
                let is_known = seen.length == 0 || entry.is_some();
                let is_longer = entries.first().is_none_or(|end| end.length < seen.length);
                if (is_known || is_longer) && !witness::fits(seen, entry.copied()) {
                    let text = format!(
                        "the witness saw another log: {} entries, of which the last was {}",
                        seen.length, seen.sha256
                    );
                    self.damaged(key, text);
                }
            }
            Ok(None) => {}
            Err(error) => self.damaged(key, error),
        }
    }
}

/// A number without anything that another number could be written with.
fn exact(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}
