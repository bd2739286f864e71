//! One frame: compressing chunks together, and getting them back.

use zstd::zstd_safe;

use super::FRAME_MAX;
use crate::chunk::ChunkRef;

/// Why stored bytes are not the frame that an index promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not say that it decodes to what the index says.
    Size,
    /// zstd refuses it.
    Zstd,
    /// It decodes to something else than this chunk.
    Chunk(ChunkRef),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size => f.write_str("a frame announces another size than its index"),
            Self::Zstd => f.write_str("a frame does not decompress"),
            Self::Chunk(chunk) => write!(f, "a frame does not hold the chunk {chunk}"),
        }
    }
}

/// Decodes frames. Keep one per thread: its tables are worth reusing.
pub(crate) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    spare: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new()?,
            spare: Vec::new(),
        })
    }

    /// Takes a buffer that nobody needs any more for the next frame: to touch fresh
    /// memory for each of them takes a good part of the time of decoding it.
    pub(crate) fn reuse(&mut self, spare: Vec<u8>) {
        self.spare = spare;
    }

    /// Decodes `stored`, which must be exactly `chunks` one after the other.
    ///
    /// The size is compared before any work is done, and the output cannot outgrow
    /// it. zstd decodes in place, so a window that a frame claims costs nothing.
    pub(crate) fn decode(&mut self, stored: &[u8], chunks: &[ChunkRef]) -> Result<Vec<u8>, Fault> {
        let bytes = self.decode_unchecked(stored, chunks)?;
        let mut rest = &bytes[..];
        for chunk in chunks {
            let (content, behind) = rest
                .split_at_checked(chunk.len() as usize)
                .ok_or(Fault::Size)?;
            if !chunk.names(content) {
                return Err(Fault::Chunk(*chunk));
            }
            rest = behind;
        }
        Ok(bytes)
    }

    /// The same, but no chunk is compared with its digest yet. What is returned is
    /// as long as the chunks together.
    pub(crate) fn decode_unchecked(
        &mut self,
        stored: &[u8],
        chunks: &[ChunkRef],
    ) -> Result<Vec<u8>, Fault> {
        let size: u64 = chunks.iter().map(|chunk| u64::from(chunk.len())).sum();
        let announced = zstd_safe::get_frame_content_size(stored).map_err(|_| Fault::Zstd)?;
        if announced != Some(size) || size > FRAME_MAX as u64 {
            return Err(Fault::Size);
        }
        // Exactly one frame, nothing behind it: bytes nobody decodes could be anything.
        if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
            return Err(Fault::Zstd);
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.reserve_exact(size as usize);
        self.zstd
            .decompress_to_buffer(stored, &mut bytes)
            .map_err(|_| Fault::Zstd)?;
        if bytes.len() as u64 != size {
            return Err(Fault::Size);
        }
        Ok(bytes)
    }
}

/// Compresses frames. Keep one per thread.
#[cfg(feature = "write")]
pub(crate) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
}

#[cfg(feature = "write")]
impl Encoder {
    /// Close to the best ratio that still packs as fast as a disk writes.
    const LEVEL: i32 = 9;

    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Compressor::new(Self::LEVEL)?,
        })
    }

    /// One frame with its content's size in its header and no checksum: every
    /// chunk has a better one.
    pub(crate) fn encode(&mut self, content: &[u8]) -> std::io::Result<Vec<u8>> {
        self.zstd.compress(content)
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;
    use crate::digest::Blake3;

    fn chunk(bytes: &[u8]) -> ChunkRef {
        ChunkRef::new(Blake3::of(bytes), bytes.len() as u32).unwrap()
    }

    #[test]
    fn only_the_promised_frame() {
        let (one, two) = (&b"one one one one one"[..], &b"two"[..]);
        let chunks = [chunk(one), chunk(two)];
        let content = [one, two].concat();
        let stored = Encoder::new().unwrap().encode(&content).unwrap();
        let mut decoder = Decoder::new().unwrap();
        assert_eq!(decoder.decode(&stored, &chunks), Ok(content.clone()));

        assert_eq!(decoder.decode(&stored, &chunks[..1]), Err(Fault::Size));
        let swapped = [chunk(two), chunk(one)];
        assert_eq!(
            decoder.decode(&stored, &swapped),
            Err(Fault::Chunk(swapped[0]))
        );
        assert_eq!(decoder.decode(b"", &chunks), Err(Fault::Zstd));
        assert_eq!(
            decoder.decode(&stored[..stored.len() - 1], &chunks),
            Err(Fault::Zstd)
        );
        let twice = [&stored[..], &stored].concat();
        assert_eq!(decoder.decode(&twice, &chunks), Err(Fault::Zstd));
        for position in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[position] ^= 4;
            // A flip that changes nothing but how the same content is described
            // would be harmless; one that changes content is an error.
            if let Ok(decoded) = decoder.decode(&flipped, &chunks) {
                assert_eq!(decoded, content, "byte {position}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_unopened() {
        // 1 GiB of zeros in some 30 KiB, announced truthfully and untruthfully.
        let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 1).unwrap();
        let small = chunk(&[0; 100]);
        assert_eq!(
            Decoder::new().unwrap().decode(&bomb, &[small]),
            Err(Fault::Size)
        );
    }
}
