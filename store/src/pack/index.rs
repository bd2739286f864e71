//! The index beside a pack.

use super::{FRAME_CHUNKS, FRAME_MAX, MAGIC as PACK_MAGIC, PACK_CHUNKS, PACK_MAX};
use crate::chunk::{ChunkRef, REF_LEN};
use crate::digest::{Blake3, LEN};

/// The first bytes of an index: name and version of the format.
const MAGIC: [u8; 8] = *b"imgidx\x00\x01";

/// Bytes of a frame's own fields.
const FRAME_HEAD: usize = 8;

/// Which chunks are in which frame of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pack: Blake3,
    frames: Vec<Frame>,
    chunks: Vec<ChunkRef>,
}

/// Where a frame is, and which of the index's chunks it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its first byte in the pack.
    pub(crate) offset: u64,
    /// Its stored bytes.
    pub(crate) stored: u32,
    /// The number of its first chunk.
    first: u32,
    /// How many chunks it has.
    count: u32,
}

/// The most bytes that a frame of `size` bytes of content is stored in: what zstd
/// needs for content that does not compress, and some. A reader fetches a frame as
/// a whole, so a longer one would be memory that an index merely asks for.
const fn stored_max(size: u64) -> u64 {
    size + size / 256 + 1024
}

impl Index {
    /// The longest index that is read.
    pub(crate) const MAX_BYTES: u64 =
        (MAGIC.len() + 2 * LEN + 4) as u64 + (PACK_CHUNKS * (REF_LEN + FRAME_HEAD)) as u64;

    /// The pack that this is the index of.
    pub(crate) fn pack(&self) -> &Blake3 {
        &self.pack
    }

    /// All chunks, in the order of the pack.
    pub(crate) fn chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// All frames, in the order of the pack.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The chunks of one frame.
    pub(crate) fn chunks_of(&self, frame: &Frame) -> &[ChunkRef] {
        &self.chunks[frame.first as usize..][..frame.count as usize]
    }

    /// Bytes of the pack.
    pub(crate) fn pack_size(&self) -> u64 {
        self.frames.last().map_or(PACK_MAGIC.len() as u64, |frame| {
            frame.offset + u64::from(frame.stored)
        })
    }

    /// The frame of the chunk with this number, and where in the frame it begins.
    pub(crate) fn place(&self, chunk: u32) -> Option<(u32, usize)> {
        let frame = self
            .frames
            .partition_point(|frame| frame.first <= chunk)
            .checked_sub(1)?;
        let before = &self.chunks[self.frames[frame].first as usize..chunk as usize];
        Some((
            frame as u32,
            before.iter().map(|chunk| chunk.len() as usize).sum(),
        ))
    }

    /// Reads an index. Says what is wrong with one that is not exactly right.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends too early";
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err("it is too long");
        }
        let (body, check) = bytes.split_last_chunk::<LEN>().ok_or(SHORT)?;
        let mut input = Input(body);
        if input.take::<8>().ok_or(SHORT)? != MAGIC {
            return Err("it is not an index of a version that this program reads");
        }
        if Blake3::of(body).bytes() != check {
            return Err("its checksum is wrong");
        }
        let pack = Blake3::new(input.take().ok_or(SHORT)?);
        let mut index = Self {
            pack,
            frames: Vec::new(),
            // Nearly all of it is chunks. What grows step by step leaves holes behind in the
            // memory of the process, as large as itself.
            chunks: Vec::with_capacity(input.0.len() / REF_LEN),
        };
        for _ in 0..input.number().ok_or(SHORT)? {
            let stored = input.number().ok_or(SHORT)?;
            let count = input.number().ok_or(SHORT)?;
            let mut chunks = Vec::new();
            for _ in 0..count {
                let chunk = input.take::<REF_LEN>().ok_or(SHORT)?;
                chunks.push(ChunkRef::decode(&chunk).ok_or("a chunk's length is out of range")?);
            }
            index.push(stored, &chunks)?;
        }
        match (input.0, index.frames.is_empty()) {
            (_, true) => Err("it has no frames"),
            ([], false) => Ok(index),
            _ => Err("there is something behind its last frame"),
        }
    }

    /// Adds the pack's next frame. Frames follow each other without gaps, so there
    /// is no way to say that two overlap.
    fn push(&mut self, stored: u32, chunks: &[ChunkRef]) -> Result<(), &'static str> {
        let size: u64 = chunks.iter().map(|chunk| u64::from(chunk.len())).sum();
        if chunks.is_empty() || chunks.len() > FRAME_CHUNKS || size > FRAME_MAX as u64 {
            return Err("a frame's size is out of range");
        }
        if u64::from(stored) > stored_max(size) {
            return Err("a frame is longer than zstd could make it");
        }
        let offset = self.pack_size();
        if stored == 0 || offset + u64::from(stored) > PACK_MAX {
            return Err("a frame is outside the pack");
        }
        if self.chunks.len() + chunks.len() > PACK_CHUNKS {
            return Err("it has too many chunks");
        }
        let (first, count) = (self.chunks.len() as u32, chunks.len() as u32);
        self.frames.push(Frame {
            offset,
            stored,
            first,
            count,
        });
        self.chunks.extend_from_slice(chunks);
        Ok(())
    }
}

#[cfg(feature = "write")]
impl Index {
    /// An index to be filled while its pack is written, whose name is not known yet.
    pub(crate) fn unnamed() -> Self {
        Self {
            pack: Blake3::new([0; LEN]),
            frames: Vec::new(),
            chunks: Vec::new(),
        }
    }

    /// Gives the index the name of its finished pack.
    pub(crate) fn name(&mut self, pack: Blake3) {
        self.pack = pack;
    }

    /// Adds the frame that was just written.
    ///
    /// # Panics
    /// When the writer breaks the limits that it is written to keep.
    pub(crate) fn add(&mut self, stored: usize, chunks: &[ChunkRef]) {
        self.push(stored as u32, chunks)
            .expect("a writer keeps the limits of the format");
    }

    /// The bytes that [`Index::parse`] reads.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(self.chunks.len() * REF_LEN + self.frames.len() * FRAME_HEAD + 80);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.pack.bytes());
        bytes.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.stored.to_le_bytes());
            bytes.extend_from_slice(&frame.count.to_le_bytes());
            for chunk in self.chunks_of(frame) {
                bytes.extend_from_slice(&chunk.encode());
            }
        }
        let check = Blake3::of(&bytes);
        bytes.extend_from_slice(check.bytes());
        bytes
    }
}

/// Bytes that are taken from the front.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    fn chunk(len: u32) -> ChunkRef {
        ChunkRef::new(Blake3::of(&len.to_le_bytes()), len).unwrap()
    }

    fn example() -> Index {
        let mut index = Index::unnamed();
        index.add(100, &[chunk(1), chunk(2)]);
        index.add(50, &[chunk(3)]);
        index.name(Blake3::of(b"pack"));
        index
    }

    /// Bytes with a checksum that fits them, however wrong they are.
    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let check = Blake3::of(&body);
        body.extend_from_slice(check.bytes());
        body
    }

    fn body() -> Vec<u8> {
        let mut bytes = example().encode();
        bytes.truncate(bytes.len() - LEN);
        bytes
    }

    fn edited(at: usize, value: u32) -> Result<Index, &'static str> {
        let mut body = body();
        body[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Index::parse(&sealed(body))
    }

    #[test]
    fn reads_what_it_writes() {
        let index = example();
        assert_eq!(Index::parse(&index.encode()), Ok(index.clone()));
        assert_eq!(index.pack_size(), 8 + 100 + 50);
        assert_eq!(index.place(0), Some((0, 0)));
        assert_eq!(index.place(1), Some((0, 1)));
        assert_eq!(index.place(2), Some((1, 0)));
        assert_eq!(index.frames()[1].offset, 108);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = example().encode();
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            assert!(Index::parse(&flipped).is_err(), "byte {position}");
            assert!(
                Index::parse(&bytes[..position]).is_err(),
                "{position} bytes"
            );
        }
    }

    #[test]
    fn lies_with_a_correct_checksum() {
        const FRAMES: usize = 8 + LEN;
        const STORED: usize = FRAMES + 4;
        const COUNT: usize = STORED + 4;
        const CHUNK_LEN: usize = COUNT + 4 + LEN;
        assert_eq!(edited(FRAMES, 0), Err("it has no frames"));
        assert_eq!(
            edited(FRAMES, 1),
            Err("there is something behind its last frame")
        );
        assert_eq!(edited(FRAMES, u32::MAX), Err("it ends too early"));
        let bloated = Err("a frame is longer than zstd could make it");
        assert_eq!(edited(STORED, u32::MAX), bloated);
        assert_eq!(edited(STORED, 3 + 1024 + 1), bloated);
        assert!(edited(STORED, 3 + 1024).is_ok());
        assert_eq!(edited(STORED, 0), Err("a frame is outside the pack"));
        assert_eq!(edited(COUNT, 0), Err("a frame's size is out of range"));
        assert!(edited(COUNT, u32::MAX).is_err());
        assert_eq!(
            edited(CHUNK_LEN, 0),
            Err("a chunk's length is out of range")
        );
        assert_eq!(
            edited(CHUNK_LEN, u32::MAX),
            Err("a chunk's length is out of range")
        );
        let long = vec![0; Index::MAX_BYTES as usize + 1];
        assert_eq!(Index::parse(&long), Err("it is too long"));
    }

    #[test]
    fn a_frame_that_decodes_to_too_much() {
        let mut index = Index::unnamed();
        assert!(index.push(1, &[chunk(256 * 1024); 16]).is_ok());
        assert_eq!(
            index.push(1, &[chunk(256 * 1024); 17]),
            Err("a frame's size is out of range")
        );
    }

    #[test]
    fn a_frame_beyond_the_longest_pack() {
        let full = [chunk(256 * 1024); 16];
        let mut index = Index::unnamed();
        for _ in 0..63 {
            assert_eq!(index.push(4 << 20, &full), Ok(()));
        }
        // Byte 8 to byte 2^28 are left, less the 63 frames.
        assert_eq!(
            index.push((4 << 20) - 7, &full),
            Err("a frame is outside the pack")
        );
        assert_eq!(index.push((4 << 20) - 8, &full), Ok(()));
        assert_eq!(index.pack_size(), PACK_MAX);
    }

    #[test]
    fn a_pack_of_too_many_chunks() {
        let mut index = Index::unnamed();
        for _ in 0..PACK_CHUNKS / FRAME_CHUNKS {
            assert_eq!(index.push(1, &vec![chunk(1); FRAME_CHUNKS]), Ok(()));
        }
        assert_eq!(index.push(1, &[chunk(1)]), Err("it has too many chunks"));
        let mut index = Index::unnamed();
        assert_eq!(
            index.push(1, &vec![chunk(1); FRAME_CHUNKS + 1]),
            Err("a frame's size is out of range")
        );
    }
}
