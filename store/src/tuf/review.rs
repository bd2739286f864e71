//! What a proposed change would change, in sentences for whoever is to sign it.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::floors;
use super::environment::Current;
use super::error::{Error, ErrorKind, Result};
use super::log::{LogEntry, LogHead};
use super::metadata::{Hashes, Root, SignedFile, Targets, next_version};
use super::proposal::{Proposal, RequiredSignatures};
use super::{Environment, ReleaseCustom, paths};
use crate::keys::{PublicKey, Signer};
use crate::manifest::Manifest;
use crate::name::EnvName;

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
    let contradicts = |why: String| {
        Error::new(
            ErrorKind::Untrusted,
            format!("the proposed change contradicts itself: {why}"),
        )
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
        roots(old_root, &next.signed, &mut review);
    } else if old_root.is_none() {
        return Err(contradicts(
            "it begins an environment without a root".into(),
        ));
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
        targets(old, &next, proposal, &mut review)?;
    } else if old_root.is_none() {
        return Err(contradicts(
            "it begins an environment without targets".into(),
        ));
    } else if !proposal.log.is_empty() || !proposal.manifests.is_empty() {
        return Err(contradicts("it has releases and no targets".into()));
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
    changes.push(format!(
        "root {} runs out at {}",
        new.head.version, new.head.expires
    ));
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

fn targets(
    old: Option<&SignedFile<Targets>>,
    next: &SignedFile<Targets>,
    proposal: &Proposal,
    review: &mut Review,
) -> Result<()> {
    let contradicts = |why: String| {
        Error::new(
            ErrorKind::Untrusted,
            format!("the proposed change contradicts itself: {why}"),
        )
    };
    let new = &next.signed;
    // The log goes on where it ended.
    let mut end: Option<LogHead> = old.and_then(|old| old.signed.log);
    for text in &proposal.log {
        let head = LogHead {
            length: end.map_or(0, |end| end.length) + 1,
            sha256: crate::digest::Sha256::of(text.as_bytes()),
        };
        let entry = LogEntry::read(text.as_bytes(), head)?;
        if entry.previous != end.map(|end| end.sha256) || entry.targets != new.head.version {
            return Err(contradicts(
                "its log does not go on where the log ends".into(),
            ));
        }
        end = Some(head);
        review.entries.push(entry);
    }
    if new.log != end {
        return Err(contradicts(
            "its targets do not name the end of the log".into(),
        ));
    }

    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.signed.targets);
    let mut manifests = proposal.manifests.clone();
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
            review.warnings.push(format!(
                "the target {path}, which is no release, is new or changed"
            ));
            continue;
        };
        if custom.env != proposal.environment || custom.seq != seq {
            return Err(contradicts(format!(
                "{path} calls itself {} of {}",
                custom.seq, custom.env
            )));
        }
        let past =
            was.and_then(|was| serde_json::from_value::<ReleaseCustom>(was.custom.clone()).ok());
        if let Some(was) = was {
            if was.hashes != target.hashes {
                review
                    .warnings
                    .push(format!("release {seq} of {name} gets another manifest"));
            }
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
            if manifest.image != custom.image || manifest.name != name {
                return Err(contradicts(format!(
                    "{path} and its manifest are of different images"
                )));
            }
            review
                .changes
                .push(format!("release {seq} of {name} is {}", custom.image));
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
            review
                .changes
                .push(format!("{name}: {image} must not run any more"));
        }
        for image in revoked
            .iter()
            .filter(|image| !custom.revoked.contains(image))
        {
            review
                .warnings
                .push(format!("{name}: {image} is not revoked any more"));
        }
        let floor = past.as_ref().map_or(1, |past| past.min_seq);
        if custom.min_seq > floor {
            let seq = custom.min_seq;
            review
                .changes
                .push(format!("{name}: nodes may not go back below release {seq}"));
        } else if custom.min_seq < floor {
            review.warnings.push(format!(
                "{name}: nodes may go back below release {floor} again"
            ));
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
            _ => review.warnings.push(format!("{path} is released no more")),
        }
    }
    for (name, count) in retired {
        let floor = floors[&name];
        review.changes.push(format!(
            "{name}: {count} releases below {floor} are retired, and kept no longer"
        ));
    }
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
