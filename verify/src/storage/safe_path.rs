//! Is a directory safe to build on?
//!
//! Whoever can swap a component of a path decides what root runs below it. So every directory from
//! the root down must be reached without symbolic links, belong to root, and be closed to others; on
//! the way, not at its end, a sticky directory such as /tmp is good enough, because nobody can
//! rename there what is ours.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Error;

/// The reason why a directory cannot be used.
pub(crate) enum UnsafePath {
    /// A part of the path is not there.
    Missing(PathBuf),
    /// A symbolic link is on the way.
    Link,
    /// A part of the path is no directory.
    NotDirectory(PathBuf),
    /// Others than root can change a part of the path.
    Writable(PathBuf),
    /// A part of the path belongs to another user, with this number.
    Owner(PathBuf, u32),
    /// The system refuses to open it.
    Other(Errno),
}

impl UnsafePath {
    /// The error for the operator, of a directory that was to `hold generations` or whatever else.
    pub(crate) fn into_error(self, path: &Path, purpose: &str) -> Error {
        let error = Error::refused(format!("{} cannot {purpose}", path.display()));
        match self {
            Self::Missing(part) => {
                Error::usage(format!("there is no directory {}", part.display()))
                    .hint(format!("mkdir -p {}", part.display()))
            }
            Self::Link => error
                .cause("the path is or leads through a symbolic link")
                .hint("name the real directory"),
            Self::NotDirectory(part) => {
                error.cause(format!("{} is not a directory", part.display()))
            }
            Self::Writable(part) => error
                .cause(format!("others than root can write to {}", part.display()))
                .hint(format!("chmod go-w {}", part.display())),
            Self::Owner(part, uid) => error
                .cause(format!(
                    "{} belongs to user {uid}, not to root",
                    part.display()
                ))
                .hint(format!("chown root:root {}", part.display())),
            Self::Other(errno) => {
                Error::failed(format!("cannot open {}", path.display())).source(&errno)
            }
        }
    }
}

/// Refuses a directory that others can change, or any above it.
pub(crate) fn check(path: &Path) -> Result<(), UnsafePath> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parts: Vec<&Path> = path.ancestors().collect();
    let ours = rustix::process::geteuid().as_raw();
    for part in parts.into_iter().rev() {
        let opened =
            rustix::fs::openat2(CWD, part, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let directory = opened.map_err(|errno| match errno {
            Errno::NOENT => UnsafePath::Missing(part.to_owned()),
            Errno::LOOP => UnsafePath::Link,
            // openat2 says "not a directory" of a symbolic link as well.
            Errno::NOTDIR if fs::symlink_metadata(part).is_ok_and(|found| found.is_symlink()) => {
                UnsafePath::Link
            }
            Errno::NOTDIR => UnsafePath::NotDirectory(part.to_owned()),
            other => UnsafePath::Other(other),
        })?;
        let found = rustix::fs::fstat(&directory).map_err(UnsafePath::Other)?;
        if found.st_uid != 0 && found.st_uid != ours {
            return Err(UnsafePath::Owner(part.to_owned(), found.st_uid));
        }
        // In a sticky directory such as /tmp nobody can rename what is ours.
        let sticky = found.st_mode & 0o1000 != 0 && part != path;
        if found.st_mode & 0o022 != 0 && !sticky {
            return Err(UnsafePath::Writable(part.to_owned()));
        }
    }
    Ok(())
}
