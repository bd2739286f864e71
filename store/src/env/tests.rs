//! Environments on a shelf in memory that can break at any write.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::*;
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, Sha256};
use crate::key::KeyPair;
use crate::manifest::{LayoutRef, Manifest, SCHEMA};
use crate::name::EnvName;

/// Files in memory. After `fuse` more writes the next one fails, as if the
/// process had been killed before its rename.
#[derive(Default)]
struct Memory {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    order: RefCell<Vec<String>>,
    fuse: Cell<Option<usize>>,
}

impl Shelf for Memory {
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

/// A manifest of an image with this content.
fn manifest(name: &str, content: &str) -> Manifest {
    let layout = Blake3::of(content.as_bytes());
    Manifest {
        schema: SCHEMA,
        name: name.parse().unwrap(),
        image: Blake3::of(format!("tar of {content}").as_bytes()),
        sha256: Sha256::of(content.as_bytes()),
        size: 2048,
        entries: 2,
        layout: LayoutRef {
            digest: layout,
            size: 6,
            chunks: vec![ChunkRef::new(layout, 6).unwrap()],
        },
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch: 1_700_000_000,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: Vec::new(),
        xattrs: Vec::new(),
        recipe: Sha256::of(b"recipe"),
        lock: Sha256::of(b"lock"),
        builder: "imgbuild 0.1.0".into(),
        run: None,
    }
}

#[test]
fn an_environment_is_made_once() {
    let (shelf, keys) = (Memory::default(), keys());
    assert!(!Environment::exists(&shelf, &dev()).unwrap());
    let e = Environment::open(&shelf, &dev()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Missing);

    let env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
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
    let e = Environment::init(&shelf, &dev(), &keys, time())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Exists);
    for file in [
        "env/dev/metadata/1.root.json",
        "env/dev/metadata/1.targets.json",
    ] {
        assert_eq!(
            shelf.json(file)["signed"][ENVIRONMENT_FIELD],
            "dev",
            "{file}"
        );
    }
}

#[test]
fn an_init_that_was_killed_can_be_repeated() {
    for fuse in 0..4 {
        let shelf = Memory::default();
        shelf.fuse.set(Some(fuse));
        let e = Environment::init(&shelf, &dev(), &keys(), time())
            .err()
            .unwrap();
        assert_eq!(e.kind(), ErrorKind::Store, "after {fuse} writes");
        shelf.fuse.set(None);
        Environment::init(&shelf, &dev(), &keys(), time()).unwrap();
    }
}

#[test]
fn releases_are_counted_by_name() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    shelf.written();
    let (a1, a2, b1) = (
        manifest("a", "one"),
        manifest("a", "two"),
        manifest("b", "one"),
    );
    let first = env.release(&a1, &keys, time()).unwrap();
    assert_eq!((first.seq, first.new, first.image), (1, true, a1.image));
    assert_eq!(
        shelf.written(),
        [
            first.target_path.as_str(),
            "env/dev/metadata/2.targets.json",
            "env/dev/metadata/2.snapshot.json",
            "env/dev/metadata/timestamp.json",
        ]
    );
    assert_eq!(shelf.files.borrow()[&first.target_path], a1.to_json());
    assert_eq!(env.release(&a2, &keys, time()).unwrap().seq, 2);
    assert_eq!(env.release(&b1, &keys, time()).unwrap().seq, 1);
    // Going back to an earlier image is a release like any other.
    assert_eq!(env.release(&a1, &keys, time()).unwrap().seq, 3);

    let listed: Vec<_> = env
        .releases()
        .unwrap()
        .into_iter()
        .map(|r| (r.name.to_string(), r.seq, r.image))
        .collect();
    let expected = [
        ("a", 1, a1.image),
        ("a", 2, a2.image),
        ("a", 3, a1.image),
        ("b", 1, b1.image),
    ];
    assert_eq!(
        listed,
        expected.map(|(name, seq, image)| (name.to_owned(), seq, image))
    );

    let custom =
        &shelf.json("env/dev/metadata/5.targets.json")["signed"]["targets"]["a/2.json"]["custom"];
    let expected = serde_json::json!({
        "image": a2.image.to_string(), "env": "dev", "arch": "amd64",
        "seq": 2, "min_seq": 1, "size": 2048, "revoked": [],
    });
    assert_eq!(*custom, expected);
}

#[test]
fn releasing_the_newest_again_writes_nothing() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    let first = env.release(&image, &keys, time()).unwrap();
    shelf.written();
    let again = env.release(&image, &keys, days_later(4)).unwrap();
    assert_eq!(
        again,
        Release {
            new: false,
            ..first
        }
    );
    assert_eq!(shelf.written(), [""; 0]);

    // The same image, started in another way, is news to a node.
    let changed = Manifest {
        builder: "imgbuild 0.2.0".into(),
        ..image
    };
    assert_eq!(env.release(&changed, &keys, time()).unwrap().seq, 2);
}

#[test]
fn signatures_are_renewed_when_they_are_due() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    env.release(&image, &keys, time()).unwrap();
    shelf.written();

    let online = &*keys.online;
    assert_eq!(
        env.refresh(online, days_later(4)).unwrap(),
        Renewed::default()
    );
    let timestamp = Renewed {
        timestamp: true,
        ..Renewed::default()
    };
    assert_eq!(env.refresh(online, days_later(5)).unwrap(), timestamp);
    assert_eq!(shelf.written(), ["env/dev/metadata/timestamp.json"]);
    let both = Renewed {
        snapshot: true,
        timestamp: true,
        ..Renewed::default()
    };
    assert_eq!(env.refresh(online, days_later(12)).unwrap(), both);
    // Long after everything ran out, whoever has the keys can bring it back.
    let all = Renewed {
        root: true,
        targets: true,
        snapshot: true,
        timestamp: true,
    };
    assert_eq!(env.refresh_all(&keys, days_later(500)).unwrap(), all);
    assert!(env.expiries().iter().all(|(_, end)| *end > days_later(500)));
    assert_eq!(env.releases().unwrap().len(), 1);
    // And without the root key, all but the root.
    let RoleKeys {
        targets, online, ..
    } = keys;
    let keys = RoleKeys {
        root: None,
        targets,
        online,
    };
    let most = Renewed { root: false, ..all };
    assert_eq!(env.refresh_all(&keys, days_later(1000)).unwrap(), most);
}

#[test]
fn a_release_that_was_killed_changes_nothing_and_can_be_repeated() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let mut seq = env
        .release(&manifest("a", "zero"), &keys, time())
        .unwrap()
        .seq;
    for fuse in 0..4 {
        let next = manifest("a", &format!("{fuse}"));
        let before = env.releases().unwrap();
        shelf.fuse.set(Some(fuse));
        let e = env.release(&next, &keys, time()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Store, "after {fuse} writes");
        shelf.fuse.set(None);
        // Whoever opens it sees the old release and nothing of the new one.
        env = Environment::open(&shelf, &dev()).unwrap();
        assert_eq!(env.releases().unwrap(), before, "after {fuse} writes");
        // Another image comes first: the leftovers are overwritten.
        if fuse % 2 == 1 {
            env.release(&manifest("a", "other"), &keys, days_later(1))
                .unwrap();
            seq += 1;
        }
        seq += 1;
        let release = env.release(&next, &keys, days_later(1)).unwrap();
        assert_eq!((release.seq, release.new), (seq, true));
    }
}

#[test]
fn two_writers_do_not_overwrite_each_other() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut one = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let mut two = Environment::open(&shelf, &dev()).unwrap();
    assert_eq!(
        one.release(&manifest("a", "one"), &keys, time())
            .unwrap()
            .seq,
        1
    );
    assert_eq!(
        two.release(&manifest("a", "two"), &keys, time())
            .unwrap()
            .seq,
        2
    );
    assert_eq!(
        Environment::open(&shelf, &dev())
            .unwrap()
            .releases()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn foreign_keys_sign_nothing() {
    let (shelf, ours) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &ours, time()).unwrap();
    shelf.written();
    let image = manifest("a", "one");
    let e = env.release(&image, &keys(), time()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    let e = env.refresh(&*ours.targets, days_later(6)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    assert_eq!(shelf.written(), [""; 0]);
}

/// Somebody with access to the store replaces the environment by one whose
/// root names our targets and online keys: it verifies by itself.
#[test]
fn an_environment_that_we_did_not_make_is_not_signed() {
    let ours = keys();
    let theirs = Memory::default();
    let thief = RoleKeys {
        root: Some(Box::new(KeyPair::generate().unwrap())),
        targets: Box::new(KeyPair::generate().unwrap()),
        online: Box::new(KeyPair::generate().unwrap()),
    };
    // The thief's root, with our keys added to its roles.
    Environment::init(&theirs, &dev(), &thief, time()).unwrap();
    let mut root: metadata::Root =
        serde_json::from_value(theirs.json("env/dev/metadata/1.root.json")["signed"].clone())
            .unwrap();
    for (role, key) in [
        ("targets", &ours.targets),
        ("snapshot", &ours.online),
        ("timestamp", &ours.online),
    ] {
        root.keys.insert(key.public().id(), key.public().into());
        root.roles
            .get_mut(role)
            .unwrap()
            .keyids
            .push(key.public().id());
    }
    let bytes = metadata::seal(&root, thief.root.as_deref().unwrap()).unwrap();
    theirs
        .replace("env/dev/metadata/1.root.json", &bytes)
        .unwrap();

    let mut env = Environment::open(&theirs, &dev()).unwrap();
    let e = env
        .release(&manifest("a", "one"), &ours, time())
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    let RoleKeys {
        targets, online, ..
    } = ours;
    let e = env.release(
        &manifest("a", "one"),
        &RoleKeys {
            root: None,
            targets,
            online,
        },
        time(),
    );
    assert_eq!(e.unwrap_err().kind(), ErrorKind::WrongKey);
}

#[test]
fn changed_files_are_not_signed_again() {
    let metadata = |file: &str| format!("env/dev/metadata/{file}");
    for (file, from, to, kind) in [
        (
            "1.root.json",
            "\"version\": 1",
            "\"version\": 2",
            ErrorKind::Malformed,
        ),
        (
            "1.root.json",
            "2031-01-01",
            "2041-01-01",
            ErrorKind::Untrusted,
        ),
        (
            "timestamp.json",
            "\"length\"",
            "\"length\": 1, \"length\"",
            ErrorKind::Malformed,
        ),
        (
            "timestamp.json",
            "2030-01-08",
            "2040-01-08",
            ErrorKind::Untrusted,
        ),
        (
            "2.snapshot.json",
            "2030-01-15",
            "2040-01-15",
            ErrorKind::Untrusted,
        ),
        (
            "2.targets.json",
            "\"min_seq\": 1",
            "\"min_seq\": 0",
            ErrorKind::Untrusted,
        ),
        ("2.targets.json", "{", " {", ErrorKind::Untrusted),
    ] {
        let (shelf, keys) = (Memory::default(), keys());
        let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
        env.release(&manifest("a", "one"), &keys, time()).unwrap();
        shelf.written();
        shelf.edit(&metadata(file), from, to);
        assert_eq!(
            Environment::open(&shelf, &dev()).err().unwrap().kind(),
            kind,
            "{file}: {to}"
        );
        let e = env
            .release(&manifest("a", "two"), &keys, time())
            .unwrap_err();
        assert_eq!(e.kind(), kind, "{file}: {to}");
        assert_eq!(shelf.written(), [""; 0]);
    }
}

#[test]
fn an_environment_under_another_name_is_refused() {
    let (shelf, keys) = (Memory::default(), keys());
    Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let copies: Vec<_> = shelf
        .files
        .borrow()
        .iter()
        .map(|(k, v)| (k.replace("/dev/", "/prod/"), v.clone()))
        .collect();
    shelf.files.borrow_mut().extend(copies);
    let e = Environment::open(&shelf, &"prod".parse().unwrap())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Untrusted);
    assert!(e.to_string().contains("calls itself dev"), "{e}");
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
    let (shelf, keys) = (Memory::default(), keys());
    Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let root = shelf.json("env/dev/metadata/1.root.json");
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
