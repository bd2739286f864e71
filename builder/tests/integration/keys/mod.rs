//! What a change of the recipe, or of the lock, runs again: for each field of each
//! section exactly the steps that it can influence, and what is resolved anew.
//!
//! The fields are those that the reader itself knows (`schema`): a new one
//! without a row in [`fields`] fails the test. The same holds for the values of a
//! lock and [`inputs`].

mod fields;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use builder::layers::Layers;
use builder::lockfile::{Git, LocalFile, LocalKind, Lock};
use builder::recipe::Recipe;
use builder::run::{PlannedStep, plan_steps};
use builder::steps;
use serde_json::Value;
use store::Sha256;

/// Every step of the recipe, in order, without the counts in their names.
const STEPS: [&str; 14] = [
    "bootstrap",
    "packages 1",
    "packages 2",
    "locale and time zone",
    "apt preferences",
    "users",
    "downloads",
    "files",
    "virtualenv /home/op/v",
    "virtualenv /home/op/v: own packages",
    "run: it",
    "clean and normalise",
    "test: command",
    "test: script",
];

/// All that runs as the user op.
const AS_OP: [&str; 4] = [
    "virtualenv /home/op/v",
    "virtualenv /home/op/v: own packages",
    "run: it",
    "test: command",
];
const BOTH_VIRTUALENV: &[&str] = &[AS_OP[0], AS_OP[1]];

fn parse(text: &str) -> Recipe {
    Recipe::parse(text, Path::new("all.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn file(path: &str, kind: LocalKind) -> LocalFile {
    LocalFile {
        described: None,
        path: path.into(),
        kind,
        size: 1,
        sha256: Sha256::of(path.as_bytes()),
    }
}

/// A lock that fits the recipe and each of its changes.
fn lock() -> Lock {
    let mut text = format!(
        "version = 1\nepoch = 1700000000\narchitecture = \"amd64\"\n\
         bootstrapper = \"debootstrap 1\"\npackages_from = \"{0}\"\n\
         [virtualenvs_from]\n\"/home/op/v\" = \"{0}\"\n\
         [[release]]\narchive = \"debian\"\nsuite = \"bookworm\"\ndate = 1\nsha256 = \"{0}\"\n",
        Sha256::of(b"from")
    );
    for (name, stage) in [
        ("dpkg", "\"required\""),
        ("apt", "\"base\""),
        ("git", "1"),
        ("virtualenvwrapper", "2"),
    ] {
        let _ = write!(
            text,
            "[[deb]]\nname = \"{name}\"\nversion = \"1\"\narchitecture = \"amd64\"\nstage = {stage}\n\
             archive = \"debian\"\npath = \"pool/{name}.deb\"\nsize = 1\nsha256 = \"{}\"\n",
            Sha256::of(name.as_bytes())
        );
    }
    for virtualenv in ["/home/op/v", "/home/op/new"] {
        let _ = write!(
            text,
            "[[python]]\nvirtualenv = \"{virtualenv}\"\nname = \"app\"\nversion = \"1\"\n\
             file = \"app-1-py3-none-any.whl\"\nsize = 1\nsha256 = \"{}\"\n",
            Sha256::of(b"app")
        );
    }
    let mut lock = Lock::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for virtualenv in ["/home/op/v", "/home/op/new"] {
        lock.git.push(Git {
            described: None,
            subdirectory: None,
            virtualenv: virtualenv.into(),
            index: 0,
            url: String::new(),
            reference: "v1".into(),
            commit: "0".repeat(40),
            size: 1,
            sha256: Sha256::of(b"git"),
        });
    }
    for name in [
        "one.txt",
        "two.txt",
        "one.deb",
        "two.deb",
        "one-1.tar.gz",
        "two-1.tar.gz",
    ] {
        lock.files.push(file(name, LocalKind::File));
    }
    lock.files.push(file("one", LocalKind::Directory));
    lock.files.push(file("two", LocalKind::Directory));
    lock
}

fn planned(recipe: &Recipe, lock: &Lock) -> Vec<PlannedStep> {
    let nowhere = tempfile::tempdir().unwrap();
    let layers = Layers::look(nowhere.path()).unwrap();
    plan_steps(steps::all(recipe, lock).unwrap(), &layers).unwrap()
}

/// A step's name without what it counts.
fn role(step: &PlannedStep) -> String {
    let name = &step.step.name;
    match name.split_once(" (") {
        Some((role, _)) => role.to_owned(),
        None => name.clone(),
    }
}

/// The steps themselves, by role, whatever comes before them.
fn by_role(planned: &[PlannedStep]) -> BTreeMap<String, Value> {
    let json = |p: &PlannedStep| serde_json::to_value(&p.step).unwrap();
    planned.iter().map(|p| (role(p), json(p))).collect()
}

/// The steps that are not the same, and those that only one side has.
fn changed(old: &[PlannedStep], new: &[PlannedStep]) -> BTreeSet<String> {
    let (old, new) = (by_role(old), by_role(new));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter()
        .filter(|role| old.get(*role) != new.get(*role))
        .cloned()
        .collect()
}

/// Keys change from the first changed step on, and not before; tests are not part
/// of the tree and change alone.
#[track_caller]
fn assert_keys_follow(old: &[PlannedStep], new: &[PlannedStep], what: &str) {
    let (mut below_changed, mut tests) = (false, 0);
    for (old, new) in old.iter().zip(new) {
        let same =
            serde_json::to_value(&old.step).unwrap() == serde_json::to_value(&new.step).unwrap();
        if old.step.is_test() {
            tests += 1;
            assert_eq!(
                old.key == new.key,
                same && !below_changed,
                "{what}: {}",
                role(old)
            );
        } else {
            below_changed |= !same;
            assert_eq!(old.key == new.key, !below_changed, "{what}: {}", role(old));
        }
    }
    assert_eq!(tests, 2, "{what}");
}

#[test]
fn comments_order_and_spelled_out_defaults_change_nothing() {
    let small = "name = \"small\"\n[bootstrap]\nsuite = \"bookworm\"\n\
                 [[user]]\nname = \"op\"\nuid = 1000\ngroups = [\"adm\", \"sudo\"]\n\
                 [[run]]\nscript = \"true\"\n[[test]]\nname = \"t\"\nscript = \"true\"\n";
    let same = [
        small.replace('\n', " # why\n"),
        small.replace("name = \"op\"\nuid = 1000", "uid = 1_000\n\n  name = 'op'"),
        small.replace("[\"adm\", \"sudo\"]", "[\n  \"sudo\",\n  \"adm\",\n]"),
        small.replace(
            "uid = 1000",
            "uid = 1000\ngid = 1000\nhome = \"/home/op\"\nshell = \"/bin/sh\"",
        ),
        small.replace(
            "script = \"true\"\n[[test]]",
            "script = \"true\"\ntimeout = \"60m\"\nuser = \"root\"\n[[test]]",
        ),
        format!("{small}[system]\nlocale = \"C.UTF-8\"\n[clean]\nautoremove = true\n"),
        small.replace("[[run]]\nscript = \"true\"\n", "") + "[[run]]\nscript = \"true\"\n",
    ];
    let (recipe, lock) = (parse(small), lock());
    let keys =
        |recipe: &Recipe| -> Vec<_> { planned(recipe, &lock).into_iter().map(|p| p.key).collect() };
    for text in same {
        let other = parse(&text);
        assert_eq!(recipe.canonical_json(), other.canonical_json(), "{text}");
        assert_eq!(keys(&recipe), keys(&other), "{text}");
    }
    // The order of what is done in order does count.
    let swapped = "[[run]]\nscript = \"one\"\n[[run]]\nscript = \"two\"\n";
    let two = |text: &str| parse(&small.replace("[[run]]\nscript = \"true\"\n", text));
    let one_two = keys(&two(swapped));
    let two_one = keys(&two(
        "[[run]]\nscript = \"two\"\n[[run]]\nscript = \"one\"\n",
    ));
    assert_ne!(one_two, two_one);
}
