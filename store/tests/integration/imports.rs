//! What comes from elsewhere: any tree, as a directory and as tars of several
//! dialects, is one image; a canonical tar is its own image.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::support::{any_tree, example, make, need_root};
use proptest::prelude::*;
use store::canonical_tar::{Change, Changes};
use store::foreign_tar::TarInput;
use store::{Published, WritableStore};

/// Packs a directory with a real tar; unsorted, as the file system lists it.
fn archive(program: &str, arguments: &[&str], tree: &Path, to: &Path) {
    let status = Command::new(program)
        .args(arguments)
        .arg("-cf")
        .arg(to)
        .arg("-C")
        .arg(tree)
        .arg(".")
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("apt-get install {program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

fn import(store: &WritableStore, tar: &Path) -> (Published, Changes) {
    let tar = store
        .read_tar(TarInput::File(File::open(tar).unwrap()), None)
        .unwrap();
    let published = store.publish_tar(&tar, &|_| {}).unwrap();
    (published, tar.changes().clone())
}

const GNU: &[&str] = &["--format=gnu", "--numeric-owner"];
const PAX: &[&str] = &[
    "--format=pax",
    "--xattrs",
    "--xattrs-include=*",
    "--numeric-owner",
];
const SPARSE: &[&str] = &[
    "--format=pax",
    "--sparse",
    "--xattrs",
    "--xattrs-include=*",
    "--numeric-owner",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_tree_and_its_tars_are_one_image(tree in any_tree()) {
        need_root();
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir(&root).unwrap();
        make(&root, &tree);
        let store = WritableStore::open_or_create(place.path().join("store")).unwrap();
        let (direct, _) = store.publish_foreign_tree(&root, None, &|_| {}).unwrap();
        let plain = tree.values().all(|node| node.xattrs.is_empty());
        let tar = place.path().join("a.tar");
        for (program, arguments, carries) in [
            ("tar", PAX, true),
            ("tar", SPARSE, true),
            ("bsdtar", &["--format=pax", "--numeric-owner"][..], true),
            ("tar", GNU, plain),
        ] {
            archive(program, arguments, &root, &tar);
            let (published, _) = import(&store, &tar);
            if carries {
                prop_assert_eq!(published.image, direct.image, "{} {:?}", program, arguments);
            }
            prop_assert_eq!(published.entries, direct.entries);
        }
    }
}

#[test]
fn a_canonical_tar_keeps_its_digest_and_nothing_is_said() {
    need_root();
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    example(&root);
    let store = WritableStore::open_or_create(place.path().join("store")).unwrap();
    let manifest = crate::support::publish(&store, &root);
    let bytes = crate::support::tar_of(&store, &manifest);
    let other = WritableStore::open_or_create(place.path().join("other")).unwrap();
    let tar = other
        .read_tar(TarInput::Stream(&mut &bytes[..]), None)
        .unwrap();
    assert!(tar.changes().is_empty(), "{:?}", tar.changes());
    let published = other.publish_tar(&tar, &|_| {}).unwrap();
    assert_eq!(published.image, manifest.image);
    assert_eq!(
        published.newest,
        published.newest.min(crate::support::EPOCH)
    );
    assert_eq!(
        (published.setuid, published.xattrs),
        (manifest.setuid, manifest.xattrs)
    );
}

#[test]
fn devices_and_sockets_of_a_directory_are_left_out() {
    need_root();
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), "x").unwrap();
    let before = {
        let store = WritableStore::open_or_create(place.path().join("store")).unwrap();
        std::fs::File::open(&root)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        store
            .publish_foreign_tree(&root, Some(0), &|_| {})
            .unwrap()
            .0
    };
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (name, kind) in [("null", ["c", "1", "3"]), ("fifo", ["p", "", ""])] {
        let status = Command::new("mknod")
            .arg(root.join(name))
            .args(kind.iter().filter(|word| !word.is_empty()))
            .status();
        assert!(status.unwrap().success());
    }
    let store = WritableStore::open_or_create(place.path().join("store")).unwrap();
    let (published, changes) = store.publish_foreign_tree(&root, Some(0), &|_| {}).unwrap();
    assert_eq!(published.image, before.image);
    for change in [Change::Device, Change::Fifo, Change::Socket] {
        assert_eq!(changes.count(change), 1, "{change:?}");
    }
    assert!(store.publish_tree(&root, 0, &|_| {}).is_err());
}
