//! A store that is a directory, written.

use std::path::{Path, PathBuf};

use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{LayoutRef, Manifest, SpecialFile, XattrEntry};
use crate::store::Store;

mod inputs;

pub use self::inputs::Inputs;

/// A directory store, open for writing.
pub struct DirStore {
    root: PathBuf,
    read: Store,
}

/// A lock of the store that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

impl DirStore {
    /// Opens the store at `root`, or makes one in a directory that is empty or
    /// does not exist.
    pub fn open_or_create(_root: impl AsRef<Path>) -> Result<Self> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The read side.
    pub fn read(&self) -> &Store {
        &self.read
    }

    /// The retained inputs.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(self.root.clone())
    }

    /// Waits for the exclusive lock called `name` (for example an environment's)
    /// and holds it until the guard is dropped.
    pub fn lock(&self, _name: &str) -> Result<Lock> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Writes an object durably: whoever looks finds the old bytes or the new
    /// ones, also after a power cut.
    pub fn put(&self, _key: &str, _bytes: &[u8]) -> Result<()> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Publishes a manifest; the image must be here. This is the last step of a
    /// publication, and what makes the image visible.
    pub fn put_manifest(&self, _manifest: &Manifest) -> Result<()> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Stores the tree at `tree` as an image.
    pub fn publish_tree(
        &self,
        _tree: &Path,
        _epoch: u64,
        _progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Published> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }
}

/// How far a publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The tree was listed: so many entries, and bytes of content.
    Scanned {
        /// Entries of the tree.
        entries: u64,
        /// Bytes of content in it.
        bytes: u64,
    },
    /// So many bytes of content were read so far.
    Read {
        /// Bytes read.
        bytes: u64,
    },
    /// What was written is being read back; so many bytes so far.
    Checked {
        /// Bytes of content read back.
        bytes: u64,
        /// Bytes of content to read back.
        total: u64,
    },
}

/// What a publication made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The image.
    pub image: ImageId,
    /// The sha256 of its canonical tar.
    pub sha256: Sha256,
    /// Bytes of its canonical tar.
    pub size: u64,
    /// Its entries.
    pub entries: u64,
    /// Its layout.
    pub layout: LayoutRef,
    /// Its setuid and setgid files.
    pub setuid: Vec<SpecialFile>,
    /// Its extended attributes.
    pub xattrs: Vec<XattrEntry>,
    /// Bytes that the store grew by.
    pub written: u64,
    /// Chunks that the store lacked.
    pub chunks_new: u64,
    /// Different chunks of the image and its layout.
    pub chunks_total: u64,
    /// The packs that hold the image's chunks.
    pub packs: Vec<Blake3>,
}
