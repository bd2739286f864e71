//! The files of many packages, written into a tree side by side.
//!
//! The tree is the one that `dpkg-deb --fsys-tarfile DEB | tar -xk` leaves, one
//! package after the other, with the packages unpacked again by dpkg: a
//! directory belongs to the first package that has it, nothing may be there
//! twice, and a directory keeps the time that its package gives it only where
//! nothing was put into it later.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::{fs, io::Errno};

use super::index::{Entry, Files, Kind};

/// How many files a processor takes at a time.
const AT_A_TIME: usize = 32;

/// A directory that was made here.
struct Made {
    /// The package that has it, by its place.
    package: usize,
    path: PathBuf,
    mtime: u64,
    /// Whether something came into it after its package was there.
    is_touched: bool,
}

/// Writes all packages, in that order, below `root`.
pub(super) fn write(root: &Path, packages: &[Files]) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let root = fs::openat(CWD, root, flags, Mode::empty())?;
    let all = || {
        let numbered = packages.iter().enumerate();
        numbered.flat_map(|(number, files)| files.entries.iter().map(move |e| (number, e)))
    };
    let mut made: HashMap<u64, Made> = HashMap::new();
    let mut parent = Parent::new(&root);
    for (number, entry) in all() {
        let (Kind::Directory | Kind::SymbolicLink(_)) = &entry.kind else {
            continue;
        };
        let name = parent.enter(&entry.path).map_err(|e| about(entry, &e))?;
        let is_new = match &entry.kind {
            Kind::SymbolicLink(target) => link(parent.fd()?, name, target, entry).map(|()| true),
            _ => directory(parent.fd()?, name, entry),
        };
        if !is_new.map_err(|e| about(entry, &e))? {
            continue;
        }
        if let Some(above) = made.get_mut(&parent.inode) {
            let is_directory = matches!(entry.kind, Kind::Directory);
            above.is_touched |= !is_directory || above.package != number;
        }
        if matches!(entry.kind, Kind::Directory) {
            let inode = fs::statat(parent.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
            let new = Made {
                package: number,
                path: entry.path.clone(),
                mtime: entry.mtime,
                is_touched: false,
            };
            made.insert(inode, new);
        }
    }
    let files: Vec<(usize, &Entry)> = all()
        .filter(|(_, entry)| matches!(entry.kind, Kind::File { .. }))
        .collect();
    let mut parents: Vec<u64> = files
        .par_chunks(AT_A_TIME)
        .map(|files| {
            let mut parent = Parent::new(&root);
            let mut parents = Vec::new();
            for (number, entry) in files {
                let written = parent
                    .enter(&entry.path)
                    .and_then(|name| file(parent.fd()?, name, entry, &packages[*number].tar));
                written.map_err(|e| about(entry, &e))?;
                parents.push(parent.inode);
            }
            Ok(parents)
        })
        .collect::<io::Result<Vec<_>>>()?
        .concat();
    for (_, entry) in all() {
        let Kind::HardLink(target) = &entry.kind else {
            continue;
        };
        let mut other = Parent::new(&root);
        let linked = parent.enter(&entry.path).and_then(|name| {
            let old = other.enter(target)?;
            Ok(fs::linkat(
                other.fd()?,
                old,
                parent.fd()?,
                name,
                AtFlags::empty(),
            )?)
        });
        linked.map_err(|e| about(entry, &e))?;
        parents.push(parent.inode);
    }
    for inode in parents {
        if let Some(above) = made.get_mut(&inode) {
            above.is_touched = true;
        }
    }
    for directory in made.values().filter(|made| !made.is_touched) {
        let name = parent.enter(&directory.path)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::utimensat(parent.fd()?, name, &time(directory.mtime)?, flags)?;
    }
    Ok(())
}

/// The directory in which entries are made one after the other.
struct Parent<'r> {
    root: &'r OwnedFd,
    path: PathBuf,
    fd: Option<OwnedFd>,
    inode: u64,
}

impl<'r> Parent<'r> {
    fn new(root: &'r OwnedFd) -> Self {
        Self {
            root,
            path: PathBuf::new(),
            fd: None,
            inode: 0,
        }
    }

    /// Goes to the directory of `path`; returns the last part. Links lead to where they would in
    /// the tree.
    fn enter<'p>(&mut self, path: &'p Path) -> io::Result<&'p OsStr> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.fd.is_none() || self.path != parent {
            let here = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = fs::openat2(self.root, here, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
            self.inode = fs::fstat(&fd)?.st_ino;
            self.fd = Some(fd);
            parent.clone_into(&mut self.path);
        }
        Ok(name)
    }

    fn fd(&self) -> io::Result<&OwnedFd> {
        self.fd.as_ref().ok_or_else(|| Errno::BADF.into())
    }
}

/// Makes a directory; `false` where there is one, or a link to one.
fn directory(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<bool> {
    match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let is_directory = |flags| {
                let found = fs::statat(parent, name, flags);
                found.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
            };
            // A link may lead out of the tree when it is followed from here; what it leads to is
            // looked at when something is put there.
            let found = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
            if is_link || is_directory(AtFlags::SYMLINK_NOFOLLOW) {
                return Ok(false);
            }
            return Err(Errno::EXIST.into());
        }
        Err(error) => return Err(error.into()),
    }
    own(parent, name, entry)?;
    fs::chmodat(
        parent,
        name,
        Mode::from_raw_mode(entry.mode),
        AtFlags::empty(),
    )?;
    Ok(true)
}

fn link(parent: &OwnedFd, name: &OsStr, target: &Path, entry: &Entry) -> io::Result<()> {
    fs::symlinkat(target, parent, name)?;
    own(parent, name, entry)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(fs::utimensat(parent, name, &time(entry.mtime)?, flags)?)
}

fn file(parent: &OwnedFd, name: &OsStr, entry: &Entry, tar: &File) -> io::Result<()> {
    let Kind::File { offset, size } = entry.kind else {
        return Ok(());
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    let mut out = File::from(fd);
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(1 << 18)];
    let mut done = 0;
    while done < size {
        let wanted = usize::try_from(size - done).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        tar.read_exact_at(&mut buffer[..wanted], offset + done)?;
        out.write_all(&buffer[..wanted])?;
        done += wanted as u64;
    }
    // Always: where the directory has a group of its own, the file got that.
    fs::fchown(
        &out,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )?;
    fs::fchmod(&out, Mode::from_raw_mode(entry.mode))?;
    Ok(fs::futimens(&out, &time(entry.mtime)?)?)
}

fn own(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(fs::chownat(parent, name, Some(uid), Some(gid), flags)?)
}

/// A time of modification; that of access stays.
fn time(seconds: u64) -> io::Result<Timestamps> {
    let at = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let seconds = i64::try_from(seconds).map_err(io::Error::other)?;
    Ok(Timestamps {
        last_access: at(0, UTIME_OMIT),
        last_modification: at(seconds, 0),
    })
}

fn about(entry: &Entry, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", entry.path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    const LONG_AGO: u32 = 1_000_000;

    fn entry(path: &str, kind: Kind) -> Entry {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        Entry {
            path: path.into(),
            kind,
            mode: 0o755,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            owner: String::new(),
            group: String::new(),
            mtime: LONG_AGO.into(),
        }
    }

    /// A package of these entries, in which each file is "content".
    fn package(entries: Vec<Entry>) -> Files {
        let mut tar = tempfile::tempfile().unwrap();
        tar.write_all(b"-content").unwrap();
        Files { tar, entries }
    }

    fn file(path: &str) -> Entry {
        entry(path, Kind::File { offset: 1, size: 7 })
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Kind::SymbolicLink(target.into()))
    }

    #[test]
    fn a_directory_keeps_its_time_until_something_comes_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = |path| entry(path, Kind::Directory);
        let first = package(vec![
            directory("a"),
            directory("a/empty"),
            directory("a/filled"),
            directory("a/below"),
            file("a/below/file"),
            entry("a/below/same", Kind::HardLink("a/below/file".into())),
        ]);
        let second = package(vec![
            directory("a"),
            directory("a/filled"),
            file("a/filled/file"),
        ]);
        write(dir.path(), &[first, second]).unwrap();
        let at = |path: &str| dir.path().join(path).metadata().unwrap();
        for path in ["a", "a/empty", "a/below/file"] {
            assert_eq!(at(path).mtime(), i64::from(LONG_AGO), "{path}");
        }
        for path in ["a/filled", "a/below"] {
            assert_ne!(at(path).mtime(), i64::from(LONG_AGO), "{path}");
        }
        assert_eq!(at("a/below/same").ino(), at("a/below/file").ino());
        let text = std::fs::read(dir.path().join("a/filled/file")).unwrap();
        assert_eq!(text, b"content");
    }

    #[test]
    fn nothing_is_there_twice_and_nothing_leaves_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        for (entries, path) in [
            (vec![file("a")], "/a"),
            (vec![link("a", "b")], "/a"),
            (vec![entry("file", Kind::Directory)], "/file"),
            (vec![link("out", target), file("out/a")], "/out/a"),
            (vec![link("up", "../../../../tmp"), file("up/a")], "/up/a"),
            (vec![entry("new", Kind::HardLink("out/x".into()))], "/new"),
        ] {
            let tree = tempfile::tempdir_in(dir.path()).unwrap();
            symlink("nowhere", tree.path().join("a")).unwrap();
            std::fs::write(tree.path().join("file"), "").unwrap();
            let error = write(tree.path(), &[package(entries)]).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{path}: ")),
                "{error}"
            );
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
