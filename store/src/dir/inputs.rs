//! Retained inputs.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};

/// The inputs that a store retains, by sha256.
#[derive(Clone, Debug)]
pub struct Inputs {
    root: PathBuf,
}

impl Inputs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the input of that digest is, or would be.
    pub fn path(&self, digest: &Sha256) -> PathBuf {
        self.root.join("inputs/sha256").join(digest.hex())
    }

    /// Whether the input is here.
    pub fn has(&self, digest: &Sha256) -> bool {
        self.path(digest).is_file()
    }

    /// Retains what `content` yields, if it is what `expected` says.
    pub fn insert(
        &self,
        _content: &mut dyn Read,
        _expected: Option<&Sha256>,
    ) -> Result<(Sha256, u64)> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Retains a file, which may be moved or linked from where it is.
    pub fn insert_file(&self, _file: &Path, _expected: Option<&Sha256>) -> Result<(Sha256, u64)> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }
}
