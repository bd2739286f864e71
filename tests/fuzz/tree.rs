//! Any entries in any order: the reader of tars accepts those that the page allows
//! and no others, and so does the reader of layouts.

use std::collections::BTreeMap;

use store::Blake3;
use store::canonical_tar::{self, Entry, Kind, encode};
use store::chunk::ChunkRef;

use crate::{oracle, tar};

pub(crate) fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut entries = choices.entries();
    for entry in &entries {
        let written = encode(entry);
        assert_eq!(written.is_ok(), oracle::entry(entry), "{entry:?}");
        if let Ok(header) = written {
            alone(entry, &header);
        }
    }
    entries.retain(|entry| encode(entry).is_ok());
    let allowed = oracle::tree(&entries);
    as_layout(&entries, allowed);
    as_tar(entries, allowed);
}

/// A header by itself is read as what was written. Only the root stands alone, so
/// what is behind it may be refused for the place, but not for the form.
fn alone(entry: &Entry, header: &[u8]) {
    let root = encode(&directory(Vec::new())).expect("the root");
    let bytes = [root, header.to_vec()].concat();
    let mut reader = canonical_tar::Reader::new(&bytes[..]);
    reader.next_entry().expect("the root");
    match reader.next_entry() {
        Ok(Some(read)) => assert_eq!(read, *entry),
        Ok(None) => panic!("an entry is no end"),
        Err(error) => assert!(
            matches!(
                error.kind(),
                canonical_tar::ErrorKind::MissingParent
                    | canonical_tar::ErrorKind::Duplicate
                    | canonical_tar::ErrorKind::HardlinkMissing
                    | canonical_tar::ErrorKind::HardlinkTarget
            ),
            "{error}: {entry:?}"
        ),
    }
}

fn as_tar(mut entries: Vec<Entry>, allowed: bool) {
    let mut bytes = Vec::new();
    for entry in &mut entries {
        if let Kind::File { size } = &mut entry.kind {
            *size %= 2000;
        }
        bytes.extend(encode(entry).expect("it could be written before"));
        bytes.resize(bytes.len() + entry.size() as usize, b'x');
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    match tar::read(&bytes) {
        Ok(read) => {
            let read: Vec<Entry> = read.into_iter().map(|(entry, _)| entry).collect();
            assert_eq!(read, entries);
            assert!(allowed, "accepted: {entries:?}");
        }
        Err(error) => assert!(!allowed, "{error}: {entries:?}"),
    }
}

fn as_layout(entries: &[Entry], allowed: bool) {
    let layout = layout(entries, |size| {
        let chunk = |len: u64| ChunkRef::new(Blake3::of(&len.to_le_bytes()), len as u32);
        let pieces = (0..size).step_by(store::chunk::MAX);
        let cut = |at: u64| chunk((size - at).min(store::chunk::MAX as u64));
        // A huge file would need a huge layout.
        pieces.take(64).filter_map(cut).collect()
    });
    let huge = entries
        .iter()
        .any(|entry| entry.size() > 64 * store::chunk::MAX as u64);
    assert_eq!(store::fuzz::layout(&layout).is_some(), allowed && !huge);
}

/// The layout of entries, each file's references given by its size.
pub(crate) fn layout(entries: &[Entry], chunks: impl Fn(u64) -> Vec<ChunkRef>) -> Vec<u8> {
    let mut bytes = b"imglyt\x00\x01".to_vec();
    for entry in entries {
        bytes.extend(encode(entry).expect("an entry"));
        for chunk in chunks(entry.size()) {
            bytes.extend(chunk.digest().bytes());
            bytes.extend(chunk.len().to_le_bytes());
        }
    }
    bytes.extend([0; 1024]);
    bytes
}

/// A directory of root's.
pub(crate) fn directory(path: Vec<u8>) -> Entry {
    Entry {
        path,
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    }
}

/// Bytes that decide between a few alternatives each, most of them at the borders
/// of what is allowed.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn of<T: Clone>(&mut self, alternatives: &[T]) -> T {
        alternatives[usize::from(self.byte()) % alternatives.len()].clone()
    }

    fn entries(&mut self) -> Vec<Entry> {
        let how = self.byte();
        let mut entries = Vec::new();
        if how & 1 == 0 {
            entries.push(directory(Vec::new()));
        }
        while !self.0.is_empty() && entries.len() < 24 {
            let entry = self.entry();
            entries.push(entry);
        }
        if how & 2 == 0 {
            add_parents(&mut entries);
        }
        if how & 4 == 0 {
            entries.sort_by_key(oracle::spelled);
        }
        if how & 8 == 0 {
            let mut seen = std::collections::BTreeSet::new();
            entries.retain(|entry| seen.insert(entry.path.clone()));
        }
        entries
    }

    fn entry(&mut self) -> Entry {
        let size = self.of(&[0, 1, 511, 512, 513, 262_144, 262_145, 1 << 33, 1 << 63]);
        let path = self.path();
        let kind = match self.byte() % 8 {
            0..=2 => Kind::File { size },
            3 | 4 => Kind::Directory,
            5 => Kind::Symlink {
                target: match self.byte() % 5 {
                    0 => Vec::new(),
                    1 => vec![b't'; 100],
                    2 => vec![b't'; 101],
                    3 => vec![b't'; 4096],
                    _ => self.path(),
                },
            },
            _ => Kind::Hardlink {
                target: self.path(),
            },
        };
        let plain = !self.byte().is_multiple_of(4);
        let mode = match kind {
            Kind::Symlink { .. } if plain => 0o777,
            _ if plain => 0o644,
            _ => self.of(&[0, 0o777, 0o4755, 0o7777, 0o10_000, u32::MAX]),
        };
        let mut number = |numbers: &[u64]| if plain { 0 } else { self.of(numbers) };
        let id = [0, 1000, 0o777_7777, 0o1000_0000, u64::from(u32::MAX)];
        let (uid, gid) = (number(&id) as u32, number(&id) as u32);
        let mtime = number(&[0, 1, 8_u64.pow(11) - 1, 8_u64.pow(11), u64::MAX]);
        let mut xattrs = BTreeMap::new();
        for _ in 0..self.byte().saturating_sub(252) {
            let name = self.of(&[
                "user.a",
                "user.a=b",
                "user.a%b",
                "user.\n",
                "",
                "security.capability",
                "trusted.overlay.opaque",
                "security.ima",
                "system.posix_acl_access",
            ]);
            let long = self.byte();
            let name = name.repeat(if long == 7 { 50 } else { 1 });
            let value = (0..long % 40).map(|_| self.byte()).collect();
            xattrs.insert(name.into_bytes(), value);
        }
        Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }
    }

    fn path(&mut self) -> Vec<u8> {
        let depth = self.byte();
        let depth = if depth < 250 { depth % 4 + 1 } else { depth };
        let segments = (0..depth).map(|_| match self.byte() {
            long @ 200..=254 => vec![b'n'; usize::from(long) + 2],
            255 => vec![0],
            other => {
                let words = [
                    "a", "b", "c", "a-", "a.", "-", "..a", ".", "..", "", "\u{fc}\n",
                ];
                words[usize::from(other) % words.len()].into()
            }
        });
        let segments: Vec<Vec<u8>> = segments.collect();
        segments.join(&b'/')
    }
}

/// Adds the directories that entries are in and that are not there.
fn add_parents(entries: &mut Vec<Entry>) {
    for at in 0..entries.len() {
        let path = entries[at].path.clone();
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &path[..end];
            if !entries.iter().any(|entry| entry.path == parent) {
                entries.push(directory(parent.to_vec()));
            }
        }
    }
}
