//! The entries of a tree, in as little memory as a list of a million allows.
//!
//! An [`Entry`] takes 104 bytes and its path, and a tree may have a million of them while
//! it is packed. So they lie one after the other as bytes, each with its name and where
//! the directory is that it is in: about 30 bytes and the name. A path is put together
//! again when it is asked for.
//!
//! ```text
//! entry    bytes back to its directory, name, kind, mode, uid, gid, mtime, of the kind, xattrs
//! file     size, place (8 bytes)
//! symlink  target
//! link     bytes back to the first name of the file
//! ```
//! Numbers are LEB128, names and values have their length before them.

use super::{Entry, Kind, path};

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const SYMLINK: u8 = 2;
const HARDLINK: u8 = 3;
/// Beside the kind: there are extended attributes.
const XATTRS: u8 = 4;

/// Entries in canonical order.
#[derive(Debug, Default)]
pub(crate) struct EntryList {
    bytes: Vec<u8>,
    len: u64,
    /// The directories that the entry added last is in, and it itself if it is one: where
    /// each is, and how long its path is.
    open: Vec<(usize, usize)>,
}

/// Where an entry of a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position(usize);

/// An entry of a list.
#[derive(Debug)]
pub(crate) struct ListedEntry {
    /// The entry.
    pub(crate) entry: Entry,
    /// What was noted about the content of a file; of anything else it is 0.
    pub(crate) place: u64,
}

impl EntryList {
    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Adds the next entry in canonical order; its directory is there already. `place` is
    /// kept for a file. The target of a hard link is `first`, whatever the entry says.
    pub(crate) fn push(&mut self, entry: &Entry, place: u64, first: Option<Position>) -> Position {
        let here = self.bytes.len();
        let parent = path::parent(&entry.path);
        // Canonical order is depth first, so what is open is what the entry can be in.
        let len = parent.map_or(0, <[u8]>::len);
        while self.open.last().is_some_and(|(_, open)| *open > len) {
            self.open.pop();
        }
        let (directory, _) = self.open.last().copied().unwrap_or((here, 0));
        self.number((here - directory) as u64);
        let start = if len == 0 { 0 } else { len + 1 };
        self.text(&entry.path[start.min(entry.path.len())..]);
        let kind = match (&entry.kind, first) {
            (_, Some(_)) | (Kind::Hardlink { .. }, None) => HARDLINK,
            (Kind::Directory, _) => DIRECTORY,
            (Kind::File { .. }, _) => FILE,
            (Kind::Symlink { .. }, _) => SYMLINK,
        };
        let xattrs = if entry.xattrs.is_empty() { 0 } else { XATTRS };
        self.bytes.push(kind | xattrs);
        for number in [entry.mode, entry.uid, entry.gid] {
            self.number(number.into());
        }
        self.number(entry.mtime);
        match (&entry.kind, first) {
            (_, Some(Position(first))) => self.number((here - first) as u64),
            (Kind::File { size }, None) => {
                self.number(*size);
                self.bytes.extend_from_slice(&place.to_le_bytes());
            }
            (Kind::Symlink { target }, None) => self.text(target),
            (Kind::Directory, None) => self.open.push((here, entry.path.len())),
            (Kind::Hardlink { .. }, None) => self.number(0),
        }
        if xattrs != 0 {
            self.number(entry.xattrs.len() as u64);
            for (name, value) in &entry.xattrs {
                self.text(name);
                self.text(value);
            }
        }
        self.len += 1;
        Position(here)
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    /// The path of an entry.
    pub(crate) fn path(&self, position: Position) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = position.0;
        loop {
            let mut input = Input {
                bytes: &self.bytes,
                at,
            };
            let back = input.number() as usize;
            if back == 0 {
                break;
            }
            names.push(input.text());
            at -= back;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The entry at a position.
    pub(crate) fn get(&self, position: Position) -> ListedEntry {
        let path = self.path(position);
        let mut input = Input {
            bytes: &self.bytes,
            at: position.0,
        };
        input.number();
        input.text();
        self.rest(&mut input, position.0, path)
    }

    /// All entries, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ListedEntry> + '_ {
        let mut input = Input {
            bytes: &self.bytes,
            at: 0,
        };
        // As in `open`: the directories that the entry is in.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut directory: Vec<u8> = Vec::new();
        std::iter::from_fn(move || {
            if input.at == self.bytes.len() {
                return None;
            }
            let here = input.at;
            let parent = here - input.number() as usize;
            while open.last().is_some_and(|(at, _)| *at != parent) {
                open.pop();
            }
            directory.truncate(open.last().map_or(0, |(_, len)| *len));
            let name = input.text();
            let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
            path.extend_from_slice(&directory);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let listed = self.rest(&mut input, here, path);
            if listed.entry.kind == Kind::Directory {
                directory.clone_from(&listed.entry.path);
                open.push((here, directory.len()));
            }
            Some(listed)
        })
    }

    /// What follows an entry's name.
    fn rest(&self, input: &mut Input<'_>, here: usize, path: Vec<u8>) -> ListedEntry {
        let tag = input.byte();
        let mode = input.number() as u32;
        let uid = input.number() as u32;
        let gid = input.number() as u32;
        let mtime = input.number();
        let mut place = 0;
        let kind = match tag & !XATTRS {
            DIRECTORY => Kind::Directory,
            FILE => {
                let size = input.number();
                place = u64::from_le_bytes(std::array::from_fn(|_| input.byte()));
                Kind::File { size }
            }
            SYMLINK => Kind::Symlink {
                target: input.text().to_vec(),
            },
            _ => Kind::Hardlink {
                target: self.path(Position(here - input.number() as usize)),
            },
        };
        let xattrs = if tag & XATTRS == 0 { 0 } else { input.number() };
        let xattrs = (0..xattrs).map(|_| (input.text().to_vec(), input.text().to_vec()));
        let entry = Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs: xattrs.collect(),
        };
        ListedEntry { entry, place }
    }
}

/// Bytes of a list, read from a position on. They are this process's own, so they are
/// what was written.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> &'a [u8] {
        let len = self.number() as usize;
        self.at += len;
        &self.bytes[self.at - len..self.at]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode: 0o4755,
            uid: 1000,
            gid: u32::MAX,
            mtime: u64::MAX,
            xattrs: BTreeMap::new(),
        }
    }

    #[test]
    fn entries_come_as_they_went() {
        let file = |size| Kind::File { size };
        let target = b"/usr/bin".to_vec();
        let mut entries = vec![
            entry("", Kind::Directory),
            entry("a", Kind::Directory),
            entry("a/b", Kind::Directory),
            entry("a/b/c", file(u64::MAX)),
            entry("a/d", Kind::Symlink { target }),
            // Not below `a`, though it begins like it.
            entry("a0", file(0)),
            entry("e", Kind::Directory),
            entry("e/f", Kind::Directory),
            entry("g", file(7)),
        ];
        entries[3].xattrs.insert(b"user.x".into(), vec![0; 300]);
        entries[7].xattrs.insert(b"user.y".into(), vec![]);
        let mut list = EntryList::default();
        let mut positions = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            positions.push(list.push(entry, place as u64, None));
        }
        // A further name of a file.
        list.push(&entry("h", file(1)), 1, Some(positions[3]));
        let target = b"a/b/c".to_vec();
        entries.push(entry("h", Kind::Hardlink { target }));

        assert_eq!(list.len(), 10);
        let found: Vec<ListedEntry> = list.iter().collect();
        let places: Vec<u64> = found.iter().map(|listed| listed.place).collect();
        assert_eq!(places, [0, 0, 0, 3, 0, 5, 0, 0, 8, 0]);
        let found: Vec<Entry> = found.into_iter().map(|listed| listed.entry).collect();
        assert_eq!(found, entries);
        for (position, entry) in positions.into_iter().zip(&entries) {
            assert_eq!(list.path(position), entry.path);
            assert_eq!(list.get(position).entry, *entry);
        }
    }
}
