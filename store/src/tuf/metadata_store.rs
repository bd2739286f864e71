//! The little that an environment asks of a store.
//!
//! A trait, and not the directory store itself, for two reasons: environments
//! on other writable stores come through here, and the tests put a store behind
//! it that fails at a chosen write, which is how every crash point of a release
//! is tried.

use std::any::Any;

use crate::{Error, ErrorKind, Result, Store, WritableStore};

/// More is not read; clients of TUF have the same limit.
pub(super) const LIMIT: u64 = 5 * 1024 * 1024;

/// The lock of all writers of environments.
pub(crate) const LOCK: &str = "environments";

/// Keeps the store locked until it is dropped.
pub type Guard = Box<dyn Any>;

/// Named files that are replaced as a whole.
pub trait MetadataStore {
    /// The bytes under `key`, `None` if there are none; an error if there are
    /// more than `limit`.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// What was read under `key` was refused. True if reading once more can bring
    /// something else; the next reading then goes past all caches.
    fn invalidate(&self, _key: &str) -> bool {
        false
    }

    /// Puts `bytes` under `key`, replacing what was there. Atomic for readers,
    /// and durable before it returns.
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Puts `new` under `key` only if what is there still is `old` (`None`: nothing);
    /// `false` if it is not. A lock keeps other writers out; where it has no kernel to
    /// end it with its holder, a writer that stood still may come back to find that
    /// another went on without it, and this is how it learns that.
    fn swap(&self, key: &str, old: Option<&[u8]>, new: &[u8]) -> Result<bool> {
        let there = match self.read(key, LIMIT) {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
            there => there?,
        };
        if there.as_deref() != old {
            return Ok(false);
        }
        self.replace(key, new)?;
        Ok(true)
    }

    /// Waits for other writers of environments and keeps them out.
    fn lock(&self) -> Result<Guard>;
}

impl MetadataStore for WritableStore {
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        // Named in full: the store's read side has the same name as this method.
        WritableStore::store(self).backend().get(key, limit)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put(key, bytes)
    }

    fn swap(&self, key: &str, old: Option<&[u8]>, new: &[u8]) -> Result<bool> {
        let there = match self.backend().get_versioned(key, LIMIT) {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
            there => there?,
        };
        match (there, old) {
            (None, None) => self.backend().put_new(key, new),
            (Some((there, seen)), Some(old)) if there == old => {
                self.backend().replace(key, new, &seen)
            }
            _ => Ok(false),
        }
    }

    fn lock(&self) -> Result<Guard> {
        Ok(Box::new(WritableStore::lock(self, LOCK)?))
    }
}

/// Environments that are only read.
impl MetadataStore for Store {
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.backend().get(key, limit)
    }

    fn invalidate(&self, key: &str) -> bool {
        self.backend().invalidate(key, 0..u64::MAX)
    }

    fn replace(&self, key: &str, _: &[u8]) -> Result<()> {
        Err(read_only(key))
    }

    fn lock(&self) -> Result<Guard> {
        Err(read_only("environments"))
    }
}

fn read_only(what: &str) -> Error {
    let text = format!("{what} cannot be written: the store was opened to read it");
    Error::new(ErrorKind::ReadOnly, text)
}
