//! One file or directory of the tree: its content, then what is said about it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, flistxattr,
    fremovexattr, fsetxattr, fstat, futimens, ioctl_ficlone, lsetxattr, utimensat,
};
use rustix::io::Errno;
use store::canonical_tar::{self, Entry};

/// A directory that gets its owner, mode and time at the end.
pub(super) struct Directory {
    pub(super) entry: Entry,
    /// Whether it was there already, but for its time, which changes with what is in it.
    pub(super) kept: bool,
}

/// The file whose content is arriving.
pub(super) struct Open {
    pub(super) entry: Entry,
    pub(super) file: File,
    pub(super) missing: u64,
    pub(super) shared: Option<Shared>,
    pub(super) ends_in_hole: bool,
}

/// Content that was found in another file from its first byte on, and is not written yet: perhaps
/// all of that file is wanted.
pub(super) struct Shared {
    pub(super) source: Arc<File>,
    pub(super) upto: u64,
}

/// Zeros of at least this length become a hole.
const HOLE: usize = 64 << 10;

impl Open {
    /// Writes the next bytes; many zeros become a hole.
    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.len() >= HOLE && bytes.iter().all(|byte| *byte == 0) {
            let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            self.file.seek(SeekFrom::Current(len))?;
            self.ends_in_hole = true;
            return Ok(());
        }
        self.ends_in_hole = false;
        self.file.write_all(bytes)
    }

    /// Gives the file its length, where its end is a hole.
    pub(super) fn end(&self) -> std::io::Result<()> {
        if self.ends_in_hole {
            self.file.set_len(self.entry.size())?;
        }
        Ok(())
    }

    /// Writes what was put off.
    pub(super) fn write_shared(&mut self) -> std::io::Result<()> {
        let Some(Shared { source, upto }) = self.shared.take() else {
            return Ok(());
        };
        let mut buffer = vec![0; store::chunk::MAX];
        let mut offset = 0;
        while offset < upto {
            let len =
                usize::try_from(upto - offset).map_or(buffer.len(), |rest| rest.min(buffer.len()));
            source.read_exact_at(&mut buffer[..len], offset)?;
            self.write(&buffer[..len])?;
            offset += len as u64;
        }
        Ok(())
    }

    /// Shares the blocks of the other file if it is this file, all of it.
    pub(super) fn share(&mut self) -> std::io::Result<()> {
        let whole = |shared: &Shared| {
            let len = shared.source.metadata().map_or(0, |found| found.len());
            shared.upto == self.entry.size() && len == shared.upto
        };
        if self.shared.as_ref().is_some_and(whole)
            && let Some(shared) = &self.shared
            && ioctl_ficlone(&self.file, &*shared.source).is_ok()
        {
            self.shared = None;
        }
        self.write_shared()
    }
}

impl Directory {
    /// Sets what the image says about the directory.
    pub(super) fn finish(&self, fd: &OwnedFd) -> Result<(), Errno> {
        if self.kept {
            let time = i64::try_from(self.entry.mtime).unwrap_or(i64::MAX);
            return if fstat(fd)?.st_mtime == time {
                Ok(())
            } else {
                futimens(fd, &times(&self.entry))
            };
        }
        finish_open(fd, &self.entry)
    }
}

/// Removes what the entry does not have: attributes of an earlier file, and access control
/// lists that a new file inherits from its directory (acl(5)).
fn remove_other_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
    let mut names = vec![0; 1 << 10];
    let length = loop {
        match flistxattr(fd, &mut names[..]) {
            Err(Errno::NOTSUP) | Ok(0) => return Ok(()),
            // The kernel's own limit is 64 KiB.
            Err(Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            length => break length?,
        }
    };
    let names = names[..length].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty() && !canonical_tar::is_host_xattr(name)) {
        if !entry.xattrs.contains_key(name) {
            fremovexattr(fd, name)?;
        }
    }
    Ok(())
}

pub(super) fn finish_open(fd: impl AsFd, entry: &Entry) -> Result<(), Errno> {
    let fd = fd.as_fd();
    fchown(
        fd,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )?;
    remove_other_attributes(fd, entry)?;
    for (name, value) in &entry.xattrs {
        fsetxattr(fd, name.as_slice(), value, XattrFlags::empty())?;
    }
    fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    futimens(fd, &times(entry))
}

pub(super) fn finish_symlink(parent: impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
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
