//! Where metadata and releases come from.

use store::ErrorKind as StoreErrorKind;
use store::backend::Backend;
use store::env::paths;
use store::name::EnvName;
use store::{Access, Address, HttpBackend};

use super::error::{Error, ErrorKind, Result};

/// A TUF repository: a place for metadata and a place for targets.
pub trait Repository {
    /// A metadata file (`3.root.json`), `None` if there is none of that name.
    /// Fails with [`ErrorKind::TooLarge`] beyond `limit`. The name of a delegated
    /// role comes percent-encoded (RFC 3986, 2.1), its slashes too.
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// A target by its path below the targets folder, with the hash before its
    /// name where the repository has consistent snapshots.
    fn target(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>>;
}

/// An environment of a store, wherever that store is.
pub(super) struct InStore<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) env: &'a EnvName,
}

impl InStore<'_> {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.backend
            .get(key, limit)
            .map_err(|e| failed(e, key, limit, &self.backend.describe()))
    }
}

fn failed(e: store::Error, key: &str, limit: u64, place: &str) -> Error {
    // Corrupt is the one thing that `get` itself finds wrong: too long.
    if e.kind() == StoreErrorKind::Corrupt {
        let text = format!("{key} has more than the {limit} bytes that it may have");
        return Error::new(ErrorKind::TooLarge, text);
    }
    let text = format!("cannot fetch {key} from {place}");
    Error::new(ErrorKind::Transport, text).with_source(e)
}

/// Two folders of a web server.
pub struct Web {
    metadata: HttpBackend,
    targets: Option<HttpBackend>,
}

impl Web {
    /// The repository whose metadata and targets are in these folders. Nothing is
    /// asked yet.
    pub fn open(
        metadata: &Address,
        targets: Option<&Address>,
        access: &Access,
    ) -> store::Result<Self> {
        Ok(Self {
            metadata: HttpBackend::open(metadata, access)?,
            targets: targets
                .map(|at| HttpBackend::open(at, access))
                .transpose()?,
        })
    }
}

impl Repository for Web {
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.metadata
            .get_path(file, limit)
            .map_err(|e| failed(e, file, limit, &self.metadata.describe()))
    }

    fn target(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(targets) = &self.targets else {
            return Ok(None);
        };
        targets
            .get_path(path, limit)
            .map_err(|e| failed(e, path, limit, &targets.describe()))
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
