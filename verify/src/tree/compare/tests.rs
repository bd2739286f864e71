//! Trees that differ from what was signed in one thing each.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const EPOCH: u64 = 1_600_000_000;
static NEVER: AtomicBool = AtomicBool::new(false);

fn open(root: &Path) -> OwnedFd {
    File::open(root).unwrap().into()
}

fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/app"), b"#!/bin/sh\n").unwrap();
    fs::hard_link(root.join("usr/bin/app"), root.join("usr/bin/app2")).unwrap();
    fs::write(root.join("usr-local"), vec![7; 2_000_000]).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    settle(root);
    directory
}

/// Gives every entry the same time, so that only what a test changes differs.
fn settle(root: &Path) {
    let mut walk = TreeWalk::new(open(root));
    while let Some(found) = walk.step().unwrap() {
        let time = rustix::fs::Timespec {
            tv_sec: i64::try_from(EPOCH).unwrap(),
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let path = root.join(std::str::from_utf8(&found.path).unwrap());
        rustix::fs::utimensat(
            rustix::fs::CWD,
            &path,
            &times,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .unwrap();
    }
}

/// The tree as an image would list it, in chunks of 256 KiB.
fn signed(root: &Path) -> Vec<(Entry, Vec<ChunkRef>)> {
    let mut walk = TreeWalk::new(open(root));
    let mut all = Vec::new();
    while let Some(found) = walk.step().unwrap() {
        let mut content = Vec::new();
        if let Some(file) = found.file {
            File::from(file).read_to_end(&mut content).unwrap();
        }
        let chunks = content.chunks(store::chunk::MAX);
        let chunks = chunks
            .map(|part| {
                ChunkRef::new(Blake3::of(part), u32::try_from(part.len()).unwrap()).unwrap()
            })
            .collect();
        all.push((found.what.unwrap(), chunks));
    }
    all
}

fn changed(change: impl FnOnce(&Path)) -> Vec<String> {
    let directory = sample();
    let signed = signed(directory.path());
    let before = digest(open(directory.path()), &NEVER).unwrap();
    change(directory.path());
    let found = differences(open(directory.path()), signed.into_iter().map(Ok), &NEVER).unwrap();
    let after = digest(open(directory.path()), &NEVER);
    // Both answers agree, except about names outside the tree, which no tar can show.
    if found.iter().all(|one| !one.how[0].contains("names")) {
        assert_eq!(after.is_ok_and(|after| after == before), found.is_empty());
    }
    found
        .iter()
        .map(|one| format!("{} {}", one.path, one.how.join(", ")))
        .collect()
}

#[test]
fn an_unchanged_tree_has_no_differences() {
    assert!(changed(|_| ()).is_empty());
}

#[test]
fn each_change_is_named() {
    let keep_time = |root: &Path| settle(root);
    assert_eq!(
        changed(|root| {
            fs::write(root.join("usr/bin/app"), b"#!/bin/xx\n").unwrap();
            keep_time(root);
        }),
        ["/usr/bin/app has other content"]
    );
    assert_eq!(
        changed(|root| {
            fs::write(root.join("empty"), b"x").unwrap();
            keep_time(root);
        }),
        ["/empty has 1 bytes, signed are 0"]
    );
    assert_eq!(
        changed(
            |root| fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o4755))
                .unwrap()
        ),
        ["/empty has mode 4755, signed is 0644"]
    );
    assert_eq!(
        changed(|root| {
            fs::remove_file(root.join("bin")).unwrap();
            symlink("/tmp", root.join("bin")).unwrap();
            keep_time(root);
        }),
        ["/bin points to /tmp, signed is usr/bin"]
    );
    assert_eq!(
        changed(|root| {
            fs::remove_file(root.join("usr-local")).unwrap();
            fs::create_dir(root.join("usr-local")).unwrap();
            keep_time(root);
        }),
        ["/usr-local is a directory, signed is a file"]
    );
    assert_eq!(
        changed(|root| {
            fs::remove_file(root.join("empty")).unwrap();
            fs::write(root.join("new"), b"").unwrap();
            keep_time(root);
        }),
        ["/empty is missing", "/new is not part of the image"]
    );
    assert_eq!(
        changed(|root| rustix::fs::setxattr(
            root.join("empty"),
            "user.a",
            b"b",
            rustix::fs::XattrFlags::empty()
        )
        .unwrap()),
        ["/empty has other extended attributes"]
    );
}

#[test]
fn broken_and_foreign_hard_links_are_named() {
    assert_eq!(
        changed(|root| {
            fs::remove_file(root.join("usr/bin/app2")).unwrap();
            fs::copy(root.join("usr/bin/app"), root.join("usr/bin/app2")).unwrap();
            settle(root);
        }),
        ["/usr/bin/app2 is a file, signed is a hard link"]
    );
    let outside = tempfile::tempdir().unwrap();
    assert_eq!(
        changed(|root| fs::hard_link(root.join("empty"), outside.path().join("held")).unwrap()),
        ["/empty has 2 names, 1 of them in the image"]
    );
}

#[test]
fn a_stranger_among_the_files_is_refused() {
    let fifo = |root: &Path| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        settle(root);
    };
    assert_eq!(changed(fifo), ["/fifo is not part of the image"]);
}

#[test]
fn the_digest_is_that_of_the_canonical_tar() {
    let directory = sample();
    let mut tar = Vec::new();
    for (entry, _) in signed(directory.path()) {
        tar.extend(canonical_tar::encode(&entry).unwrap());
        if let Kind::File { size } = entry.kind {
            let path = directory
                .path()
                .join(std::str::from_utf8(&entry.path).unwrap());
            tar.extend(fs::read(path).unwrap());
            tar.resize(tar.len() + (size.wrapping_neg() % 512) as usize, 0);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    assert_eq!(
        digest(open(directory.path()), &NEVER).unwrap(),
        Blake3::of(&tar)
    );
}
