//! One hostile image per way to get out of a tree. The reader of the canonical tar refuses most of
//! them before they come here; these tests hand them to the extraction directly.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const EPOCH: u64 = 1_600_000_000;

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid,
        gid,
        mtime: EPOCH,
        xattrs: BTreeMap::new(),
    }
}

fn directory(path: &str, mode: u32) -> Entry {
    entry(path, Kind::Directory, mode)
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size }, 0o644)
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(
        path,
        Kind::Symlink {
            target: target.as_bytes().to_vec(),
        },
        0o777,
    )
}

fn hardlink(path: &str, target: &str) -> Entry {
    entry(
        path,
        Kind::Hardlink {
            target: target.as_bytes().to_vec(),
        },
        0o644,
    )
}

/// A place with something precious beside the tree.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        fs::create_dir(directory.path().join("host")).unwrap();
        fs::write(directory.path().join("host/shadow"), b"secret").unwrap();
        fs::set_permissions(
            directory.path().join("host/shadow"),
            fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        Self { directory }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    fn host(&self) -> String {
        self.directory
            .path()
            .join("host")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn unpack(&self, entries: &[(Entry, &[u8])]) -> Result<()> {
        let mut extractor = Extractor::new(File::open(self.tree()).unwrap().into(), &|_| Ok(()));
        for (entry, content) in entries {
            extractor.entry(entry)?;
            if !content.is_empty() {
                extractor.content(content)?;
            }
        }
        extractor.finish().map(|_| ())
    }

    /// The host directory is exactly as it was.
    fn is_untouched(&self) -> bool {
        let host = Path::new(&self.host()).to_owned();
        let found = fs::metadata(host.join("shadow")).unwrap();
        fs::read_dir(&host).unwrap().count() == 1
            && fs::read(host.join("shadow")).unwrap() == b"secret"
            && found.permissions().mode() & 0o7777 == 0o600
            && found.nlink() == 1
    }

    fn refuses(&self, entries: &[(Entry, &[u8])], why: &str) {
        let error = self.unpack(entries).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(
            error.to_string().contains(why),
            "{error} does not say `{why}`"
        );
        assert!(self.is_untouched());
    }
}

fn root() -> (Entry, &'static [u8]) {
    (directory("", 0o755), b"")
}

#[test]
fn an_ordinary_tree_arrives_as_it_was_described() {
    let place = Place::new();
    let mut sticky = directory("tmp", 0o1777);
    sticky.mtime = 5;
    let entries = [
        root(),
        (directory("a", 0o500), &b""[..]),
        (file("a/f", 5), b"hello"),
        (hardlink("a/g", "a/f"), b""),
        (symlink("l", "/etc/passwd"), b""),
        (sticky, b""),
    ];
    let umask = rustix::process::umask(Mode::RWXU);
    let done = place.unpack(&entries);
    rustix::process::umask(umask);
    done.unwrap();
    let tree = place.tree();
    assert_eq!(fs::read(tree.join("a/g")).unwrap(), b"hello");
    assert_eq!(
        fs::metadata(tree.join("a/f")).unwrap().ino(),
        fs::metadata(tree.join("a/g")).unwrap().ino()
    );
    assert_eq!(fs::metadata(tree.join("a")).unwrap().mode() & 0o7777, 0o500);
    assert_eq!(
        fs::metadata(tree.join("a")).unwrap().mtime(),
        i64::try_from(EPOCH).unwrap()
    );
    assert_eq!(
        fs::metadata(tree.join("tmp")).unwrap().mode() & 0o7777,
        0o1777
    );
    assert_eq!(fs::metadata(tree.join("tmp")).unwrap().mtime(), 5);
    assert_eq!(
        fs::symlink_metadata(tree.join("l")).unwrap().mtime(),
        i64::try_from(EPOCH).unwrap()
    );
    fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
}

// HOSTILE 34
#[test]
fn dot_dot_and_absolute_names() {
    for path in ["../host/new", "a/../../host/new", ".."] {
        Place::new().refuses(
            &[root(), (directory("a", 0o755), b""), (file(path, 1), b"x")],
            "",
        );
    }
    let place = Place::new();
    let absolute = format!("{}/new", place.host());
    place.refuses(&[root(), (file(&absolute, 1), b"x")], "out of the tree");
}

// HOSTILE 35, CVE-2020-27833
#[test]
fn writing_through_a_symlinked_parent() {
    let place = Place::new();
    let host = place.host();
    place.refuses(
        &[root(), (symlink("a", &host), b""), (file("a/new", 1), b"x")],
        "symbolic link",
    );
}

#[test]
fn writing_through_chained_symlinks() {
    let place = Place::new();
    let host = place.host();
    let entries = [
        root(),
        (directory("a", 0o755), &b""[..]),
        (symlink("a/b", ".."), b""),
        (symlink("c", "a/b/../host"), b""),
        (symlink("d", &host), b""),
    ];
    for path in ["a/b/x", "c/x", "d/x", "a/b/d/x"] {
        let mut all = entries.to_vec();
        all.push((file(path, 1), b"x"));
        Place::new().refuses(&all, "");
        assert!(place.is_untouched());
    }
}

// HOSTILE 36, CVE-2026-23745, CVE-2026-11940
#[test]
fn hard_links_to_what_is_not_a_file_of_the_image() {
    let place = Place::new();
    let absolute = format!("{}/shadow", place.host());
    for (target, why) in [
        ("../host/shadow", "out of the tree"),
        (absolute.as_str(), "out of the tree"),
        ("missing", "has not"),
        ("d", "not a regular file"),
        ("l", "not a regular file"),
        ("m/shadow", "symbolic link"),
        ("..", "no name"),
    ] {
        let place = Place::new();
        let host = place.host();
        let entries = [
            root(),
            (directory("d", 0o755), &b""[..]),
            (symlink("l", "/etc/shadow"), b""),
            (symlink("m", &host), b""),
            (hardlink("z", target), b""),
        ];
        place.refuses(&entries, why);
    }
}

// HOSTILE 37, CVE-2026-33056
#[test]
fn a_symlink_replaced_by_a_directory_does_not_chmod_its_target() {
    let place = Place::new();
    let host = place.host();
    place.refuses(
        &[
            root(),
            (symlink("a", &host), b""),
            (directory("a", 0o777), b""),
        ],
        "comes twice",
    );
}

// HOSTILE 40
#[test]
fn the_same_path_twice() {
    Place::new().refuses(
        &[root(), (file("a", 1), b"x"), (file("a", 1), b"y")],
        "comes twice",
    );
    Place::new().refuses(
        &[root(), (file("a", 1), b"x"), (directory("a", 0o755), b"")],
        "comes twice",
    );
    Place::new().refuses(
        &[root(), (symlink("a", "b"), b""), (file("a", 1), b"y")],
        "comes twice",
    );
    Place::new().refuses(
        &[
            root(),
            (directory("a", 0o755), b""),
            (directory("", 0o777), b""),
        ],
        "not one directory",
    );
}

// HOSTILE 40, 44
#[test]
fn parents_that_are_not_directories_and_names_that_are_none() {
    Place::new().refuses(
        &[root(), (file("a", 1), b"x"), (file("a/b", 1), b"y")],
        "not a directory",
    );
    Place::new().refuses(&[root(), (file("a/b", 1), b"y")], "not in the image");
    Place::new().refuses(&[root(), (file("a/", 1), b"y")], "not a name");
    Place::new().refuses(&[root(), (file("a\0b", 1), b"y")], "not a name");
    Place::new().refuses(&[root(), (file(&"n".repeat(256), 1), b"y")], "too long");
}

// HOSTILE 42
#[test]
fn privilege_that_is_not_listed_creates_nothing() {
    let place = Place::new();
    let privilege = |entry: &Entry| {
        if entry.mode & 0o6000 != 0 || !entry.xattrs.is_empty() {
            Err(Error::refused("not listed"))
        } else {
            Ok(())
        }
    };
    let mut setuid = file("su", 1);
    setuid.mode = 0o4755;
    let mut capable = file("ping", 1);
    capable
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1]);
    for entry in [setuid, capable] {
        let mut extractor = Extractor::new(File::open(place.tree()).unwrap().into(), &privilege);
        extractor.entry(&directory("", 0o755)).unwrap();
        assert_eq!(extractor.entry(&entry).unwrap_err().exit_code(), 3);
        assert_eq!(fs::read_dir(place.tree()).unwrap().count(), 0);
    }
}

// HOSTILE 43, CVE-2026-4360
#[test]
fn a_hard_link_changes_neither_owner_nor_mode() {
    let place = Place::new();
    let mut link = hardlink("b", "a");
    (link.mode, link.mtime) = (0o4777, 1);
    if rustix::process::geteuid().is_root() {
        link.uid = 1234;
    }
    place
        .unpack(&[root(), (file("a", 1), b"x"), (link, b"")])
        .unwrap();
    let found = fs::metadata(place.tree().join("a")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid()),
        (0o644, rustix::process::geteuid().as_raw())
    );
}

#[test]
fn content_that_does_not_fit_its_size() {
    Place::new().refuses(&[root(), (file("a", 1), b"xy")], "more content");
    Place::new().refuses(&[root(), (file("a", 3), b"xy")], "lacks 1 bytes");
    Place::new().refuses(
        &[root(), (file("a", 3), b"xy"), (directory("b", 0o755), b"")],
        "lacks 1 bytes",
    );
    Place::new().refuses(&[(directory("", 0o755), b"x")], "belongs to no file");
}

#[test]
fn set_id_bits_and_attributes_survive_the_change_of_owner() {
    let place = Place::new();
    let mut setuid = file("su", 1);
    setuid.mode = 0o6755;
    setuid
        .xattrs
        .insert(b"user.note".to_vec(), b"kept".to_vec());
    if rustix::process::geteuid().is_root() {
        (setuid.uid, setuid.gid) = (12, 34);
    }
    place.unpack(&[root(), (setuid.clone(), b"x")]).unwrap();
    let found = fs::metadata(place.tree().join("su")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.uid(), found.gid()),
        (0o6755, setuid.uid, setuid.gid)
    );
    let mut value = [0; 8];
    let length =
        rustix::fs::getxattr(place.tree().join("su"), "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
}

#[test]
fn what_a_directory_hands_down_is_no_part_of_the_tree() {
    let place = Place::new();
    let tree = place.tree();
    // user::rwx user:1000:rwx group::r-x mask::rwx other::r-x, in the kernel's form (acl(5)).
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 7, 1000),
        (4, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 5, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let default = "system.posix_acl_default";
    let set = |path: &Path| {
        rustix::fs::setxattr(path, default, &acl, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set(&tree);
    fs::create_dir(tree.join("kept")).unwrap();
    let mut kept = directory("kept", 0o755);
    kept.xattrs.insert(default.as_bytes().to_vec(), acl.clone());
    let root = File::open(&tree).unwrap().into();
    let mut extractor = Extractor::over(root, &|_| Ok(()), vec![false; 6]);
    for entry in [
        directory("", 0o755),
        directory("kept", 0o755),
        file("kept/f", 0),
        directory("new", 0o755),
        file("new/f", 0),
    ] {
        let entry = if entry.path == b"kept" { &kept } else { &entry };
        extractor.entry(entry).unwrap();
    }
    extractor.finish().unwrap();
    let names = |path: &str| {
        let mut buffer = [0; 4096];
        let length = rustix::fs::listxattr(tree.join(path), &mut buffer[..]).unwrap();
        let names = String::from_utf8(buffer[..length].to_vec()).unwrap();
        names.trim_end_matches('\0').to_owned()
    };
    assert_eq!(names("kept"), default);
    for path in ["", "kept/f", "new", "new/f"] {
        assert_eq!(names(path), "", "{path}");
    }
}

#[test]
fn long_zeros_are_holes_on_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::File::open(directory.path()).unwrap().into();
    let allow = |_: &Entry| Ok(());
    let mut extractor = Extractor::new(root, &allow);
    let zeros = vec![0; 256 << 10];
    extractor.entry(&self::directory("", 0o755)).unwrap();
    extractor.entry(&file("inside", (16 << 20) + 5)).unwrap();
    for _ in 0..64 {
        extractor.content(&zeros).unwrap();
    }
    extractor.content(b"at it").unwrap();
    extractor
        .entry(&file("to-the-end", (256 << 10) + 1))
        .unwrap();
    extractor.content(b"x").unwrap();
    extractor.content(&zeros).unwrap();
    extractor.finish().unwrap();
    let path = directory.path().join("inside");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), (16 << 20) + 5);
    assert!(bytes.ends_with(b"\0at it") && bytes[..16 << 20].iter().all(|byte| *byte == 0));
    assert!(path.metadata().unwrap().blocks() * 512 < 1 << 20);
    let path = directory.path().join("to-the-end");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        (bytes.len(), bytes[0], bytes[1]),
        ((256 << 10) + 1, b'x', 0)
    );
    assert!(path.metadata().unwrap().blocks() * 512 < 128 << 10);
}

/// More files than one batch has, and more hard links than may wait.
#[test]
fn many_small_files_arrive_whole() {
    let place = Place::new();
    let contents: Vec<String> = (0..1000).map(|n| format!("{n}").repeat(n)).collect();
    let mut entries = vec![root()];
    for (n, content) in contents.iter().enumerate() {
        if n % 20 == 0 {
            entries.push((directory(&format!("d{}", n / 20), 0o755), b""));
        }
        let path = format!("d{}/f{n}", n / 20);
        entries.push((file(&path, content.len() as u64), content.as_bytes()));
        for link in 0..LINKS / 400 {
            entries.push((hardlink(&format!("{path}-{link}"), &path), b""));
        }
    }
    place.unpack(&entries).unwrap();
    for (n, content) in contents.iter().enumerate() {
        let path = place.tree().join(format!("d{}/f{n}", n / 20));
        assert_eq!(fs::read_to_string(&path).unwrap(), *content);
        assert_eq!(path.metadata().unwrap().nlink(), 1 + LINKS as u64 / 400);
    }
}

/// What fails in another thread is said, and nothing goes on in the tree after that.
#[test]
fn a_file_that_cannot_be_made_is_named() {
    let place = Place::new();
    fs::write(place.tree().join("f07"), "somebody else's").unwrap();
    let names: Vec<String> = (0..2000).map(|n| format!("f{n:02}")).collect();
    let mut entries = vec![root()];
    entries.extend(names.iter().map(|name| (file(name, 1), &b"x"[..])));
    let error = place.unpack(&entries).unwrap_err();
    assert!(
        error.to_string().contains("f07: the path comes twice"),
        "{error}"
    );
    assert_eq!(
        fs::read(place.tree().join("f07")).unwrap(),
        b"somebody else's"
    );
    // Nobody makes files in it any more.
    fs::remove_dir_all(place.tree()).unwrap();
}
