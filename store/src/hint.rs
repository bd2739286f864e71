//! Hints: in which packs an image's chunks are, for readers that cannot list.
//!
//! A hint is the only mutable object about an image, and nothing depends on its
//! truth. A pack that it forgets is found by listing; a pack that it names in vain
//! is passed over. See [`crate::format::hint`].

use serde::{Deserialize, Serialize};

use crate::digest::{Blake3, ImageId};
use crate::error::{Error, Result};

/// The longest hint that is read.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// Where an image's chunks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hint {
    /// The packs that hold chunks of the image.
    pub(crate) packs: Vec<Blake3>,
    /// When the image was published here, in seconds since 1970.
    pub(crate) published: u64,
}

impl Hint {
    /// The key of an image's hint.
    pub(crate) fn key(image: &ImageId) -> String {
        format!("hints/{}.json", image.hex())
    }

    /// Reads a hint.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("a hint", &error).with_source(error))
    }

    /// The JSON form of this hint.
    #[cfg(feature = "write")]
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a hint has a JSON form")
    }
}
