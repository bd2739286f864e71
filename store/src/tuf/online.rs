//! Snapshot and timestamp: what the online keys sign after every change, and when it is due.

use jiff::Timestamp as Time;

use super::environment::{Current, write};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{due, expiry, forward};
use super::metadata::{CommonFields, MetaFile, Root, Snapshot, Timestamp, next_version, seal};
use super::{MetadataStore, paths};
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

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

fn hex(keys: &[PublicKey]) -> String {
    let keys: Vec<_> = keys.iter().map(PublicKey::hex).collect();
    keys.join(", ")
}
