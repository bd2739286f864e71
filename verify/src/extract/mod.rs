//! Writing an image's tree.
//!
//! What arrives is a sequence of entries in canonical order, each followed by its content, already
//! verified by digest. It was signed, and it is still treated as if an enemy had written it, because
//! a signature says who made a tree and not that it is harmless:
//!
//! - The destination is a fresh, empty, private directory. Nothing in it existed before, so nothing
//!   is ever replaced, opened for a second time or followed: creation is exclusive, parents are
//!   resolved beneath the root without symbolic links (see `beneath`).
//! - A hard link is made only to a regular file that this extraction wrote, and changes neither its
//!   owner nor its mode.
//! - Owner, extended attributes, mode and time are set in this order, because a change of owner
//!   clears set-id bits and capabilities; on open files, or without following links.
//! - Directories stay 0700 and ours until everything below them is written; then they get what the
//!   image says, deepest first. Neither the umask nor the parent's set-group-id bit matters.
//! - Modes with set-id bits and extended attributes that the manifest does not list are refused
//!   before anything is created for them.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, lsetxattr, mkdirat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use store::canon::{self, Entry, Kind};

use crate::beneath::{self, Parents};
use crate::error::{Error, Result};

/// Decides which privileged entries an image may have; the manifest's `privileges`.
pub type Privilege<'a> = &'a dyn Fn(&Entry) -> Result<()>;

/// Writes one tree.
pub struct Extractor<'a> {
    parents: Parents,
    privilege: Privilege<'a>,
    directories: Vec<Entry>,
    open: Option<Open>,
}

/// The file whose content is arriving.
struct Open {
    entry: Entry,
    file: File,
    missing: u64,
}

impl<'a> Extractor<'a> {
    /// A writer into the empty directory `root`.
    pub fn new(root: OwnedFd, privilege: Privilege<'a>) -> Self {
        Self {
            parents: Parents::new(root),
            privilege,
            directories: Vec::new(),
            open: None,
        }
    }

    /// The next entry.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.close_file()?;
        (self.privilege)(entry)?;
        if entry.path.is_empty() {
            return self.root(entry);
        }
        let Some((parent, name)) = beneath::split(&entry.path) else {
            return Err(hostile(entry, "its name is not a name"));
        };
        let parent = self
            .parents
            .get(parent)
            .map_err(|errno| parent_error(entry, errno))?;
        match &entry.kind {
            Kind::Directory => {
                mkdirat(parent, name, Mode::RWXU).map_err(|errno| create_error(entry, errno))?;
                self.directories.push(entry.clone());
                Ok(())
            }
            Kind::File { size } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|errno| create_error(entry, errno))?;
                self.open = Some(Open {
                    entry: entry.clone(),
                    file: file.into(),
                    missing: *size,
                });
                Ok(())
            }
            Kind::Symlink { target } => {
                symlinkat(target.as_slice(), parent, name)
                    .map_err(|errno| create_error(entry, errno))?;
                finish_symlink(parent.as_fd(), name, entry).map_err(|errno| set_error(entry, errno))
            }
            Kind::Hardlink { target } => {
                let parent = parent.try_clone_to_owned().map_err(|error| {
                    Error::failed("cannot keep a directory open").source(&error)
                })?;
                self.hard_link(entry, &parent, name, target)
            }
        }
    }

    /// The next bytes of the last entry's content.
    pub fn content(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::refused(
                "the image has content that belongs to no file",
            ));
        };
        let Some(missing) = open.missing.checked_sub(bytes.len() as u64) else {
            return Err(hostile(
                &open.entry,
                "it has more content than its size says",
            ));
        };
        open.missing = missing;
        open.file.write_all(bytes).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            write_error(&open.entry, errno)
        })
    }

    /// Ends the tree: directories get their owners, modes and times.
    pub fn finish(mut self) -> Result<OwnedFd> {
        self.close_file()?;
        // Children come after their parents, so backwards is deepest first.
        while let Some(entry) = self.directories.pop() {
            let directory =
                beneath::open_directory(self.parents.root(), &entry.path, OFlags::RDONLY)
                    .map_err(|errno| set_error(&entry, errno))?;
            finish_open(&directory, &entry).map_err(|errno| set_error(&entry, errno))?;
        }
        self.parents
            .root()
            .try_clone_to_owned()
            .map_err(|error| Error::failed("cannot keep the new tree open").source(&error))
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory || !self.directories.is_empty() {
            return Err(hostile(entry, "the root is not one directory"));
        }
        self.directories.push(entry.clone());
        Ok(())
    }

    fn close_file(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if open.missing > 0 {
            return Err(hostile(
                &open.entry,
                &format!("its content lacks {} bytes", open.missing),
            ));
        }
        finish_open(&open.file, &open.entry).map_err(|errno| set_error(&open.entry, errno))
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        target: &[u8],
    ) -> Result<()> {
        let Some((target_parent, target_name)) = beneath::split(target) else {
            return Err(hostile(
                entry,
                "it is a hard link to something that is no name",
            ));
        };
        let from = self
            .parents
            .get(target_parent)
            .map_err(|errno| parent_error(entry, errno))?;
        let found = statat(from, target_name, AtFlags::SYMLINK_NOFOLLOW);
        match found.map(|found| FileType::from_raw_mode(found.st_mode)) {
            Ok(FileType::RegularFile) => {}
            Ok(_) => {
                return Err(hostile(
                    entry,
                    "it is a hard link to something that is not a regular file",
                ));
            }
            Err(Errno::NOENT) => {
                return Err(hostile(
                    entry,
                    "it is a hard link to a file that the image has not",
                ));
            }
            Err(errno) => return Err(create_error(entry, errno)),
        }
        linkat(from, target_name, parent, name, AtFlags::empty())
            .map_err(|errno| create_error(entry, errno))
    }
}

fn finish_open(fd: impl AsFd, entry: &Entry) -> Result<(), Errno> {
    let fd = fd.as_fd();
    fchown(
        fd,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )?;
    for (name, value) in &entry.xattrs {
        fsetxattr(fd, name.as_slice(), value, XattrFlags::CREATE)?;
    }
    fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    futimens(fd, &times(entry))
}

fn finish_symlink(parent: impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let parent = parent.as_fd();
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    for (attribute, value) in &entry.xattrs {
        // A link has no descriptor that takes attributes; its parent's has a name in /proc.
        let path = [
            format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
            name,
        ]
        .concat();
        lsetxattr(path, attribute.as_slice(), value, XattrFlags::CREATE)?;
    }
    utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(entry.mtime).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn hostile(entry: &Entry, why: &str) -> Error {
    Error::refused(format!(
        "the image cannot be unpacked safely: {}",
        canon::display(&entry.path)
    ))
    .cause(why)
}

fn parent_error(entry: &Entry, errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::XDEV => hostile(
            entry,
            "its path leads through a symbolic link or out of the tree",
        ),
        Errno::NOENT => hostile(entry, "its directory is not in the image"),
        Errno::NOTDIR => hostile(
            entry,
            "its path leads through something that is not a directory",
        ),
        errno => write_error(entry, errno),
    }
}

fn create_error(entry: &Entry, errno: Errno) -> Error {
    match errno {
        Errno::EXIST => hostile(entry, "the path comes twice"),
        Errno::NAMETOOLONG => hostile(entry, "its name is too long"),
        errno => write_error(entry, errno),
    }
}

fn set_error(entry: &Entry, errno: Errno) -> Error {
    let error = Error::failed(format!(
        "cannot set owner, mode or attributes of {}",
        canon::display(&entry.path)
    ))
    .source(&errno);
    match errno {
        Errno::PERM => error.hint("imgnode needs root with CAP_CHOWN, CAP_FOWNER and CAP_SETFCAP"),
        Errno::OPNOTSUPP => error
            .hint("the target's file system has no extended attributes; choose another --target"),
        _ => error,
    }
}

fn write_error(entry: &Entry, errno: Errno) -> Error {
    let error =
        Error::failed(format!("cannot write {}", canon::display(&entry.path))).source(&errno);
    match errno {
        Errno::NOSPC | Errno::DQUOT => error.hint("make room, or choose another --target"),
        Errno::NOSYS => error.hint("imgnode needs Linux 5.6 or newer (openat2)"),
        _ => error,
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
