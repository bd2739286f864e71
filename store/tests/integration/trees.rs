//! Trees and the tars that they map to, both ways.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use store::canonical_tar::{self, Kind, Reader};
use store::{Blake3, ErrorKind, WritableStore};

use crate::support::*;

fn config() -> Config {
    Config {
        cases: 40,
        failure_persistence: None::<Box<FileFailurePersistence>>.map(|x| x as _),
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// The property that everything else rests on.
    #[test]
    fn any_tree_packs_to_the_same_bytes_and_unpacks_to_itself(tree in any_tree()) {
        need_root();
        let dir = tempfile::tempdir().unwrap();
        let [here, there, unpacked] = ["here", "there", "unpacked"].map(|name| dir.path().join(name));
        for path in [&here, &there, &unpacked] {
            fs::create_dir(path).unwrap();
        }
        make(&here, &tree);
        make(&there, &tree);
        let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
        let manifest = publish(&store, &here);
        // Into a store that is empty, and into one that has it all.
        let other = WritableStore::open_or_create(dir.path().join("other")).unwrap();
        prop_assert_eq!(publish(&other, &here).to_json(), manifest.to_json());
        let again = store.publish_tree(&here, EPOCH, &|_| {}).unwrap();
        prop_assert_eq!((again.image, again.chunks_new, again.written), (manifest.image, 0, 0));

        let tar = tar_of(&store, &manifest);
        prop_assert_eq!(Blake3::of(&tar), manifest.image);
        prop_assert_eq!(store::Sha256::of(&tar), manifest.sha256);
        prop_assert_eq!(tar.len() as u64, manifest.size);
        store.store().verify_image(&manifest).unwrap();

        // The root's own time is whenever the test ran; all else is the tree's.
        let mut reader = Reader::new(&tar[..]);
        let mut read = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = Vec::new();
            reader.content().read_to_end(&mut content).unwrap();
            if let Kind::File { .. } = entry.kind {
                let path = here.join(std::ffi::OsStr::from_bytes(&entry.path));
                prop_assert_eq!(content, fs::read(path).unwrap());
            }
            read.push(entry);
        }
        prop_assert_eq!(&read, &entries(&here));

        unpack(&tar, &unpacked);
        prop_assert_eq!(&entries(&unpacked), &read);
        prop_assert_eq!(publish(&other, &unpacked).image, manifest.image);
    }
}

#[test]
fn the_tar_crate_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    example(&tree);
    let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
    let tar = tar_of(&store, &publish(&store, &tree));
    let mut archive = tar::Archive::new(&tar[..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        names.push(String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap());
    }
    assert_eq!(
        names,
        [
            "./",
            "./bin",
            "./empty",
            "./hello",
            "./hello-again",
            "./usr/",
            "./usr/bin/",
            "./usr/bin/tool",
            "./usr/bin/tool2"
        ]
    );
}

#[test]
fn times_are_clamped_and_fractions_dropped() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seconds) in [("old", -5_i64), ("then", 100), ("new", 1 << 32)] {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 999_999_999,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&file, &times).unwrap();
    }
    let scanned = canonical_tar::scan(dir.path(), EPOCH).unwrap();
    let times: Vec<_> = scanned.entries().skip(1).map(|entry| entry.mtime).collect();
    assert_eq!(times, [EPOCH, 0, 100]);
}

#[test]
fn what_cannot_be_in_an_image() {
    need_root();
    for kind in [
        FileType::Fifo,
        FileType::CharacterDevice,
        FileType::BlockDevice,
        FileType::Socket,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd");
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(!path.symlink_metadata().unwrap().file_type().is_file());
        let error = canonical_tar::scan(dir.path(), EPOCH).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotCanonical);
        assert!(
            error
                .to_string()
                .starts_with("odd: devices, FIFOs and sockets"),
            "{error}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(
        canonical_tar::scan(&file, EPOCH).is_err(),
        "a file is no tree"
    );
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    assert!(
        canonical_tar::scan(&dir.path().join("link"), EPOCH).is_err(),
        "a symlink is no tree"
    );
    let gone = canonical_tar::scan(&dir.path().join("gone"), EPOCH).unwrap_err();
    assert!(gone.to_string().contains("gone"), "{gone}");
}

/// Mounts an overlay and unmounts it when dropped.
struct Overlay<'a>(&'a Path);

impl<'a> Overlay<'a> {
    fn mount(options: &str, at: &'a Path) -> Self {
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", options])
            .arg(at)
            .status();
        assert!(
            status.unwrap().success(),
            "this test mounts an overlay: run it as root where that is allowed"
        );
        Self(at)
    }
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn an_overlay_is_the_tree_that_it_shows() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let [lower, upper, work, merged, plain] =
        ["lower", "upper", "work", "merged", "plain"].map(|name| dir.path().join(name));
    for path in [&upper, &work, &merged, &plain] {
        fs::create_dir(path).unwrap();
    }
    example(&lower);
    fs::create_dir(lower.join("removed")).unwrap();
    fs::write(lower.join("removed/file"), b"x").unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let overlay = Overlay::mount(&options, &merged);
    fs::remove_dir_all(merged.join("removed")).unwrap();
    fs::create_dir(merged.join("removed")).unwrap();
    fs::write(merged.join("hello"), b"changed").unwrap();
    fs::hard_link(merged.join("hello"), merged.join("hello-linked")).unwrap();
    fs::create_dir(merged.join("new")).unwrap();
    for path in [
        &merged,
        &merged.join("new"),
        &merged.join("removed"),
        &merged.join("hello"),
    ] {
        fs::File::open(path)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
    }

    let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
    let manifest = publish(&store, &merged);
    let links: Vec<_> = entries(&merged)
        .into_iter()
        .filter_map(|entry| match entry.kind {
            Kind::Hardlink { target } => Some((entry.path, target)),
            _ => None,
        })
        .collect();
    let pair = |a: &str, b: &str| (a.as_bytes().to_vec(), b.as_bytes().to_vec());
    assert_eq!(
        links,
        [
            pair("hello-linked", "hello"),
            pair("usr/bin/tool2", "usr/bin/tool")
        ]
    );
    let shown = entries(&merged);
    assert!(
        shown
            .iter()
            .flat_map(|entry| entry.xattrs.keys())
            .all(|name| !name.starts_with(b"trusted."))
    );
    assert!(upper.join("removed").symlink_metadata().unwrap().is_dir());

    unpack(&tar_of(&store, &manifest), &plain);
    assert_eq!(entries(&plain), shown);
    drop(overlay);
    assert_eq!(publish(&store, &plain).image, manifest.image);
}

/// Something that happens to a file while its tree is read.
type Change = fn(&Path);

#[test]
fn a_tree_that_changes_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    example(&tree);
    let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
    let victim = tree.join("hello-again");
    let changes: [(&str, Change); 6] = [
        ("longer", |path| {
            fs::write(path, b"hello\nand more").unwrap();
        }),
        ("shorter", |path| fs::write(path, b"he").unwrap()),
        ("other bytes", |path| fs::write(path, b"HELLO\n").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a FIFO", |path| {
            fs::remove_file(path).unwrap();
            let mode = Mode::from_raw_mode(0o600);
            mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
            assert!(path.symlink_metadata().unwrap().file_type().is_fifo());
        }),
    ];
    for (what, change) in changes {
        let _ = fs::remove_file(&victim);
        let _ = fs::remove_dir(&victim);
        fs::write(&victim, b"hello\n").unwrap();
        // Between the scan and the reading of the first file.
        let progress = |progress| {
            if let store::Progress::Scanned { .. } = progress {
                change(&victim);
            }
        };
        let error = store.publish_tree(&tree, EPOCH, &progress).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Changed, "{what}: {error:?}");
        assert_eq!(
            error.to_string(),
            "hello-again changed while the tree was read",
            "{what}"
        );
        assert!(error.hint().is_some());
    }
    assert!(tree.symlink_metadata().unwrap().nlink() > 0);
    assert!(store.store().images().unwrap().is_empty());
    assert!(
        !dir.path().join("store/packs").exists(),
        "a failed publication leaves no pack"
    );
}
