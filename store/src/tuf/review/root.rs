//! What a change says of the root: keys, how long signatures last, and the policy.

use std::collections::BTreeSet;

use super::Review;
use crate::keys::PublicKey;
use crate::tuf::metadata::Root;
use crate::tuf::{Claim, Policy};

/// Adds to a review what becomes of keys, lifetimes and policy.
pub(super) fn roots(old: Option<&Root>, new: &Root, review: &mut Review) {
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
        root.policy.iter().flat_map(Policy::sentences).collect()
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
