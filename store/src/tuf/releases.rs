//! Releasing an image, listing releases, renewing signatures.

use jiff::Timestamp as Time;

use super::compare_and_swap::CompareAndSwap;
use super::draft::ReleaseOrigin;
use super::environment::{Current, write};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{due, expiry};
use super::metadata::{CommonFields, MetaFile, Root, Target, Targets, next_version, seal};
use super::online::Changed;
use super::publish::{lock, publish};
use super::roles::Signers;
use super::{Environment, MetadataStore, Release, ReleaseCustom, paths};
use crate::keys::Signer;
use crate::manifest::Manifest;
use crate::name::ImageName;

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
    pub fn release<'k>(
        &mut self,
        manifest: &Manifest,
        keys: impl Into<Signers<'k>>,
        now: Time,
    ) -> Result<Release> {
        let keys = keys.into();
        let _lock = self.lock_and_reread()?;
        self.admit(&keys)?;
        let Some((mut proposal, release)) =
            self.draft_release(manifest, &ReleaseOrigin::default(), now)?
        else {
            let present = self.newest(&manifest.name)?.map(|(release, _)| release);
            self.renew(Some(&keys), &keys.online, now)?;
            return present
                .ok_or_else(|| Error::new(ErrorKind::Malformed, "the newest release is gone"));
        };
        // Signed before: as this is renewed below, it must not be signed for long.
        self.sign(&mut proposal, &keys.targets)?;
        self.renew_root(&keys, now)?;
        let known = self.checkpoint(now);
        let written = publish(
            self.store,
            &self.name,
            Some(&known),
            &proposal,
            &keys.online,
            now,
        )?;
        self.current = Current::read(self.store, &self.name)?;
        self.written = written;
        Ok(release)
    }

    /// Renews what runs out soon and needs only the online key: snapshot and
    /// timestamp. For a timer.
    pub fn refresh(&mut self, online: &dyn Signer, now: Time) -> Result<Renewed> {
        self.refresh_online(&[online], now)
    }

    /// Renews signatures that are due, with those of several keys that count.
    pub fn refresh_online(&mut self, online: &[&dyn Signer], now: Time) -> Result<Renewed> {
        let _lock = self.lock_and_reread()?;
        self.admit_online(online)?;
        self.renew(None, online, now)
    }

    /// Renews whatever runs out soon and the keys in hand can sign: root too,
    /// if its key is among them.
    pub fn refresh_all<'k>(&mut self, keys: impl Into<Signers<'k>>, now: Time) -> Result<Renewed> {
        let keys = keys.into();
        let _lock = self.lock_and_reread()?;
        self.admit(&keys)?;
        self.renew(Some(&keys), &keys.online, now)
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

    pub(super) fn newest(&self, name: &ImageName) -> Result<Option<(Release, &Target)>> {
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
        let custom: ReleaseCustom =
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
        let lock = lock(self.store)?;
        let seen = self.checkpoint(Time::UNIX_EPOCH);
        let now = self.reopen()?;
        // Whoever asked for this has looked at what it goes on from.
        now.since(Some(&seen))?;
        self.current = now.current;
        Ok(lock)
    }

    /// Signs the root for another term, if it is due and its keys are in hand.
    fn renew_root(&self, keys: &Signers<'_>, now: Time) -> Result<bool> {
        let days = self.lifetimes();
        let root = &self.current.root.signed;
        if keys.root.is_empty()
            || !due(now, root.head.expires, days.root)
            || self.belongs("root", &keys.root).is_err()
        {
            return Ok(false);
        }
        let version = next_version(root.head.version)?;
        let mut root = root.clone();
        root.head = CommonFields::new::<Root>(version, expiry(now, days.root)?);
        let bytes = seal(&root, &keys.root)?;
        write(
            self.store,
            &self.name,
            &format!("{version}.root.json"),
            &bytes,
        )?;
        Ok(true)
    }

    /// Signs what is due, from the leaves to `timestamp.json`.
    fn renew(
        &mut self,
        keys: Option<&Signers<'_>>,
        online: &[&dyn Signer],
        now: Time,
    ) -> Result<Renewed> {
        let days = self.lifetimes();
        let careful = CompareAndSwap::new(self.store);
        let (store, env, current): (&dyn MetadataStore, _, _) =
            (&careful, &self.name, &self.current);
        let mut renewed = Renewed::default();
        if let Some(keys) = keys {
            renewed.root = self.renew_root(keys, now)?;
        }
        let targets = &current.targets.signed;
        let pin = match keys {
            Some(keys) if due(now, targets.head.expires, days.targets) => {
                let version = next_version(targets.head.version)?;
                let mut targets = targets.clone();
                targets.head = CommonFields::new::<Targets>(version, expiry(now, days.targets)?);
                let bytes = seal(&targets, &keys.targets)?;
                write(store, env, &format!("{version}.targets.json"), &bytes)?;
                renewed.targets = true;
                Some(MetaFile::of(version, &bytes))
            }
            _ => None,
        };
        let changed = Changed {
            root: &current.root.signed,
            targets: pin,
            now,
            must: false,
        };
        let pin = changed.snapshot(store, env, Some(current), online)?;
        renewed.snapshot = pin.is_some();
        renewed.timestamp = changed.timestamp(store, env, Some(current), pin, online)?;
        if renewed != Renewed::default() {
            self.current = Current::read(self.store, env)?;
        }
        Ok(renewed)
    }
}
