//! Where metadata and releases come from.

use store::ErrorKind as StoreErrorKind;
use store::backend::Backend;
use store::env::paths;
use store::name::EnvName;

use super::error::{Error, ErrorKind, Result};

/// A TUF repository: a place for metadata and a place for targets.
pub(super) trait Repository {
    /// A metadata file (`3.root.json`), `None` if there is none of that name.
    /// Fails with [`ErrorKind::TooLarge`] beyond `limit`.
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// A target by its path below the targets folder.
    fn target(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>>;
}

/// An environment of a store, wherever that store is.
pub(super) struct InStore<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) env: &'a EnvName,
}

impl InStore<'_> {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.backend.get(key, limit).map_err(|e| {
            // Corrupt is the one thing that `get` itself finds wrong: too long.
            if e.kind() == StoreErrorKind::Corrupt {
                let text = format!("{key} has more than the {limit} bytes that it may have");
                return Error::new(ErrorKind::TooLarge, text);
            }
            let text = format!("cannot fetch {key} from {}", self.backend.describe());
            Error::new(ErrorKind::Transport, text).with_source(e)
        })
    }
}

impl Repository for InStore<'_> {
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.get(&paths::metadata(self.env, file), limit)
    }

    fn target(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.get(&format!("{}targets/{path}", paths::home(self.env)), limit)
    }
}
