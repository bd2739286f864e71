//! Releasing an image, listing releases, renewing signatures.

use jiff::Timestamp as Time;

use super::environment::{Current, write};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{due, expiry};
use super::metadata::{Hashes, Head, Pin, Root, Snapshot, Target, Targets, Timestamp, seal};
use super::{Custom, Environment, RoleKeys, paths};
use crate::digest::ImageId;
use crate::key::Signer;
use crate::manifest::Manifest;
use crate::name::ImageName;

/// One release of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The image's name.
    pub name: ImageName,
    /// The number of the release among those of its name.
    pub seq: u64,
    /// The image.
    pub image: ImageId,
    /// Where its manifest lies in the store.
    pub target_path: String,
    /// Everything that was signed beside the manifest.
    pub custom: Custom,
    /// Whether this call made the release; false if it was there already.
    pub new: bool,
}

/// Which files a call signed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one answer per role, and there are four"
)]
pub struct Renewed {
    /// A new root version.
    pub root: bool,
    /// A new targets version.
    pub targets: bool,
    /// A new snapshot version.
    pub snapshot: bool,
    /// A new timestamp version.
    pub timestamp: bool,
}

impl Environment<'_> {
    /// Releases the image of `manifest` here, as the next number of its name.
    ///
    /// When the newest release of that name is this manifest to the byte, there
    /// is nothing to release; signatures that are due are renewed either way.
    /// (To the byte, and not merely the same image: a manifest also says how
    /// the image is started, and a node must hear when that changes.)
    pub fn release(&mut self, manifest: &Manifest, keys: &RoleKeys, now: Time) -> Result<Release> {
        let _lock = self.lock_and_reread()?;
        self.admit(keys)?;

        let bytes = manifest.to_json();
        let hashes = Hashes::of(&bytes);
        let newest = self.newest(&manifest.name)?;
        if let Some((release, target)) = &newest
            && target.hashes == hashes
        {
            let release = release.clone();
            self.renew(Some(keys), &*keys.online, now, None)?;
            return Ok(release);
        }

        let (seq, min_seq, revoked) = match newest {
            None => (1, 1, Vec::new()),
            Some((last, _)) => (last.seq + 1, last.custom.min_seq, last.custom.revoked),
        };
        if revoked.contains(&manifest.image) {
            let text = format!(
                "{} was revoked in {} and is not released again",
                manifest.image, self.name
            );
            return Err(Error::new(ErrorKind::Untrusted, text)
                .with_hint("build an image that mends what the revocation was for"));
        }
        let custom = Custom {
            image: manifest.image,
            env: self.name.clone(),
            arch: manifest.arch.clone(),
            seq,
            min_seq,
            size: manifest.size,
            revoked,
        };
        let target_path = paths::target(&self.name, &manifest.name, seq, &hashes.sha256);
        self.shelf.replace(&target_path, &bytes).map_err(|e| {
            Error::store(
                format!("cannot write release {seq} of {}", manifest.name),
                e,
            )
        })?;

        let custom_value = serde_json::to_value(&custom).map_err(|e| {
            Error::new(ErrorKind::Malformed, format!("cannot write a release: {e}"))
        })?;
        let target = Target {
            length: bytes.len() as u64,
            hashes,
            custom: custom_value,
        };
        let mut targets = self.current.targets.signed.clone();
        targets
            .targets
            .insert(paths::target_name(&manifest.name, seq), target);
        self.renew(Some(keys), &*keys.online, now, Some(targets))?;

        let (name, image) = (manifest.name.clone(), manifest.image);
        Ok(Release {
            name,
            seq,
            image,
            target_path,
            custom,
            new: true,
        })
    }

    /// Renews what runs out soon and needs only the online key: snapshot and
    /// timestamp. For a timer.
    pub fn refresh(&mut self, online: &dyn Signer, now: Time) -> Result<Renewed> {
        let _lock = self.lock_and_reread()?;
        self.admit_online(online)?;
        self.renew(None, online, now, None)
    }

    /// Renews whatever runs out soon and the keys in hand can sign: root too,
    /// if its key is among them.
    pub fn refresh_all(&mut self, keys: &RoleKeys, now: Time) -> Result<Renewed> {
        let _lock = self.lock_and_reread()?;
        self.admit(keys)?;
        self.renew(Some(keys), &*keys.online, now, None)
    }

    /// All releases, by name and number.
    pub fn releases(&self) -> Result<Vec<Release>> {
        let mut releases = self
            .listed()
            .map(|r| Ok(r?.0))
            .collect::<Result<Vec<_>>>()?;
        releases.sort_by(|a, b| (&a.name, a.seq).cmp(&(&b.name, b.seq)));
        Ok(releases)
    }

    fn newest(&self, name: &ImageName) -> Result<Option<(Release, &Target)>> {
        let mut newest: Option<(Release, &Target)> = None;
        for item in self.listed() {
            let (release, target) = item?;
            let later = newest.as_ref().is_none_or(|(n, _)| n.seq < release.seq);
            if release.name == *name && later {
                newest = Some((release, target));
            }
        }
        Ok(newest)
    }

    /// The targets that are releases. Other targets may be there one day, but
    /// one that is named as a release and does not say so is an error.
    fn listed(&self) -> impl Iterator<Item = Result<(Release, &Target)>> {
        self.current
            .targets
            .signed
            .targets
            .iter()
            .filter_map(|(path, target)| {
                let (name, seq) = paths::parse_target_name(path)?;
                Some(
                    self.as_release(name, seq, target)
                        .map(|release| (release, target)),
                )
            })
    }

    fn as_release(&self, name: ImageName, seq: u64, target: &Target) -> Result<Release> {
        let wrong = |why: &dyn std::fmt::Display| {
            let text = format!(
                "release {seq} of {name} in {} is malformed: {why}",
                self.name
            );
            Error::new(ErrorKind::Malformed, text)
        };
        let custom: Custom =
            serde_json::from_value(target.custom.clone()).map_err(|e| wrong(&e))?;
        if custom.seq != seq || custom.env != self.name {
            return Err(wrong(&format_args!(
                "it says {} of {}",
                custom.seq, custom.env
            )));
        }
        let target_path = paths::target(&self.name, &name, seq, &target.hashes.sha256);
        Ok(Release {
            image: custom.image,
            name,
            seq,
            target_path,
            custom,
            new: false,
        })
    }

    /// Others may have released since this environment was opened: everything
    /// is read again once nobody else can write.
    fn lock_and_reread(&mut self) -> Result<super::Guard> {
        let lock = self
            .shelf
            .lock()
            .map_err(|e| Error::store("cannot lock the environments", e))?;
        self.current = Current::read(self.shelf, &self.name)?;
        Ok(lock)
    }

    /// Signs what changed and what is due, from the leaves to `timestamp.json`.
    fn renew(
        &mut self,
        keys: Option<&RoleKeys>,
        online: &dyn Signer,
        now: Time,
        changed: Option<Targets>,
    ) -> Result<Renewed> {
        let days = self.lifetimes();
        let (store, env, current) = (self.shelf, &self.name, &self.current);
        let mut renewed = Renewed::default();

        let root = &current.root.signed;
        if let Some(key) = keys.and_then(|keys| keys.root.as_deref())
            && due(now, root.head.expires, days.root)
            && self.belongs("root", key).is_ok()
        {
            let version = root.head.version + 1;
            let mut root = root.clone();
            root.head = Head::new::<Root>(version, expiry(now, days.root)?);
            write(
                store,
                env,
                &format!("{version}.root.json"),
                &seal(&root, key)?,
            )?;
            renewed.root = true;
        }

        let targets = &current.targets.signed;
        let targets_pin = match keys {
            Some(keys) if changed.is_some() || due(now, targets.head.expires, days.targets) => {
                let version = targets.head.version + 1;
                let mut targets = changed.unwrap_or_else(|| targets.clone());
                targets.head = Head::new::<Targets>(version, expiry(now, days.targets)?);
                let bytes = seal(&targets, &*keys.targets)?;
                write(store, env, &format!("{version}.targets.json"), &bytes)?;
                renewed.targets = true;
                Some(Pin::of(version, &bytes))
            }
            _ => None,
        };

        let snapshot = &current.snapshot.signed;
        let mut snapshot_pin = None;
        if targets_pin.is_some() || due(now, snapshot.head.expires, days.snapshot) {
            let version = snapshot.head.version + 1;
            let mut snapshot = snapshot.clone();
            snapshot.head = Head::new::<Snapshot>(version, expiry(now, days.snapshot)?);
            snapshot
                .meta
                .extend(targets_pin.map(|pin| ("targets.json".to_owned(), pin)));
            let bytes = seal(&snapshot, online)?;
            write(store, env, &format!("{version}.snapshot.json"), &bytes)?;
            renewed.snapshot = true;
            snapshot_pin = Some(Pin::of(version, &bytes));
        }

        let timestamp = &current.timestamp.signed;
        if snapshot_pin.is_some() || due(now, timestamp.head.expires, days.timestamp) {
            let version = timestamp.head.version + 1;
            let mut timestamp = timestamp.clone();
            timestamp.head = Head::new::<Timestamp>(version, expiry(now, days.timestamp)?);
            timestamp
                .meta
                .extend(snapshot_pin.map(|pin| ("snapshot.json".to_owned(), pin)));
            write(store, env, "timestamp.json", &seal(&timestamp, online)?)?;
            renewed.timestamp = true;
        }

        if renewed != Renewed::default() {
            self.current = Current::read(store, env)?;
        }
        Ok(renewed)
    }
}
