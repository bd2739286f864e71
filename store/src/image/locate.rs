//! Where chunks are: the indexes of some packs, searched together.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::{Backend, ObjectRange, get_checked};
use crate::cache::Cache;
use crate::chunk::ChunkRef;
use crate::delta::Delta;
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{self, Decoder, FOLDER, Frame, Index};

/// The indexes of some packs.
///
/// One entry of `order` stands for one chunk: four bytes for the index, four for
/// the chunk's number in it. With the chunk's own 36 bytes that is all the memory
/// that knowing a chunk takes. A copy shares it until something is added.
#[derive(Clone, Default)]
pub(crate) struct Locations {
    indexes: Vec<Arc<Index>>,
    order: Arc<Vec<(u32, u32)>>,
    /// Packs whose indexes are of no use.
    given_up: HashSet<Blake3>,
}

/// Where a chunk is: in which frame of which pack or delta, and at which bytes of
/// what the frame decodes to.
#[derive(Clone)]
pub(crate) struct ChunkLocation {
    file: FileOf,
    frame: u32,
    pub(crate) range: Range<usize>,
}

/// What a frame is in.
#[derive(Clone)]
enum FileOf {
    Pack(Arc<Index>),
    Delta(Arc<Delta>),
}

impl Locations {
    /// Adds indexes that are not here yet.
    pub(crate) fn add(&mut self, indexes: impl IntoIterator<Item = Index>) {
        let known = self.indexes.len();
        for index in indexes {
            if !self.knows(index.pack()) {
                self.indexes.push(Arc::new(index));
            }
        }
        if self.indexes.len() == known {
            return;
        }
        let added = &self.indexes[known..];
        let added = added.iter().map(|index| index.chunks().len()).sum();
        let order = Arc::make_mut(&mut self.order);
        order.reserve_exact(added);
        for (number, index) in self.indexes.iter().enumerate().skip(known) {
            let chunks = 0..index.chunks().len() as u32;
            order.extend(chunks.map(|chunk| (number as u32, chunk)));
        }
        let indexes = &self.indexes;
        let digest =
            |&(index, chunk): &(u32, u32)| indexes[index as usize].chunks()[chunk as usize];
        order.sort_unstable_by(|a, b| digest(a).cmp(&digest(b)).then(a.cmp(b)));
        // No writer puts a chunk into a pack twice. An index that says so would make
        // one lookup long, and one failure many.
        order.dedup_by(|a, b| a.0 == b.0 && digest(a) == digest(b));
    }

    /// Whether the index of this pack is here, or will never be.
    pub(crate) fn knows(&self, pack: &Blake3) -> bool {
        self.given_up.contains(pack) || self.indexes.iter().any(|index| index.pack() == pack)
    }

    /// Packs whose indexes need not be read again.
    pub(crate) fn give_up(&mut self, packs: impl IntoIterator<Item = Blake3>) {
        self.given_up.extend(packs);
    }

    /// The locations of a chunk: one, unless two writers were at work at once.
    pub(crate) fn find(&self, chunk: &ChunkRef) -> impl Iterator<Item = ChunkLocation> + '_ {
        self.search(chunk).iter().filter_map(|&(number, chunk)| {
            let index = self.indexes.get(number as usize)?;
            let (frame, start) = index.place(chunk)?;
            let end = start + index.chunks()[chunk as usize].len() as usize;
            Some(ChunkLocation {
                file: FileOf::Pack(Arc::clone(index)),
                frame,
                range: start..end,
            })
        })
    }

    /// All packs that have a chunk.
    #[cfg(feature = "write")]
    pub(crate) fn packs_of(&self, chunk: &ChunkRef) -> impl Iterator<Item = &Blake3> {
        let found = self.search(chunk).iter();
        found.map(|(number, _)| self.indexes[*number as usize].pack())
    }

    /// The pack of a chunk, if it is in one.
    #[cfg(feature = "write")]
    pub(crate) fn pack_of(&self, chunk: &ChunkRef) -> Option<&Blake3> {
        let (number, _) = self.search(chunk).first()?;
        Some(self.indexes[*number as usize].pack())
    }

    /// The index that was added as number `number`.
    #[cfg(feature = "write")]
    pub(crate) fn index(&self, number: usize) -> &Index {
        &self.indexes[number]
    }

    /// Bytes of all indexes, as they are stored.
    #[cfg(feature = "write")]
    pub(crate) fn stored(&self) -> u64 {
        let sizes = self.indexes.iter().map(|index| index.encode().len() as u64);
        sizes.sum()
    }

    /// The part of `order` that stands for this chunk: the numbers of the indexes
    /// that have it, and its numbers in them.
    pub(crate) fn search(&self, chunk: &ChunkRef) -> &[(u32, u32)] {
        let at =
            |&(index, chunk): &(u32, u32)| self.indexes[index as usize].chunks()[chunk as usize];
        let first = self.order.partition_point(|location| at(location) < *chunk);
        let found = &self.order[first..];
        let len = found
            .iter()
            .take_while(|location| at(location) == *chunk)
            .count();
        &found[..len]
    }
}

impl ChunkLocation {
    /// Where a delta makes this chunk, if it does.
    pub(crate) fn in_delta(delta: &Arc<Delta>, chunk: &ChunkRef) -> Option<Self> {
        let (frame, range) = delta.find(chunk)?;
        let file = FileOf::Delta(Arc::clone(delta));
        Some(Self { file, frame, range })
    }

    /// Names the frame among all frames.
    pub(crate) fn frame_id(&self) -> (Blake3, u32) {
        let file = match &self.file {
            FileOf::Pack(index) => *index.pack(),
            FileOf::Delta(delta) => delta.name(),
        };
        (file, self.frame)
    }

    /// The bytes of the frame, for a backend that wants to know beforehand.
    pub(crate) fn wanted(&self) -> ObjectRange {
        match &self.file {
            FileOf::Pack(index) => wanted(index, self.frame),
            FileOf::Delta(delta) => delta.wanted(self.frame),
        }
    }

    /// The pack that the frame is in, if it is in one.
    #[cfg(feature = "write")]
    pub(crate) fn index(&self) -> Option<&Index> {
        match &self.file {
            FileOf::Pack(index) => Some(index),
            FileOf::Delta(_) => None,
        }
    }

    /// The chunks of a pack's frame.
    #[cfg(feature = "write")]
    pub(crate) fn chunks(&self) -> &[ChunkRef] {
        match &self.file {
            FileOf::Pack(index) => index.chunks_of(&index.frames()[self.frame as usize]),
            FileOf::Delta(_) => &[],
        }
    }

    /// A pack's frame as it is stored, every chunk in it verified. One that was hurt on
    /// its way is fetched again: past all caches, then in the whole object.
    #[cfg(feature = "write")]
    pub(crate) fn fetch(&self, backend: &dyn Backend, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let FileOf::Pack(index) = &self.file else {
            let text = "a part of a delta was asked for as a frame";
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        Ok(fetch(index, self.frame, backend, decoder)?.0)
    }

    /// Fetches the frame and decodes it, every chunk in it verified. A frame that was hurt on its
    /// way is fetched again.
    pub(crate) fn decode(&self, backend: &dyn Backend, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let index = match &self.file {
            FileOf::Pack(index) => index,
            FileOf::Delta(delta) => return delta.decode(backend, self.frame),
        };
        Ok(fetch(index, self.frame, backend, decoder)?.1)
    }
}

/// Fetches a pack's frame: as it is stored, and what it decodes to.
fn fetch(
    index: &Index,
    number: u32,
    backend: &dyn Backend,
    decoder: &mut Decoder,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let frame: &Frame = &index.frames()[number as usize];
    let ObjectRange { key, range } = wanted(index, number);
    let mut attempt = || {
        let stored = backend.get_range(&key, range.start, range.end - range.start)?;
        let content = decoder
            .decode(&stored, index.chunks_of(frame))
            .map_err(|fault| {
                Error::corrupt(format_args!("{key} in {}", backend.describe()), fault)
            })?;
        Ok::<_, Error>((stored, content))
    };
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                if !backend.invalidate(&key, range.clone()) {
                    return Err(far_hint(backend, error));
                }
            }
            other => return other,
        }
    }
}

/// The error with what to do where the store, or something on the way to it, may be wrong.
fn far_hint(backend: &dyn Backend, error: Error) -> Error {
    if !backend.is_remote() {
        return error;
    }
    error.with_hint(
        "it came wrong past all caches, and as a whole: run `imgbuild store fsck` where the store \
         is; if that finds nothing, something on the way changes it",
    )
}

/// The bytes of a pack's frame.
fn wanted(index: &Index, frame: u32) -> ObjectRange {
    let frame = &index.frames()[frame as usize];
    let end = frame.offset + u64::from(frame.stored);
    ObjectRange {
        key: pack::pack_key(index.pack()),
        range: frame.offset..end,
    }
}

/// Reads the index of a pack, from the cache if it has it; `None` if there is none.
pub(crate) fn read_index(
    backend: &dyn Backend,
    cache: Option<&dyn Cache>,
    pack: &Blake3,
) -> Result<Option<Index>> {
    if let Some(index) = cache.and_then(|cache| cache.index(pack)) {
        return Ok(Some(index));
    }
    let key = pack::index_key(pack);
    let damaged = |why| Error::corrupt(format_args!("{key} in {}", backend.describe()), why);
    get_checked(backend, &key, Index::MAX_BYTES, |bytes| {
        let index = Index::parse(&bytes).map_err(damaged)?;
        if index.pack() != pack {
            return Err(damaged("it is the index of another pack"));
        }
        if let Some(cache) = cache {
            cache.keep_index(pack, &bytes);
        }
        Ok(index)
    })
}

/// The packs whose indexes the store lists; `None` where it cannot list.
pub(crate) fn list_packs(backend: &dyn Backend) -> Result<Option<Vec<Blake3>>> {
    let keys = backend.list(FOLDER)?;
    Ok(keys.map(|keys| {
        keys.iter()
            .filter_map(|key| pack::parse_index_key(key))
            .collect()
    }))
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    /// An index that lies must not make lookups long, nor failures many.
    #[test]
    fn a_chunk_has_one_place_in_a_pack() {
        let chunk = ChunkRef::of(b"x");
        let index = |pack: &[u8], chunks: &[ChunkRef]| {
            let mut index = Index::unnamed();
            for _ in 0..3 {
                index.add(1, chunks);
            }
            index.name(Blake3::of(pack));
            index
        };
        let mut locations = Locations::default();
        locations.add([index(b"one", &[chunk; 100])]);
        assert_eq!(locations.find(&chunk).count(), 1);
        locations.add([index(b"two", &[chunk]), index(b"one", &[chunk; 2])]);
        assert_eq!(locations.find(&chunk).count(), 2);
        assert_eq!(locations.find(&ChunkRef::of(b"y")).count(), 0);
    }

    #[test]
    fn a_damaged_index_is_not_asked_for_again() {
        let mut locations = Locations::default();
        assert!(!locations.knows(&Blake3::of(b"pack")));
        locations.give_up([Blake3::of(b"pack")]);
        assert!(locations.knows(&Blake3::of(b"pack")));
    }
}
