//! One row for each value of a lock.

use std::collections::BTreeSet;

use builder::lockfile::{Deb, InstallStage, LocalFile, LocalKind, Lock};
use serde_json::Value;
use store::Sha256;

use super::fields::RECIPE;
use super::{AS_OP, BOTH_VIRTUALENV, STEPS, assert_keys_follow, changed, lock, parse, planned};

fn deb<'l>(lock: &'l mut Lock, name: &str) -> &'l mut Deb {
    lock.debs.iter_mut().find(|d| d.name == name).unwrap()
}

fn of_file<'l>(lock: &'l mut Lock, path: &str) -> &'l mut LocalFile {
    lock.files.iter_mut().find(|f| f.path == path).unwrap()
}

/// Every value of a lock as its path, without the numbers of lists.
fn values(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if key.starts_with('/') { "*" } else { key };
                let path = if path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{path}.{key}")
                };
                values(value, &path, all);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| values(value, path, all)),
        _ => drop(all.insert(path.to_owned())),
    }
}

#[test]
fn each_input_of_the_lock_changes_exactly_the_steps_that_use_it() {
    type Change = fn(&mut Lock);
    let all: Vec<&str> = STEPS.to_vec();
    let skeleton_and_local = ["users", AS_OP[1]];
    let with_mirror = ["bootstrap", "packages 1", "packages 2"];
    #[rustfmt::skip] // a row a line
    let rows: Vec<(&str, Change, &[&str])> = vec![
        ("version", |l| l.version = 1, &[]),
        ("epoch", |l| l.epoch += 1, &all),
        ("architecture", |l| l.architecture = "arm64".into(), &["bootstrap"]),
        ("bootstrapper", |l| l.bootstrapper = "debootstrap 2".into(), &[]),
        ("packages_from", |l| l.packages_from = Sha256::of(b"x"), &[]),
        ("virtualenvs_from.*", |l| l.virtualenvs_from.clear(), &[]),
        ("release.archive", |l| l.releases[0].archive = "x".into(), &[]),
        ("release.suite", |l| l.releases[0].suite = "x".into(), &[]),
        ("release.date", |l| l.releases[0].date = 2, &[]),
        ("release.sha256", |l| l.releases[0].sha256 = Sha256::of(b"x"), &[]),
        // A package is its digest; where it came from is not what it is.
        ("deb.sha256", |l| deb(l, "dpkg").sha256 = Sha256::of(b"x"), &with_mirror),
        ("deb.sha256", |l| deb(l, "git").sha256 = Sha256::of(b"x"), &with_mirror[1..]),
        ("deb.sha256", |l| deb(l, "virtualenvwrapper").sha256 = Sha256::of(b"x"), &with_mirror[2..]),
        ("deb.stage", |l| deb(l, "virtualenvwrapper").stage = InstallStage::Packages(1), &with_mirror[1..]),
        ("deb.name", |l| deb(l, "apt").name = "new".into(), &[]),
        ("deb.name", |l| deb(l, "git").name = "new".into(), &[]),
        ("deb.version", |l| deb(l, "git").version = "2".into(), &[]),
        ("deb.architecture", |l| deb(l, "git").architecture = "all".into(), &[]),
        ("deb.archive", |l| deb(l, "git").archive = None, &["packages 1"]),
        ("deb.path", |l| deb(l, "git").path = "x".into(), &[]),
        ("deb.size", |l| deb(l, "git").size = 2, &[]),
        ("python.sha256", |l| l.python[0].sha256 = Sha256::of(b"x"), BOTH_VIRTUALENV),
        ("python.virtualenv", |l| l.python[0].virtualenv = "/other".into(), BOTH_VIRTUALENV),
        ("python.name", |l| l.python[0].name = "new".into(), &BOTH_VIRTUALENV[..1]),
        ("python.version", |l| l.python[0].version = "2".into(), &BOTH_VIRTUALENV[..1]),
        ("python.file", |l| l.python[0].file = "new".into(), BOTH_VIRTUALENV),
        ("python.size", |l| l.python[0].size = 2, &[]),
        ("git.sha256", |l| l.git[0].sha256 = Sha256::of(b"x"), &BOTH_VIRTUALENV[1..]),
        ("git.reference", |l| l.git[0].reference = "x".into(), &[]),
        ("git.commit", |l| l.git[0].commit = "1".repeat(40), &[]),
        ("git.size", |l| l.git[0].size = 2, &[]),
        ("file.sha256", |l| of_file(l, "one.txt").sha256 = Sha256::of(b"x"), &["files"]),
        ("file.sha256", |l| of_file(l, "one").sha256 = Sha256::of(b"x"), &skeleton_and_local),
        ("file.sha256", |l| of_file(l, "two.txt").sha256 = Sha256::of(b"x"), &[]),
        ("file.size", |l| of_file(l, "one.txt").size = 2, &[]),
        ("file.kind", |l| of_file(l, "one.txt").kind = LocalKind::Directory, &["files"]),
    ];
    // These pair what is locked with what the recipe names; another value is an
    // input that is missing, which is an error before any step.
    let pairs = ["git.virtualenv", "git.index", "file.path"];
    let (recipe, lock) = (parse(RECIPE), lock());
    let mut known = BTreeSet::new();
    values(&serde_json::to_value(&lock).unwrap(), "", &mut known);
    let tested = rows.iter().map(|row| row.0).chain(pairs);
    assert_eq!(
        known,
        tested.map(str::to_owned).collect(),
        "values and rows"
    );

    let base = planned(&recipe, &lock);
    let mut wrong = Vec::new();
    for (value, change, expected) in rows {
        let mut now = lock.clone();
        change(&mut now);
        let now = planned(&recipe, &now);
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        let found = changed(&base, &now);
        if found != expected {
            wrong.push(format!("{value}: changes {found:?}, expected {expected:?}"));
        }
        assert_keys_follow(&base, &now, value);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
