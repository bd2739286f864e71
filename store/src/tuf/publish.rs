//! Publishing a change that enough have signed.
//!
//! Everything but root and timestamp lies under new names that nothing leads to yet,
//! so it comes first; then the root, if that changes, and the timestamp. Killed
//! anywhere, publishing the same file again finishes it.

use jiff::Timestamp as Time;

use super::compare_and_swap::CompareAndSwap;
use super::draft::RootDraft;
use super::environment::{Current, read, write};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{due, expiry, forward};
use super::metadata::{
    CommonFields, DraftFile, MetaFile, Role, Root, Snapshot, Targets, Timestamp, next_version, seal,
};
use super::proposal::Proposal;
use super::review::review;
use super::roles::{KeySet, RoleKeys};
use super::{Environment, Lifetimes, MetadataStore, paths};
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

impl<'s> Environment<'s> {
    /// Makes an environment with the default [`Lifetimes`].
    pub fn init(
        store: &'s dyn MetadataStore,
        name: &EnvName,
        keys: &RoleKeys,
        now: Time,
    ) -> Result<Self> {
        Self::init_with(store, name, keys, Lifetimes::default(), now)
    }

    /// Makes an environment: one key and one signature per role.
    ///
    /// It exists once its `timestamp.json` does. An attempt that was killed
    /// before that has promised nothing to anybody and is overwritten.
    pub fn init_with(
        store: &'s dyn MetadataStore,
        name: &EnvName,
        keys: &RoleKeys,
        lifetimes: Lifetimes,
        now: Time,
    ) -> Result<Self> {
        let Some(root_key) = keys.root.as_deref() else {
            let text = format!("the environment {name} cannot be made without its root key");
            return Err(Error::new(ErrorKind::WrongKey, text));
        };
        let single = |key: &dyn Signer| KeySet {
            keys: vec![key.public()],
            threshold: 1,
        };
        let draft = RootDraft {
            root: single(root_key),
            targets: single(&*keys.targets),
            online: single(&*keys.online),
            lifetimes,
            policy: None,
        };
        let mut proposal = Self::draft_init(name, &draft, now)?;
        Self::sign_init(&mut proposal, &[root_key, &*keys.targets])?;
        let _lock = lock(store)?;
        if read(store, name, "timestamp.json")?.is_some() {
            let text = format!("there is an environment {name} in this store already");
            return Err(Error::new(ErrorKind::Exists, text));
        }
        publish(store, name, &proposal, &[&*keys.online], now)?;
        Self::open(store, name)
    }

    /// Publishes a change; true if that was new. Snapshot and timestamp are signed
    /// with `online`.
    pub fn publish(
        &mut self,
        proposal: &Proposal,
        online: &[&dyn Signer],
        now: Time,
    ) -> Result<bool> {
        let _lock = lock(self.store)?;
        if !proposal.changes_root() {
            // Whoever compared the change with a policy read it in this root.
            let root = Current::read(self.store, &self.name)?.root_bytes;
            if root != self.current.root_bytes {
                let text = format!("the root of {} has changed meanwhile", self.name);
                return Err(Error::new(ErrorKind::Stale, text)
                    .with_hint("nothing of this change counts: run the command again"));
            }
        }
        let new = publish(self.store, &self.name, proposal, online, now)?;
        self.current = Current::read(self.store, &self.name)?;
        Ok(new)
    }

    /// Publishes the first version of an environment, or a change of root
    /// that was interrupted: the environment cannot be opened in between. True if that was new.
    pub fn publish_root(
        store: &'s dyn MetadataStore,
        proposal: &Proposal,
        online: &[&dyn Signer],
        now: Time,
    ) -> Result<(Self, bool)> {
        let _lock = lock(store)?;
        let new = publish(store, &proposal.environment, proposal, online, now)?;
        Ok((Self::open(store, &proposal.environment)?, new))
    }

    /// Whether a change has been published here, by whichever signatures.
    pub fn has_published(&self, proposal: &Proposal) -> Result<bool> {
        let root = match (&proposal.root, proposal.next_root()?) {
            (Some(part), Some(next)) => self.has::<Root>(part, next.signed.head.version)?,
            _ => true,
        };
        let targets = match (&proposal.targets, proposal.next_targets()?) {
            (Some(part), Some(next)) => self.has::<Targets>(part, next.signed.head.version)?,
            _ => true,
        };
        Ok(root && targets)
    }

    /// Whether the file of that version says the same. A file that is newer than what is in force
    /// was never published.
    fn has<T: Role>(&self, part: &DraftFile, version: u64) -> Result<bool> {
        let current = match T::TYPE {
            Root::TYPE => self.current.root.signed.head.version,
            _ => self.current.targets.signed.head.version,
        };
        if version > current {
            return Ok(false);
        }
        let file = format!("{version}.{}.json", T::TYPE);
        let published = read(self.store, &self.name, &file)?;
        Ok(published.is_some_and(|bytes| part.says_the_same(&bytes)))
    }
}

pub(super) fn lock(store: &dyn MetadataStore) -> Result<super::Guard> {
    store
        .lock()
        .map_err(|e| Error::store("cannot lock the environments", e))
}

/// The environment is locked.
pub(super) fn publish(
    store: &dyn MetadataStore,
    name: &EnvName,
    proposal: &Proposal,
    online: &[&dyn Signer],
    now: Time,
) -> Result<bool> {
    let next = proposal.next_root()?;
    let present = read(store, name, "timestamp.json")?.is_some();
    let version = next.as_ref().map(|next| next.signed.head.version);
    // An interrupted change of root may have left its root there: the environment as
    // it was before is below it.
    let base = match (version, present) {
        (Some(1), false) => None,
        (version, _) => {
            if is_done(store, name, proposal)? {
                return Ok(false);
            }
            if version == Some(1) {
                let text = format!("there is an environment {name} in this store already");
                return Err(Error::new(ErrorKind::Exists, text));
            }
            Some(Current::read_below(store, name, version)?)
        }
    };
    let review = review(name, base.as_ref(), proposal)?;
    for need in &review.needs {
        if need.missing() > 0 {
            let waiting = need.keys.iter().filter(|(_, signed)| !signed);
            let waiting: Vec<_> = waiting.map(|(key, _)| key.hex()).collect();
            let text = format!(
                "the change has {} of {} signatures as {}",
                need.threshold - need.missing(),
                need.threshold,
                need.role
            );
            return Err(Error::new(ErrorKind::Threshold, text).with_hint(format!(
                "these keys have not signed: {}",
                waiting.join(", ")
            )));
        }
    }
    let old_root = base.as_ref().map(|base| &base.root.signed);
    let Some(root) = next.as_ref().map(|next| &next.signed).or(old_root) else {
        return Err(Error::new(
            ErrorKind::Malformed,
            "an environment begins with a root",
        ));
    };
    let online = online_keys(root, name, online)?;
    let careful = CompareAndSwap::new(store);
    let store: &dyn MetadataStore = &careful;

    for (target, text) in &proposal.manifests {
        let Some((image, seq)) = paths::parse_target_name(target) else {
            continue;
        };
        let sha256 = crate::digest::Sha256::of(text.as_bytes()).hex();
        put(
            store,
            &paths::target(name, &image, seq, &sha256),
            text.as_bytes(),
        )?;
    }
    for (entry, text) in review.entries.iter().zip(&proposal.log) {
        put(store, &paths::log(name, entry.number), text.as_bytes())?;
    }
    let targets = match &proposal.targets {
        Some(part) => {
            let bytes = part.bytes::<Targets>()?;
            let version = part
                .signed_file::<Targets>("the proposed targets")?
                .signed
                .head
                .version;
            write(store, name, &format!("{version}.targets.json"), &bytes)?;
            Some(MetaFile::of(version, &bytes))
        }
        None => None,
    };
    let changed = Changed {
        root,
        targets,
        now,
        must: next.is_some(),
    };
    let snapshot = changed.snapshot(store, name, base.as_ref(), &online)?;
    if let Some(part) = &proposal.root {
        let file = format!("{}.root.json", root.head.version);
        write(store, name, &file, &part.bytes::<Root>()?)?;
    }
    changed.timestamp(store, name, base.as_ref(), snapshot, &online)?;
    Ok(true)
}

/// Whether the environment says all that the change says.
fn is_done(store: &dyn MetadataStore, name: &EnvName, proposal: &Proposal) -> Result<bool> {
    let Ok(current) = Current::read(store, name) else {
        return Ok(false);
    };
    let root = match &proposal.root {
        Some(part) => current.root_bytes == part.bytes::<Root>()?,
        None => true,
    };
    let targets = match &proposal.targets {
        Some(part) => current.targets_bytes == part.bytes::<Targets>()?,
        None => true,
    };
    Ok(root && targets)
}

fn hex(keys: &[PublicKey]) -> String {
    let keys: Vec<_> = keys.iter().map(PublicKey::hex).collect();
    keys.join(", ")
}

fn put(store: &dyn MetadataStore, key: &str, bytes: &[u8]) -> Result<()> {
    store
        .replace(key, bytes)
        .map_err(|e| Error::store(format!("cannot write {key}"), e))
}

/// Those keys in hand that sign snapshots and timestamps, enough of them.
pub(super) fn online_keys<'k>(
    root: &Root,
    name: &EnvName,
    keys: &[&'k dyn Signer],
) -> Result<Vec<&'k dyn Signer>> {
    let mut good: Vec<&dyn Signer> = Vec::new();
    for role in ["snapshot", "timestamp"] {
        let entry = root.role(role)?;
        let fits = |key: &&&dyn Signer| entry.keyids.contains(&key.public().id());
        let fitting: Vec<_> = keys.iter().filter(fits).copied().collect();
        if fitting.is_empty() {
            let in_hand: Vec<_> = keys.iter().map(|key| key.public().hex()).collect();
            let text = match &*in_hand {
                [] => format!("there is no key in hand that signs {role} files of {name}"),
                ids => format!("key {} is not a {role} key of {name}", ids.join(", ")),
            };
            return Err(Error::new(ErrorKind::WrongKey, text)
                .with_hint(format!("its keys are {}", hex(&root.keys_of(role)?))));
        }
        if (fitting.len() as u64) < entry.threshold {
            let text = format!(
                "{role} metadata of {name} needs {} signatures, and there are keys in hand for {}",
                entry.threshold,
                fitting.len()
            );
            return Err(Error::new(ErrorKind::Threshold, text));
        }
        for key in fitting {
            if !good.iter().any(|known| known.public() == key.public()) {
                good.push(key);
            }
        }
    }
    Ok(good)
}

/// What the next snapshot and timestamp have to say.
pub(super) struct Changed<'r> {
    pub(super) root: &'r Root,
    pub(super) targets: Option<MetaFile>,
    pub(super) now: Time,
    /// Sign anew even if nothing is due: other keys may count from now on.
    pub(super) must: bool,
}

impl Changed<'_> {
    /// Signs a snapshot if there is reason to.
    pub(super) fn snapshot(
        &self,
        store: &dyn MetadataStore,
        name: &EnvName,
        base: Option<&Current>,
        online: &[&dyn Signer],
    ) -> Result<Option<MetaFile>> {
        let days = self.root.lifetimes.snapshot;
        let old = base.map(|base| &base.snapshot.signed);
        let is_due = old.is_none_or(|old| due(self.now, old.head.expires, days));
        if self.targets.is_none() && !is_due && !self.must {
            return Ok(None);
        }
        let version = next_version(old.map_or(0, |old| old.head.version))?;
        let head = CommonFields::new::<Snapshot>(version, expiry(self.now, days)?);
        let mut snapshot = match old {
            Some(old) => Snapshot {
                head,
                ..old.clone()
            },
            None => Snapshot {
                head,
                meta: [].into(),
                extra: serde_json::Map::new(),
            },
        };
        let pin = self
            .targets
            .clone()
            .map(|pin| ("targets.json".to_owned(), pin));
        snapshot.meta.extend(pin);
        let bytes = seal(&snapshot, &of_role(self.root, "snapshot", online)?)?;
        write(store, name, &format!("{version}.snapshot.json"), &bytes)?;
        Ok(Some(MetaFile::of(version, &bytes)))
    }

    /// Signs a timestamp if there is reason to; true if there was.
    pub(super) fn timestamp(
        &self,
        store: &dyn MetadataStore,
        name: &EnvName,
        base: Option<&Current>,
        snapshot: Option<MetaFile>,
        online: &[&dyn Signer],
    ) -> Result<bool> {
        let days = self.root.lifetimes.timestamp;
        let old = base.map(|base| &base.timestamp.signed);
        let is_due = old.is_none_or(|old| due(self.now, old.head.expires, days));
        if snapshot.is_none() && !is_due && !self.must {
            return Ok(false);
        }
        let version = next_version(old.map_or(0, |old| old.head.version))?;
        let expires = expiry(self.now, days)?;
        // A new root may have other lifetimes, or undo what a stolen key has signed.
        if let Some(old) = old.filter(|_| !self.must) {
            forward("timestamp", old.head.expires, expires, self.now)?;
        }
        let head = CommonFields::new::<Timestamp>(version, expires);
        let mut timestamp = match old {
            Some(old) => Timestamp {
                head,
                ..old.clone()
            },
            None => Timestamp {
                head,
                meta: [].into(),
                extra: serde_json::Map::new(),
            },
        };
        let pin = snapshot.map(|pin| ("snapshot.json".to_owned(), pin));
        timestamp.meta.extend(pin);
        let bytes = seal(&timestamp, &of_role(self.root, "timestamp", online)?)?;
        let seen = base.map(|base| &*base.timestamp_bytes);
        let key = paths::metadata(name, "timestamp.json");
        let swapped = store.swap(&key, seen, &bytes).map_err(|e| {
            Error::store(
                format!("cannot write timestamp.json of the environment {name}"),
                e,
            )
        })?;
        if !swapped {
            let text = format!("somebody else has changed the environment {name} meanwhile");
            return Err(Error::new(ErrorKind::Stale, text)
                .with_hint("nothing of this change counts: run the command again"));
        }
        Ok(true)
    }
}

fn of_role<'k>(root: &Root, role: &str, keys: &[&'k dyn Signer]) -> Result<Vec<&'k dyn Signer>> {
    let entry = root.role(role)?;
    let fits = |key: &&&dyn Signer| entry.keyids.contains(&key.public().id());
    Ok(keys.iter().filter(fits).copied().collect())
}
