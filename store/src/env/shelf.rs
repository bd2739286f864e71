//! The little that an environment asks of a store.
//!
//! A trait, and not the directory store itself, for two reasons: environments
//! on other writable stores come through here, and the tests put a shelf behind
//! it that fails at a chosen write, which is how every crash point of a release
//! is tried.

use std::any::Any;

use crate::{DirStore, Result};

/// Keeps the shelf locked until it is dropped.
pub type Guard = Box<dyn Any>;

/// Named files that are replaced as a whole.
pub trait Shelf {
    /// The bytes under `key`, `None` if there are none; an error if there are
    /// more than `limit`.
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Puts `bytes` under `key`, replacing what was there. Atomic for readers,
    /// and durable before it returns.
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Waits for other writers of environments and keeps them out.
    fn lock(&self) -> Result<Guard>;
}

impl Shelf for DirStore {
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        // Named in full: the store's read side has the same name as this method.
        DirStore::read(self).backend().get(key, limit)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put(key, bytes)
    }

    fn lock(&self) -> Result<Guard> {
        Ok(Box::new(DirStore::lock(self, "environments")?))
    }
}
