//! What a proposed change would change, in sentences for whoever is to sign it.

use std::collections::{BTreeMap, BTreeSet};

use super::consistency::{
    Acts, contradicts, log_tells, of_another_time, only_known_fields, only_revokes, root_is_plain,
};
use super::draft::floors;
use super::environment::Current;
use super::error::{Error, ErrorKind, Result};
use super::log::{LogEntry, LogHead};
use super::metadata::{Hashes, Root, SignedFile, Targets, next_version};
use super::proposal::{Proposal, RequiredSignatures};
use super::waves::{Step, Waves};
use super::{Claim, Environment, ReleaseCustom, paths};
use crate::digest::ImageId;
use crate::keys::{PublicKey, Signer};
use crate::manifest::Manifest;
use crate::name::{EnvName, ImageName};

/// A change as it stands, compared with its environment.
#[derive(Clone, Debug)]
pub struct Review {
    /// What changes, a sentence each.
    pub changes: Vec<String>,
    /// What must not be overlooked: releases that vanish, fewer signatures than
    /// before.
    pub warnings: Vec<String>,
    /// The signatures that are required, and those that are there.
    pub needs: Vec<RequiredSignatures>,
    /// The new releases.
    pub releases: Vec<Manifest>,
    /// The entries that the log gets.
    pub entries: Vec<LogEntry>,
}

impl Review {
    /// Whether enough have signed.
    pub fn complete(&self) -> bool {
        self.needs.iter().all(|need| need.missing() == 0)
    }
}

impl Environment<'_> {
    /// Compares a change with the environment. It must be the very next one, and
    /// say nothing that its parts contradict.
    pub fn review(&self, proposal: &Proposal) -> Result<Review> {
        review(&self.name, Some(&self.current), proposal)
    }

    /// Reviews the first version of an environment.
    pub fn review_init(proposal: &Proposal) -> Result<Review> {
        review(&proposal.environment, None, proposal)
    }

    /// Signs a change with those keys in hand that count; refused if none does.
    pub fn sign(&self, proposal: &mut Proposal, keys: &[&dyn Signer]) -> Result<Review> {
        sign(&self.name, Some(&self.current), proposal, keys)
    }

    /// Signs the first version of an environment.
    pub fn sign_init(proposal: &mut Proposal, keys: &[&dyn Signer]) -> Result<Review> {
        let name = proposal.environment.clone();
        sign(&name, None, proposal, keys)
    }
}

fn sign(
    name: &EnvName,
    current: Option<&Current>,
    proposal: &mut Proposal,
    keys: &[&dyn Signer],
) -> Result<Review> {
    let before = review(name, current, proposal)?;
    let root = current.map(|current| &current.root.signed);
    if proposal.add(root, keys)? == 0 {
        let wanted = before.needs.iter().map(|need| {
            let ids: Vec<_> = need.keys.iter().map(|(key, _)| key.hex()).collect();
            format!("{} by {} of {}", need.role, need.threshold, ids.join(", "))
        });
        let wanted: Vec<_> = wanted.collect();
        let in_hand: Vec<_> = keys.iter().map(|key| key.public().hex()).collect();
        let text = match &*in_hand {
            [] => "there is no key in hand to sign this with".to_owned(),
            ids => format!("no key in hand counts for this change: {}", ids.join(", ")),
        };
        return Err(Error::new(ErrorKind::WrongKey, text)
            .with_hint(format!("it is to be signed as {}", wanted.join("; as "))));
    }
    review(name, current, proposal)
}

pub(super) fn review(
    name: &EnvName,
    current: Option<&Current>,
    proposal: &Proposal,
) -> Result<Review> {
    let stale = |what: &str, version: u64, next: u64| {
        let text = format!(
            "the proposed {what} is version {version}, and the next one of {name} is {next}"
        );
        let hint = match current {
            None => "this store has no environment of that name: is it the right one (--store)?",
            Some(_) if version > next => {
                "this store is behind the one where it was proposed: bring it up to date"
            }
            Some(_) => "the environment has moved on since it was proposed: propose it again",
        };
        Error::new(ErrorKind::Stale, text).with_hint(hint)
    };
    if proposal.environment != *name {
        let text = format!("the change is for {}, not for {name}", proposal.environment);
        return Err(Error::new(ErrorKind::Untrusted, text));
    }
    let mut review = Review {
        changes: Vec::new(),
        warnings: Vec::new(),
        needs: Vec::new(),
        releases: Vec::new(),
        entries: Vec::new(),
    };
    let old_root = current.map(|current| &current.root.signed);
    let next_root = proposal.next_root()?;
    if let Some(next) = &next_root {
        let version = next_version(old_root.map_or(0, |old| old.head.version))?;
        if next.signed.head.version != version {
            return Err(stale("root", next.signed.head.version, version));
        }
        next.signed.check()?;
        if let Some(policy) = &next.signed.policy {
            policy.check()?;
        }
        if next.signed.environment != *name {
            return Err(contradicts(format!(
                "its root is for {}",
                next.signed.environment
            )));
        }
        if let Some(part) = &proposal.root {
            let before = old_root.map(|old| (old, &old.extra));
            only_known_fields(part, &next.signed, &next.signed.extra, before)?;
        }
        root_is_plain(old_root, &next.signed)?;
        roots(old_root, &next.signed, &mut review);
    } else if old_root.is_none() {
        return Err(contradicts("it begins an environment without a root"));
    }
    if let Some(next) = proposal.next_targets()? {
        let old = current.map(|current| &current.targets);
        let version = next_version(old.map_or(0, |old| old.signed.head.version))?;
        if next.signed.head.version != version {
            return Err(stale("targets", next.signed.head.version, version));
        }
        if next.signed.environment != *name {
            return Err(contradicts(format!(
                "its targets are for {}",
                next.signed.environment
            )));
        }
        if let Some(part) = &proposal.targets {
            let before = old.map(|old| (&old.signed, &old.signed.extra));
            only_known_fields(part, &next.signed, &next.signed.extra, before)?;
        }
        targets(old, &next, proposal, &mut review)?;
        let days = old_root.map(|root| root.lifetimes);
        let odd = days.and_then(|days| of_another_time(&review.entries, &next.signed, days));
        if let Some(entry) = odd {
            let warning = format!(
                "the log will say that this was drafted at {}, and its targets run out at {}: \
                 that does not fit the days that targets last",
                entry.time, next.signed.head.expires
            );
            review.warnings.push(warning);
        }
    } else if old_root.is_none() {
        return Err(contradicts("it begins an environment without targets"));
    } else if !proposal.log.is_empty() || !proposal.manifests.is_empty() {
        return Err(contradicts("it has releases and no targets"));
    }
    review.needs = proposal.needs(old_root)?;
    Ok(review)
}

fn roots(old: Option<&Root>, new: &Root, review: &mut Review) {
    let Review {
        changes, warnings, ..
    } = review;
    for (group, role) in [
        ("root", "root"),
        ("targets", "targets"),
        ("online", "timestamp"),
        ("snapshot", "snapshot"),
    ] {
        let keys = |root: &Root| -> BTreeSet<String> {
            let keys = root.keys_of(role).unwrap_or_default();
            keys.iter().map(PublicKey::hex).collect()
        };
        let (before, after) = (old.map(keys).unwrap_or_default(), keys(new));
        let threshold = |root: &Root| root.role(role).map_or(0, |entry| entry.threshold);
        let was = old.map(threshold);
        let is = threshold(new);
        // Snapshot and timestamp are one group, unless somebody made them two.
        if role == "snapshot"
            && new.role("snapshot").map(|entry| entry.threshold).ok()
                == new.role("timestamp").map(|entry| entry.threshold).ok()
            && keys(new)
                == new
                    .keys_of("timestamp")
                    .unwrap_or_default()
                    .iter()
                    .map(PublicKey::hex)
                    .collect()
        {
            continue;
        }
        for key in after.difference(&before) {
            changes.push(format!("{group}: key {key} is added"));
        }
        for key in before.difference(&after) {
            changes.push(format!("{group}: key {key} is removed"));
        }
        if was != Some(is) {
            changes.push(match was {
                Some(was) => format!(
                    "{group}: takes {is} of {} signatures, was {was}",
                    after.len()
                ),
                None => format!("{group}: takes {is} of {} signatures", after.len()),
            });
        }
        if was.is_some_and(|was| was > is) {
            warnings.push(format!("{group} files take fewer signatures than before"));
        }
    }
    if old.map(|old| old.lifetimes) != Some(new.lifetimes) {
        let days = new.lifetimes;
        changes.push(format!(
            "signatures last {} days (root), {} (targets), {} (snapshot), {} (timestamp)",
            days.root, days.targets, days.snapshot, days.timestamp
        ));
    }
    let sentences = |root: &Root| -> BTreeSet<String> {
        root.policy
            .iter()
            .flat_map(super::Policy::sentences)
            .collect()
    };
    let (before, after) = (old.map(sentences).unwrap_or_default(), sentences(new));
    for line in after.difference(&before) {
        changes.push(format!("policy, new: {line}"));
    }
    for line in before.difference(&after) {
        changes.push(format!("policy, gone: {line}"));
    }
    if !before.is_empty() && after.is_empty() {
        warnings.push("releases need nothing any more".to_owned());
    }
    if let Some(old) = old {
        warnings.extend(left_in_policy(old, new));
    }
    let double = two_hats(new).into_iter();
    let before = old.map(two_hats).unwrap_or_default();
    warnings.extend(double.filter(|line| !before.contains(line)));
    changes.push(format!(
        "root {} runs out at {}",
        new.head.version, new.head.expires
    ));
}

/// Keys that should have one say and have two: the online key lies open on a machine, and a witness
/// watches those who release.
fn two_hats(root: &Root) -> Vec<String> {
    let of = |role: &str| root.keys_of(role).unwrap_or_default();
    let mut lines = Vec::new();
    for key in of("timestamp") {
        for role in ["root", "targets"] {
            if of(role).contains(&key) {
                lines.push(format!(
                    "online: key {} also signs as {role}, and lies where a timer uses it",
                    key.hex()
                ));
            }
        }
    }
    // Where no names are listed, all keys of the policy are witnesses.
    let policy = root.policy.as_ref().filter(|policy| {
        let witnessed = policy.witnessed.as_ref();
        witnessed.is_some_and(|votes| !votes.keys.is_empty())
    });
    for key in of("targets") {
        if policy.and_then(|policy| policy.listens_to(Claim::Witnessed, &key)) == Some(true) {
            lines.push(format!("witnessed: key {} also signs releases", key.hex()));
        }
    }
    lines
}

/// What the policy says of keys that come or go: it has a list of its own.
fn left_in_policy(old: &Root, new: &Root) -> Vec<String> {
    let Some(policy) = &new.policy else {
        return Vec::new();
    };
    let keys = |root: &Root, roles: &[&str]| -> BTreeSet<String> {
        let keys = roles
            .iter()
            .flat_map(|role| root.keys_of(role).unwrap_or_default());
        keys.map(|key| key.hex()).collect()
    };
    let listed = |hex: &String| {
        let same = |known: &str| known.parse().is_ok_and(|key: PublicKey| key.hex() == *hex);
        policy.keys.iter().find(|(_, known)| same(known))
    };
    let all = ["root", "targets", "snapshot", "timestamp"];
    let mut lines = Vec::new();
    let gone = |roles: &[&str]| &keys(old, roles) - &keys(new, roles);
    for hex in &gone(&all) | &gone(&["targets"]) {
        if let Some((name, _)) = listed(&hex) {
            lines.push(format!(
                "policy: key {hex} is removed and still counts as {name}; --policy FILE changes that"
            ));
        }
    }
    for hex in keys(new, &["targets"]).difference(&keys(old, &["targets"])) {
        if policy.approvals.is_some() && listed(hex).is_none() {
            lines.push(format!(
                "policy: key {hex} does not count for approvals; --policy FILE changes that"
            ));
        }
    }
    lines
}

/// The numbers of the releases of an image under a name, and whether the newest is among them.
fn numbers(targets: &Targets, name: &ImageName, image: &ImageId) -> String {
    let mut of_name = Vec::new();
    for (path, target) in &targets.targets {
        let custom = serde_json::from_value::<ReleaseCustom>(target.custom.clone());
        if let (Some((found, seq)), Ok(custom)) = (paths::parse_target_name(path), custom)
            && found == *name
        {
            of_name.push((seq, custom.image == *image));
        }
    }
    of_name.sort_unstable();
    let newest = of_name.last().is_some_and(|(_, is)| *is);
    let mut which: Vec<_> = of_name.into_iter().filter(|(_, is)| *is).collect();
    let said = if newest { ", its newest release" } else { "" };
    let last = which.pop().map(|(seq, _)| format!(" {seq}{said}"));
    let others = which.into_iter().map(|(seq, _)| format!(" {seq} and"));
    others.chain(last).collect()
}

/// What the waves of a new release say.
fn begin_waves(
    path: &str,
    (name, seq): (&ImageName, u64),
    begun: &Waves,
    acts: &mut Acts,
    review: &mut Review,
) -> Result<()> {
    if begun.reached() != 1 || begun.halted().is_some() {
        let standing = begun.standing();
        return Err(contradicts(format_args!(
            "{path} is new, and its waves do not begin: they are {standing}"
        )));
    }
    let said = format!("{name} {seq} reaches nodes in waves: {begun}; now the first of them");
    review.changes.push(said);
    review.changes.push(match begun.rule() {
        Some(rule) => format!("{name} {seq}: a stage is clean when {rule}"),
        None => format!("{name} {seq}: a person decides about each stage"),
    });
    acts.waves
        .insert((name.clone(), seq), (None, begun.clone()));
    Ok(())
}

/// What becomes of the waves of a release: one step at a time, and nothing beside.
fn waves(
    path: &str,
    (name, seq): (&ImageName, u64),
    was: Option<&Waves>,
    custom: &ReleaseCustom,
    acts: &mut Acts,
    review: &mut Review,
) -> Result<()> {
    let is = custom.waves.as_ref();
    if was == is {
        return Ok(());
    }
    let step = was
        .zip(is)
        .and_then(|(was, is)| Some((was.step_to(is)?, is)));
    let Some((step, is)) = step else {
        return Err(contradicts(format_args!(
            "the waves of {path} change, and not by one stage, a halt or its end"
        )));
    };
    let standing = is.standing();
    review.changes.push(match &step {
        Step::Widen => format!("{name} {seq}: its waves go on, now {standing}"),
        Step::Halt { .. } => {
            format!("{name} {seq} is {standing}: nobody gets it who does not have it")
        }
        Step::Resume => format!("{name} {seq}: the halt is over, {standing}"),
    });
    acts.waves
        .insert((name.clone(), seq), (Some(step), is.clone()));
    Ok(())
}

fn targets(
    old: Option<&SignedFile<Targets>>,
    next: &SignedFile<Targets>,
    proposal: &Proposal,
    review: &mut Review,
) -> Result<()> {
    let new = &next.signed;
    // The log goes on where it ended.
    let mut end: Option<LogHead> = old.and_then(|old| old.signed.log);
    for text in &proposal.log {
        let head = LogHead {
            length: end.map_or(0, |end| end.length) + 1,
            sha256: crate::digest::Sha256::of(text.as_bytes()),
        };
        let entry = LogEntry::read(text.as_bytes(), head)?;
        if !entry.is_written_as(text) {
            return Err(contradicts(
                "an entry of its log is longer than what it says",
            ));
        }
        if entry.previous != end.map(|end| end.sha256) || entry.targets != new.head.version {
            return Err(contradicts("its log does not go on where the log ends"));
        }
        end = Some(head);
        review.entries.push(entry);
    }
    if new.log != end {
        return Err(contradicts("its targets do not name the end of the log"));
    }

    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.signed.targets);
    let mut manifests = proposal.manifests.clone();
    let mut acts = Acts::default();
    let was = old.map(|old| floors(&old.signed)).unwrap_or_default();
    for (name, is) in floors(new) {
        let was = was.get(&name).copied().unwrap_or(1);
        acts.floors.insert(name, (was, is));
    }
    for (path, target) in &new.targets {
        let was = before.get(path);
        if was.is_some_and(|was| {
            was.length == target.length
                && was.hashes == target.hashes
                && was.custom == target.custom
        }) {
            continue;
        }
        let (Some((name, seq)), Ok(custom)) = (
            paths::parse_target_name(path),
            serde_json::from_value::<ReleaseCustom>(target.custom.clone()),
        ) else {
            return Err(contradicts(format_args!(
                "the target {path}, which is no release, is new or changed"
            )));
        };
        if custom.env != proposal.environment || custom.seq != seq {
            return Err(contradicts(format!(
                "{path} calls itself {} of {}",
                custom.seq, custom.env
            )));
        }
        if serde_json::to_value(&custom).ok().as_ref() != Some(&target.custom) {
            return Err(contradicts(format_args!(
                "{path} has fields that this version does not know"
            )));
        }
        let newest = before
            .keys()
            .filter_map(|path| paths::parse_target_name(path));
        let newest = newest
            .filter(|(found, _)| *found == name)
            .map(|(_, seq)| seq);
        let newest = newest.max().unwrap_or_default();
        let mut past = None;
        if let Some(was) = was {
            let before = only_revokes(path, was, target)?;
            waves(
                path,
                (&name, seq),
                before.waves.as_ref(),
                &custom,
                &mut acts,
                review,
            )?;
            past = Some(before);
            if seq != newest {
                return Err(contradicts(format_args!(
                    "{path} changes, and release {newest} is the one that is asked"
                )));
            }
        } else if seq != next_version(newest)? {
            return Err(contradicts(format_args!(
                "release {seq} of {name} follows {newest}"
            )));
        } else {
            let text = manifests
                .remove(path)
                .ok_or_else(|| contradicts(format!("it does not have the manifest of {path}")))?;
            if Hashes::of(text.as_bytes()) != target.hashes || text.len() as u64 != target.length {
                return Err(contradicts(format!(
                    "{path} is not the manifest that it has"
                )));
            }
            let manifest = Manifest::from_json(text.as_bytes())
                .map_err(|e| contradicts(format!("the manifest of {path}: {e}")))?;
            if manifest.to_json() != text.as_bytes() {
                return Err(contradicts(format_args!(
                    "the manifest of {path} is longer than what it says"
                )));
            }
            let described = (&manifest.image, &manifest.arch, manifest.size);
            if described != (&custom.image, &custom.arch, custom.size) || manifest.name != name {
                return Err(contradicts(format!(
                    "{path} and its manifest are of different images"
                )));
            }
            acts.released.insert((name.clone(), seq), custom.image);
            review
                .changes
                .push(format!("release {seq} of {name} is {}", custom.image));
            if let Some(begun) = &custom.waves {
                begin_waves(path, (&name, seq), begun, &mut acts, review)?;
            }
            review.releases.push(manifest);
        }
        // What the newest release before this one said, for a new one.
        let past = past.or_else(|| {
            let last = before.iter().filter_map(|(path, target)| {
                let (found, number) = paths::parse_target_name(path)?;
                (found == name).then_some((number, target))
            });
            let (_, last) = last.max_by_key(|(number, _)| *number)?;
            serde_json::from_value(last.custom.clone()).ok()
        });
        let revoked = past.as_ref().map_or(&[][..], |past| &past.revoked);
        for image in custom
            .revoked
            .iter()
            .filter(|image| !revoked.contains(image))
        {
            acts.revoked.insert((name.clone(), *image));
            let which = numbers(new, &name, image);
            review
                .changes
                .push(format!("{name}{which}: {image} must not run any more"));
        }
        if let Some(image) = revoked.iter().find(|image| !custom.revoked.contains(image)) {
            return Err(contradicts(format_args!(
                "{image} would not be revoked any more"
            )));
        }
        let floor = past.as_ref().map_or(1, |past| past.min_seq);
        if custom.min_seq > seq {
            return Err(contradicts(format_args!(
                "nodes could not run release {seq} of {name}, the newest one"
            )));
        }
        if custom.waves.as_ref().is_some_and(|waves| !waves.is_last()) && custom.min_seq == seq {
            review.warnings.push(format!(
                "{name}: nodes that its waves have not reached can install no release at all"
            ));
        }
        if custom.min_seq > floor {
            let seq = custom.min_seq;
            review
                .changes
                .push(format!("{name}: nodes may not go back below release {seq}"));
        } else if custom.min_seq < floor {
            return Err(contradicts(format_args!(
                "nodes could go back below release {floor} of {name} again"
            )));
        }
    }
    if let Some(path) = manifests.keys().next() {
        return Err(contradicts(format!(
            "it has a manifest of {path}, which it does not release"
        )));
    }
    let (floors, mut retired) = (floors(new), BTreeMap::new());
    for path in before
        .keys()
        .filter(|path| !new.targets.contains_key(*path))
    {
        let release = paths::parse_target_name(path);
        let floor = |name| floors.get(name).copied().unwrap_or_default();
        match release {
            Some((name, seq)) if seq < floor(&name) => *retired.entry(name).or_insert(0) += 1,
            _ => {
                return Err(contradicts(format_args!(
                    "{path} would be released no more, and nodes may go back to it"
                )));
            }
        }
    }
    for (name, count) in retired {
        let floor = floors[&name];
        review.changes.push(format!(
            "{name}: {count} releases below {floor} are retired, and kept no longer"
        ));
    }
    log_tells(&acts, &review.entries, (before, new))?;
    for entry in &review.entries {
        if let Some(reason) = &entry.reason {
            review
                .changes
                .push(format!("reason: {}", reason.escape_default()));
        }
        if let Some(from) = &entry.from {
            review.changes.push(format!(
                "{} comes from {} {}",
                entry.name, from.env, from.seq
            ));
        }
    }
    review.changes.push(format!(
        "targets {} run out at {}",
        new.head.version, new.head.expires
    ));
    Ok(())
}
