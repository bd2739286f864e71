//! The bill of materials of an image: what is installed in it.
//!
//! ```text
//! cyclonedx  contents -> CycloneDX 1.6 JSON
//! spdx       contents -> SPDX 2.3 JSON
//! contents   an image, and the lock if it has one -> what is installed
//! origin     a distribution -> an index, or whose own it is
//! purl       package URLs, as scanners match them
//! ```
//!
//! It is read from the image itself, so imported images have one too: os-release(5),
//! dpkg's status, the metadata of Python distributions. A lock adds digests of the files
//! that were installed. What only the build needed is not in the image and not in its bill.
//! Nothing in it depends on when or where it is written: its time is the image's epoch, its
//! serial number a digest of the manifest.

pub(super) mod contents;
mod cyclonedx;
pub(super) mod origin;
pub(super) mod purl;
mod spdx;

use common::clock::rfc3339;
use serde_json::Value;
use store::{Blake3, Manifest, Store};

use self::contents::Contents;
use crate::error::{Error, Result};
use crate::stores::ancestry::BuiltFrom;

/// What the document is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// [CycloneDX 1.6](https://cyclonedx.org/docs/1.6/json/), JSON.
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// [SPDX 2.3](https://spdx.github.io/spdx-spec/v2.3/), JSON.
    Spdx,
}

impl Format {
    /// The type of in-toto's predicate that is such a document.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "https://cyclonedx.org/bom",
            Self::Spdx => "https://spdx.dev/Document",
        }
    }
}

/// The bill of materials of an image in the store, and of what it and those below it were built from.
pub fn bill(
    store: &Store,
    manifest: &Manifest,
    built: &[BuiltFrom],
    format: Format,
) -> Result<Value> {
    let contents = Contents::read(store, manifest, built)?;
    let lock = built.first().map(|built| &built.lock);
    match format {
        Format::CycloneDx => cyclonedx::write(manifest, lock, &contents),
        Format::Spdx => spdx::write(manifest, &contents),
    }
}

/// A UUID of our own making (RFC 9562, version 8): the manifest's digest.
fn serial(manifest: &Manifest) -> String {
    let digest = Blake3::of(&manifest.to_json());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = common::hex::encode(&bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// The image's time as RFC 3339 has it.
fn time(manifest: &Manifest) -> Result<String> {
    let epoch = manifest.epoch;
    rfc3339(epoch).ok_or_else(|| Error::failed(format!("the epoch {epoch} is no time")))
}
