//! A store that notices when somebody else writes the same environment.
//!
//! Writers of environments lock each other out, but on an object store that lock ends
//! by time alone. A writer that stood still, or a request of its that was long on its
//! way, can then meet the next one. So nothing here is put over what was not seen:
//! `timestamp.json`, which decides, is replaced only while it is the one that the change
//! was made for, and what an interrupted change has left under a number that is needed
//! again is replaced as it was read. Whoever loses puts back what it has replaced, since
//! that may be what the winner's timestamp leads to.

use std::cell::RefCell;

use super::MetadataStore;
use super::metadata_store::Guard;
use super::metadata_store::LIMIT;
use crate::{Error, ErrorKind, Result};

/// How often a file is looked at again that others have changed meanwhile.
const ATTEMPTS: usize = 4;

/// See [`self`].
pub(super) struct CompareAndSwap<'s> {
    store: &'s dyn MetadataStore,
    replaced: RefCell<Vec<Replaced>>,
}

struct Replaced {
    key: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl<'s> CompareAndSwap<'s> {
    pub(super) fn new(store: &'s dyn MetadataStore) -> Self {
        Self {
            store,
            replaced: RefCell::default(),
        }
    }

    /// Puts back what was replaced, as far as it is still what was put.
    fn restore(&self) -> Result<()> {
        for Replaced { key, before, after } in self.replaced.take().into_iter().rev() {
            self.store.swap(&key, Some(&after), &before)?;
        }
        Ok(())
    }
}

impl MetadataStore for CompareAndSwap<'_> {
    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.store.read(key, limit)
    }

    fn invalidate(&self, key: &str) -> bool {
        self.store.invalidate(key)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let before = match self.store.read(key, LIMIT) {
                // No metadata that anybody would read.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return self.store.replace(key, bytes);
                }
                before => before?,
            };
            if self.store.swap(key, before.as_deref(), bytes)? {
                if let Some(before) = before.filter(|before| before != bytes) {
                    self.replaced.borrow_mut().push(Replaced {
                        key: key.to_owned(),
                        before,
                        after: bytes.to_vec(),
                    });
                }
                return Ok(());
            }
        }
        let text = format!("somebody else keeps writing {key}");
        Err(Error::new(ErrorKind::Busy, text))
    }

    fn swap(&self, key: &str, old: Option<&[u8]>, new: &[u8]) -> Result<bool> {
        let swapped = self.store.swap(key, old, new)?;
        if !swapped {
            self.restore()?;
        }
        Ok(swapped)
    }

    fn lock(&self) -> Result<Guard> {
        self.store.lock()
    }
}
