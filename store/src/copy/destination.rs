//! What the destination has already.

use std::collections::{HashMap, HashSet};

use super::inputs::ImageInputs;
use super::pipe;
use crate::backend::ListableBackend;
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, Sha256};
use crate::error::Result;
use crate::image::{ChunkLocation, Locations, read_index};
use crate::pack::{self, Index};
use crate::store::INPUTS;

/// Indexes that are read at once: each may be a request.
const LANES: usize = 8;

/// The chunks and inputs of a store.
#[derive(Clone, Default)]
pub(super) struct DestinationIndex {
    chunks: Locations,
    packs: HashSet<Blake3>,
    /// Frames that are going to be moved: what they hold counts as there.
    expected: HashSet<(Blake3, u32)>,
    inputs: HashSet<Sha256>,
}

impl DestinationIndex {
    /// Looks a store over. An index that is damaged, or whose pack is not there in
    /// full, counts for nothing: its chunks come once more.
    pub(super) fn read(backend: &dyn ListableBackend) -> Result<Self> {
        let mut known = Self::default();
        let mut sizes = HashMap::new();
        let mut packs = Vec::new();
        for object in backend.list_all(pack::FOLDER)? {
            if let Some(pack) = pack::parse_pack_key(&object.key) {
                sizes.insert(pack, object.size);
            } else if let Some(pack) = pack::parse_index_key(&object.key) {
                packs.push(pack);
            }
        }
        packs.retain(|pack| sizes.contains_key(pack));
        let read = |(): &mut (), pack: &Blake3| {
            let index = read_index(backend, None, pack).ok().flatten();
            Ok(index.filter(|index| sizes.get(pack) == Some(&index.pack_size())))
        };
        let mut indexes = Vec::new();
        pipe::ordered(
            &packs,
            LANES,
            || Ok(()),
            read,
            |index| {
                indexes.extend(index);
                Ok(())
            },
        )?;
        known.add(indexes);
        let inputs = backend.list_all(INPUTS)?.into_iter();
        let digest = |key: String| Sha256::from_hex(&key[INPUTS.len()..]).ok();
        known.inputs = inputs.filter_map(|object| digest(object.key)).collect();
        Ok(known)
    }

    /// Adds packs that are there now.
    pub(super) fn add(&mut self, indexes: Vec<Index>) {
        self.packs.extend(indexes.iter().map(|index| *index.pack()));
        self.chunks.add(indexes);
    }

    pub(super) fn pack_of(&self, chunk: &ChunkRef) -> Option<&Blake3> {
        self.chunks.pack_of(chunk)
    }

    pub(super) fn has(&self, pack: &Blake3) -> bool {
        self.packs.contains(pack)
    }

    /// Counts what an image moves as there, for the plan of the next.
    pub(super) fn expect(&mut self, frames: &[ChunkLocation]) {
        let frames = frames.iter().map(ChunkLocation::frame_id);
        self.expected.extend(frames);
    }

    /// Whether this frame of the source is going to be moved.
    pub(super) fn expects(&self, frame: &(Blake3, u32)) -> bool {
        self.expected.contains(frame)
    }

    /// How many of these inputs are not there, and their bytes; they count as there
    /// from now on.
    pub(super) fn lacks(&mut self, wanted: &ImageInputs) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        for (digest, size) in wanted.all() {
            if self.inputs.insert(digest) {
                count += 1;
                bytes += size;
            }
        }
        (count, bytes)
    }
}
