//! Where metadata and releases come from.

use std::cell::RefCell;
use std::collections::BTreeSet;

use store::ErrorKind as StoreErrorKind;
use store::backend::{Backend, forbidden_is_absent};
use store::name::EnvName;
use store::tuf::paths;
use store::{ClientOptions, HttpBackend, HttpUrl};

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

    /// Lets the next requests go past all caches, after something was refused. True if asking once
    /// more can bring something else.
    fn bypass_caches(&self) -> bool {
        false
    }
}

/// Asks once more for what was refused: a bit may have flipped on its way, or an old
/// file lie in a cache. What is refused twice is refused.
pub(super) fn twice<T>(
    repository: &dyn Repository,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    match attempt() {
        Err(error) if error.kind().may_be_transient() && repository.bypass_caches() => attempt(),
        other => other,
    }
}

/// An environment of a store, wherever that store is.
pub(super) struct StoreRepository<'a> {
    backend: &'a dyn Backend,
    env: &'a EnvName,
    /// The keys that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> StoreRepository<'a> {
    pub(super) fn new(backend: &'a dyn Backend, env: &'a EnvName) -> Self {
        Self {
            backend,
            env,
            asked: RefCell::default(),
        }
    }

    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.asked.borrow_mut().insert(key.to_owned());
        walked(key, self.backend.get(key, limit))
            .map_err(|e| failed(e, key, limit, &self.backend.describe()))
    }
}

/// The walk of roots ends at one that is not there, and a server that does not list may
/// forbid to read it.
fn walked(key: &str, found: store::Result<Option<Vec<u8>>>) -> store::Result<Option<Vec<u8>>> {
    if key.ends_with(".root.json") {
        return forbidden_is_absent(found);
    }
    found
}

fn failed(e: store::Error, key: &str, limit: u64, place: &str) -> Error {
    // Corrupt is the one thing that `get` itself finds wrong: too long.
    if e.kind() == StoreErrorKind::Corrupt {
        let text = format!("{key} has more than the {limit} bytes that it may have");
        return Error::new(ErrorKind::TooLarge, text);
    }
    let text = format!("cannot fetch {key} from {place}");
    let hint = e.hint().map(str::to_owned);
    let error = Error::new(ErrorKind::Transport, text).with_source(e);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Two folders of a web server.
pub struct HttpRepository {
    metadata: HttpBackend,
    targets: Option<HttpBackend>,
}

impl HttpRepository {
    /// The repository whose metadata and targets are in these folders. Nothing is
    /// asked yet.
    pub fn open(
        metadata: &HttpUrl,
        targets: Option<&HttpUrl>,
        access: &ClientOptions,
    ) -> store::Result<Self> {
        Ok(Self {
            metadata: HttpBackend::open(metadata, access)?,
            targets: targets
                .map(|at| HttpBackend::open(at, access))
                .transpose()?,
        })
    }
}

impl Repository for HttpRepository {
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        walked(file, self.metadata.get_path(file, limit))
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

impl Repository for StoreRepository<'_> {
    fn metadata(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.get(&paths::metadata(self.env, file), limit)
    }

    fn target(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.get(&format!("{}targets/{path}", paths::home(self.env)), limit)
    }

    fn bypass_caches(&self) -> bool {
        let asked = self.asked.borrow();
        // Every one of them.
        asked
            .iter()
            .filter(|key| self.backend.invalidate(key, 0..u64::MAX))
            .count()
            > 0
    }
}
