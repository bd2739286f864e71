//! One image of a store, read.

use std::io::Write;

use crate::canon::Entry;
use crate::chunk::ChunkRef;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{LayoutRef, Manifest};
use crate::store::Store;

/// An image, ready to be read.
pub struct Image {
    layout: LayoutRef,
    store: Store,
}

/// A part of an image, as [`Image::replay`] hands it out.
#[derive(Debug)]
pub enum Part<'a> {
    /// The next entry, and the exact bytes of its header.
    Entry(&'a Entry, &'a [u8]),
    /// The next bytes of that entry's content.
    Content(&'a [u8]),
}

impl Image {
    pub(crate) fn open(store: Store, manifest: &Manifest) -> Result<Self> {
        Ok(Self {
            layout: manifest.layout.clone(),
            store,
        })
    }

    /// The image's entries in order, each with the chunks of its content.
    pub fn entries(&self) -> Result<Entries<'_>> {
        Ok(Entries { _image: self })
    }

    /// The verified bytes of one chunk.
    pub fn fetch(&self, _chunk: &ChunkRef) -> Result<Vec<u8>> {
        let _ = (&self.layout, &self.store);
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Hands out the image in order: each entry, and the content of those that
    /// `want` asks for. Content is decoded ahead on all cores and verified; memory
    /// stays below 64 MiB.
    pub fn replay(
        &self,
        _want: &mut dyn FnMut(&Entry) -> bool,
        _each: &mut dyn FnMut(Part<'_>) -> Result<()>,
    ) -> Result<()> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }

    /// Writes the image's exact canonical tar, every byte verified before it is
    /// written, and the whole against the image's digest.
    pub fn copy_tar(&self, _output: &mut dyn Write) -> Result<()> {
        Err(Error::new(ErrorKind::Invalid, "not written yet"))
    }
}

/// Iterates over the entries of an [`Image`].
pub struct Entries<'a> {
    _image: &'a Image,
}

impl Iterator for Entries<'_> {
    type Item = Result<(Entry, Vec<ChunkRef>)>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
