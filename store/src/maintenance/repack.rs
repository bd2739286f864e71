//! Writing what is wanted of some packs into new ones.

use super::references::PackReferences;
use crate::backend::WritableBackend;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::pack::{self, Decoder, FRAME_CHUNKS, FRAME_MAX, Frames, PackWriter};

/// Writes the chunks for which `want` says so (pack number, chunk number, chunk)
/// into new packs, durable with their indexes. Returns those, and their bytes.
///
/// A frame of which all is wanted is copied as it is, after it was verified. Of the
/// others, each wanted chunk is verified and compressed anew, with its neighbours.
pub(super) fn rewrite(
    references: &PackReferences,
    packs: &[usize],
    want: &(dyn Fn(usize, usize) -> bool + Sync),
    place: &dyn WritableBackend,
    each: &mut dyn FnMut(u64),
) -> Result<(Vec<Blake3>, u64)> {
    let mut writer = PackWriter::new(place);
    let rewritten = writer.fill(|frames| {
        let mut rewriter = Rewriter {
            backend: place,
            decoder: Decoder::new().map_err(|error| Error::io("prepare", "zstd", error))?,
            frames,
            lanes: Default::default(),
        };
        for &number in packs {
            rewriter.pack(references, number, want)?;
            each(references.packs[number].file.size);
        }
        rewriter.finish()
    });
    rewritten?;
    writer.commit()
}

struct Rewriter<'a> {
    backend: &'a dyn WritableBackend,
    decoder: Decoder,
    frames: Frames,
    /// Chunks of files and of layouts: a frame is of one kind.
    lanes: [Gathered; 2],
}

#[derive(Default)]
struct Gathered {
    chunks: Vec<ChunkRef>,
    bytes: Vec<u8>,
}

impl Rewriter<'_> {
    fn pack(
        &mut self,
        references: &PackReferences,
        number: usize,
        want: &dyn Fn(usize, usize) -> bool,
    ) -> Result<()> {
        let index = references.index(number);
        let key = pack::pack_key(index.pack());
        let damaged = |why: &dyn std::fmt::Display| {
            Error::corrupt(format_args!("{key} in {}", self.backend.describe()), why)
        };
        let mut first = 0;
        for frame in index.frames() {
            let chunks = index.chunks_of(frame);
            let numbers = first..first + chunks.len();
            first = numbers.end;
            let wanted: Vec<bool> = numbers.clone().map(|chunk| want(number, chunk)).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let stored = self
                .backend
                .get_range(&key, frame.offset, frame.stored.into())?;
            if !wanted.contains(&false) {
                self.decoder
                    .decode(&stored, chunks)
                    .map_err(|fault| damaged(&fault))?;
                self.frames.copy(chunks.to_vec(), stored)?;
                continue;
            }
            let bytes = self
                .decoder
                .decode_unchecked(&stored, chunks)
                .map_err(|fault| damaged(&fault))?;
            let mut rest = &bytes[..];
            for ((chunk, wanted), number_in) in chunks.iter().zip(wanted).zip(numbers) {
                let (content, behind) = rest.split_at(chunk.len() as usize);
                rest = behind;
                if !wanted {
                    continue;
                }
                if !chunk.names(content) {
                    return Err(damaged(&pack::Fault::Chunk(*chunk)));
                }
                let layout = references.packs[number].marks[number_in].is_layout();
                self.gather(usize::from(layout), *chunk, content)?;
            }
        }
        Ok(())
    }

    fn gather(&mut self, lane: usize, chunk: ChunkRef, bytes: &[u8]) -> Result<()> {
        let gathered = &self.lanes[lane];
        let full = gathered.bytes.len() + bytes.len() > FRAME_MAX;
        if full || gathered.chunks.len() == FRAME_CHUNKS {
            self.hand_over(lane)?;
        }
        let gathered = &mut self.lanes[lane];
        gathered.chunks.push(chunk);
        gathered.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn hand_over(&mut self, lane: usize) -> Result<()> {
        let Gathered { chunks, bytes } = std::mem::take(&mut self.lanes[lane]);
        if chunks.is_empty() {
            return Ok(());
        }
        self.frames.compress(chunks, bytes)
    }

    fn finish(mut self) -> Result<()> {
        self.hand_over(0)?;
        self.hand_over(1)
    }
}
