//! What must hold between the entries of one tree.
//!
//! With these rules a tar can be unpacked in order, each entry by one call on a
//! path that does not exist yet, inside directories that were made by the same
//! tar. Nothing can be written through a symlink, nothing is replaced, and a hard
//! link can reach nothing but a file of this image.

use std::collections::HashMap;

use super::entry::order;
use super::{Entry, ErrorKind, Kind, MAX_ENTRIES, path};

/// The rules, and what they need to remember.
#[derive(Debug, Default)]
pub(super) struct Rules {
    last: Option<(Vec<u8>, bool)>,
    seen: HashMap<Vec<u8>, Seen>,
}

#[derive(Debug)]
enum Seen {
    Directory,
    File(Owner),
    Other,
}

/// What a further hard link must repeat.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
}

impl Rules {
    /// Lets the next entry in, or says why not.
    pub(super) fn admit(&mut self, entry: &Entry) -> Result<(), ErrorKind> {
        match &self.last {
            None if entry.path.is_empty() && entry.kind == Kind::Directory => {}
            None => return Err(ErrorKind::MissingRoot),
            // A file and a directory of one name are two places in the order.
            Some(_) if self.seen.contains_key(&entry.path) => return Err(ErrorKind::Duplicate),
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
            match self.seen.get(parent) {
                Some(Seen::Directory) => {}
                Some(Seen::File(_) | Seen::Other) => return Err(ErrorKind::ParentNotDirectory),
                None => return Err(ErrorKind::MissingParent),
            }
        }
        let owner = Owner {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
        };
        let seen = match &entry.kind {
            Kind::Directory => Seen::Directory,
            Kind::File { .. } => Seen::File(owner),
            Kind::Symlink { .. } => Seen::Other,
            Kind::Hardlink { target } => match self.seen.get(target) {
                None => return Err(ErrorKind::HardlinkMissing),
                Some(Seen::Directory | Seen::Other) => return Err(ErrorKind::HardlinkTarget),
                Some(Seen::File(first)) if *first != owner => return Err(ErrorKind::HardlinkOwner),
                Some(Seen::File(_)) => Seen::Other,
            },
        };
        self.seen.insert(entry.path.clone(), seen);
        self.last = Some((entry.path.clone(), entry.kind == Kind::Directory));
        Ok(())
    }

    /// How many entries were let in.
    pub(super) fn entries(&self) -> u64 {
        self.seen.len() as u64
    }
}
