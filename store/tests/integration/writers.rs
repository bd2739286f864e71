//! Writers: several at once, killed, without space, without permission.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use store::{ErrorKind, LocalReader, Manifest, Store, WritableStore};

use crate::support::*;

#[test]
fn two_publishers_at_once() {
    let example = Example::new();
    let root = example.root().to_owned();
    let trees: Vec<PathBuf> = (0..4)
        .map(|number| {
            let tree = example.dir.path().join(format!("tree{number}"));
            crate::support::example(&tree);
            fs::write(tree.join("hello"), noise(number / 2, 400_000)).unwrap();
            tree
        })
        .collect();
    let manifests: Vec<Manifest> = std::thread::scope(|scope| {
        let spawn = |tree: &'_ Path| {
            let (root, tree) = (root.clone(), tree.to_owned());
            scope.spawn(move || publish(&WritableStore::open_or_create(root).unwrap(), &tree))
        };
        let threads: Vec<_> = trees.iter().map(|tree| spawn(tree)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for manifest in &manifests {
        check_everything(&example.read(), manifest).unwrap();
    }
    // The clocks of the trees differ, so up to four images beside the first.
    let images: BTreeSet<_> = manifests.iter().map(|manifest| manifest.image).collect();
    assert!(images.len() >= 2);
    assert_eq!(example.read().images().unwrap().len(), images.len() + 1);
    assert_eq!(
        fs::read_dir(root.join("tmp")).unwrap().count(),
        1,
        "only the living writer's folder"
    );
}

/// The order in which names appear is what makes a publication safe to kill. Here
/// a child is killed at many moments; after each, the store is whole.
#[test]
fn killed_at_any_moment() {
    const CHILD: &str = "STORE_TEST_PUBLISH";
    if let Some(root) = std::env::var_os(CHILD) {
        let root = PathBuf::from(root);
        publish(
            &WritableStore::open_or_create(root.join("store")).unwrap(),
            &root.join("next"),
        );
        return;
    }
    let example = Example::new();
    let root = example.dir.path();
    crate::support::example(&root.join("next"));
    fs::write(root.join("next/large"), noise(9, 20_000_000)).unwrap();
    let mut finished = false;
    for step in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writers::killed_at_any_moment"])
            .env(CHILD, root)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(8 * step));
        child.kill().unwrap();
        finished |= child.wait().unwrap().success();
        let read = example.read();
        check_everything(&read, &example.manifest).unwrap();
        for listed in read.images().unwrap() {
            let manifest = read.manifest(&listed.image).unwrap();
            assert!(read.has_image_objects(&manifest).unwrap());
            check_everything(&read, &manifest).unwrap();
        }
        if finished {
            break;
        }
    }
    // The next writer finishes what was begun and removes what was left.
    let store = WritableStore::open_or_create(root.join("store")).unwrap();
    let manifest = publish(&store, &root.join("next"));
    check_everything(&example.read(), &manifest).unwrap();
    assert_eq!(
        fs::read_dir(root.join("store/tmp")).unwrap().count(),
        2,
        "only living writers' folders"
    );
}

#[test]
fn only_a_store_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), b"dear").unwrap();
    let error = WritableStore::open_or_create(&home).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert_eq!(
        fs::read_dir(&home).unwrap().count(),
        1,
        "nothing was made there"
    );
    assert!(Store::open(Box::new(LocalReader::open(&home).unwrap())).is_err());

    let root = dir.path().join("a/b/store");
    WritableStore::open_or_create(&root).unwrap();
    WritableStore::open_or_create(&root).unwrap();
    for (marker, says) in [
        ("imgbuild store 2\n", "format 2"),
        ("hello", "says something else"),
    ] {
        fs::write(root.join("imgbuild-store"), marker).unwrap();
        let error = WritableStore::open_or_create(&root).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// A small file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "this test mounts a tmpfs: run it as root where that is allowed"
        );
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_one_clear_error() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    crate::support::example(&tree);
    let mount = Mount::tmpfs(&dir.path().join("store"), "size=6m");
    let store = WritableStore::open_or_create(&mount.0).unwrap();
    let first = publish(&store, &tree);
    fs::write(tree.join("large"), noise(3, 20_000_000)).unwrap();
    let error = store.publish_tree(&tree, EPOCH, &|_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let error = store
        .inputs()
        .insert(&mut &noise(1, 9_000_000)[..], None)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    // Nothing is left behind, so there is room for what fits.
    check_everything(store.store(), &first).unwrap();
    fs::remove_file(tree.join("large")).unwrap();
    fs::write(tree.join("small"), noise(4, 1_000_000)).unwrap();
    publish(&store, &tree);
    drop(store);
}

#[test]
fn a_store_that_is_read_only() {
    need_root();
    let example = Example::new();
    let root = example.root().to_owned();
    let mount = Mount::tmpfs(&example.dir.path().join("mounted"), "size=64m");
    assert!(
        Command::new("cp")
            .arg("-a")
            .arg(&root)
            .arg(&mount.0)
            .status()
            .unwrap()
            .success()
    );
    assert!(
        Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&mount.0)
            .status()
            .unwrap()
            .success()
    );
    let root = mount.0.join("store");
    let error = WritableStore::open_or_create(&root).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
    let read = Store::open(Box::new(LocalReader::open(&root).unwrap())).unwrap();
    check_everything(&read, &example.manifest).unwrap();
}

#[test]
fn inputs_are_what_they_are_called() {
    let example = Example::new();
    let inputs = example.store.inputs();
    let (digest, size) = inputs.insert(&mut &b"a package"[..], None).unwrap();
    assert_eq!((digest, size), (store::Sha256::of(b"a package"), 9));
    assert!(inputs.has(&digest));
    assert_eq!(fs::read(inputs.path(&digest)).unwrap(), b"a package");
    assert_eq!(inputs.verify(&digest).unwrap(), 9);
    let read = |limit| example.store.store().input(&digest, limit);
    assert_eq!(read(9).unwrap().unwrap(), b"a package");
    assert_eq!(read(8).unwrap_err().kind(), ErrorKind::Corrupt);

    let error = inputs
        .insert(&mut &b"another"[..], Some(&digest))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!inputs.has(&store::Sha256::of(b"another")));
    inputs
        .insert_file(&inputs.path(&digest), Some(&digest))
        .unwrap();

    fs::write(inputs.path(&digest), b"A package").unwrap();
    assert_eq!(
        inputs.verify(&digest).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(read(9).unwrap_err().kind(), ErrorKind::Corrupt);
    let unknown = store::Sha256::of(b"unknown");
    assert_eq!(example.store.store().input(&unknown, 9).unwrap(), None);
    assert_eq!(
        inputs.verify(&unknown).unwrap_err().kind(),
        ErrorKind::Missing
    );
}

#[test]
fn objects_and_locks() {
    let example = Example::new();
    example
        .store
        .put("env/dev/metadata/1.root.json", b"one")
        .unwrap();
    example
        .store
        .put("env/dev/metadata/1.root.json", b"two")
        .unwrap();
    let backend = example.store.store().backend();
    assert_eq!(
        backend
            .get("env/dev/metadata/1.root.json", 9)
            .unwrap()
            .unwrap(),
        b"two"
    );
    assert_eq!(
        example.store.put("../outside", b"").unwrap_err().kind(),
        ErrorKind::Invalid
    );

    let held = example.store.lock("env-dev").unwrap();
    let other = example.store.lock("env-prod").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| example.store.lock("env-dev").map(drop));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiting.is_finished(), "a lock that is held was given away");
        drop(held);
        waiting.join().unwrap().unwrap();
    });
    drop(other);
}
