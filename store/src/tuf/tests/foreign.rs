//! What others changed or made is not signed.

use super::*;

#[test]
fn foreign_keys_sign_nothing() {
    let (store, ours) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &ours, time()).unwrap();
    store.written();
    let image = manifest("a", "one");
    let e = env.release(&image, &keys(), time()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    let e = env.refresh(&*ours.targets, days_later(6)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    assert_eq!(store.written(), [""; 0]);
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
    let bytes = metadata::seal(&root, &[thief.root.as_deref().unwrap()]).unwrap();
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
        let (store, keys) = (Memory::default(), keys());
        let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
        env.release(&manifest("a", "one"), &keys, time()).unwrap();
        store.written();
        store.edit(&metadata(file), from, to);
        assert_eq!(
            Environment::open(&store, &dev()).err().unwrap().kind(),
            kind,
            "{file}: {to}"
        );
        let e = env
            .release(&manifest("a", "two"), &keys, time())
            .unwrap_err();
        assert_eq!(e.kind(), kind, "{file}: {to}");
        assert_eq!(store.written(), [""; 0]);
    }
}

#[test]
fn an_environment_under_another_name_is_refused() {
    let (store, keys) = (Memory::default(), keys());
    Environment::init(&store, &dev(), &keys, time()).unwrap();
    let copies: Vec<_> = store
        .files
        .borrow()
        .iter()
        .map(|(k, v)| (k.replace("/dev/", "/prod/"), v.clone()))
        .collect();
    store.files.borrow_mut().extend(copies);
    let e = Environment::open(&store, &"prod".parse().unwrap())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Untrusted);
    assert!(e.to_string().contains("calls itself dev"), "{e}");
}

#[test]
fn no_version_comes_after_the_last_number() {
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    env.release(&manifest("a", "one"), &keys, time()).unwrap();
    // A stolen online key makes the version as high as it can be.
    let key = "env/dev/metadata/timestamp.json";
    let bytes = store.files.borrow()[key].clone();
    let file = metadata::SignedFile::<metadata::Timestamp>::read(&bytes, key).unwrap();
    let mut forged = file.signed;
    forged.head.version = u64::MAX;
    let forged = metadata::seal(&forged, &[&*keys.online]).unwrap();
    store.files.borrow_mut().insert(key.into(), forged.clone());
    let mut env = Environment::open(&store, &dev()).unwrap();
    let released = env.release(&manifest("a", "two"), &keys, time());
    assert_eq!(released.unwrap_err().kind(), ErrorKind::Range);
    let renewed = env.refresh(&*keys.online, days_later(5));
    assert_eq!(renewed.unwrap_err().kind(), ErrorKind::Range);
    assert_eq!(store.files.borrow()[key], forged);
}
