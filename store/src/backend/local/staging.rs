//! Files on their way into the store.
//!
//! Each writer has a folder of its own under `tmp` and holds a lock on a file in
//! it. A folder whose lock can be had belongs to a writer that is dead (process
//! numbers would not tell: they are reused, and differ between namespaces), so the
//! next writer removes it. Making and removing folders happens under one more
//! lock, or a folder could be removed between its making and its locking.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lock::Lock;
use crate::backend::Writers;
use crate::error::{Error, Result};

/// The file in a writer's folder that the writer has locked while it lives.
const ALIVE: &str = "alive";

/// The file in a writer's folder that lists the keys it holds, one a line.
const HELD: &str = "held";

/// The lock under which folders are made and removed.
const FOLDERS: &str = "tmp";

/// A writer's folder, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    folder: PathBuf,
    next: AtomicU64,
    /// Who else may read, as the store's directory says it.
    readers: u32,
    state: Mutex<State>,
    _alive: Lock,
}

/// What changes while a writer lives.
#[derive(Debug, Default)]
struct State {
    held: BTreeSet<String>,
    /// Folders with names in them that a power cut could still undo.
    unsettled: BTreeSet<PathBuf>,
}

impl Staging {
    /// Makes a folder for this writer and removes those of dead ones.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let tmp = root.join("tmp");
        let _lock = Lock::exclusive(root, FOLDERS)?;
        fs::create_dir_all(&tmp).map_err(|error| Error::io("create", &tmp, error))?;
        let mut number = 0;
        for entry in tmp
            .read_dir()
            .map_err(|error| Error::io("list", &tmp, error))?
        {
            let entry = entry.map_err(|error| Error::io("list", &tmp, error))?;
            remove_if_dead(&entry.path());
            let taken = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            number = number.max(taken.map_or(0, |taken: u64| taken.saturating_add(1)));
        }
        let folder = tmp.join(number.to_string());
        fs::create_dir(&folder).map_err(|error| Error::io("create", &folder, error))?;
        let alive = Lock::try_exclusive(&folder.join(ALIVE))?.ok_or_else(|| {
            Error::new(
                crate::ErrorKind::Busy,
                format!("{} is in use", folder.display()),
            )
        })?;
        Ok(Self {
            root: root.to_owned(),
            folder,
            next: AtomicU64::new(0),
            readers: readers(root)?,
            state: Mutex::default(),
            _alive: alive,
        })
    }

    /// A new file, which is removed again unless it is moved into the store.
    pub(super) fn create(&self) -> Result<Staged<'_>> {
        let path = self
            .folder
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        self.open_to_readers(&path)?;
        Ok(Staged {
            staging: self,
            path,
            file,
        })
    }

    /// A new file that has no name, and is gone when it is closed.
    pub(super) fn nameless(&self) -> Result<File> {
        let staged = self.create()?;
        staged
            .file
            .try_clone()
            .map_err(|error| Error::io("open", &staged.path, error))
    }

    /// Writes an object: whole, durable, and under its name only then.
    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let mut staged = self.create()?;
        staged.write(bytes)?;
        staged.sync()?;
        Self::sync_folder(&staged.rename(key)?)
    }

    /// Those of the keys that this writer does not hold yet.
    pub(super) fn not_held<'k>(&self, keys: &'k [String]) -> Vec<&'k String> {
        let state = self.state();
        keys.iter()
            .filter(|key| !state.held.contains(*key))
            .collect()
    }

    /// Lists keys as held. The caller has the gate, so nobody reads half a line.
    pub(super) fn hold(&self, keys: &[&String]) -> Result<()> {
        let path = self.folder.join(HELD);
        let mut lines = String::new();
        for key in keys {
            lines.push_str(key);
            lines.push('\n');
        }
        let mut state = self.state();
        // Not made durable: whoever holds does not survive a power cut either.
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|error| Error::io("write", &path, error))?;
        state.held.extend(keys.iter().map(|key| (*key).clone()));
        Ok(())
    }

    /// Removes an object; its folder has to be settled.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        let path = self.root.join(key);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.unsettle(path.parent().unwrap_or(&self.root));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", path, error)),
        }
    }

    /// Moves an object to another key, durably.
    pub(super) fn shift(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        let folder = to.parent().unwrap_or(&self.root);
        self.create_folder(folder)?;
        fs::rename(&from, &to).map_err(|error| Error::io("move", &from, error))?;
        Self::sync_folder(folder)?;
        Self::sync_folder(from.parent().unwrap_or(&self.root))
    }

    /// Makes the names durable in all folders where some came or went.
    pub(super) fn settle(&self) -> Result<()> {
        let folders = std::mem::take(&mut self.state().unsettled);
        folders
            .iter()
            .try_for_each(|folder| Self::sync_folder(folder))
    }

    fn unsettle(&self, folder: &Path) {
        let mut state = self.state();
        if !state.unsettled.contains(folder) {
            state.unsettled.insert(folder.to_owned());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(folder: &Path) -> Result<()> {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Error::io("write", folder, error))
    }

    /// Makes sure that a folder is there, and still is after a power cut.
    fn create_folder(&self, folder: &Path) -> Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(&self.root);
        self.create_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("create", folder, error))
            }
            _ => {
                self.open_to_readers(folder)?;
                Self::sync_folder(parent)
            }
        }
    }

    /// Lets those read that may read the store's directory, whatever the umask: one who
    /// writes with 077 must not hide a part of a store that a web server serves.
    fn open_to_readers(&self, path: &Path) -> Result<()> {
        let failed = |error| Error::io("set the mode of", path, error);
        let meta = path.metadata().map_err(failed)?;
        let search = if meta.is_dir() { self.readers >> 2 } else { 0 };
        let (mode, added) = (meta.mode() & 0o7777, self.readers | search);
        if mode | added == mode {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode | added)).map_err(failed)
    }
}

/// The bits with which others may read a directory.
fn readers(folder: &Path) -> Result<u32> {
    let meta = folder.metadata();
    let mode = meta
        .map_err(|error| Error::io("look at", folder, error))?
        .mode();
    Ok([0o040, 0o004]
        .into_iter()
        .filter(|read| mode & (read | read >> 2) == read | read >> 2)
        .sum())
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next writer.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file that is not in the store yet.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    staging: &'a Staging,
    path: PathBuf,
    file: File,
}

impl Staged<'_> {
    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Moves the file to its name and returns the folder that this name is in,
    /// which the caller has to sync when it has moved its last file there.
    pub(super) fn rename(mut self, key: &str) -> Result<PathBuf> {
        let target = self.staging.root.join(key);
        let folder = target.parent().unwrap_or(&self.staging.root).to_owned();
        self.staging.create_folder(&folder)?;
        fs::rename(&self.path, &target).map_err(|error| Error::io("create", &target, error))?;
        self.path.clear();
        Ok(folder)
    }
}

impl Staged<'_> {
    /// Moves the file to its name, which [`Staging::settle`] makes durable.
    pub(super) fn rename_later(self, key: &str) -> Result<()> {
        let staging = self.staging;
        let folder = self.rename(key)?;
        staging.unsettle(&folder);
        Ok(())
    }

    /// Gives the file its name, durably, unless there is one of that name.
    pub(super) fn link(self, key: &str) -> Result<bool> {
        let target = self.staging.root.join(key);
        let folder = target.parent().unwrap_or(&self.staging.root);
        self.staging.create_folder(folder)?;
        match fs::hard_link(&self.path, &target) {
            Ok(()) => Staging::sync_folder(folder).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create", &target, error)),
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // What cannot be removed now goes with the folder.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the folder of a writer that is dead. Failing is no reason not to write.
fn remove_if_dead(folder: &Path) {
    if let Ok(Some(_alive)) = Lock::try_exclusive(&folder.join(ALIVE)) {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Lists the writers of the store at `root`, and what dead ones left behind.
pub(super) fn writers(root: &Path) -> Result<Writers> {
    let mut writers = Writers::default();
    let tmp = root.join("tmp");
    // A folder that is just being made is not locked yet, but its maker has this.
    let Some(_lock) = Lock::look(&root.join("locks").join(FOLDERS))? else {
        return Ok(writers);
    };
    let entries = match tmp.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(writers),
        Err(error) => return Err(Error::io("list", tmp, error)),
    };
    for entry in entries {
        let folder = entry
            .map_err(|error| Error::io("list", &tmp, error))?
            .path();
        if Lock::is_free(&folder.join(ALIVE))? {
            // It may be gone already: a living writer removes what dead ones left.
            let files = folder.read_dir().into_iter().flatten().flatten();
            let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
            writers.leftover += sizes.sum::<u64>();
            continue;
        }
        writers.alive += 1;
        let held = folder.join(HELD);
        match fs::read_to_string(&held) {
            Ok(lines) => writers.held.extend(lines.lines().map(str::to_owned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", held, error)),
        }
    }
    Ok(writers)
}
