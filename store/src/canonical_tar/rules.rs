//! What must hold between the entries of one tree.
//!
//! With these rules a tar can be unpacked in order, each entry by one call on a
//! path that does not exist yet, inside directories that were made by the same
//! tar. Nothing can be written through a symlink, nothing is replaced, and a hard
//! link can reach nothing but a file of this image.

use std::hash::{BuildHasher, RandomState};

use super::entry::order;
use super::{Entry, ErrorKind, Kind, MAX_ENTRIES, path};
use crate::sharded::Sharded;

/// The rules, and what they need to remember.
#[derive(Debug, Default)]
pub(super) struct Rules {
    last: Option<(Vec<u8>, bool)>,
    seen: Sharded<Name, Seen>,
    names: Names,
}

/// A path, in as little memory as it takes to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name([u8; 16]);

/// Makes names of paths. A million paths of four thousand bytes each are a small
/// file when they are compressed, so they are not kept. The key is this process's
/// own: nobody can look for two paths with one name beforehand.
#[derive(Debug)]
struct Names {
    key: [u8; 32],
    owners: RandomState,
}

impl Default for Names {
    fn default() -> Self {
        // The kernel's random numbers are behind this.
        let owners = RandomState::new();
        let mut key = [0; 32];
        for (part, bytes) in key.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&owners.hash_one(part).to_le_bytes());
        }
        Self { key, owners }
    }
}

impl Names {
    fn of(&self, path: &[u8]) -> Name {
        let mut name = [0; 16];
        name.copy_from_slice(&blake3::keyed_hash(&self.key, path).as_bytes()[..16]);
        Name(name)
    }

    /// What a further hard link must repeat.
    fn owner(&self, entry: &Entry) -> u64 {
        self.owners
            .hash_one((entry.mode, entry.uid, entry.gid, entry.mtime))
    }
}

/// What has a name: a directory, a file with its [`Names::owner`], or anything else. It
/// is one number, as an `enum` would take twice as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen(u64);

impl Seen {
    const DIRECTORY: Self = Self(0);
    const OTHER: Self = Self(1);

    fn file(owner: u64) -> Self {
        Self(owner | 2)
    }

    fn is_file(self) -> bool {
        self.0 & 2 != 0
    }
}

/// A million entries take 33 MB of tables; a node has 128 for everything.
const _: () = assert!(size_of::<(Name, Seen)>() == 24);

impl Rules {
    /// Lets the next entry in, or says why not.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<(), ErrorKind> {
        let name = self.names.of(&entry.path);
        match &self.last {
            None if entry.path.is_empty() && entry.kind == Kind::Directory => {}
            None => return Err(ErrorKind::MissingRoot),
            // A file and a directory of one name are two places in the order.
            Some(_) if self.seen.get(&name).is_some() => return Err(ErrorKind::Duplicate),
            Some((path, directory)) => {
                let here = (entry.path.as_slice(), entry.kind == Kind::Directory);
                if order(here, (path, *directory)).is_lt() {
                    return Err(ErrorKind::Unsorted);
                }
            }
        }
        if self.seen.len() as u64 >= MAX_ENTRIES {
            return Err(ErrorKind::TooManyEntries);
        }
        if let Some(parent) = path::parent(&entry.path) {
            match self.seen.get(&self.names.of(parent)) {
                Some(&Seen::DIRECTORY) => {}
                Some(_) => return Err(ErrorKind::ParentNotDirectory),
                None => return Err(ErrorKind::MissingParent),
            }
        }
        let file = Seen::file(self.names.owner(entry));
        let seen = match &entry.kind {
            Kind::Directory => Seen::DIRECTORY,
            Kind::File { .. } => file,
            Kind::Symlink { .. } => Seen::OTHER,
            Kind::Hardlink { target } => match self.seen.get(&self.names.of(target)) {
                None => return Err(ErrorKind::HardlinkMissing),
                Some(first) if !first.is_file() => return Err(ErrorKind::HardlinkTarget),
                Some(first) if *first != file => return Err(ErrorKind::HardlinkOwner),
                Some(_) => Seen::OTHER,
            },
        };
        self.seen.insert(name, seen);
        self.last = Some((entry.path.clone(), entry.kind == Kind::Directory));
        Ok(())
    }

    /// How many entries were let in.
    pub(super) fn entries(&self) -> u64 {
        self.seen.len() as u64
    }
}
