//! What the manifests say: packages, wheels, users, how a session is run.

use std::collections::{BTreeMap, BTreeSet};

use store::Manifest;
use store::manifest::{Run, User};

use super::report::{PackageChange, Pair, UserChange, WheelChange};

/// What changed between two maps: key, old value, new value.
type Changes<K, V> = Vec<(K, Option<V>, Option<V>)>;

fn changes<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Changes<K, V> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned()))
        .filter(|(_, old, new)| old != new)
        .collect()
}

pub(super) fn packages(old: &Manifest, new: &Manifest) -> Vec<PackageChange> {
    type Versions = BTreeMap<(String, String), String>;
    let versions = |manifest: &Manifest| -> Versions {
        let packages = manifest.packages.iter();
        packages
            .map(|p| ((p.name.clone(), p.arch.clone()), p.version.clone()))
            .collect()
    };
    let mut changed: Vec<PackageChange> = Vec::new();
    for ((name, architecture), old, new) in changes(&versions(old), &versions(new)) {
        // A package that is for all architectures now came and went at once.
        let half = changed
            .last_mut()
            .filter(|last| last.name == name && last.old.is_some() != last.new.is_some())
            .filter(|last| old.is_some() != new.is_some() && last.old.is_some() == new.is_some());
        if let Some(half) = half {
            if new.is_some() {
                half.architecture = architecture;
            }
            half.old = half.old.take().or(old);
            half.new = half.new.take().or(new);
            continue;
        }
        changed.push(PackageChange {
            name,
            architecture,
            old,
            new,
            files: 0,
            growth: 0,
        });
    }
    changed
}

pub(super) fn wheels(old: &Manifest, new: &Manifest) -> Vec<WheelChange> {
    type Versions = BTreeMap<(String, String), String>;
    let versions = |manifest: &Manifest| -> Versions {
        let wheels = manifest.wheels.iter();
        wheels
            .map(|w| ((w.virtualenv.clone(), w.name.clone()), w.version.clone()))
            .collect()
    };
    let changed = changes(&versions(old), &versions(new)).into_iter();
    let change = |((virtualenv, name), old, new)| WheelChange {
        virtualenv,
        name,
        old,
        new,
        files: 0,
        growth: 0,
    };
    changed.map(change).collect()
}

pub(super) fn users(old: &Manifest, new: &Manifest) -> Vec<UserChange> {
    let by_name = |manifest: &Manifest| -> BTreeMap<String, User> {
        let users = manifest.users.iter();
        users.map(|u| (u.name.clone(), u.clone())).collect()
    };
    let changed = changes(&by_name(old), &by_name(new)).into_iter();
    changed
        .map(|(name, old, new)| UserChange { name, old, new })
        .collect()
}

pub(super) fn service(old: &Manifest, new: &Manifest) -> Option<Pair<Option<Run>>> {
    (old.run != new.run).then(|| Pair::of(old.run.clone(), new.run.clone()))
}
