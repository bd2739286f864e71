//! Web servers as backends, read only.
//!
//! Any server that serves the files of a store's directory will do. What it must
//! know is GET; with ranges (RFC 9110, 14) it serves better. Nothing that it says
//! is believed: lengths are compared with limits before anything is read, and
//! whoever asked compares the content with its digest.
//!
//! | what happens | what is done |
//! |---|---|
//! | the connection cannot be made, breaks, or falls silent | asked again, from where it broke, if the object is still the same (`If-Range`) |
//! | 408, 425, 429, 500, 502, 503, 504 | asked again, later: twice as late each time, and not before `Retry-After` |
//! | less than 1 KiB/s for as long as the patience lasts | refused |
//! | 200 where a range was asked for | the whole object is kept on disk while the image is read |
//! | more bytes than announced, asked for, or allowed | refused |
//! | content that is not its digest's | asked for once more, past all caches; a range that is wrong then too, as a part of the whole object; then refused |
//! | content that was compressed on the way | asked for once more, past all caches; then refused |
//! | a redirect to another scheme, in a circle, or the sixth | refused |
//! | 401, 403, 407, a certificate that is not trusted | refused, with what to do |
//!
//! A name and a password come from the address or a netrc file, go to the server
//! itself only (to no other that it redirects to), and appear in no error.

use super::client::{ClientOptions, HttpUrl, ObjectClient};
use super::prefetch::Prefetch;
use super::{Backend, ObjectRange, Traffic};
use crate::error::Result;

/// A folder of a web server as a backend.
pub struct HttpBackend {
    prefetch: Prefetch,
}

impl HttpBackend {
    /// Prepares to read the store at `address`. Nothing is asked yet.
    pub fn open(address: &HttpUrl, access: &ClientOptions) -> Result<Self> {
        Ok(Self {
            prefetch: Prefetch::new(ObjectClient::web(address, access)?),
        })
    }

    /// A file below the address that is no object of a store, whose name may have
    /// anything in it; percent-encoding stays as it is. No cache on the way may
    /// answer. `None` if there is none; one that is longer than `limit` is an error.
    pub fn get_path(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.prefetch.client().whole(path, limit, true)
    }
}

impl Backend for HttpBackend {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.prefetch.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.prefetch.get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.prefetch.list(prefix)
    }

    fn describe(&self) -> String {
        self.prefetch.describe()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        self.prefetch.prefetch(wanted);
    }

    fn invalidate(&self, key: &str, range: std::ops::Range<u64>) -> bool {
        self.prefetch.invalidate(key, range)
    }

    fn traffic(&self) -> Option<Traffic> {
        self.prefetch.traffic()
    }
}
