//! Making an environment, and reading it back with suspicion.
//!
//! A store may lie on a server that others write to. Whatever is going to be
//! signed again is therefore verified first, as a client would: the chain of
//! roots from the first one, then timestamp, snapshot and targets by signature,
//! hash and version. Expiry is not looked at: renewing is what we are here for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use jiff::Timestamp as Time;

use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{expiry, forward};
use super::log::{self, LogEntry};
use super::metadata::{MetaFile, Role, Root, SignedFile, Snapshot, Targets, Timestamp};
use super::metadata_store::LIMIT;
use super::roles::Signers;
use super::roles::{KeyGroup, KeySet};
use super::{Checkpoint, Guard, Lifetimes, MetadataStore, Policy, paths};
use crate::backend::forbidden_is_absent;
use crate::digest::Sha256;
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

/// A chain of roots longer than this is not followed, by clients neither.
const MOST_ROOTS: u64 = 1024;

/// An environment of a store, as its metadata stood when it was last read.
pub struct Environment<'s> {
    pub(super) store: &'s dyn MetadataStore,
    pub(super) name: EnvName,
    pub(super) current: Current,
    pub(super) written: Option<Checkpoint>,
}

/// The files that `timestamp.json` leads to.
pub(super) struct Current {
    pub(super) root: SignedFile<Root>,
    pub(super) root_bytes: Vec<u8>,
    /// Of the first root.
    pub(super) fingerprint: Sha256,
    pub(super) targets: SignedFile<Targets>,
    pub(super) targets_bytes: Vec<u8>,
    pub(super) snapshot: SignedFile<Snapshot>,
    pub(super) timestamp: SignedFile<Timestamp>,
    pub(super) timestamp_bytes: Vec<u8>,
}

impl<'s> Environment<'s> {
    /// Reads and verifies an environment.
    pub fn open(store: &'s dyn MetadataStore, name: &EnvName) -> Result<Self> {
        let current =
            Current::read(store, name).map_err(|error| interrupted(store, name, error))?;
        Ok(Self {
            store,
            name: name.clone(),
            current,
            written: None,
        })
    }

    /// The state that was last published through this. The store may show another one: whoever can
    /// write to it could have put an earlier one back.
    pub fn written(&self) -> Option<&Checkpoint> {
        self.written.as_ref()
    }

    /// Reads it again, as it stands by now.
    pub fn reopen(&self) -> Result<Self> {
        Self::open(self.store, &self.name)
    }

    /// Whether the store has an environment of that name.
    pub fn exists(store: &dyn MetadataStore, name: &EnvName) -> Result<bool> {
        Ok(read(store, name, "timestamp.json")?.is_some())
    }

    /// The environment's name.
    pub fn name(&self) -> &EnvName {
        &self.name
    }

    /// The newest root, byte for byte: what a node is initialised with.
    pub fn root_bytes(&self) -> &[u8] {
        &self.current.root_bytes
    }

    /// How long signatures of this environment last.
    pub fn lifetimes(&self) -> Lifetimes {
        self.current.root.signed.lifetimes
    }

    /// Refuses a clock that stands before the last signature.
    pub fn check_clock(&self, now: Time) -> Result<()> {
        // The timestamp's lifetime is that of the root in force; that of targets may have
        // been shortened since they were signed.
        let timestamp = self.current.timestamp.signed.head.expires;
        forward(
            "timestamp",
            timestamp,
            expiry(now, self.lifetimes().timestamp)?,
            now,
        )
    }

    /// When the signatures of root, targets, snapshot and timestamp run out.
    pub fn expiries(&self) -> [(&'static str, Time); 4] {
        let Current {
            root,
            targets,
            snapshot,
            timestamp,
            ..
        } = &self.current;
        [
            (Root::TYPE, root.signed.head.expires.time()),
            (Targets::TYPE, targets.signed.head.expires.time()),
            (Snapshot::TYPE, snapshot.signed.head.expires.time()),
            (Timestamp::TYPE, timestamp.signed.head.expires.time()),
        ]
    }

    /// The keys that sign releases here, and how many of them it takes.
    pub fn targets_keys(&self) -> Result<(Vec<PublicKey>, u64)> {
        let KeySet { keys, threshold } = self.key_set(KeyGroup::Targets)?;
        Ok((keys, threshold))
    }

    /// The keys of a group, and how many of them it takes.
    pub fn key_set(&self, group: KeyGroup) -> Result<KeySet> {
        let root = &self.current.root.signed;
        let role = group.roles()[0];
        Ok(KeySet {
            keys: root.keys_of(role)?,
            threshold: root.role(role)?.threshold,
        })
    }

    /// The versions of root, targets, snapshot and timestamp, and the keys that have
    /// signed each.
    pub fn role_keys(&self) -> Result<[(&'static str, u64, Vec<PublicKey>); 4]> {
        let Current {
            root,
            targets,
            snapshot,
            timestamp,
            ..
        } = &self.current;
        let by = &root.signed;
        Ok([
            (Root::TYPE, by.head.version, root.signers(by)?),
            (
                Targets::TYPE,
                targets.signed.head.version,
                targets.signers(by)?,
            ),
            (
                Snapshot::TYPE,
                snapshot.signed.head.version,
                snapshot.signers(by)?,
            ),
            (
                Timestamp::TYPE,
                timestamp.signed.head.version,
                timestamp.signers(by)?,
            ),
        ])
    }

    /// What releases need here.
    pub fn policy(&self) -> Option<&Policy> {
        self.current.root.signed.policy.as_ref()
    }

    /// The digest of the first root: what an environment is known by, whatever its
    /// keys become.
    pub fn fingerprint(&self) -> Sha256 {
        self.current.fingerprint
    }

    /// Whether one of these keys has signed the root as it stands: then it is the environment that
    /// its holder knows. Targets name no root, so who signed them may mean another one.
    pub fn is_known_to(&self, keys: &[PublicKey]) -> bool {
        let root = &self.current.root;
        let signers = root.signers(&root.signed).unwrap_or_default();
        signers.iter().any(|key| keys.contains(key))
    }

    /// What was done here, the newest first, at most `most` entries, each verified.
    pub fn log(&self, most: usize) -> Result<Vec<LogEntry>> {
        log::read(
            self.store,
            &self.name,
            self.current.targets.signed.log,
            most,
        )
    }

    /// Refuses keys that are not this environment's, and an environment that
    /// these keys have never signed.
    ///
    /// The second half matters as much as the first. Somebody who can write to
    /// the store could put a root of their own there that names our keys beside
    /// theirs; it would verify by itself, and we would sign their releases. So
    /// the root must carry the signature of the root key in hand, or, where
    /// that key is kept elsewhere, targets one of our targets key.
    pub(super) fn admit(&self, keys: &Signers<'_>) -> Result<()> {
        let Current { root, targets, .. } = &self.current;
        self.belongs("targets", &keys.targets)?;
        self.admit_online(&keys.online)?;
        let any = |signed: &dyn Fn(&PublicKey) -> bool, keys: &[&dyn Signer]| {
            keys.iter().any(|key| signed(&key.public()))
        };
        let (file, known) = if keys.root.is_empty() {
            let signed = |key: &PublicKey| targets.signed_by(&key.id(), key);
            ("targets", any(&signed, &keys.targets))
        } else {
            let signed = |key: &PublicKey| root.signed_by(&key.id(), key);
            ("root", any(&signed, &keys.root))
        };
        if known {
            return Ok(());
        }
        let text = format!(
            "the {file} metadata of {} in this store was not signed by the {file} key in hand",
            self.name
        );
        Err(Error::new(ErrorKind::WrongKey, text)
            .with_hint("use the keys that were made with this environment, or another store"))
    }

    pub(super) fn admit_online(&self, online: &[&dyn Signer]) -> Result<()> {
        self.belongs("snapshot", online)?;
        self.belongs("timestamp", online)
    }

    /// Refuses keys that are not a role's, and fewer than its files take.
    pub(super) fn belongs(&self, role: &str, keys: &[&dyn Signer]) -> Result<()> {
        let entry = self.current.root.signed.role(role)?;
        for key in keys {
            let id = key.public().id();
            if !entry.keyids.contains(&id) {
                let text = format!(
                    "key {id} is not a {role} key of {}; its keys are {}",
                    self.name,
                    entry.keyids.join(", ")
                );
                return Err(Error::new(ErrorKind::WrongKey, text));
            }
        }
        if entry.threshold > keys.len() as u64 {
            let text = format!(
                "{role} metadata of {} needs {} signatures, and this command gives {}",
                self.name,
                entry.threshold,
                match keys.len() {
                    1 => "one".to_owned(),
                    more => more.to_string(),
                }
            );
            return Err(Error::new(ErrorKind::Threshold, text));
        }
        Ok(())
    }
}

impl Current {
    pub(super) fn read(store: &dyn MetadataStore, name: &EnvName) -> Result<Self> {
        Self::read_below(store, name, None)
    }

    /// The environment as it stands without roots from version `end` on.
    ///
    /// What is refused is read once more, past all caches, before that is said: a bit
    /// may have flipped on its way, or an old file lie in a cache.
    pub(super) fn read_below(
        store: &dyn MetadataStore,
        name: &EnvName,
        end: Option<u64>,
    ) -> Result<Self> {
        let recorder = ReadRecorder {
            store,
            keys: RefCell::default(),
        };
        match Self::read_once(&recorder, name, end) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Untrusted)
                    && recorder.invalidate_all() =>
            {
                Self::read_once(store, name, end)
            }
            other => other,
        }
    }

    fn read_once(store: &dyn MetadataStore, name: &EnvName, end: Option<u64>) -> Result<Self> {
        let (root, root_bytes, fingerprint) = newest_root(store, name, end)?;
        let trusted = &root.signed;

        let timestamp_bytes = expect(store, name, "timestamp.json")?;
        let timestamp: SignedFile<Timestamp> =
            SignedFile::read(&timestamp_bytes, "timestamp.json")?;
        timestamp.check(trusted)?;

        let pin = pinned(&timestamp.signed.meta, "snapshot.json")?;
        let (snapshot, _): (SignedFile<Snapshot>, _) =
            follow(store, name, pin, "snapshot.json", trusted)?;

        let pin = pinned(&snapshot.signed.meta, "targets.json")?;
        let (targets, targets_bytes): (SignedFile<Targets>, _) =
            follow(store, name, pin, "targets.json", trusted)?;

        for environment in [&root.signed.environment, &targets.signed.environment] {
            if environment != name {
                let text =
                    format!("the environment {name} in this store calls itself {environment}");
                return Err(Error::new(ErrorKind::Untrusted, text));
            }
        }
        Ok(Self {
            root,
            root_bytes,
            fingerprint,
            targets,
            targets_bytes,
            snapshot,
            timestamp,
            timestamp_bytes,
        })
    }
}

/// Says how to go on where a change of root was interrupted: its root is there, and what follows
/// it is still that of the root before.
fn interrupted(store: &dyn MetadataStore, name: &EnvName, error: Error) -> Error {
    if error.kind() != ErrorKind::Untrusted {
        return error;
    }
    let Ok((root, ..)) = newest_root(store, name, None) else {
        return error;
    };
    let version = root.signed.head.version;
    if version < 2 || Current::read_below(store, name, Some(version)).is_err() {
        return error;
    }
    error.with_hint(format!(
        "the change to root {version} was interrupted: imgbuild env root publish finishes it, with \
         the file that was published ({name}-root-{version}.json if no other was named)"
    ))
}

/// A store that notes what is read of it.
struct ReadRecorder<'a> {
    store: &'a dyn MetadataStore,
    keys: RefCell<BTreeSet<String>>,
}

impl ReadRecorder<'_> {
    /// Doubts all that was read; whether any of it may come otherwise.
    fn invalidate_all(&self) -> bool {
        let keys = self.keys.borrow();
        // Every one of them.
        keys.iter().filter(|key| self.store.invalidate(key)).count() > 0
    }
}

impl MetadataStore for ReadRecorder<'_> {
    fn read(&self, key: &str, limit: u64) -> crate::Result<Option<Vec<u8>>> {
        self.keys.borrow_mut().insert(key.to_owned());
        self.store.read(key, limit)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> crate::Result<()> {
        self.store.replace(key, bytes)
    }

    fn lock(&self) -> crate::Result<Guard> {
        self.store.lock()
    }
}

/// Walks the chain of roots: each signed by the keys of the one before it and
/// by its own (TUF 5.3).
fn newest_root(
    store: &dyn MetadataStore,
    name: &EnvName,
    end: Option<u64>,
) -> Result<(SignedFile<Root>, Vec<u8>, Sha256)> {
    let Some(mut bytes) = read(store, name, "1.root.json")? else {
        // What a node asks for first is gone, and all else is there.
        if read(store, name, "timestamp.json")?.is_some() {
            let text = format!("1.root.json of the environment {name} is missing from the store");
            return Err(Error::new(ErrorKind::Missing, text).with_hint(
                "put it back from another copy: imgbuild store fsck --repair-from STORE; it is also \
                 the file that nodes were initialised with",
            ));
        }
        let text = format!("there is no environment {name} in this store");
        return Err(Error::new(ErrorKind::Missing, text)
            .with_hint(format!(
                "imgbuild env status lists those that are there. One that lies in another store is read \
                 there (--store STORE): imgbuild store copy takes none along. imgbuild env init {name} \
                 makes a new one"
            )));
    };
    let mut root: SignedFile<Root> = SignedFile::read(&bytes, "1.root.json")?.expect_version(1)?;
    root.check(&root.signed)?;
    let fingerprint = Sha256::of(&bytes);
    for version in (2..=MOST_ROOTS).take_while(|version| end.is_none_or(|end| *version < end)) {
        let file = format!("{version}.root.json");
        let Some(next_bytes) = read(store, name, &file)? else {
            break;
        };
        let next: SignedFile<Root> =
            SignedFile::read(&next_bytes, &file)?.expect_version(version)?;
        next.check(&root.signed)?;
        next.check(&next.signed)?;
        (root, bytes) = (next, next_bytes);
    }
    Ok((root, bytes, fingerprint))
}

fn pinned<'a>(
    meta: &'a std::collections::BTreeMap<String, MetaFile>,
    file: &str,
) -> Result<&'a MetaFile> {
    meta.get(file).ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            format!("the metadata does not say which {file} is current"),
        )
    })
}

/// Reads the version of a file that its parent vouches for.
fn follow<T: Role>(
    store: &dyn MetadataStore,
    name: &EnvName,
    pin: &MetaFile,
    file: &str,
    root: &Root,
) -> Result<(SignedFile<T>, Vec<u8>)> {
    let file = format!("{}.{file}", pin.version);
    let bytes = expect(store, name, &file)?;
    if !pin.fits(&bytes) {
        let text = format!(
            "the metadata file {file} is not the one that was signed for: its hash differs"
        );
        return Err(Error::new(ErrorKind::Untrusted, text));
    }
    let signed_file = SignedFile::read(&bytes, &file)?.expect_version(pin.version)?;
    signed_file.check(root)?;
    Ok((signed_file, bytes))
}

pub(super) fn read(
    store: &dyn MetadataStore,
    env: &EnvName,
    file: &str,
) -> Result<Option<Vec<u8>>> {
    let found = store.read(&paths::metadata(env, file), LIMIT);
    // The walk of roots ends at one that is not there.
    let found = if file.ends_with(".root.json") {
        forbidden_is_absent(found)
    } else {
        found
    };
    found.map_err(|e| Error::store(format!("cannot read {file} of the environment {env}"), e))
}

/// Every root there is from the first one on, each of which the one before it leads to.
pub(super) fn roots(store: &dyn MetadataStore, name: &EnvName) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for version in 1..=newest_root(store, name, None)?.0.signed.head.version {
        let file = format!("{version}.root.json");
        let root = SignedFile::<Root>::read(&expect(store, name, &file)?, &file)?;
        roots.push(root.signed);
    }
    Ok(roots)
}

pub(super) fn expect(store: &dyn MetadataStore, env: &EnvName, file: &str) -> Result<Vec<u8>> {
    read(store, env, file)?.ok_or_else(|| {
        let text = format!("{file} of the environment {env} is missing from the store");
        Error::new(ErrorKind::Malformed, text)
    })
}

pub(super) fn write(
    store: &dyn MetadataStore,
    env: &EnvName,
    file: &str,
    bytes: &[u8],
) -> Result<()> {
    store
        .replace(&paths::metadata(env, file), bytes)
        .map_err(|e| Error::store(format!("cannot write {file} of the environment {env}"), e))
}
