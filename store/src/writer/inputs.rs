//! Retained inputs: every .deb, wheel, sdist and archive that an image was ever
//! built from, by sha256. Mirrors forget; the store does not, so an image can be
//! rebuilt from the store alone.
//!
//! An input is whole and checked when it has its name, and never changes after.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::Digest as _;

use crate::backend::WritableBackend;
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::store::input_key;

/// The inputs that a store retains.
#[derive(Clone)]
pub struct Inputs {
    backend: Arc<dyn WritableBackend>,
    root: PathBuf,
}

impl Inputs {
    pub(super) fn new(backend: Arc<dyn WritableBackend>, root: PathBuf) -> Self {
        Self { backend, root }
    }

    /// Where the input of that digest is, or would be.
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        self.root.join(input_key(digest))
    }

    /// Whether the input is here. If so, it stays while the store is open.
    pub fn has(&self, digest: &Sha256) -> bool {
        // Where the answer cannot be had, whoever opens the input says why.
        self.hold(digest).unwrap_or(false)
    }

    fn hold(&self, digest: &Sha256) -> Result<bool> {
        let held = self.backend.hold(&[input_key(digest)])?;
        Ok(held.contains(&true))
    }

    /// Retains what `content` yields, if it is what `expected` says, and returns
    /// its digest and size. Durable when it returns.
    pub fn insert(
        &self,
        content: &mut dyn Read,
        expected: Option<&Sha256>,
    ) -> Result<(Sha256, u64)> {
        let mut draft = self.backend.create()?;
        let (found, size) = hash(content, &mut |bytes| draft.write(bytes))?;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the input is not what was asked for: its digest is {found}, not {expected}"
                ),
            ));
        }
        if !self.hold(&found)? {
            draft.finish(&input_key(&found))?;
            self.backend.sync()?;
        }
        Ok((found, size))
    }

    /// Retains a file. It is copied, never linked: whoever still writes to it could
    /// change a retained input otherwise.
    pub fn insert_file(&self, file: &Path, expected: Option<&Sha256>) -> Result<(Sha256, u64)> {
        let mut content = File::open(file).map_err(|error| Error::io("open", file, error))?;
        self.insert(&mut content, expected)
    }

    /// Reads an input again and compares it with its name.
    pub fn verify(&self, digest: &Sha256) -> Result<u64> {
        let path = self.path(digest);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::missing(format_args!("the input {digest}"), self.backend.describe())
            }
            _ => Error::io("open", &path, error),
        })?;
        let (found, size) = hash(&mut file, &mut |_| Ok(()))?;
        if found != *digest {
            return Err(Error::corrupt(
                path.display(),
                format_args!("its digest is {found}"),
            ));
        }
        Ok(size)
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inputs").field(&self.root).finish()
    }
}

/// Hashes what `content` yields while it passes it on.
fn hash(
    content: &mut dyn Read,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let len = match content.read(&mut buffer) {
            Ok(0) => return Ok((Sha256::finish(hasher), size)),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", "an input", error)),
        };
        hasher.update(&buffer[..len]);
        each(&buffer[..len])?;
        size += len as u64;
    }
}
