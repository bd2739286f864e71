//! Drafting changes: what the next root and the next targets will say.

use std::collections::BTreeMap;

use jiff::Timestamp as Time;
use serde_json::Map;

use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{due, expiry};
use super::log::{Action, LogEntry, PromotedFrom};
use super::metadata::{
    CommonFields, DraftFile, Hashes, Key, Role as _, RoleEntry, Root, Target, Targets, next_version,
};
use super::proposal::Proposal;
use super::release::revoked_images;
use super::roles::{KeyGroup, KeySet};
use super::waves::{MAX_REASON, Rule, Stage, Step, Waves};
use super::{Environment, Lifetimes, Policy, Release, ReleaseCustom, paths};
use crate::digest::ImageId;
use crate::keys::PublicKey;
use crate::manifest::Manifest;
use crate::name::{EnvName, ImageName};

/// The first root of an environment, before it is signed.
#[derive(Clone, Debug)]
pub struct RootDraft {
    /// The keys that decide about keys and policy.
    pub root: KeySet,
    /// The keys that sign releases.
    pub targets: KeySet,
    /// The keys that sign snapshots and timestamps.
    pub online: KeySet,
    /// How long signatures last.
    pub lifetimes: Lifetimes,
    /// What releases need.
    pub policy: Option<Policy>,
}

/// A change of a root. What is not named stays.
#[derive(Clone, Debug, Default)]
pub struct RootChange {
    /// Keys that come.
    pub add: Vec<(Option<KeyGroup>, PublicKey)>,
    /// Keys that go, by their ids; from all groups where none is named.
    pub remove: Vec<(Option<KeyGroup>, String)>,
    /// How many signatures a group's files take from now on.
    pub thresholds: Vec<(KeyGroup, u64)>,
    /// How long signatures last from now on.
    pub lifetimes: Option<Lifetimes>,
    /// The policy; `Some(None)` takes it away.
    pub policy: Option<Option<Policy>>,
}

/// The origin of a release, and what else it says.
#[derive(Clone, Debug, Default)]
pub struct ReleaseOrigin {
    /// The release of another environment that it was.
    pub from: Option<PromotedFrom>,
    /// Nodes may not go back below this release any more.
    pub min_seq: Option<u64>,
    /// The stages in which it reaches nodes; without, it reaches all of them at once.
    pub waves: Option<WavePlan>,
}

/// The stages of a release that is to be made.
#[derive(Clone, Debug)]
pub struct WavePlan {
    /// The stages.
    pub stages: Vec<Stage>,
    /// What is asked before a stage is left, if anything is stated.
    pub rule: Option<Rule>,
}

impl Environment<'_> {
    /// Drafts the first version of an environment.
    pub fn draft_init(name: &EnvName, draft: &RootDraft, now: Time) -> Result<Proposal> {
        draft.lifetimes.check()?;
        if let Some(policy) = &draft.policy {
            policy.check()?;
        }
        let mut root = Root {
            head: CommonFields::new::<Root>(1, expiry(now, draft.lifetimes.root)?),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            environment: name.clone(),
            lifetimes: draft.lifetimes,
            policy: draft.policy.clone(),
            extra: Map::new(),
        };
        for (group, key_set) in [
            (KeyGroup::Root, &draft.root),
            (KeyGroup::Targets, &draft.targets),
            (KeyGroup::Online, &draft.online),
        ] {
            for role in group.roles() {
                let entry = RoleEntry::new(&key_set.keys, key_set.threshold);
                root.roles.insert((*role).to_owned(), entry);
            }
            let keys = key_set.keys.iter().map(|key| (key.id(), Key::from(*key)));
            root.keys.extend(keys);
        }
        root.check()?;
        let targets = Targets {
            head: CommonFields::new::<Targets>(1, expiry(now, draft.lifetimes.targets)?),
            targets: [].into(),
            environment: name.clone(),
            log: None,
            extra: Map::new(),
        };
        let mut proposal = Proposal::new(name.clone());
        proposal.root = Some(DraftFile::of(&root)?);
        proposal.targets = Some(DraftFile::of(&targets)?);
        Ok(proposal)
    }

    /// Drafts the next root. Targets come along when their keys change: they have to
    /// be signed again.
    pub fn draft_root(&self, change: &RootChange, now: Time) -> Result<Proposal> {
        let old = &self.current.root.signed;
        let mut root = old.clone();
        for (group, key) in &change.add {
            let groups = group.map_or(
                vec![KeyGroup::Root, KeyGroup::Targets, KeyGroup::Online],
                |s| vec![s],
            );
            for role in groups.iter().flat_map(|group| group.roles()) {
                let entry = root.entry(role)?;
                if !entry.keyids.contains(&key.id()) {
                    entry.keyids.push(key.id());
                    entry.keyids.sort();
                }
            }
            root.keys.insert(key.id(), Key::from(*key));
        }
        for (group, id) in &change.remove {
            let groups = group.map_or(
                vec![KeyGroup::Root, KeyGroup::Targets, KeyGroup::Online],
                |s| vec![s],
            );
            let mut found = false;
            for role in groups.iter().flat_map(|group| group.roles()) {
                let entry = root.entry(role)?;
                let before = entry.keyids.len();
                entry.keyids.retain(|known| known != id);
                found |= entry.keyids.len() != before;
            }
            if !found {
                let text = format!("the key with the id {id} is none of {}", self.name);
                return Err(Error::new(ErrorKind::WrongKey, text)
                    .with_hint(format!("imgbuild env status {} lists them", self.name)));
            }
        }
        for (group, threshold) in &change.thresholds {
            for role in group.roles() {
                root.entry(role)?.threshold = *threshold;
            }
        }
        if let Some(lifetimes) = change.lifetimes {
            lifetimes.check()?;
            root.lifetimes = lifetimes;
        }
        if let Some(policy) = &change.policy {
            if let Some(policy) = policy {
                policy.check()?;
            }
            root.policy.clone_from(policy);
        }
        let used: Vec<_> = root
            .roles
            .values()
            .flat_map(|entry| entry.keyids.clone())
            .collect();
        root.keys.retain(|id, _| used.contains(id));
        root.head = CommonFields::new::<Root>(
            next_version(old.head.version)?,
            expiry(now, root.lifetimes.root)?,
        );
        root.check()?;

        let mut proposal = Proposal::new(self.name.clone());
        if self.current.targets.check(&root).is_err() {
            let mut targets = self.current.targets.signed.clone();
            let version = next_version(targets.head.version)?;
            targets.head =
                CommonFields::new::<Targets>(version, expiry(now, root.lifetimes.targets)?);
            proposal.targets = Some(DraftFile::of(&targets)?);
        }
        proposal.root = Some(DraftFile::of(&root)?);
        Ok(proposal)
    }

    /// Drafts a release: the next number of the manifest's name. `None` when the
    /// newest release of that name is this manifest to the byte.
    pub fn draft_release(
        &self,
        manifest: &Manifest,
        origin: &ReleaseOrigin,
        now: Time,
    ) -> Result<Option<(Proposal, Release)>> {
        let json = manifest.to_json();
        let hashes = Hashes::of(&json);
        let newest = self.newest(&manifest.name)?;
        let same = newest
            .as_ref()
            .is_some_and(|(_, target)| target.hashes == hashes);
        let (seq, mut min_seq, revoked) = match newest {
            None => (1, 1, Vec::new()),
            Some((last, _)) => (
                next_version(last.seq)?,
                last.custom.min_seq,
                last.custom.revoked,
            ),
        };
        if revoked_images(&self.releases()?).contains(&manifest.image) {
            let text = format!(
                "{} was revoked in {} and is not released again",
                manifest.image, self.name
            );
            return Err(Error::new(ErrorKind::Untrusted, text)
                .with_hint("build an image that mends what the revocation was for"));
        }
        if same {
            return Ok(None);
        }
        if let Some(wanted) = origin.min_seq {
            min_seq = self.raised(min_seq, wanted, seq)?;
        }
        let waves = origin.waves.clone().map(|plan| {
            let waves = Waves::begin(plan.stages, plan.rule, now);
            waves.map_err(|why| Error::new(ErrorKind::Range, why))
        });
        let waves = waves.transpose()?;
        let custom = ReleaseCustom {
            image: manifest.image,
            env: self.name.clone(),
            arch: manifest.arch.clone(),
            seq,
            min_seq,
            size: manifest.size,
            revoked,
            waves,
        };
        let target_path = paths::target(&self.name, &manifest.name, seq, &hashes.sha256);
        let target = Target {
            length: json.len() as u64,
            hashes,
            custom: value(&custom)?,
        };
        let target_name = paths::target_name(&manifest.name, seq);
        let mut targets = self.current.targets.signed.clone();
        targets.targets.insert(target_name.clone(), target);
        let act = if origin.from.is_some() {
            Action::Promote
        } else {
            Action::Release
        };
        let mut entry = LogEntry::new(act, manifest.name.clone(), manifest.image, seq, now);
        entry.from.clone_from(&origin.from);
        entry.min_seq = origin.min_seq;
        entry.waves.clone_from(&custom.waves);
        let mut proposal = self.propose(targets, vec![entry], now)?;
        let text = String::from_utf8(json).map_err(|e| {
            Error::new(ErrorKind::Malformed, format!("a manifest is not text: {e}"))
        })?;
        proposal.manifests.insert(target_name, text);
        let release = Release {
            name: manifest.name.clone(),
            seq,
            image: manifest.image,
            target_path,
            custom,
            new: true,
        };
        Ok(Some((proposal, release)))
    }

    /// Drafts the revocation of an image, under every name that it is released as;
    /// with `min_seq`, nodes may not go back below that release either.
    pub fn draft_revocation(
        &self,
        image: &ImageId,
        reason: &str,
        min_seq: Option<u64>,
        now: Time,
    ) -> Result<Proposal> {
        if reason.trim().is_empty() || reason.len() > MAX_REASON {
            let text = format!("a revocation needs a reason of 1 to {MAX_REASON} bytes");
            return Err(Error::new(ErrorKind::Range, text));
        }
        let revoked_already = || {
            let text = format!("{image} is revoked in {} already", self.name);
            Error::new(ErrorKind::Exists, text)
                .with_hint("nothing is left to do; `imgbuild env log` says when it was and why")
        };
        // Of each name the newest release of that image.
        let mut names: BTreeMap<ImageName, u64> = BTreeMap::new();
        for release in self.releases()? {
            if release.image == *image {
                let seq = names.entry(release.name).or_default();
                *seq = release.seq.max(*seq);
            }
        }
        if names.is_empty() {
            if revoked_images(&self.releases()?).contains(image) {
                return Err(revoked_already());
            }
            let text = format!("{image} is not released in {}", self.name);
            return Err(Error::new(ErrorKind::Missing, text)
                .with_hint(format!("imgbuild env status {} lists what is", self.name)));
        }
        let mut targets = self.current.targets.signed.clone();
        let mut entries = Vec::new();
        for (name, revoked) in names {
            let Some((newest, _)) = self.newest(&name)? else {
                continue;
            };
            let mut custom = newest.custom.clone();
            let known = custom.revoked.contains(image);
            if known && min_seq.is_none() {
                continue;
            }
            if !known {
                custom.revoked.push(*image);
            }
            if let Some(wanted) = min_seq {
                custom.min_seq = self.raised(custom.min_seq, wanted, newest.seq)?;
            }
            let target = targets
                .targets
                .get_mut(&paths::target_name(&name, newest.seq));
            if let Some(target) = target {
                target.custom = value(&custom)?;
            }
            let (act, seq) = if known {
                (Action::MinSeq, newest.seq)
            } else {
                (Action::Revoke, revoked)
            };
            let mut entry = LogEntry::new(act, name, *image, seq, now);
            entry.reason = Some(reason.trim().to_owned());
            entry.min_seq = min_seq;
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(revoked_already());
        }
        self.propose(targets, entries, now)
    }

    /// Drafts a step of the waves of the newest release of a name.
    pub fn draft_waves(
        &self,
        name: &ImageName,
        step: &Step,
        now: Time,
    ) -> Result<(Proposal, Release)> {
        let Some((mut release, _)) = self.newest(name)? else {
            let text = format!("no image called {name} is released in {}", self.name);
            return Err(Error::new(ErrorKind::Missing, text)
                .with_hint(format!("imgbuild env status {} lists what is", self.name)));
        };
        let what = format!("release {} of {name} in {}", release.seq, self.name);
        let Some(waves) = &release.custom.waves else {
            return Err(Error::new(
                ErrorKind::Missing,
                format!("{what} has no waves: it reaches all nodes"),
            )
            .with_hint("imgbuild revoke is for an image that must not run"));
        };
        if matches!(step, Step::Widen | Step::Resume)
            && revoked_images(&self.releases()?).contains(&release.image)
        {
            let text = format!("{what} was revoked, and reaches no more nodes");
            return Err(Error::new(ErrorKind::Untrusted, text));
        }
        let next = waves
            .after(step, now)
            .map_err(|why| Error::new(ErrorKind::Range, format!("{what}: {why}")))?;
        let (act, reason) = match step {
            Step::Widen => (Action::Widen, None),
            Step::Halt { .. } => (Action::Halt, next.halted().map(str::to_owned)),
            Step::Resume => (Action::Resume, None),
        };
        release.custom.waves = Some(next);
        let mut targets = self.current.targets.signed.clone();
        let path = paths::target_name(name, release.seq);
        if let Some(target) = targets.targets.get_mut(&path) {
            target.custom = value(&release.custom)?;
        }
        let mut entry = LogEntry::new(act, name.clone(), release.image, release.seq, now);
        entry.reason = reason;
        entry.waves.clone_from(&release.custom.waves);
        Ok((self.propose(targets, vec![entry], now)?, release))
    }

    /// Drafts the targets as they are for another term, where they run out soon.
    pub fn draft_renewal(&self, now: Time) -> Result<Option<Proposal>> {
        let targets = &self.current.targets.signed;
        if !due(now, targets.head.expires, self.lifetimes().targets) {
            return Ok(None);
        }
        self.propose(targets.clone(), Vec::new(), now).map(Some)
    }

    /// Whether a proposal does nothing but sign the targets for another term.
    pub fn is_renewal(&self, proposal: &Proposal) -> Result<bool> {
        let Some(next) = proposal.next_targets()? else {
            return Ok(false);
        };
        let mut expected = self.current.targets.signed.clone();
        retire(&mut expected);
        expected.head = next.signed.head.clone();
        let same = value(&expected)? == value(&next.signed)?;
        let alone = !proposal.changes_root() && proposal.log.is_empty();
        Ok(same && alone && proposal.manifests.is_empty())
    }

    /// The next targets, with what is added to the log.
    fn propose(&self, mut targets: Targets, entries: Vec<LogEntry>, now: Time) -> Result<Proposal> {
        let days = self.lifetimes();
        let version = next_version(targets.head.version)?;
        let expires = expiry(now, days.targets)?;
        self.check_clock(now)?;
        retire(&mut targets);
        targets.head = CommonFields::new::<Targets>(version, expires);
        let mut proposal = Proposal::new(self.name.clone());
        for entry in entries {
            let (text, head) = entry.chain(targets.log, version)?;
            targets.log = Some(head);
            proposal.log.push(text);
        }
        proposal.targets = Some(DraftFile::of(&targets)?);
        Ok(proposal)
    }

    fn raised(&self, present: u64, wanted: u64, newest: u64) -> Result<u64> {
        if wanted < present || wanted > newest {
            let text = format!(
                "the oldest release that {} allows can be {present} to {newest}, not {wanted}",
                self.name
            );
            return Err(Error::new(ErrorKind::Range, text));
        }
        Ok(wanted)
    }
}

/// Of each name, the oldest release that nodes may go back to: no node asks for those below.
pub(super) fn floors(targets: &Targets) -> BTreeMap<ImageName, u64> {
    let mut newest: BTreeMap<ImageName, (u64, u64)> = BTreeMap::new();
    for (path, target) in &targets.targets {
        let custom = serde_json::from_value::<ReleaseCustom>(target.custom.clone());
        if let (Some((name, seq)), Ok(custom)) = (paths::parse_target_name(path), custom) {
            let known = newest.entry(name).or_default();
            *known = (seq, custom.min_seq).max(*known);
        }
    }
    let newest = newest.into_iter();
    newest.map(|(name, (_, floor))| (name, floor)).collect()
}

/// Takes away the releases that nodes may not go back to.
fn retire(targets: &mut Targets) {
    let floors = floors(targets);
    targets.targets.retain(|path, _| {
        let release = paths::parse_target_name(path);
        release.is_none_or(|(name, seq)| floors.get(&name).is_none_or(|floor| seq >= *floor))
    });
}

fn value(of: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(of)
        .map_err(|e| Error::new(ErrorKind::Malformed, format!("cannot write a release: {e}")))
}

impl Root {
    fn entry(&mut self, role: &str) -> Result<&mut RoleEntry> {
        let version = self.head.version;
        self.roles.get_mut(role).ok_or_else(|| {
            let text = format!("root {version} does not say who signs {role}");
            Error::new(ErrorKind::Malformed, text)
        })
    }

    /// Refuses a root that nobody could follow.
    pub(super) fn check(&self) -> Result<()> {
        for role in [Self::TYPE, Targets::TYPE, "snapshot", "timestamp"] {
            let keys = self.keys_of(role)?;
            let threshold = self.role(role)?.threshold;
            if threshold == 0 || threshold > keys.len() as u64 {
                let text = format!(
                    "the {role} role has {} keys, so it cannot take {threshold} signatures",
                    keys.len()
                );
                return Err(Error::new(ErrorKind::Range, text));
            }
        }
        Ok(())
    }
}
