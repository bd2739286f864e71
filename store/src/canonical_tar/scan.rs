//! From a tree to the sorted list of its entries.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::changes::{Change, Changes};
use super::path::MAX_DEPTH;
use super::{Entry, Error, ErrorKind, Kind, MAX_ENTRIES, is_installable, xattr};
use crate::error::{Error as StoreError, Result};

/// An entry of a tree, and how to notice that its file changed since.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The entry, as it will stand in the tar.
    pub entry: Entry,
    /// The file's state when it was scanned.
    pub stamp: FileStamp,
}

/// What `lstat` says about a file that must stay the same while it is read.
///
/// The change time is the one thing that no program can set back: a file that was
/// written, renamed over or given another owner has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// The stamp of a file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Walks `root` and returns its entries in canonical order.
///
/// No file's content is read. Times later than `epoch` become `epoch`, fractions
/// of a second are dropped, times before 1970 become 1970. Names with the same
/// device and inode are hard links of the first of them; on an overlay file
/// system, too, two names have the same pair only if they are one file.
pub fn scan(root: &Path, epoch: u64) -> Result<Vec<Scanned>> {
    walk(root, Some(epoch), None)
}

/// The same for a tree that was not made to be an image: what no image can have is
/// left out, and noted in `changes` instead of refused.
pub(crate) fn scan_lenient(
    root: &Path,
    epoch: Option<u64>,
    changes: &mut Changes,
) -> Result<Vec<Scanned>> {
    walk(root, epoch, Some(changes))
}

fn walk(root: &Path, epoch: Option<u64>, changes: Option<&mut Changes>) -> Result<Vec<Scanned>> {
    let mut scanner = Scanner {
        root,
        epoch,
        changes,
        entries: Vec::new(),
        buffer: Vec::new(),
    };
    scanner.visit(PathBuf::new())?;
    let mut entries = scanner.entries;
    entries.sort_unstable_by(|a, b| a.entry.order(&b.entry));
    link(&mut entries)?;
    Ok(entries)
}

struct Scanner<'a> {
    root: &'a Path,
    epoch: Option<u64>,
    /// Where changes are noted, if they are allowed.
    changes: Option<&'a mut Changes>,
    entries: Vec<Scanned>,
    buffer: Vec<u8>,
}

impl Scanner<'_> {
    /// Visits `top` and everything below it, with a list instead of recursion: the
    /// depth is the tree's choice, the stack is ours.
    fn visit(&mut self, top: PathBuf) -> Result<()> {
        let mut pending = vec![(top, 0)];
        while let Some((relative, depth)) = pending.pop() {
            let path = if depth == 0 {
                self.root.to_owned()
            } else {
                self.root.join(&relative)
            };
            let meta = path
                .symlink_metadata()
                .map_err(|error| gone(&path, error))?;
            self.push(&relative, &path, &meta)?;
            if !meta.is_dir() {
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(Error::on(ErrorKind::TooDeep, relative.as_os_str().as_bytes()).into());
            }
            for child in path.read_dir().map_err(|error| gone(&path, error))? {
                let child = child.map_err(|error| gone(&path, error))?;
                pending.push((relative.join(child.file_name()), depth + 1));
            }
        }
        Ok(())
    }

    fn push(&mut self, relative: &Path, path: &Path, meta: &Metadata) -> Result<()> {
        let name = relative.as_os_str().as_bytes().to_vec();
        let kind = meta.file_type();
        if relative.as_os_str().is_empty() && !kind.is_dir() {
            return Err(Error::on(ErrorKind::MissingRoot, b"").into());
        }
        if self.entries.len() as u64 >= MAX_ENTRIES {
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
        self.entries.push(Scanned {
            entry,
            stamp: FileStamp::of(meta),
        });
        Ok(())
    }
}

/// Turns every name of a file but its first into a hard link.
fn link(entries: &mut [Scanned]) -> Result<()> {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    for index in 0..entries.len() {
        if !matches!(entries[index].entry.kind, Kind::File { .. }) {
            continue;
        }
        let stamp = entries[index].stamp;
        let Some(&earlier) = first.get(&(stamp.device, stamp.inode)) else {
            first.insert((stamp.device, stamp.inode), index);
            continue;
        };
        // One inode has one change time. Two mean that the tree is being written
        // to, or that a file system reports one number for two files.
        if entries[earlier].stamp != stamp {
            return Err(changed(&entries[index].entry.path));
        }
        let target = entries[earlier].entry.path.clone();
        let entry = &mut entries[index].entry;
        entry.kind = Kind::Hardlink { target };
        entry.xattrs.clear();
    }
    Ok(())
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
