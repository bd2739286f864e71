//! Locks between processes: empty files under `locks`, locked with `flock`.
//!
//! The kernel drops such a lock when its holder dies, however it dies, so there
//! are no stale locks and nothing to clean up. The files stay.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::backend::Guard;
use crate::backend::check_key;
use crate::error::{Error, Result};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// What is wrong with the locks of a directory, tried on a file of its own.
#[cfg(feature = "s3")]
pub(crate) fn probe(root: &Path) -> Result<Option<&'static str>> {
    let failed = |error| Error::io("make a file in", root, error);
    let file = tempfile::NamedTempFile::new_in(root).map_err(failed)?;
    let other = file.reopen().map_err(failed)?;
    if let Err(error) = file.as_file().lock() {
        return Err(Error::io("lock a file in", root, error));
    }
    Ok(other
        .try_lock()
        .is_ok()
        .then_some("locks of this file system do not lock: two writers would meet"))
}

impl Lock {
    /// Waits for the lock and holds it alone.
    pub(super) fn exclusive(root: &Path, name: &str) -> Result<Self> {
        let file = open(root, name)?;
        file.lock()
            .map_err(|error| Error::io("lock", root.join("locks").join(name), error))?;
        Ok(Self { _file: file })
    }

    /// Waits for the lock and holds it together with others who share it.
    pub(super) fn shared(root: &Path, name: &str) -> Result<Self> {
        let file = open(root, name)?;
        file.lock_shared()
            .map_err(|error| Error::io("lock", root.join("locks").join(name), error))?;
        Ok(Self { _file: file })
    }

    /// Shares the lock, unless somebody has it alone. Where its file cannot be made,
    /// nobody can have it alone, and there is nothing to share.
    pub(super) fn try_shared(path: &Path) -> Result<Option<Guard>> {
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .or_else(|_| File::open(path));
        let Ok(file) = made else {
            return Ok(Some(Box::new(())));
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(Self { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// Shares a lock for as long as it takes to look, also where nothing can be
    /// written; `None` if nobody ever took it.
    pub(super) fn look(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        file.lock_shared()
            .map_err(|error| Error::io("lock", path, error))?;
        Ok(Some(Self { _file: file }))
    }

    /// Whether nobody has the lock. One that does not exist is free.
    pub(super) fn is_free(path: &Path) -> Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// Holds the lock alone, if nobody else has it.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Error::io("open", path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }
}

fn open(root: &Path, name: &str) -> Result<File> {
    check_key(name)?;
    let path = root.join("locks").join(name);
    let folder = path.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))
}
