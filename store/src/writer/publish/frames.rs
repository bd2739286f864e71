//! Gathering the chunks that the store lacks into frames.

use std::collections::BTreeSet;

use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::Result;
use crate::image::Locations;
use crate::manifest::LayoutRef;
use crate::pack::{FRAME_CHUNKS, FRAME_MAX, Frames};
use crate::sharded::Sharded;

/// What the producer leaves behind.
pub(super) struct Packed {
    pub(super) layout: LayoutRef,
    pub(super) packs: BTreeSet<Blake3>,
    pub(super) chunks_new: u64,
}

/// What a chunk is part of. A frame is of one lane, so that reading a layout does
/// not mean decoding the files between its parts.
#[derive(Clone, Copy)]
pub(super) enum Lane {
    Content,
    Layout,
}

/// Gathers frames and hands them over.
pub(super) struct Packer<'a> {
    known: &'a Locations,
    /// Every chunk that came by.
    seen: Sharded<ChunkRef, ()>,
    /// The packs of those that the store had.
    packs: BTreeSet<Blake3>,
    lanes: [Gathered; 2],
    frames: Frames,
    new: u64,
}

#[derive(Default)]
struct Gathered {
    chunks: Vec<ChunkRef>,
    bytes: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(known: &'a Locations, frames: Frames) -> Self {
        Self {
            known,
            seen: Sharded::default(),
            packs: BTreeSet::new(),
            lanes: Default::default(),
            frames,
            new: 0,
        }
    }

    /// Takes a chunk, which is stored unless the store has it.
    pub(super) fn add(&mut self, lane: Lane, chunk: ChunkRef, bytes: &[u8]) -> Result<()> {
        if self.seen.insert(chunk, ()).is_some() {
            return Ok(());
        }
        if let Some(pack) = self.known.pack_of(&chunk) {
            self.packs.insert(*pack);
            return Ok(());
        }
        self.new += 1;
        let gathered = &self.lanes[lane as usize];
        if gathered.bytes.len() + bytes.len() > FRAME_MAX || gathered.chunks.len() == FRAME_CHUNKS {
            self.hand_over(lane)?;
        }
        let gathered = &mut self.lanes[lane as usize];
        gathered.chunks.push(chunk);
        gathered.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Hands over what is left. The compressors end when this is done.
    pub(super) fn finish(mut self, layout: LayoutRef) -> Result<Packed> {
        for lane in [Lane::Content, Lane::Layout] {
            if !self.lanes[lane as usize].chunks.is_empty() {
                self.hand_over(lane)?;
            }
        }
        Ok(Packed {
            layout,
            packs: self.packs,
            chunks_new: self.new,
        })
    }

    fn hand_over(&mut self, lane: Lane) -> Result<()> {
        let Gathered { chunks, bytes } = std::mem::replace(
            &mut self.lanes[lane as usize],
            Gathered {
                chunks: Vec::new(),
                bytes: Vec::with_capacity(FRAME_MAX),
            },
        );
        self.frames.compress(chunks, bytes)
    }
}
