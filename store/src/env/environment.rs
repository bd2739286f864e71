//! Making an environment, and reading it back with suspicion.
//!
//! A store may lie on a server that others write to. Whatever is going to be
//! signed again is therefore verified first, as a client would: the chain of
//! roots from the first one, then timestamp, snapshot and targets by signature,
//! hash and version. Expiry is not looked at: renewing is what we are here for.

use jiff::Timestamp as Time;
use serde_json::Map;

use super::error::{Error, ErrorKind, Result};
use super::lifetimes::expiry;
use super::metadata::{
    Head, Key, LIMIT, Pin, Role, RoleEntry, Root, Sealed, Snapshot, Targets, Timestamp, seal,
};
use super::{Lifetimes, RoleKeys, Shelf, paths};
use crate::key::{PublicKey, Signer};
use crate::name::EnvName;

/// A chain of roots longer than this is not followed, by clients neither.
const MOST_ROOTS: u64 = 1024;

/// An environment of a store, as its metadata stood when it was last read.
pub struct Environment<'s> {
    pub(super) shelf: &'s dyn Shelf,
    pub(super) name: EnvName,
    pub(super) current: Current,
}

/// The files that `timestamp.json` leads to.
pub(super) struct Current {
    pub(super) root: Sealed<Root>,
    pub(super) root_bytes: Vec<u8>,
    pub(super) targets: Sealed<Targets>,
    pub(super) snapshot: Sealed<Snapshot>,
    pub(super) timestamp: Sealed<Timestamp>,
}

impl<'s> Environment<'s> {
    /// Makes an environment with the default [`Lifetimes`].
    pub fn init(shelf: &'s dyn Shelf, name: &EnvName, keys: &RoleKeys, now: Time) -> Result<Self> {
        Self::init_with(shelf, name, keys, Lifetimes::default(), now)
    }

    /// Makes an environment: one key and one signature per role.
    ///
    /// It exists once its `timestamp.json` does. An attempt that was killed
    /// before that has promised nothing to anybody and is overwritten.
    pub fn init_with(
        shelf: &'s dyn Shelf,
        name: &EnvName,
        keys: &RoleKeys,
        lifetimes: Lifetimes,
        now: Time,
    ) -> Result<Self> {
        lifetimes.check()?;
        let Some(root_key) = keys.root.as_deref() else {
            let text = format!("the environment {name} cannot be made without its root key");
            return Err(Error::new(ErrorKind::WrongKey, text));
        };
        let _lock = shelf
            .lock()
            .map_err(|e| Error::store("cannot lock the environments", e))?;
        if read(shelf, name, "timestamp.json")?.is_some() {
            let text = format!("there is an environment {name} in this store already");
            return Err(Error::new(ErrorKind::Exists, text));
        }

        let root = Root {
            head: Head::new::<Root>(1, expiry(now, lifetimes.root)?),
            consistent_snapshot: true,
            keys: [root_key, &*keys.targets, &*keys.online]
                .map(|key| (key.public().id(), Key::from(key.public())))
                .into(),
            roles: [
                ("root", root_key),
                ("targets", &*keys.targets),
                ("snapshot", &*keys.online),
                ("timestamp", &*keys.online),
            ]
            .map(|(role, key)| (role.into(), RoleEntry::single(&key.public())))
            .into(),
            environment: name.clone(),
            lifetimes,
            extra: Map::new(),
        };
        let targets = Targets {
            head: Head::new::<Targets>(1, expiry(now, lifetimes.targets)?),
            targets: [].into(),
            environment: name.clone(),
            extra: Map::new(),
        };
        let targets_bytes = seal(&targets, &*keys.targets)?;
        let snapshot = Snapshot {
            head: Head::new::<Snapshot>(1, expiry(now, lifetimes.snapshot)?),
            meta: [("targets.json".into(), Pin::of(1, &targets_bytes))].into(),
            extra: Map::new(),
        };
        let snapshot_bytes = seal(&snapshot, &*keys.online)?;
        let timestamp = Timestamp {
            head: Head::new::<Timestamp>(1, expiry(now, lifetimes.timestamp)?),
            meta: [("snapshot.json".into(), Pin::of(1, &snapshot_bytes))].into(),
            extra: Map::new(),
        };
        write(shelf, name, "1.root.json", &seal(&root, root_key)?)?;
        write(shelf, name, "1.targets.json", &targets_bytes)?;
        write(shelf, name, "1.snapshot.json", &snapshot_bytes)?;
        write(
            shelf,
            name,
            "timestamp.json",
            &seal(&timestamp, &*keys.online)?,
        )?;
        Self::open(shelf, name)
    }

    /// Reads and verifies an environment.
    pub fn open(shelf: &'s dyn Shelf, name: &EnvName) -> Result<Self> {
        let current = Current::read(shelf, name)?;
        Ok(Self {
            shelf,
            name: name.clone(),
            current,
        })
    }

    /// Whether the store has an environment of that name.
    pub fn exists(shelf: &dyn Shelf, name: &EnvName) -> Result<bool> {
        Ok(read(shelf, name, "timestamp.json")?.is_some())
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
        let root = &self.current.root.signed;
        let role = root.role(Targets::TYPE)?;
        let keys = role.keyids.iter().filter_map(|id| root.key(id)).collect();
        Ok((keys, role.threshold))
    }

    /// Refuses keys that are not this environment's, and an environment that
    /// these keys have never signed.
    ///
    /// The second half matters as much as the first. Somebody who can write to
    /// the store could put a root of their own there that names our keys beside
    /// theirs; it would verify by itself, and we would sign their releases. So
    /// the root must carry the signature of the root key in hand, or, where
    /// that key is kept elsewhere, targets one of our targets key.
    pub(super) fn admit(&self, keys: &RoleKeys) -> Result<()> {
        let Current { root, targets, .. } = &self.current;
        self.belongs("targets", &*keys.targets)?;
        self.admit_online(&*keys.online)?;
        let (file, known) = if let Some(key) = keys.root.as_deref().map(Signer::public) {
            ("root", root.signed_by(&key.id(), &key))
        } else {
            let key = keys.targets.public();
            ("targets", targets.signed_by(&key.id(), &key))
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

    pub(super) fn admit_online(&self, online: &dyn Signer) -> Result<()> {
        self.belongs("snapshot", online)?;
        self.belongs("timestamp", online)
    }

    /// Refuses a key whose signature alone does not make a role's file valid.
    pub(super) fn belongs(&self, role: &str, key: &dyn Signer) -> Result<()> {
        let entry = self.current.root.signed.role(role)?;
        let key: PublicKey = key.public();
        if !entry.keyids.contains(&key.id()) {
            let text = format!(
                "key {} is not a {role} key of {}; its keys are {}",
                key.id(),
                self.name,
                entry.keyids.join(", ")
            );
            return Err(Error::new(ErrorKind::WrongKey, text));
        }
        if entry.threshold != 1 {
            let text = format!(
                "{role} metadata of {} needs {} signatures, and this command gives one",
                self.name, entry.threshold
            );
            return Err(Error::new(ErrorKind::Threshold, text));
        }
        Ok(())
    }
}

impl Current {
    pub(super) fn read(shelf: &dyn Shelf, name: &EnvName) -> Result<Self> {
        let (root, root_bytes) = newest_root(shelf, name)?;
        let trusted = &root.signed;

        let bytes = expect(shelf, name, "timestamp.json")?;
        let timestamp: Sealed<Timestamp> = Sealed::read(&bytes, "timestamp.json")?;
        timestamp.check(trusted)?;

        let pin = pinned(&timestamp.signed.meta, "snapshot.json")?;
        let snapshot: Sealed<Snapshot> = follow(shelf, name, pin, "snapshot.json", trusted)?;

        let pin = pinned(&snapshot.signed.meta, "targets.json")?;
        let targets: Sealed<Targets> = follow(shelf, name, pin, "targets.json", trusted)?;

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
            targets,
            snapshot,
            timestamp,
        })
    }
}

/// Walks the chain of roots: each signed by the keys of the one before it and
/// by its own (TUF 5.3).
fn newest_root(shelf: &dyn Shelf, name: &EnvName) -> Result<(Sealed<Root>, Vec<u8>)> {
    let Some(mut bytes) = read(shelf, name, "1.root.json")? else {
        let text = format!("there is no environment {name} in this store");
        return Err(Error::new(ErrorKind::Missing, text)
            .with_hint(format!("make it: imgbuild env init {name}")));
    };
    let mut root: Sealed<Root> = Sealed::read(&bytes, "1.root.json")?.expect_version(1)?;
    root.check(&root.signed)?;
    for version in 2..=MOST_ROOTS {
        let file = format!("{version}.root.json");
        let Some(next_bytes) = read(shelf, name, &file)? else {
            break;
        };
        let next: Sealed<Root> = Sealed::read(&next_bytes, &file)?.expect_version(version)?;
        next.check(&root.signed)?;
        next.check(&next.signed)?;
        (root, bytes) = (next, next_bytes);
    }
    Ok((root, bytes))
}

fn pinned<'a>(meta: &'a std::collections::BTreeMap<String, Pin>, file: &str) -> Result<&'a Pin> {
    meta.get(file).ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            format!("the metadata does not say which {file} is current"),
        )
    })
}

/// Reads the version of a file that its parent vouches for.
fn follow<T: Role>(
    shelf: &dyn Shelf,
    name: &EnvName,
    pin: &Pin,
    file: &str,
    root: &Root,
) -> Result<Sealed<T>> {
    let file = format!("{}.{file}", pin.version);
    let bytes = expect(shelf, name, &file)?;
    if !pin.fits(&bytes) {
        let text = format!(
            "the metadata file {file} is not the one that was signed for: its hash differs"
        );
        return Err(Error::new(ErrorKind::Untrusted, text));
    }
    let sealed = Sealed::read(&bytes, &file)?.expect_version(pin.version)?;
    sealed.check(root)?;
    Ok(sealed)
}

fn read(shelf: &dyn Shelf, env: &EnvName, file: &str) -> Result<Option<Vec<u8>>> {
    shelf
        .read(&paths::metadata(env, file), LIMIT)
        .map_err(|e| Error::store(format!("cannot read {file} of the environment {env}"), e))
}

fn expect(shelf: &dyn Shelf, env: &EnvName, file: &str) -> Result<Vec<u8>> {
    read(shelf, env, file)?.ok_or_else(|| {
        let text = format!("{file} of the environment {env} is missing from the store");
        Error::new(ErrorKind::Malformed, text)
    })
}

pub(super) fn write(shelf: &dyn Shelf, env: &EnvName, file: &str, bytes: &[u8]) -> Result<()> {
    shelf
        .replace(&paths::metadata(env, file), bytes)
        .map_err(|e| Error::store(format!("cannot write {file} of the environment {env}"), e))
}
