//! Deltas: what a machine that has one image lacks of another, made from what it has.
//!
//! A delta belongs to a pair of images. It holds every chunk that the second one
//! has and the first one has not, once, made from content of the first one that it
//! resembles. It is a disposable extra: whoever reads an image with one gets
//! the same chunks as from packs, each compared with the digest that the signed
//! layout gives, and packs step in for what a delta cannot give.
//!
//! ```text
//! FROM, TO --make--> groups: fresh runs of TO, and runs of FROM that resemble them
//!                      |
//!          one patch each, of FROM's runs, compressed with zstd
//! ```
//!
//! A run names chunks by their place in an image and not by their digest: a reader
//! has both layouts, and places compress where digests do not. What a patch is of is
//! always content of FROM, so frames depend on no other frame, and there is nothing that
//! could go in circles. The format has its page at
//! [`crate::format::delta`].

mod number;
pub(crate) mod patch;
mod read;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use self::read::Delta;
pub use self::read::PreviousImage;
#[cfg(feature = "write")]
pub(crate) use self::table::{CHUNKS_MAX, Group, Run, Table};
use crate::digest::{Blake3, ImageId};
use crate::error::{Error, Result};
use crate::pack::FRAME_MAX;

/// The first bytes of a delta: name and version of the format.
pub(crate) const MAGIC: [u8; 8] = *b"imgdlt\x00\x02";

/// The version of descriptions and of deltas that are written, and used. A delta of an earlier
/// one is as good as none.
pub(crate) const SCHEMA: u32 = 2;

/// The most bytes that a patch makes.
pub(crate) const FRESH_MAX: usize = FRAME_MAX;

/// The most bytes that a patch is of.
pub(crate) const PRIOR_MAX: usize = 12 << 20;

/// The most bytes that a table has in a delta.
const TABLE_MAX: u32 = 17 << 20;

/// The longest description of a pair that is read.
const PAIR_MAX: u64 = 4096;

/// Folder of deltas and descriptions, as a prefix of keys.
pub const FOLDER: &str = "deltas/";

/// A delta of a store, and what other ways to the same image would cost.
///
/// Nobody signs this: it decides what is fetched, and never what is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaInfo {
    /// Version of this document, and of the delta: 2, or 1 of one that nobody reads any more.
    pub schema: u32,
    /// The image that is there.
    pub from: ImageId,
    /// The image that is wanted.
    pub to: ImageId,
    /// The delta's bytes, by digest.
    pub delta: Blake3,
    /// Bytes of the delta.
    pub size: u64,
    /// Bytes at its end that describe the rest.
    pub table: u32,
    /// Bytes to fetch from packs by range instead, indexes included.
    pub packs: u64,
    /// Bytes of everything that the wanted image takes in packs.
    pub whole: u64,
}

impl DeltaInfo {
    /// The key of the description.
    pub fn key(from: &ImageId, to: &ImageId) -> String {
        format!("{FOLDER}{}/{}.json", to.hex(), from.hex())
    }

    /// The key of the delta.
    pub fn delta_key(&self) -> String {
        delta_key(&self.delta)
    }

    /// Reads a description.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let pair: Self = serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("the description of a delta", &error))?;
        let least = MAGIC.len() as u64 + u64::from(pair.table);
        let is_odd = pair.table == 0 || pair.table > TABLE_MAX || pair.size < least;
        if !(1..=SCHEMA).contains(&pair.schema) || is_odd {
            return Err(Error::corrupt(
                "the description of a delta",
                "it contradicts itself, or is of another version",
            ));
        }
        Ok(pair)
    }

    /// Whether this version can read the delta, and not only its description.
    pub(crate) fn is_current(&self) -> bool {
        self.schema == SCHEMA
    }

    /// The JSON form of this description.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a pair has a JSON form")
    }
}

/// The key of the delta of that digest.
pub(crate) fn delta_key(delta: &Blake3) -> String {
    format!("{FOLDER}{}.delta", delta.hex())
}

/// The delta with this key.
#[cfg(feature = "write")]
pub(crate) fn parse_delta_key(key: &str) -> Option<Blake3> {
    let hex = key.strip_prefix(FOLDER)?.strip_suffix(".delta")?;
    Blake3::from_hex(hex).ok()
}

/// The two images of the description with this key, FROM and TO.
#[cfg(feature = "write")]
pub(crate) fn parse_pair_key(key: &str) -> Option<(ImageId, ImageId)> {
    let (to, from) = key.strip_prefix(FOLDER)?.split_once('/')?;
    let from = from.strip_suffix(".json")?;
    Some((Blake3::from_hex(from).ok()?, Blake3::from_hex(to).ok()?))
}

/// The longest description, for whoever reads one.
pub(crate) const fn pair_limit() -> u64 {
    PAIR_MAX
}
