//! Stores: what is in them, what survives, what is noticed.
#![cfg(feature = "write")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use store::{Backend, DirBackend, DirStore, ErrorKind, Manifest, Result, Store};

use support::*;

/// A store with one image, and the tree that it was made from.
struct Example {
    dir: tempfile::TempDir,
    store: DirStore,
    manifest: Manifest,
}

impl Example {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        example(&dir.path().join("tree"));
        let store = DirStore::open_or_create(dir.path().join("store")).unwrap();
        let manifest = publish(&store, &dir.path().join("tree"));
        Self {
            dir,
            store,
            manifest,
        }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn read(&self) -> Store {
        Store::open(Box::new(DirBackend::open(self.store.root()).unwrap())).unwrap()
    }

    /// The only file of this extension in a folder of the store.
    fn object(&self, extension: &str) -> PathBuf {
        let mut found = files(self.store.root());
        found.retain(|path| path.extension().is_some_and(|found| found == extension));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

#[test]
fn an_image_is_found_by_what_people_type() {
    let example = Example::new();
    let image = example.manifest.image;
    let read = example.read();
    assert_eq!(read.manifest(&image).unwrap(), example.manifest);
    for text in [
        image.to_string(),
        image.hex(),
        image.hex()[..8].to_owned(),
        "example".into(),
    ] {
        assert_eq!(read.resolve(&text).unwrap(), image, "{text}");
    }
    for (text, kind) in [
        (image.hex()[..7].to_owned(), ErrorKind::Missing),
        ("other".into(), ErrorKind::Missing),
        ("blake3:00000000".into(), ErrorKind::Missing),
        ("No/Name".into(), ErrorKind::Invalid),
    ] {
        assert_eq!(read.resolve(&text).unwrap_err().kind(), kind, "{text}");
    }
    let listed = read.images().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].image, listed[0].name.as_str()),
        (image, "example")
    );
    assert!(listed[0].published > 0);
}

#[test]
fn a_name_means_its_newest_image() {
    let example = Example::new();
    // The clock of a hint counts seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let second = publish(&example.store, &example.tree());
    assert_ne!(second.image, example.manifest.image);
    assert_eq!(example.read().resolve("example").unwrap(), second.image);
    assert!(
        example
            .read()
            .resolve(&example.manifest.image.hex()[..8])
            .is_ok()
    );
}

#[test]
fn a_further_version_costs_its_differences() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let published = example
        .store
        .publish_tree(&example.tree(), EPOCH, &|_| {})
        .unwrap();
    // The file, and the part of the layout that it is in.
    assert!(published.chunks_new <= 3, "{published:?}");
    assert!(published.written < 8000, "{published:?}");
    assert_eq!(published.packs.len(), 2);
    let manifest = manifest(&published);
    example.store.put_manifest(&manifest).unwrap();
    example.read().verify_image(&manifest).unwrap();
    example.read().verify_image(&example.manifest).unwrap();
}

#[test]
fn entries_and_chunks_one_by_one() {
    let example = Example::new();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let mut count = 0;
    for item in image.entries().unwrap() {
        let (entry, chunks) = item.unwrap();
        count += 1;
        let path = example
            .tree()
            .join(String::from_utf8(entry.path.clone()).unwrap());
        let content: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| image.fetch(chunk).unwrap())
            .collect();
        if let store::canon::Kind::File { .. } = entry.kind {
            assert_eq!(content, fs::read(path).unwrap());
        } else {
            assert!(content.is_empty());
        }
    }
    assert_eq!(count, example.manifest.entries);
}

#[test]
fn replay_gives_the_content_that_is_wanted() {
    let example = Example::new();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let (mut entries, mut content) = (0, Vec::new());
    image
        .replay(&mut |entry| entry.path == b"hello", &mut |part| {
            match part {
                store::Part::Entry(..) => entries += 1,
                store::Part::Content(bytes) => content.extend_from_slice(bytes),
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(entries, example.manifest.entries);
    assert_eq!(content, b"hello\n");
    let stop = || store::Error::new(ErrorKind::Invalid, "enough");
    let error = image
        .replay(&mut |_| true, &mut |_| Err(stop()))
        .unwrap_err();
    assert_eq!(error.to_string(), "enough");
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let example = Example::new();
    let read = example.read();
    for path in files(example.store.root()) {
        let name = path.strip_prefix(example.store.root()).unwrap().to_owned();
        if name.starts_with("tmp") || name.starts_with("locks") {
            continue;
        }
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 150).max(1);
        for position in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[position] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            let noticed = check_everything(&read, &example.manifest);
            assert!(noticed.is_err(), "byte {position} of {}", name.display());
        }
        fs::write(&path, &good).unwrap();
    }
    check_everything(&read, &example.manifest).unwrap();
}

/// What a release does before it signs: every byte of an image, and each object
/// that it is in.
fn check_everything(read: &Store, manifest: &Manifest) -> Result<()> {
    Store::open(Box::new(DirBackend::open(read.backend().describe())?))?;
    if read.manifest(&manifest.image)? != *manifest {
        return Err(store::Error::new(ErrorKind::Corrupt, "another manifest"));
    }
    read.verify_image(manifest)?;
    read.verify_objects(manifest)
}

#[test]
fn what_is_missing_is_named() {
    for extension in ["pack", "index"] {
        let example = Example::new();
        assert!(example.read().has_image_objects(&example.manifest).unwrap());
        fs::remove_file(example.object(extension)).unwrap();
        assert!(!example.read().has_image_objects(&example.manifest).unwrap());
        let error = example.read().verify_image(&example.manifest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error:?}");
        // What the store lost is written again.
        publish(&example.store, &example.tree());
        example.read().verify_image(&example.manifest).unwrap();
        assert!(example.read().has_image_objects(&example.manifest).unwrap());
    }
}

#[test]
fn a_truncated_pack_is_written_again() {
    let example = Example::new();
    let pack = example.object("pack");
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!example.read().has_image_objects(&example.manifest).unwrap());
    let error = example.read().verify_image(&example.manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    publish(&example.store, &example.tree());
    example.read().verify_image(&example.manifest).unwrap();
}

#[test]
fn a_chunk_that_two_packs_have_survives_one() {
    // Two stores with the same image in different packs, put together.
    let example = Example::new();
    let pack = example.object("pack");
    let more = example.dir.path().join("more");
    let other = DirStore::open_or_create(example.dir.path().join("other")).unwrap();
    support::example(&more);
    fs::write(more.join("first"), noise(7, 1000)).unwrap();
    publish(&other, &more);
    publish(&other, &example.tree());
    for path in files(&other.root().join("packs")) {
        let name = path.file_name().unwrap();
        fs::copy(&path, example.store.root().join("packs").join(name)).unwrap();
    }
    let good = fs::read(&pack).unwrap();
    for at in (0..good.len()).step_by(good.len() / 20) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&pack, bad).unwrap();
        example.read().verify_image(&example.manifest).unwrap();
    }
    fs::remove_file(&pack).unwrap();
    example.read().verify_image(&example.manifest).unwrap();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let items: Vec<_> = image.entries().unwrap().map(Result::unwrap).collect();
    for chunk in items.iter().flat_map(|(_, chunks)| chunks) {
        image.fetch(chunk).unwrap();
    }
}

#[test]
fn foreign_files_in_a_store_do_no_harm() {
    let example = Example::new();
    let root = example.store.root();
    for name in [
        "packs/README",
        "packs/0.index",
        "images/x.json",
        "hints/x",
        "packs/.index",
    ] {
        fs::write(root.join(name), b"something else").unwrap();
    }
    fs::write(
        root.join(format!("packs/{}.index", "0".repeat(64))),
        b"something else",
    )
    .unwrap();
    example.read().verify_image(&example.manifest).unwrap();
    assert_eq!(example.read().images().unwrap().len(), 1);
    publish(&example.store, &example.tree());
}

#[test]
fn a_layout_of_another_image() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let other = publish(&example.store, &example.tree());
    let mixed = Manifest {
        layout: other.layout,
        ..example.manifest.clone()
    };
    let error = example.read().verify_image(&mixed).unwrap_err();
    assert!(
        error.to_string().contains("its layout expands to"),
        "{error}"
    );
    let mut tar = Vec::new();
    assert!(
        example
            .read()
            .image(&mixed)
            .unwrap()
            .copy_tar(&mut tar)
            .is_err()
    );
}

#[test]
fn a_manifest_that_lies() {
    let example = Example::new();
    let lie = |change: fn(&mut Manifest)| {
        let mut manifest = example.manifest.clone();
        change(&mut manifest);
        example
            .read()
            .verify_image(&manifest)
            .unwrap_err()
            .to_string()
    };
    assert!(lie(|m| m.sha256 = store::Sha256::of(b"")).ends_with("its sha256 is not the image's"));
    assert!(lie(|m| m.size += 512).ends_with("its size is not the image's"));
    assert!(lie(|m| m.entries += 1).ends_with("its number of entries is not the image's"));
    assert!(lie(|m| m.setuid.clear()).ends_with("its list of setuid files is not the image's"));
    assert!(
        lie(|m| m.xattrs.clear()).ends_with("its list of extended attributes is not the image's")
    );
    let mut other = example.manifest.clone();
    other.suite = "trixie".into();
    let error = example.store.put_manifest(&other).unwrap_err();
    assert!(
        error.to_string().ends_with("has another manifest already"),
        "{error}"
    );
    example.store.put_manifest(&example.manifest).unwrap();
}

/// A directory behind a static web server: no listing.
struct Static(DirBackend);

impl Backend for Static {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.0.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.0.get_range(key, offset, len)
    }

    fn list(&self, _: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        "a static server".into()
    }
}

#[test]
fn a_static_server_is_enough() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let second = publish(&example.store, &example.tree());
    let backend = DirBackend::open(example.store.root()).unwrap();
    let read = Store::open(Box::new(Static(backend))).unwrap();
    for manifest in [&example.manifest, &second] {
        assert_eq!(read.manifest(&manifest.image).unwrap(), *manifest);
        read.verify_image(manifest).unwrap();
        assert_eq!(
            read.resolve(&manifest.image.to_string()).unwrap(),
            manifest.image
        );
    }
    let error = read.images().unwrap_err().to_string();
    assert_eq!(
        error,
        "a static server cannot list its images; give the whole digest"
    );
    // Without the hint, only a store that lists finds the packs.
    fs::remove_dir_all(example.store.root().join("hints")).unwrap();
    assert_eq!(
        read.verify_image(&second).unwrap_err().kind(),
        ErrorKind::Missing
    );
    example.read().verify_image(&second).unwrap();
}

#[test]
fn two_publishers_at_once() {
    let example = Example::new();
    let root = example.store.root().to_owned();
    let trees: Vec<PathBuf> = (0..4)
        .map(|number| {
            let tree = example.dir.path().join(format!("tree{number}"));
            support::example(&tree);
            fs::write(tree.join("hello"), noise(number / 2, 400_000)).unwrap();
            tree
        })
        .collect();
    let manifests: Vec<Manifest> = std::thread::scope(|scope| {
        let spawn = |tree: &'_ Path| {
            let (root, tree) = (root.clone(), tree.to_owned());
            scope.spawn(move || publish(&DirStore::open_or_create(root).unwrap(), &tree))
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
            &DirStore::open_or_create(root.join("store")).unwrap(),
            &root.join("next"),
        );
        return;
    }
    let example = Example::new();
    let root = example.dir.path();
    support::example(&root.join("next"));
    fs::write(root.join("next/large"), noise(9, 20_000_000)).unwrap();
    let mut finished = false;
    for step in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_at_any_moment"])
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
    let store = DirStore::open_or_create(root.join("store")).unwrap();
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
    let error = DirStore::open_or_create(&home).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert_eq!(
        fs::read_dir(&home).unwrap().count(),
        1,
        "nothing was made there"
    );
    assert!(Store::open(Box::new(DirBackend::open(&home).unwrap())).is_err());

    let root = dir.path().join("a/b/store");
    DirStore::open_or_create(&root).unwrap();
    DirStore::open_or_create(&root).unwrap();
    for (marker, says) in [
        ("imgbuild store 2\n", "format 2"),
        ("hello", "says something else"),
    ] {
        fs::write(root.join("imgbuild-store"), marker).unwrap();
        let error = DirStore::open_or_create(&root).err().unwrap();
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
    support::example(&tree);
    let mount = Mount::tmpfs(&dir.path().join("store"), "size=6m");
    let store = DirStore::open_or_create(&mount.0).unwrap();
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
    check_everything(store.read(), &first).unwrap();
    fs::remove_file(tree.join("large")).unwrap();
    fs::write(tree.join("small"), noise(4, 1_000_000)).unwrap();
    publish(&store, &tree);
    drop(store);
}

#[test]
fn a_store_that_is_read_only() {
    need_root();
    let example = Example::new();
    let root = example.store.root().to_owned();
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
    let error = DirStore::open_or_create(&root).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
    let read = Store::open(Box::new(DirBackend::open(&root).unwrap())).unwrap();
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
    let unknown = store::Sha256::of(b"unknown");
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
    let backend = example.store.read().backend();
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
