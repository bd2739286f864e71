//! Names inside a tree, resolved so that they cannot lead out of it.
//!
//! A tree may contain any symbolic link: `etc -> /etc` is an ordinary thing in an image. Everything
//! we do by name inside one therefore goes through `openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS` for the parent, and through calls that do not follow links for the last
//! component. A path that leads through a link is an error, also when the link stays inside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens a directory of the tree; the root for an empty path.
pub fn open_directory(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), confined())
}

/// Opens a regular file of the tree for reading.
pub fn open_file(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    // O_NONBLOCK: a FIFO in its place must not make us wait.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), confined())
}

fn confined() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Parent and last component of a path; `None` for the root and for a last component that is no
/// name.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[][..], path),
    };
    (!matches!(name, b"" | b"." | b"..") && !name.contains(&0)).then_some((parent, name))
}

/// The directory in which work goes on, kept open: neighbours in canonical order mostly share it.
#[derive(Debug)]
pub struct Parents {
    root: OwnedFd,
    kept: Option<(Vec<u8>, OwnedFd)>,
}

impl Parents {
    /// Parents below `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self { root, kept: None }
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The open directory `path`.
    pub fn get(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let fd = match self.kept.take() {
            Some((kept, fd)) if kept == path => fd,
            _ => open_directory(&self.root, path, OFlags::PATH)?,
        };
        Ok(self.kept.insert((path.to_vec(), fd)).1.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn last_components() {
        assert_eq!(split(b"usr/bin/ls"), Some((&b"usr/bin"[..], &b"ls"[..])));
        assert_eq!(split(b"usr"), Some((&b""[..], &b"usr"[..])));
        for path in [&b""[..], b"usr/", b".", b"a/..", b"a/.", b"a\0"] {
            assert_eq!(split(path), None, "{path:?}");
        }
    }

    #[test]
    fn no_way_out_and_no_links() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("tree/real")).unwrap();
        fs::write(directory.path().join("secret"), b"x").unwrap();
        symlink("real", directory.path().join("tree/inside")).unwrap();
        symlink(directory.path(), directory.path().join("tree/outside")).unwrap();
        let root: OwnedFd = fs::File::open(directory.path().join("tree"))
            .unwrap()
            .into();
        assert!(open_directory(&root, b"real", OFlags::PATH).is_ok());
        assert!(open_directory(&root, b"", OFlags::PATH).is_ok());
        for path in [
            &b".."[..],
            b"inside",
            b"outside",
            b"real/../..",
            b"/etc",
            b"real/../../tree",
        ] {
            assert!(
                open_directory(&root, path, OFlags::PATH).is_err(),
                "{}",
                String::from_utf8_lossy(path)
            );
        }
        for path in [&b"../secret"[..], b"outside/secret"] {
            assert!(
                open_file(&root, path).is_err(),
                "{}",
                String::from_utf8_lossy(path)
            );
        }
    }
}
