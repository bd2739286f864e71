//! Packs and their indexes: how chunks lie in files.
//!
//! A pack is a file of zstd frames, each of several chunks, named by the blake3 of
//! its bytes and never changed. Beside it lies an index that says which chunks are
//! in which frame. The formats are on two pages: [`crate::format::pack`] and
//! [`crate::format::index`].
//!
//! Neither is trusted. A chunk is named by its own digest, so the worst that a
//! wrong pack or index can do is to not contain what was asked for, and the limits
//! below bound the work it takes to notice.

mod frame;
mod index;
#[cfg(feature = "write")]
mod writer;

pub(crate) use self::frame::Decoder;
#[cfg(feature = "write")]
pub(crate) use self::frame::{Encoder, Fault};
pub(crate) use self::index::{Frame, Index};
#[cfg(feature = "write")]
pub(crate) use self::writer::{Frames, OpenPack, PackWriter};

use crate::digest::Blake3;

/// The first bytes of a pack: name and version of the format.
pub(crate) const MAGIC: [u8; 8] = *b"imgpak\x00\x01";

/// The most bytes that a frame decodes to.
pub(crate) const FRAME_MAX: usize = 4 << 20;

/// The most chunks in a frame. Chunks of a few bytes would otherwise make an
/// index that is larger than its pack.
pub(crate) const FRAME_CHUNKS: usize = 8192;

/// The most chunks in a pack: bounds its index to some 10 MiB.
pub(crate) const PACK_CHUNKS: usize = 1 << 18;

/// The longest pack that is read. Writers stop at half of this.
pub(crate) const PACK_MAX: u64 = crate::backend::OBJECT_MAX;

/// Folder of packs and indexes, as a prefix of keys.
pub(crate) const FOLDER: &str = "packs/";

/// The key of a pack.
pub(crate) fn pack_key(pack: &Blake3) -> String {
    format!("{FOLDER}{}.pack", pack.hex())
}

/// The key of a pack's index.
pub(crate) fn index_key(pack: &Blake3) -> String {
    format!("{FOLDER}{}.index", pack.hex())
}

/// The pack that has this key, if it is the key of a pack.
#[cfg(feature = "write")]
pub(crate) fn parse_pack_key(key: &str) -> Option<Blake3> {
    let hex = key.strip_prefix(FOLDER)?.strip_suffix(".pack")?;
    Blake3::from_hex(hex).ok()
}

/// The keys of packs and of their indexes.
#[cfg(feature = "write")]
pub(crate) fn keys(packs: impl IntoIterator<Item = Blake3>) -> Vec<String> {
    let both = |pack: Blake3| [pack_key(&pack), index_key(&pack)];
    packs.into_iter().flat_map(both).collect()
}

/// The pack whose index has this key, if it is the key of an index.
pub(crate) fn parse_index_key(key: &str) -> Option<Blake3> {
    let hex = key.strip_prefix(FOLDER)?.strip_suffix(".index")?;
    Blake3::from_hex(hex).ok()
}
