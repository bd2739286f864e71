//! Writing an image's tree.
//!
//! What arrives is a sequence of entries in canonical order, each followed by its content, already
//! verified by digest. It was signed, and it is still treated as if an enemy had written it, because
//! a signature says who made a tree and not that it is harmless:
//!
//! - The destination is a fresh, empty, private directory. Nothing in it existed before, so nothing
//!   is ever replaced, opened for a second time or followed: creation is exclusive, parents are
//!   resolved beneath the root without symbolic links (see `openat`).
//! - A hard link is made when all files are there, only to a regular file of the tree, and changes
//!   neither its owner nor its mode.
//! - Owner, extended attributes, mode and time are set in this order, because a change of owner
//!   clears set-id bits and capabilities; on open files, or without following links.
//! - Directories stay 0700 and ours until everything below them is written; then they get what the
//!   image says, deepest first. Neither the umask nor the parent's set-group-id bit matters.
//! - Modes with set-id bits and extended attributes that the manifest does not list are refused
//!   before anything is created for them.
//!
//! Over the copy of an earlier generation ([`Extractor::over`]) the same holds for every entry that
//! is not there already, exactly; only directories stay, and get what the image says at the end.
//!
//! ```text
//! writers       small files, written by several threads
//! write_behind  what is written goes to the disk meanwhile
//! file          one file or directory: its content, then what is said about it
//! error         what goes wrong with an entry
//! ```

mod error;
mod file;
mod write_behind;
mod writers;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, mkdirat, statat, symlinkat};
use rustix::io::Errno;
use store::canonical_tar::{Entry, Kind};

use self::error::{create_error, hostile, io_error, parent_error, set_error};
use self::file::{Directory, Open, Shared, finish_open, finish_symlink};
use self::write_behind::WriteBehind;
use self::writers::{SMALL, Writers};
use super::openat::{self, Parents};
use crate::error::{Error, Result};

/// Hard links that may wait.
const LINKS: usize = 4096;

/// A check that refuses privileged entries which the manifest's `privileges` does not list.
pub type Privilege<'a> = &'a dyn Fn(&Entry) -> Result<()>;

/// A writer of one tree.
pub struct Extractor<'a> {
    parents: Parents,
    privilege: Privilege<'a>,
    directories: Vec<Directory>,
    /// Hard links, which are made when the files are there.
    links: Vec<Entry>,
    current: Current,
    small: Writers,
    /// For an extraction over a copy: which entries are there already.
    keep: Option<std::vec::IntoIter<bool>>,
    behind: WriteBehind,
}

/// What the content that arrives belongs to.
enum Current {
    Nothing,
    /// A file that is there already.
    Kept,
    /// A file of which nothing arrived yet.
    Expected(Box<Entry>),
    /// A small file whose content was gathered.
    Gathered(Box<Entry>),
    File(Box<Open>),
}

impl<'a> Extractor<'a> {
    /// A writer into the empty directory `root`.
    pub fn new(root: OwnedFd, privilege: Privilege<'a>) -> Self {
        Self {
            parents: Parents::new(root),
            privilege,
            directories: Vec::new(),
            links: Vec::new(),
            current: Current::Nothing,
            small: Writers::default(),
            keep: None,
            behind: WriteBehind::default(),
        }
    }

    /// A writer into a copy of an earlier tree, from which everything was taken away that the new
    /// one does not have; `keep` says which entries are there already.
    pub fn over(root: OwnedFd, privilege: Privilege<'a>, keep: Vec<bool>) -> Self {
        Self {
            keep: Some(keep.into_iter()),
            ..Self::new(root, privilege)
        }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.close_file()?;
        (self.privilege)(entry)?;
        let over = self.keep.is_some();
        let kept = self.keep.as_mut().and_then(Iterator::next).unwrap_or(false);
        if entry.path.is_empty() {
            return self.root(entry, kept);
        }
        if kept && entry.kind != Kind::Directory {
            self.current = Current::Kept;
            return Ok(());
        }
        let Some((parent, name)) = openat::split(&entry.path) else {
            return Err(hostile(entry, "its name is not a name"));
        };
        match entry.kind {
            Kind::File { .. } => {
                self.current = Current::Expected(Box::new(entry.clone()));
                return Ok(());
            }
            Kind::Hardlink { .. } => {
                self.links.push(entry.clone());
                return if self.links.len() < LINKS {
                    Ok(())
                } else {
                    self.make_links()
                };
            }
            Kind::Directory | Kind::Symlink { .. } => self.require_parent(entry)?,
        }
        let parent = self
            .parents
            .get(parent)
            .map_err(|errno| parent_error(entry, errno))?;
        match &entry.kind {
            Kind::Directory => {
                let made = match mkdirat(parent, name, Mode::RWXU) {
                    Err(Errno::EXIST) if over => confirm_directory(parent, name),
                    made => made,
                };
                made.map_err(|errno| create_error(entry, errno))?;
                self.directories.push(Directory {
                    entry: entry.clone(),
                    kept,
                });
                Ok(())
            }
            Kind::Symlink { target } => {
                symlinkat(target.as_slice(), parent, name)
                    .map_err(|errno| create_error(entry, errno))?;
                finish_symlink(parent.as_fd(), name, entry).map_err(|errno| set_error(entry, errno))
            }
            Kind::File { .. } | Kind::Hardlink { .. } => Ok(()),
        }
    }

    /// Takes the next bytes of the last entry's content.
    pub fn content(&mut self, bytes: &[u8]) -> Result<()> {
        // A small file is one chunk, so that all of it arrives at once.
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Expected(entry)
                if entry.size() <= SMALL && entry.size() == bytes.len() as u64 =>
            {
                self.small.content(bytes);
                self.current = Current::Gathered(entry);
                return Ok(());
            }
            current => self.current = current,
        }
        let Some(open) = self.arrived(bytes.len() as u64)? else {
            return Ok(());
        };
        let written = open.write_shared().and_then(|()| open.write(bytes));
        written.map_err(|error| io_error(&open.entry, &error))
    }

    /// Takes the next bytes, which are also those of `source` from `offset` on: if it turns out that
    /// all of that file is wanted, its blocks are shared instead of copied.
    pub fn content_of(&mut self, bytes: &[u8], source: &Arc<File>, offset: u64) -> Result<()> {
        let len = bytes.len() as u64;
        let Some(open) = self.arrived(len)? else {
            return Ok(());
        };
        let before = open.entry.size() - open.missing - len;
        match &mut open.shared {
            Some(shared) if Arc::ptr_eq(&shared.source, source) && shared.upto == offset => {
                shared.upto += len;
                return Ok(());
            }
            None if before == 0 && offset == 0 => {
                open.shared = Some(Shared {
                    source: Arc::clone(source),
                    upto: len,
                });
                return Ok(());
            }
            _ => {}
        }
        let written = open.write_shared().and_then(|()| open.write(bytes));
        written.map_err(|error| io_error(&open.entry, &error))
    }

    /// Whether the last entry is a file that is there already, so that its content is not needed.
    pub fn is_kept(&self) -> bool {
        matches!(self.current, Current::Kept)
    }

    /// The file that `len` bytes of content belong to; nothing when it is there already.
    fn arrived(&mut self, len: u64) -> Result<Option<&mut Open>> {
        if let Current::Expected(entry) = &self.current {
            let entry = entry.clone();
            self.require_parent(&entry)?;
            let (directory, _) = openat::split(&entry.path).unwrap_or_default();
            let parent = self
                .parents
                .get(directory)
                .map_err(|errno| parent_error(&entry, errno))?;
            let open = writers::create(parent, *entry)?;
            self.current = Current::File(Box::new(open));
        }
        let open = match &mut self.current {
            Current::File(open) => open,
            Current::Kept => return Ok(None),
            Current::Gathered(entry) => {
                return Err(hostile(entry, "it has more content than its size says"));
            }
            Current::Expected(_) | Current::Nothing => {
                return Err(Error::refused(
                    "the image has content that belongs to no file",
                ));
            }
        };
        let Some(missing) = open.missing.checked_sub(len) else {
            return Err(hostile(
                &open.entry,
                "it has more content than its size says",
            ));
        };
        open.missing = missing;
        Ok(Some(open))
    }

    /// Ends the tree: directories get their owners, modes and times.
    pub fn finish(mut self) -> Result<OwnedFd> {
        self.close_file()?;
        self.make_links()?;
        // Children come after their parents, so backwards is deepest first.
        while let Some(directory) = self.directories.pop() {
            let entry = &directory.entry;
            let opened = openat::open_directory(self.parents.root(), &entry.path, OFlags::RDONLY);
            opened
                .and_then(|fd| directory.finish(&fd))
                .map_err(|errno| set_error(entry, errno))?;
        }
        self.parents
            .root()
            .try_clone_to_owned()
            .map_err(|error| Error::failed("cannot keep the new tree open").source(&error))
    }

    fn root(&mut self, entry: &Entry, kept: bool) -> Result<()> {
        if entry.kind != Kind::Directory || !self.directories.is_empty() {
            return Err(hostile(entry, "the root is not one directory"));
        }
        self.directories.push(Directory {
            entry: entry.clone(),
            kept,
        });
        Ok(())
    }

    fn close_file(&mut self) -> Result<()> {
        let mut open = match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing | Current::Kept => return Ok(()),
            Current::Expected(entry) if entry.size() > 0 => {
                let missing = entry.size();
                return Err(hostile(
                    &entry,
                    &format!("its content lacks {missing} bytes"),
                ));
            }
            Current::Expected(entry) | Current::Gathered(entry) => return self.add(*entry),
            Current::File(open) => open,
        };
        if open.missing > 0 {
            return Err(hostile(
                &open.entry,
                &format!("its content lacks {} bytes", open.missing),
            ));
        }
        open.share()
            .and_then(|()| open.end())
            .map_err(|error| io_error(&open.entry, &error))?;
        finish_open(&open.file, &open.entry).map_err(|errno| set_error(&open.entry, errno))?;
        let written = open.entry.size();
        self.behind.wrote(self.parents.root(), written);
        Ok(())
    }

    /// Refuses an entry whose directory is not there.
    fn require_parent(&mut self, entry: &Entry) -> Result<()> {
        let (directory, _) = openat::split(&entry.path).unwrap_or_default();
        let mut found = self.parents.get(directory).map(|_| ());
        if found == Err(Errno::NOENT) {
            // It can be a file that is not written yet, and no directory.
            self.small.finish()?;
            found = self.parents.get(directory).map(|_| ());
        }
        found.map_err(|errno| parent_error(entry, errno))
    }

    /// Adds a small file whose content was gathered.
    fn add(&mut self, entry: Entry) -> Result<()> {
        let size = entry.size();
        self.require_parent(&entry)?;
        let parents = &mut self.parents;
        self.small.add(entry, &mut |entry, directory| {
            let parent = parents.get(directory);
            own(parent.map_err(|errno| parent_error(entry, errno))?)
        })?;
        self.behind.wrote(self.parents.root(), size);
        Ok(())
    }

    /// Makes the hard links that wait, when all files so far are there.
    fn make_links(&mut self) -> Result<()> {
        self.small.finish()?;
        for link in std::mem::take(&mut self.links) {
            self.hard_link(&link)?;
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry) -> Result<()> {
        let (Kind::Hardlink { target }, Some((parent, name))) =
            (&entry.kind, openat::split(&entry.path))
        else {
            return Ok(());
        };
        let parent = self.parents.get(parent);
        let parent = own(parent.map_err(|errno| parent_error(entry, errno))?)?;
        let Some((target_parent, target_name)) = openat::split(target) else {
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

/// The directory, open for as long as it is needed.
fn own(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let owned = directory.try_clone_to_owned();
    owned.map_err(|error| Error::failed("cannot keep a directory open").source(&error))
}

/// Whether a name is a directory and no link to one.
fn confirm_directory(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        Ok(())
    } else {
        Err(Errno::EXIST)
    }
}

#[cfg(test)]
mod tests;
