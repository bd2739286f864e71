//! Trees and stores for the tests. They make files of other owners, so they run
//! as root.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use store::canonical_tar::{self, Entry};
use store::maintenance::Depth;
use store::{ErrorKind, LocalReader, Manifest, Published, Result, Sha256, Store, WritableStore};

/// No file of a test image is newer.
pub(crate) const EPOCH: u64 = 1_700_000_000;

/// Fails with what to do, where a test needs root.
pub(crate) fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run the tests of the store as root: they make files of other owners"
    );
}

/// Something in a tree that a property test makes up.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Directory,
    File {
        seed: u8,
        len: usize,
    },
    Symlink(Vec<u8>),
    /// A hard link to some file that was made before it.
    Link(prop::sample::Index),
}

/// A tree by path; a path below something that is no directory is left out.
pub(crate) type Tree = BTreeMap<Vec<Vec<u8>>, Node>;

/// Any tree that a file system can hold and an image may.
pub(crate) fn any_tree() -> impl Strategy<Value = Tree> {
    let byte = prop_oneof![
        6 => b'a'..=b'c',
        1 => (1_u8..=255).prop_filter("not a slash", |byte| *byte != b'/')
    ];
    let segment = prop_oneof![
        8 => prop::collection::vec(byte.clone(), 1..5),
        1 => prop::collection::vec(byte, 100..255),
    ]
    .prop_filter("not dots", |segment| !matches!(&segment[..], b"." | b".."));
    let path = prop::collection::vec(segment, 1..5);
    prop::collection::btree_map(path, any_node(), 0..25)
}

fn any_node() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        4 => Just(NodeKind::Directory),
        4 => (any::<u8>(), prop_oneof![Just(0), 1..2000_usize, 250_000..700_000_usize])
            .prop_map(|(seed, len)| NodeKind::File { seed, len }),
        2 => prop::collection::vec(1_u8..=255, 1..200).prop_map(NodeKind::Symlink),
        2 => any::<prop::sample::Index>().prop_map(NodeKind::Link),
    ];
    let id = prop_oneof![Just(0), Just(1000), Just(0o1000_0000_u32), 0..u32::MAX - 1];
    let xattrs = prop::collection::btree_map(
        "user\\.[a-z]{1,9}",
        prop::collection::vec(any::<u8>(), 0..30),
        0..2,
    );
    (
        kind,
        0..=0o7777_u32,
        id.clone(),
        id,
        EPOCH - 10..EPOCH + 10,
        xattrs,
        prop::bool::weighted(0.1),
    )
        .prop_map(|(kind, mode, uid, gid, mtime, mut xattrs, capable)| {
            if capable {
                // CAP_NET_RAW, permitted and effective.
                let mut value = vec![0; 20];
                (value[0], value[3], value[5]) = (1, 2, 0x20);
                xattrs.insert("security.capability".into(), value);
            }
            Node {
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            }
        })
}

/// Content without a pattern, the same for the same arguments.
pub(crate) fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Makes the tree in an empty directory.
pub(crate) fn make(root: &Path, tree: &Tree) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Node)> = Vec::new();
    for (segments, node) in tree {
        let path = segments.iter().fold(root.to_owned(), |path, segment| {
            path.join(OsStr::from_bytes(segment))
        });
        let parent = path.parent().unwrap();
        if path.as_os_str().len() > 4000
            || path.symlink_metadata().is_ok()
            || !parent_is_usable(root, parent)
        {
            continue;
        }
        fs::create_dir_all(parent).unwrap();
        match &node.kind {
            NodeKind::Directory => fs::create_dir(&path).unwrap(),
            NodeKind::File { seed, len } => {
                fs::write(&path, noise(*seed, *len)).unwrap();
                files.push(path.clone());
            }
            NodeKind::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            NodeKind::Link(_) if files.is_empty() => continue,
            NodeKind::Link(index) => {
                fs::hard_link(index.get(&files), &path).unwrap();
                continue;
            }
        }
        made.push((path, node));
    }
    // The deepest first, so that nothing touches a directory after its time is set.
    for (path, node) in made.iter().rev() {
        dress(path, node);
    }
}

fn parent_is_usable(root: &Path, parent: &Path) -> bool {
    let mut path = parent;
    while path != root {
        match path.symlink_metadata() {
            Ok(meta) if !meta.is_dir() => return false,
            _ => path = path.parent().unwrap(),
        }
    }
    true
}

/// Gives a file its owner, mode, attributes and time.
fn dress(path: &Path, node: &Node) {
    lchown(path, Some(node.uid), Some(node.gid)).unwrap();
    if matches!(node.kind, NodeKind::Symlink(_)) {
        return;
    }
    fs::set_permissions(path, PermissionsExt::from_mode(node.mode)).unwrap();
    for (name, value) in &node.xattrs {
        if name.starts_with("security.") && !matches!(node.kind, NodeKind::File { .. }) {
            continue;
        }
        rustix::fs::lsetxattr(path, name.as_str(), value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(node.mtime);
    // Not for writing: nobody may, by mode, but root opens everything.
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// The entries of a tree, for comparing trees.
pub(crate) fn entries(tree: &Path) -> Vec<Entry> {
    let scanned = canonical_tar::scan(tree, EPOCH).unwrap();
    scanned.entries().collect()
}

/// A small tree with everything that an image can have.
pub(crate) fn example(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tool"), noise(1, 700_000)).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool2")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("hello"), b"hello\n").unwrap();
    fs::write(root.join("hello-again"), b"hello\n").unwrap();
    let name = "user.note";
    rustix::fs::lsetxattr(
        root.join("hello"),
        name,
        b"x",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

/// Publishes a tree together with a manifest.
pub(crate) fn publish(store: &WritableStore, tree: &Path) -> Manifest {
    let manifest = manifest(&store.publish_tree(tree, EPOCH, &|_| {}).unwrap());
    store.put_manifest(&manifest).unwrap();
    manifest
}

/// A manifest for what was published.
pub(crate) fn manifest(published: &Published) -> Manifest {
    Manifest {
        schema: store::manifest::SCHEMA,
        name: "example".parse().unwrap(),
        image: published.image,
        sha256: published.sha256,
        size: published.size,
        entries: published.entries,
        layout: published.layout.clone(),
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch: EPOCH,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: published.setuid.clone(),
        xattrs: published.xattrs.clone(),
        recipe: Sha256::of(b"recipe"),
        lock: Sha256::of(b"lock"),
        builder: "test".into(),
        run: None,
    }
}

/// The canonical tar of an image.
pub(crate) fn tar_of(store: &WritableStore, manifest: &Manifest) -> Vec<u8> {
    let mut tar = Vec::new();
    store
        .store()
        .image(manifest)
        .unwrap()
        .copy_tar(&mut tar)
        .unwrap();
    tar
}

/// Unpacks a tar with the system's tar, as its manual says to.
pub(crate) fn unpack(tar: &[u8], into: &Path) {
    let file = into.with_extension("tar");
    fs::write(&file, tar).unwrap();
    let output = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--file",
        ])
        .arg(&file)
        .arg("--directory")
        .arg(into)
        .output()
        .expect("tar is needed: apt-get install tar");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && messages.is_empty(),
        "tar: {messages}"
    );
}

/// Every file below a directory, sorted.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A store with one image, and the tree that it was made from.
pub(crate) struct Example {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: WritableStore,
    pub(crate) manifest: Manifest,
}

impl Example {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        example(&dir.path().join("tree"));
        let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
        let manifest = publish(&store, &dir.path().join("tree"));
        Self {
            dir,
            store,
            manifest,
        }
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> &Path {
        self.store.directory().unwrap()
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(crate) fn read(&self) -> Store {
        Store::open(Box::new(LocalReader::open(self.root()).unwrap())).unwrap()
    }

    /// The only file of this extension in a folder of the store.
    pub(crate) fn object(&self, extension: &str) -> PathBuf {
        let mut found = files(self.root());
        found.retain(|path| path.extension().is_some_and(|found| found == extension));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

/// What a release does before it signs: every byte of an image, and each object
/// that it is in.
pub(crate) fn check_everything(read: &Store, manifest: &Manifest) -> Result<()> {
    Store::open(Box::new(LocalReader::open(read.backend().describe())?))?;
    if read.manifest(&manifest.image)? != *manifest {
        return Err(store::Error::new(ErrorKind::Corrupt, "another manifest"));
    }
    read.verify_image(manifest)?;
    read.verify_objects(manifest)
}

/// A check of every byte, by a machine that has verified nothing before.
pub(crate) const EVERYTHING: Depth<'static> = Depth::Whole {
    verified: None,
    anew: false,
};

/// A check without content, or of every byte.
pub(crate) fn depth(quick: bool) -> Depth<'static> {
    if quick { Depth::Quick } else { EVERYTHING }
}
