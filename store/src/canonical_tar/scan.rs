//! From a tree to the sorted list of its entries.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::Metadata;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use super::changes::{Change, Changes};
use super::list::{EntryList, Position};
use super::path::MAX_DEPTH;
use super::seal::TreeSeal;
use super::{Entry, Error, ErrorKind, Kind, MAX_ENTRIES, is_installable, order, xattr};
use crate::digest::Blake3;
use crate::error::{Error as StoreError, Result};
use crate::sharded::Sharded;

/// The entries of a tree, and how to notice that a file changed since.
#[derive(Debug)]
pub struct Scanned {
    /// The place of a file is its stamp.
    pub(crate) list: EntryList,
    /// What is the same again only for the same tree, unchanged.
    pub(crate) seal: Option<Blake3>,
}

impl Scanned {
    /// The entries, as they will stand in the tar.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.list.iter().map(|listed| listed.entry)
    }
}

/// What `lstat` says about a file that must stay the same while it is read, as one number:
/// a tree may have a million files.
///
/// The change time is the one thing that no program can set back: a file that was
/// written, renamed over or given another owner has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp(u64);

impl FileStamp {
    /// The stamp of a file.
    pub(crate) fn of(meta: &Metadata) -> Self {
        /// The key is this process's own: nobody can look for two states with one stamp.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let (device, inode) = (meta.dev(), meta.ino());
        let modified = (meta.mtime(), meta.mtime_nsec());
        let changed = (meta.ctime(), meta.ctime_nsec());
        let state = (device, inode, meta.size(), meta.mode(), modified, changed);
        Self(KEY.hash_one(state))
    }

    /// The stamp that was noted in a list.
    pub(crate) const fn noted(place: u64) -> Self {
        Self(place)
    }
}

/// Walks `root` and returns its entries in canonical order.
///
/// No file's content is read. Times later than `epoch` become `epoch`, fractions
/// of a second are dropped, times before 1970 become 1970. Names with the same
/// device and inode are hard links of the first of them; on an overlay file
/// system, too, two names have the same pair only if they are one file.
pub fn scan(root: &Path, epoch: u64) -> Result<Scanned> {
    walk(root, Some(epoch), None, SystemTime::now())
}

/// The same for a tree that was not made to be an image: what no image can have is
/// left out, and noted in `changes` instead of refused.
pub(crate) fn scan_lenient(
    root: &Path,
    epoch: Option<u64>,
    changes: &mut Changes,
) -> Result<Scanned> {
    walk(root, epoch, Some(changes), SystemTime::now())
}

/// The scan of a tree that was finished long before.
#[cfg(test)]
pub(crate) fn scan_settled(root: &Path, epoch: u64) -> Result<Scanned> {
    let later = SystemTime::now() + std::time::Duration::from_secs(3600);
    walk(root, Some(epoch), None, later)
}

fn walk(
    root: &Path,
    epoch: Option<u64>,
    changes: Option<&mut Changes>,
    now: SystemTime,
) -> Result<Scanned> {
    let mut scanner = Scanner {
        root,
        epoch,
        changes,
        list: EntryList::default(),
        inodes: Sharded::default(),
        buffer: Vec::new(),
        seal: TreeSeal::begin(root, now),
    };
    scanner.visit(PathBuf::new())?;
    let (list, seal) = (scanner.list, scanner.seal);
    let seal = seal.and_then(TreeSeal::finish);
    Ok(Scanned { list, seal })
}

struct Scanner<'a> {
    root: &'a Path,
    epoch: Option<u64>,
    /// Where changes are noted, if they are allowed.
    changes: Option<&'a mut Changes>,
    list: EntryList,
    /// The first name of each file, by device and inode.
    inodes: Sharded<(u64, u64), Position>,
    buffer: Vec<u8>,
    seal: Option<TreeSeal>,
}

impl Scanner<'_> {
    /// Visits `top` and everything below it in canonical order, with a list instead of
    /// recursion: the depth is the tree's choice, the stack is ours.
    fn visit(&mut self, top: PathBuf) -> Result<()> {
        let mut pending = vec![(top, true, 0)];
        while let Some((relative, directory, depth)) = pending.pop() {
            let path = if depth == 0 {
                self.root.to_owned()
            } else {
                self.root.join(&relative)
            };
            let meta = path
                .symlink_metadata()
                .map_err(|error| gone(&path, error))?;
            // Its place in the order is that of what the directory said it is.
            if depth > 0 && meta.is_dir() != directory {
                return Err(changed(relative.as_os_str().as_bytes()));
            }
            self.push(&relative, &path, &meta)?;
            if !meta.is_dir() {
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(Error::on(ErrorKind::TooDeep, relative.as_os_str().as_bytes()).into());
            }
            let mut children = Vec::new();
            for child in path.read_dir().map_err(|error| gone(&path, error))? {
                let child = child.map_err(|error| gone(&path, error))?;
                let kind = child.file_type();
                let kind = kind.map_err(|error| gone(&child.path(), error))?;
                children.push((child.file_name(), kind.is_dir()));
            }
            // Backwards, as the last one is visited first.
            children.sort_unstable_by(|(a, directory), (b, other)| {
                order((b.as_bytes(), *other), (a.as_bytes(), *directory))
            });
            let children = children.into_iter();
            pending.extend(children.map(|(name, kind)| (relative.join(name), kind, depth + 1)));
        }
        Ok(())
    }

    fn push(&mut self, relative: &Path, path: &Path, meta: &Metadata) -> Result<()> {
        let name = relative.as_os_str().as_bytes().to_vec();
        let kind = meta.file_type();
        if relative.as_os_str().is_empty() && !kind.is_dir() {
            return Err(Error::on(ErrorKind::MissingRoot, b"").into());
        }
        if self.list.len() >= MAX_ENTRIES {
            return Err(Error::on(ErrorKind::TooManyEntries, &name).into());
        }
        let mut mode = meta.mode() & 0o7777;
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::File { size: meta.size() }
        } else if kind.is_symlink() {
            mode = 0o777;
            let target = path.read_link().map_err(|error| gone(path, error))?;
            Kind::Symlink {
                target: OsString::from(target).into_vec(),
            }
        } else {
            let change = if kind.is_block_device() || kind.is_char_device() {
                Change::Device
            } else if kind.is_fifo() {
                Change::Fifo
            } else if kind.is_socket() {
                Change::Socket
            } else {
                return Err(Error::on(ErrorKind::UnknownType, &name).into());
            };
            return match &mut self.changes {
                Some(changes) => {
                    changes.add(change, &name);
                    Ok(())
                }
                None => Err(Error::on(ErrorKind::Device, &name).into()),
            };
        };
        let mut xattrs = xattr::read(path, &mut self.buffer).map_err(|error| gone(path, error))?;
        let mtime = (meta.mtime(), meta.mtime_nsec() != 0);
        let installable = |(xattr, value): (&Vec<u8>, &Vec<u8>)| {
            super::is_xattr_name(xattr) && is_installable(xattr, value, &kind, mode)
        };
        let mtime = if let Some(changes) = &mut self.changes {
            xattrs.retain(|xattr, value| {
                let keep = installable((xattr, value));
                if !keep {
                    changes.add(Change::Xattr, &name);
                }
                keep
            });
            changes.time(mtime, self.epoch, &name)
        } else if xattrs.iter().all(installable) {
            Changes::default().time(mtime, self.epoch, &name)
        } else {
            return Err(Error::on(ErrorKind::Xattr, &name).into());
        };
        let entry = Entry {
            path: name,
            kind,
            mode,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime,
            xattrs,
        };
        self.add(entry, meta)
    }

    /// Adds an entry; every name of a file but its first is a hard link.
    fn add(&mut self, mut entry: Entry, meta: &Metadata) -> Result<()> {
        if let Some(seal) = &mut self.seal {
            seal.add(&entry, meta);
        }
        let FileStamp(stamp) = FileStamp::of(meta);
        let inode = (meta.dev(), meta.ino());
        if !matches!(entry.kind, Kind::File { .. }) {
            self.list.push(&entry, 0, None);
        } else if let Some(&first) = self.inodes.get(&inode) {
            // One inode has one change time. Two mean that the tree is being written
            // to, or that a file system reports one number for two files.
            if self.list.get(first).place != stamp {
                return Err(changed(&entry.path));
            }
            entry.xattrs.clear();
            self.list.push(&entry, 0, Some(first));
        } else {
            let position = self.list.push(&entry, stamp, None);
            self.inodes.insert(inode, position);
        }
        Ok(())
    }
}

/// The error for a file that is not what it was a moment ago.
pub(crate) fn changed(path: &[u8]) -> StoreError {
    let path = super::display(path);
    StoreError::new(
        crate::error::ErrorKind::Changed,
        format!("{path} changed while the tree was read"),
    )
}

/// A file that was listed and is not there is a tree that changes.
fn gone(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => changed(path.as_os_str().as_bytes()).with_source(error),
        _ => StoreError::io("read", path, error),
    }
}
