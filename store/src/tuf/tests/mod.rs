//! Environments on a store in memory that can break at any write.

mod drafts;
mod foreign;
mod releases;
mod waves;
mod witnesses;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::*;
use crate::keys::KeyPair;
use crate::manifest::Manifest;
use crate::manifest::tests::manifest;
use crate::name::EnvName;

/// Files in memory. After `fuse` more writes the next one fails, as if the
/// process had been killed before its rename.
#[derive(Default)]
struct Memory {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    order: RefCell<Vec<String>>,
    fuse: Cell<Option<usize>>,
}

impl MetadataStore for Memory {
    fn read(&self, key: &str, limit: u64) -> crate::Result<Option<Vec<u8>>> {
        let found = self.files.borrow().get(key).cloned();
        assert!(
            found
                .as_ref()
                .is_none_or(|bytes| bytes.len() as u64 <= limit)
        );
        Ok(found)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> crate::Result<()> {
        match self.fuse.get() {
            Some(0) => return Err(crate::Error::new(crate::ErrorKind::Io, "killed")),
            left => self.fuse.set(left.map(|n| n - 1)),
        }
        self.files.borrow_mut().insert(key.into(), bytes.into());
        self.order.borrow_mut().push(key.into());
        Ok(())
    }

    fn lock(&self) -> crate::Result<Guard> {
        Ok(Box::new(()))
    }
}

impl Memory {
    fn json(&self, key: &str) -> Value {
        serde_json::from_slice(&self.files.borrow()[key]).unwrap()
    }

    fn edit(&self, key: &str, from: &str, to: &str) {
        let mut files = self.files.borrow_mut();
        let text = String::from_utf8(files[key].clone()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        files.insert(key.into(), text.replacen(from, to, 1).into_bytes());
    }

    fn written(&self) -> Vec<String> {
        std::mem::take(&mut *self.order.borrow_mut())
    }
}

fn time() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

fn days_later(days: i64) -> Timestamp {
    time() + SignedDuration::from_hours(24 * days)
}

fn dev() -> EnvName {
    "dev".parse().unwrap()
}

fn keys() -> RoleKeys {
    let key = || Box::new(KeyPair::generate().unwrap());
    RoleKeys {
        root: Some(key()),
        targets: key(),
        online: key(),
    }
}

#[test]
fn an_environment_is_made_once() {
    let (store, keys) = (Memory::default(), keys());
    assert!(!Environment::exists(&store, &dev()).unwrap());
    let e = Environment::open(&store, &dev()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Missing);

    let env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    assert!(env.releases().unwrap().is_empty());
    assert_eq!(
        env.expiries().map(|(role, end)| (role, end.to_string())),
        [
            ("root", "2031-01-01T12:00:00Z".to_owned()),
            ("targets", "2030-04-01T12:00:00Z".to_owned()),
            ("snapshot", "2030-01-15T12:00:00Z".to_owned()),
            ("timestamp", "2030-01-08T12:00:00Z".to_owned()),
        ]
    );
    let e = Environment::init(&store, &dev(), &keys, time())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Exists);
    for file in [
        "env/dev/metadata/1.root.json",
        "env/dev/metadata/1.targets.json",
    ] {
        assert_eq!(
            store.json(file)["signed"][ENVIRONMENT_FIELD],
            "dev",
            "{file}"
        );
    }
}

#[test]
fn an_init_that_was_killed_can_be_repeated() {
    for fuse in 0..4 {
        let (store, ours) = (Memory::default(), keys());
        store.fuse.set(Some(fuse));
        let e = Environment::init(&store, &dev(), &ours, time())
            .err()
            .unwrap();
        assert_eq!(e.kind(), ErrorKind::Store, "after {fuse} writes");
        store.fuse.set(None);
        Environment::init(&store, &dev(), &ours, days_later(1)).unwrap();
    }
}

/// A root that is there is not replaced by another: somebody may have been told of it.
#[test]
fn nothing_is_begun_over_an_environment() {
    let (store, ours) = (Memory::default(), keys());
    store.fuse.set(Some(3));
    Environment::init(&store, &dev(), &ours, time())
        .err()
        .unwrap();
    store.fuse.set(None);
    let root = store.json("env/dev/metadata/1.root.json");
    let e = Environment::init(&store, &dev(), &keys(), time())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Exists);
    let mut env = Environment::init(&store, &dev(), &ours, days_later(1)).unwrap();
    assert_eq!(store.json("env/dev/metadata/1.root.json"), root);
    // A copy of which the file that changes is missing.
    env.release(&manifest("a", "one"), &ours, days_later(1))
        .unwrap();
    let timestamp = "env/dev/metadata/timestamp.json";
    store.files.borrow_mut().remove(timestamp);
    let part = |file: &str| {
        let key = format!("env/dev/metadata/{file}");
        serde_json::from_slice(&store.files.borrow()[&key]).unwrap()
    };
    let mut first = Proposal::new(dev());
    first.root = Some(part("1.root.json"));
    first.targets = Some(part("1.targets.json"));
    let e = Environment::publish_root(&store, None, &first, &[&*ours.online], time())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Malformed);
    let files = store.files.borrow().clone();
    for keys in [&ours, &keys()] {
        let e = Environment::init(&store, &dev(), keys, days_later(2))
            .err()
            .unwrap();
        assert_eq!(e.kind(), ErrorKind::Malformed);
        assert!(e.hint().unwrap().contains("another copy"), "{e}");
    }
    assert_eq!(*store.files.borrow(), files);
    store
        .files
        .borrow_mut()
        .remove("env/dev/metadata/1.root.json");
    let e = Environment::init(&store, &dev(), &ours, days_later(2))
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Malformed);
}

#[test]
fn key_files_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let keys = RoleKeys::generate(dir.path(), &dev()).unwrap();
    let shown = format!("{keys:?}");
    assert_eq!(
        format!("{:?}", RoleKeys::load(dir.path(), &dev()).unwrap()),
        shown
    );
    assert_eq!(
        format!(
            "{:?}",
            RoleKeys::load_or_generate(dir.path(), &dev()).unwrap()
        ),
        shown
    );
    let e = RoleKeys::generate(dir.path(), &dev()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Key);
    // The root key is kept elsewhere; the others still load.
    std::fs::remove_file(dir.path().join("dev.root.pem")).unwrap();
    assert!(RoleKeys::load(dir.path(), &dev()).unwrap().root.is_none());
}

#[test]
fn the_field_names_agree() {
    let (store, keys) = (Memory::default(), keys());
    Environment::init(&store, &dev(), &keys, time()).unwrap();
    let root = store.json("env/dev/metadata/1.root.json");
    let mut fields: Vec<_> = root["signed"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    fields.sort();
    assert_eq!(
        fields,
        [
            "_type",
            "consistent_snapshot",
            "expires",
            "keys",
            "roles",
            "spec_version",
            "version",
            "x-imgbuild-environment",
            "x-imgbuild-lifetimes-days",
        ]
    );
}
