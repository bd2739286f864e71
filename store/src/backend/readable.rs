//! The read side of a backend: what every reader of a store needs.

use std::ops::Range;

use crate::error::{ErrorKind, Result};

/// A source of objects and ranges of objects.
pub trait Backend: Send + Sync {
    /// The whole object, or `None` when there is none of that name. An object
    /// longer than `limit` bytes is an error, found before it is read in full.
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Exactly `len` bytes from `offset`; a shorter object is an error.
    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>>;

    /// The keys directly below `prefix` (which ends in `/`), sorted, or `None`
    /// where the backend cannot list.
    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>>;

    /// The name that a person recognises: a path or URL, without a password.
    fn describe(&self) -> String;

    /// Whether every request is a round trip, so that readers should
    /// [`prefetch`](Self::prefetch).
    fn is_remote(&self) -> bool {
        false
    }

    /// Announces what a reader is about to ask for, in this order. It only saves time:
    /// requests are answered without it as well.
    fn prefetch(&self, _wanted: Vec<ObjectRange>) {}

    /// Drops what is cached of these bytes, which were not what they should be. True if
    /// asking once more can bring others; the next request then goes past all caches.
    fn invalidate(&self, _key: &str, _range: Range<u64>) -> bool {
        false
    }

    /// Counts of the requests so far; `None` for a backend without requests.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// Bytes of an object that will be needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRange {
    /// The object.
    pub key: String,
    /// Its bytes.
    pub range: Range<u64>,
}

/// What a backend asked a server for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Requests that repeat one that failed.
    pub repeated: u64,
    /// Bytes of content that came.
    pub received: u64,
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        (**self).get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        (**self).get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        (**self).list(prefix)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn is_remote(&self) -> bool {
        (**self).is_remote()
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        (**self).prefetch(wanted);
    }

    fn invalidate(&self, key: &str, range: Range<u64>) -> bool {
        (**self).invalidate(key, range)
    }

    fn traffic(&self) -> Option<Traffic> {
        (**self).traffic()
    }
}

/// Takes an object that may not be read for one that is not there: servers that do not
/// list say the same of both. For objects that need not be there.
pub fn forbidden_is_absent<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::Forbidden => Ok(None),
        found => found,
    }
}

/// An object that `read` can make sense of. If it cannot, and the object may have
/// been hurt on its way, it is fetched once more.
pub(crate) fn get_checked<T>(
    backend: &dyn Backend,
    key: &str,
    limit: u64,
    read: impl Fn(Vec<u8>) -> Result<T>,
) -> Result<Option<T>> {
    let get = || backend.get(key, limit)?.map(&read).transpose();
    match get() {
        Err(error)
            if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid)
                && backend.invalidate(key, 0..u64::MAX) =>
        {
            get()
        }
        other => other,
    }
}
