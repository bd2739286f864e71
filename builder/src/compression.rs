//! What people compress tar archives with, known by the first bytes and not by the name.
//!
//! Decoders are held to a window of 128 MiB, which is what zstd's and xz's own programs
//! use at most without being told otherwise.

use std::io::{self, BufRead, Read};

/// Bytes of memory that an xz decoder may have.
const XZ_MEMORY: u64 = 160 << 20;

/// The longest beginning by which a compression is known.
pub(crate) const MAGIC: usize = 6;

/// A compression that is read here, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// What is not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Zip,
    /// A compression, and the program that undoes it.
    Compressed {
        with: &'static str,
        program: &'static str,
    },
}

impl Compression {
    /// Looks at the beginning of a file, [`MAGIC`] bytes or more where there are so many.
    pub(crate) fn of(begun: &[u8]) -> Result<Self, Unread> {
        let (with, program) = match begun {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => return Err(Unread::Zip),
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Ok(Self::Xz),
            // A frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                return Ok(Self::Zstd);
            }
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => ("bzip2", "bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => ("lz4", "lz4"),
            [b'L', b'Z', b'I', b'P', ..] => ("lzip", "lzip"),
            [0x1f, 0x9d, ..] => ("compress", "gzip"),
            [0x5d, 0, 0, ..] => ("lzma", "xz"),
            _ => return Ok(Self::Plain),
        };
        Err(Unread::Compressed { with, program })
    }

    /// The tar in it.
    pub(crate) fn decoder<'r>(self, input: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
        Ok(match self {
            Self::Plain => Box::new(input),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Xz => {
                let decoder =
                    xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED)?;
                Box::new(xz2::bufread::XzDecoder::new_stream(input, decoder))
            }
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        })
    }
}
