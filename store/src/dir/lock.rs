//! Locks between processes: empty files under `locks`, locked with `flock`.
//!
//! The kernel drops such a lock when its holder dies, however it dies, so there
//! are no stale locks and nothing to clean up. The files stay.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::backend::check_key;
use crate::error::{Error, ErrorKind, Result};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock and holds it alone.
    pub(super) fn exclusive(root: &Path, name: &str) -> Result<Self> {
        let file = open(root, name)?;
        file.lock()
            .map_err(|error| Error::io("lock", root.join("locks").join(name), error))?;
        Ok(Self { _file: file })
    }

    /// Holds the lock together with others, unless somebody has it alone.
    pub(super) fn try_shared(root: &Path, name: &str) -> Result<Self> {
        let file = open(root, name)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "the store {} is being cleaned up by another process",
                    root.display()
                ),
            )),
            Err(TryLockError::Error(error)) => {
                Err(Error::io("lock", root.join("locks").join(name), error))
            }
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
