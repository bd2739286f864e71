//! Reading a tree from disk in canonical order.
//!
//! Entries come in the order of their full path bytes, the order of the canonical tar, without
//! holding more than the directories on the way to the current one. The trick is that a directory's
//! children sort behind `NAME/` and not behind `NAME`, so each directory appears twice in its
//! parent's list: once as the entry, once, with the slash, as the place to descend.
//!
//! Nothing is followed. What cannot be in an image (devices, FIFOs, sockets) is reported as such.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, lgetxattr,
    llistxattr, openat, readlinkat, statat,
};
use rustix::io::Errno;
use store::canonical_tar::{self, Entry, Kind, MAX_DEPTH};

use crate::error::{Error, Result};

const XATTR_LIMIT: usize = 64 << 10;

/// What a walk finds at a path.
#[derive(Debug)]
pub struct TreeEntry {
    /// The path from the root.
    pub path: Vec<u8>,
    /// The entry; for what no image contains, the words for it (`a FIFO`).
    pub what: Result<Entry, &'static str>,
    /// The open file, for a regular file that was not met under another name before.
    pub file: Option<OwnedFd>,
    /// How many names the file has, inside the tree and out of it.
    pub links: u64,
    /// When its inode was changed last, in seconds since 1970.
    pub changed: u64,
}

/// A walk of a tree, in canonical order.
pub struct TreeWalk {
    levels: Vec<Level>,
    seen: HashMap<(u64, u64), Vec<u8>>,
    root: Option<OwnedFd>,
    buffer: Vec<u8>,
}

/// A directory on the way to the current entry.
struct Level {
    directory: OwnedFd,
    /// The path of the directory with its slash, or empty.
    prefix: Vec<u8>,
    /// The names that are left, backwards, to be popped; a name with a slash is a place to descend.
    names: Vec<Vec<u8>>,
}

impl TreeEntry {
    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        let directory = |entry: &Entry| entry.kind == Kind::Directory;
        self.what.as_ref().is_ok_and(directory)
    }
}

fn changed(stat: &Stat) -> u64 {
    u64::try_from(stat.st_ctime).unwrap_or(0)
}

impl TreeWalk {
    /// A walk of the tree at `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            levels: Vec::new(),
            seen: HashMap::new(),
            root: Some(root),
            buffer: vec![0; XATTR_LIMIT],
        }
    }

    /// The next entry; `None` at the end.
    pub fn step(&mut self) -> Result<Option<TreeEntry>> {
        if let Some(root) = self.root.take() {
            let stat = fstat(&root).map_err(|errno| broken(b"", errno))?;
            let entry = self.entry(
                Vec::new(),
                Kind::Directory,
                &stat,
                &Attributes::Of(root.as_fd()),
            )?;
            self.descend(root, Vec::new())?;
            return Ok(Some(TreeEntry {
                path: Vec::new(),
                what: Ok(entry),
                file: None,
                links: 1,
                changed: changed(&stat),
            }));
        }
        loop {
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let inside = [level.prefix.as_slice(), &name].concat();
            let Some(place) = name.strip_suffix(b"/") else {
                return self.look(&name, inside).map(Some);
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&level.directory, place, flags, Mode::empty());
            let path = inside.strip_suffix(b"/").unwrap_or(&inside).to_vec();
            let directory = opened.map_err(|errno| broken(&path, errno))?;
            let found = self.look(place, path)?;
            self.descend(directory, inside)?;
            return Ok(Some(found));
        }
    }

    fn descend(&mut self, directory: OwnedFd, prefix: Vec<u8>) -> Result<()> {
        if self.levels.len() > MAX_DEPTH {
            return Err(Error::refused(format!(
                "{} is nested too deeply for an image",
                canonical_tar::display(&prefix)
            )));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(|errno| broken(&prefix, errno))? {
            let entry = entry.map_err(|errno| broken(&prefix, errno))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Unknown => {
                    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|errno| broken(&prefix, errno))?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                kind => kind == FileType::Directory,
            };
            // The order of the canonical tar: a directory counts with its slash.
            names.push(if is_directory {
                [name, b"/"].concat()
            } else {
                name.to_vec()
            });
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.levels.push(Level {
            directory,
            prefix,
            names,
        });
        Ok(())
    }

    fn look(&mut self, name: &[u8], path: Vec<u8>) -> Result<TreeEntry> {
        let fail = |errno| broken(&path, errno);
        let Some(level) = self.levels.last() else {
            return Err(Error::failed("a walk lost its directory"));
        };
        let stat = statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let foreign = |what| {
            Ok(TreeEntry {
                path: path.clone(),
                what: Err(what),
                file: None,
                links: 1,
                changed: changed(&stat),
            })
        };
        match kind {
            FileType::RegularFile => {}
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory =
                    openat(&level.directory, name, flags, Mode::empty()).map_err(fail)?;
                let entry = self.entry(
                    path.clone(),
                    Kind::Directory,
                    &stat,
                    &Attributes::Of(directory.as_fd()),
                )?;
                return Ok(TreeEntry {
                    path,
                    what: Ok(entry),
                    file: None,
                    links: 1,
                    changed: changed(&stat),
                });
            }
            FileType::Symlink => {
                let target = readlinkat(&level.directory, name, Vec::new())
                    .map_err(fail)?
                    .into_bytes();
                let place = [
                    format!("/proc/self/fd/{}/", level.directory.as_raw_fd()).as_bytes(),
                    name,
                ]
                .concat();
                let entry = self.entry(
                    path.clone(),
                    Kind::Symlink { target },
                    &stat,
                    &Attributes::At(place),
                )?;
                return Ok(TreeEntry {
                    path,
                    what: Ok(entry),
                    file: None,
                    links: 1,
                    changed: changed(&stat),
                });
            }
            FileType::BlockDevice | FileType::CharacterDevice => return foreign("a device"),
            FileType::Fifo => return foreign("a FIFO"),
            FileType::Socket => return foreign("a socket"),
            FileType::Unknown => return foreign("of an unknown type"),
        }
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&level.directory, name, flags, Mode::empty()).map_err(fail)?;
        // What is open is what counts, whatever the name meant a moment ago.
        let stat = fstat(&file).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::failed(format!(
                "{} changed while the tree was read",
                canonical_tar::display(&path)
            )));
        }
        let links = stat.st_nlink;
        if links > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(target) = self.seen.get(&inode).cloned() {
                let entry = self.entry(
                    path.clone(),
                    Kind::Hardlink { target },
                    &stat,
                    &Attributes::None,
                )?;
                return Ok(TreeEntry {
                    path,
                    what: Ok(entry),
                    file: None,
                    links,
                    changed: changed(&stat),
                });
            }
            self.seen.insert(inode, path.clone());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let entry = self.entry(
            path.clone(),
            Kind::File { size },
            &stat,
            &Attributes::Of(file.as_fd()),
        )?;
        Ok(TreeEntry {
            path,
            what: Ok(entry),
            file: Some(file),
            links,
            changed: changed(&stat),
        })
    }

    fn entry(
        &mut self,
        path: Vec<u8>,
        kind: Kind,
        stat: &Stat,
        attributes: &Attributes<'_>,
    ) -> Result<Entry> {
        let xattrs = attributes
            .read(&mut self.buffer)
            .map_err(|errno| broken(&path, errno))?;
        // Every symlink has mode 0777; the canonical tar says so as well.
        let mode = if matches!(kind, Kind::Symlink { .. }) {
            0o777
        } else {
            stat.st_mode & 0o7777
        };
        let mtime = u64::try_from(stat.st_mtime).unwrap_or(0);
        Ok(Entry {
            path,
            kind,
            mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime,
            xattrs,
        })
    }
}

/// The place of the extended attributes of an entry.
enum Attributes<'a> {
    /// Attributes of an open file or directory.
    Of(BorrowedFd<'a>),
    /// Attributes of a symlink, which cannot be opened for them.
    At(Vec<u8>),
    /// Attributes of a further name, which belong to the first.
    None,
}

impl Attributes<'_> {
    fn read(&self, buffer: &mut [u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let listed = match self {
            Self::Of(fd) => flistxattr(fd, &mut *buffer),
            Self::At(path) => llistxattr(path.as_slice(), &mut *buffer),
            Self::None => return Ok(BTreeMap::new()),
        };
        let length = match listed {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
            listed => listed?,
        };
        let names = buffer[..length].to_vec();
        let mut xattrs = BTreeMap::new();
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            if canonical_tar::is_host_xattr(name) {
                continue;
            }
            let length = match self {
                Self::Of(fd) => fgetxattr(fd, name, &mut *buffer)?,
                Self::At(path) => lgetxattr(path.as_slice(), name, &mut *buffer)?,
                Self::None => 0,
            };
            xattrs.insert(name.to_vec(), buffer[..length].to_vec());
        }
        Ok(xattrs)
    }
}

fn broken(path: &[u8], errno: Errno) -> Error {
    Error::failed(format!(
        "cannot read {} of the installed tree",
        canonical_tar::display(path)
    ))
    .source(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn walk(root: &std::path::Path) -> Vec<TreeEntry> {
        let mut walk = TreeWalk::new(fs::File::open(root).unwrap().into());
        std::iter::from_fn(|| walk.step().unwrap()).collect()
    }

    #[test]
    fn the_order_is_that_of_the_canonical_tar() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a/z", "a-b", "a.d/x", "a0", "b/c/d"] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let found: Vec<_> = walk(directory.path())
            .into_iter()
            .map(|found| String::from_utf8(found.path).unwrap())
            .collect();
        assert_eq!(
            found,
            [
                "", "a-b", "a.d", "a.d/x", "a", "a/z", "a0", "b", "b/c", "b/c/d"
            ]
        );
    }

    #[test]
    fn links_and_strangers_are_seen_as_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("a"), b"content").unwrap();
        fs::hard_link(root.join("a"), root.join("b")).unwrap();
        symlink("/nonexistent", root.join("c")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("d"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let found = walk(root);
        assert!(matches!(
            found[1].what.as_ref().unwrap().kind,
            Kind::File { size: 7 }
        ));
        assert_eq!(
            found[2].what.as_ref().unwrap().kind,
            Kind::Hardlink {
                target: b"a".to_vec()
            }
        );
        assert_eq!(
            found[3].what.as_ref().unwrap().kind,
            Kind::Symlink {
                target: b"/nonexistent".to_vec()
            }
        );
        assert_eq!(found[4].what.as_ref().unwrap_err(), &"a FIFO");
        assert_eq!(found[1].links, 2);
    }
}
