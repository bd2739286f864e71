//! Files on their way into the store.
//!
//! Each writer has a folder of its own under `tmp` and holds a lock on a file in
//! it. A folder whose lock can be had belongs to a writer that is dead (process
//! numbers would not tell: they are reused, and differ between namespaces), so the
//! next writer removes it. Making and removing folders happens under one more
//! lock, or a folder could be removed between its making and its locking.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock::Lock;
use crate::error::{Error, Result};

/// The file in a writer's folder that the writer has locked while it lives.
const ALIVE: &str = "alive";

/// A writer's folder, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    folder: PathBuf,
    next: AtomicU64,
    _alive: Lock,
}

impl Staging {
    /// Makes a folder for this writer and removes those of dead ones.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let tmp = root.join("tmp");
        let _lock = Lock::exclusive(root, "tmp")?;
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
            _alive: alive,
        })
    }

    /// The store's directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
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
        Ok(Staged {
            staging: self,
            path,
            file,
        })
    }

    /// Writes an object: whole, durable, and under its name only then.
    pub(super) fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let mut staged = self.create()?;
        staged.write(bytes)?;
        staged.sync()?;
        Self::sync_folder(&staged.rename(key)?)
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
            _ => Self::sync_folder(parent),
        }
    }
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
