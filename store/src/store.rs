//! A store, read.

use std::sync::Arc;

use crate::backend::Backend;
use crate::digest::ImageId;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::Manifest;
use crate::name::ImageName;

/// The read side of a store, on any backend.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

/// An image that a store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The image.
    pub image: ImageId,
    /// What its recipe calls it.
    pub name: ImageName,
    /// When it was published here, in seconds since 1970; 0 when not known.
    pub published: u64,
}

impl Store {
    /// Opens the store at `backend`, after a look at its format marker.
    pub fn open(backend: Box<dyn Backend>) -> Result<Self> {
        Ok(Self {
            backend: backend.into(),
        })
    }

    /// Where the store's bytes come from.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The manifest of an image.
    pub fn manifest(&self, _image: &ImageId) -> Result<Manifest> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Every image here, the newest first.
    pub fn images(&self) -> Result<Vec<Listed>> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// The image that `text` means: a digest, a unique prefix of one with 8 or
    /// more digits, or a name (its newest image).
    pub fn resolve(&self, _text: &str) -> Result<ImageId> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// The image that `manifest` describes, ready to be read.
    pub fn image(&self, manifest: &Manifest) -> Result<Image> {
        Image::open(self.clone(), manifest)
    }

    /// Reads every byte of an image and compares it with its manifest: the layout,
    /// each chunk, both digests of the tar, its size, the number of entries and
    /// the lists of privileged files.
    pub fn verify_image(&self, _manifest: &Manifest) -> Result<()> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Whether the objects that an image needs are all here. Cheap: no content is
    /// read, so damage is not noticed.
    pub fn has_image_objects(&self, _manifest: &Manifest) -> Result<bool> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }
}
