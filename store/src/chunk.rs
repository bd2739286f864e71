//! Chunks: the unit of storage, and references to them.
//!
//! A file's content is one chunk when it has at most [`MAX`] bytes, else several,
//! cut where the content says so; an empty file has none. A chunk is named by the
//! blake3 of its bytes and by nothing else: not by its file, image or pack. Two
//! images share whatever chunks they have in common without knowing of each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Blake3, LEN};

/// The most bytes in one chunk, and so the largest file that is not cut.
pub const MAX: usize = 256 * 1024;

/// The fewest bytes in a chunk of a larger file, its last chunk excepted. So the
/// number of a file's references is known from its size, whatever a layout says.
pub const MIN: usize = 16 * 1024;

/// Bytes of a reference in its binary form: the digest and a length.
pub(crate) const REF_LEN: usize = LEN + 4;

/// Names a chunk and says how long it is.
///
/// The length is part of the reference so that a reader knows how much it may
/// decode before it has decoded anything. It is never 0 and at most [`MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef {
    digest: Blake3,
    len: u32,
}

impl ChunkRef {
    /// A reference to a chunk of `len` bytes, if there can be such a chunk.
    pub fn new(digest: Blake3, len: u32) -> Option<Self> {
        (1..=MAX as u32)
            .contains(&len)
            .then_some(Self { digest, len })
    }

    /// The digest of the chunk's bytes.
    pub const fn digest(&self) -> &Blake3 {
        &self.digest
    }

    /// How many bytes the chunk has. There are no empty chunks.
    #[expect(clippy::len_without_is_empty, reason = "a chunk is never empty")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// The reference to a chunk of these bytes, of which there are 1 to [`MAX`].
    #[cfg(feature = "write")]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        debug_assert!((1..=MAX).contains(&bytes.len()));
        Self {
            digest: Blake3::of(bytes),
            len: bytes.len() as u32,
        }
    }

    /// Whether `bytes` are this chunk.
    pub fn names(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.len as usize && Blake3::of(bytes) == self.digest
    }

    /// The binary form: digest, then the length as a little-endian `u32`.
    #[cfg(feature = "write")]
    pub(crate) fn encode(&self) -> [u8; REF_LEN] {
        let mut bytes = [0; REF_LEN];
        bytes[..LEN].copy_from_slice(self.digest.bytes());
        bytes[LEN..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// Reads the binary form; `None` when the length is out of range.
    pub(crate) fn decode(bytes: &[u8; REF_LEN]) -> Option<Self> {
        let (digest, len) = bytes.split_first_chunk::<LEN>()?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        Self::new(Blake3::new(*digest), len)
    }
}

/// The text form, `blake3:HEX:LEN`.
impl fmt::Display for ChunkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.digest, self.len)
    }
}

impl FromStr for ChunkRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digest, len) = text.rsplit_once(':').ok_or("expected blake3:HEX:LEN")?;
        let digest = digest.parse().map_err(|error| format!("{error}"))?;
        len.parse()
            .ok()
            .and_then(|number| Self::new(digest, number))
            // `007` and `+7` parse as numbers; only one spelling may.
            .filter(|chunk| chunk.len.to_string() == len)
            .ok_or_else(|| format!("a chunk has 1 to {MAX} bytes"))
    }
}

impl Serialize for ChunkRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChunkRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_limited() {
        let digest = Blake3::of(b"x");
        assert!(ChunkRef::new(digest, 0).is_none());
        assert!(ChunkRef::new(digest, MAX as u32).is_some());
        assert!(ChunkRef::new(digest, MAX as u32 + 1).is_none());
    }

    #[test]
    fn one_text_form() {
        let chunk = ChunkRef::new(Blake3::of(b"abc"), 3).unwrap();
        assert!(chunk.names(b"abc"));
        assert!(!chunk.names(b"abd"));
        let text = chunk.to_string();
        assert_eq!(text.parse(), Ok(chunk));
        for wrong in [
            format!("{}:03", chunk.digest()),
            format!("{}:+3", chunk.digest()),
            format!("{text} "),
        ] {
            assert!(wrong.parse::<ChunkRef>().is_err(), "{wrong}");
        }
    }
}
