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
/// All their chunks are numbered through, and `order` has these numbers, sorted by what
/// the chunks are. With the chunk's own 36 bytes, its four are all the memory that
/// knowing a chunk takes. A copy shares it until something is added.
#[derive(Clone, Default)]
pub(crate) struct Locations {
    indexes: Vec<Arc<Index>>,
    order: Arc<Vec<u32>>,
    /// The number of each index's first chunk.
    starts: Vec<u32>,
    /// How many chunks have numbers.
    numbered: usize,
    /// The index that every [`PAGE`]th number is in.
    pages: Vec<u32>,
    /// Packs whose indexes are of no use.
    given_up: HashSet<Blake3>,
}

/// Numbers of chunks that share an entry of [`Locations::pages`].
const PAGE: usize = 1 << 12;

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
        let mut room = u32::MAX as usize - self.numbered;
        for index in indexes {
            // More than four thousand million chunks are too many for any memory.
            if !self.knows(index.pack())
                && let Some(left) = room.checked_sub(index.chunks().len())
            {
                room = left;
                self.indexes.push(Arc::new(index));
            }
        }
        if self.indexes.len() == known {
            return;
        }
        let first = self.numbered;
        let mut next = first;
        for (number, index) in self.indexes.iter().enumerate().skip(known) {
            self.starts.push(next as u32);
            next += index.chunks().len();
            while self.pages.len() * PAGE < next {
                self.pages.push(number as u32);
            }
        }
        self.numbered = next;
        let mut order = std::mem::take(&mut self.order);
        let numbers = Arc::make_mut(&mut order);
        numbers.reserve_exact(next - first);
        numbers.extend(first as u32..next as u32);
        let chunk = |number: u32| self.chunk(number);
        numbers.sort_unstable_by(|a, b| chunk(*a).cmp(chunk(*b)).then(a.cmp(b)));
        // No writer puts a chunk into a pack twice. An index that says so would make
        // one lookup long, and one failure many.
        numbers.dedup_by(|a, b| self.place(*a).0 == self.place(*b).0 && chunk(*a) == chunk(*b));
        self.order = order;
    }

    /// The number of an index, and that of a chunk in it.
    fn place(&self, number: u32) -> (usize, usize) {
        let page = number as usize / PAGE;
        let first = self.pages[page] as usize;
        let last = self.pages.get(page + 1);
        let last = last.map_or(self.indexes.len() - 1, |last| *last as usize);
        let later = &self.starts[first + 1..=last];
        let index = first + later.partition_point(|start| *start <= number);
        (index, (number - self.starts[index]) as usize)
    }

    fn chunk(&self, number: u32) -> &ChunkRef {
        let (index, chunk) = self.place(number);
        &self.indexes[index].chunks()[chunk]
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
        self.places(chunk).filter_map(|(index, chunk)| {
            let index = &self.indexes[index];
            let (frame, start) = index.place(chunk as u32)?;
            let end = start + index.chunks()[chunk].len() as usize;
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
        let found = self.places(chunk);
        found.map(|(index, _)| self.indexes[index].pack())
    }

    /// The pack of a chunk, if it is in one.
    #[cfg(feature = "write")]
    pub(crate) fn pack_of(&self, chunk: &ChunkRef) -> Option<&Blake3> {
        self.packs_of(chunk).next()
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

    /// The places of a chunk: the numbers of the indexes that have it, and its numbers
    /// in them.
    pub(crate) fn places(&self, chunk: &ChunkRef) -> impl Iterator<Item = (usize, usize)> + '_ {
        let first = self.order.partition_point(|at| self.chunk(*at) < chunk);
        let wanted = *chunk;
        self.order[first..]
            .iter()
            .map(|at| self.place(*at))
            .take_while(move |(index, chunk)| self.indexes[*index].chunks()[*chunk] == wanted)
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

    /// Bytes that a pack's frame decodes to.
    #[cfg(feature = "write")]
    pub(crate) fn size(&self) -> u64 {
        let chunks = self.chunks().iter();
        chunks.map(|chunk| u64::from(chunk.len())).sum()
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

    /// Indexes of no, of few and of very many chunks, added at once and one by one.
    #[test]
    fn numbers_lead_to_the_chunks_of_all_indexes() {
        let sizes = [3, 0, PAGE * 2 + 5, 0, 1, 1, PAGE - 1, 7];
        let chunk = |of: usize, number: usize| ChunkRef::of(format!("{of} {number}").as_bytes());
        let index = |of: usize| {
            let mut index = Index::unnamed();
            let chunks: Vec<_> = (0..sizes[of]).map(|number| chunk(of, number)).collect();
            for frame in chunks.chunks(pack::FRAME_CHUNKS) {
                index.add(1, frame);
            }
            index.name(Blake3::of(&[of as u8]));
            index
        };
        for step in [1, 3, sizes.len()] {
            let mut locations = Locations::default();
            let all: Vec<usize> = (0..sizes.len()).collect();
            for some in all.chunks(step) {
                locations.add(some.iter().map(|of| index(*of)));
            }
            for (of, size) in sizes.into_iter().enumerate() {
                for number in 0..size {
                    let found: Vec<_> = locations.places(&chunk(of, number)).collect();
                    assert_eq!(found, [(of, number)]);
                }
            }
        }
    }

    #[test]
    fn a_damaged_index_is_not_asked_for_again() {
        let mut locations = Locations::default();
        assert!(!locations.knows(&Blake3::of(b"pack")));
        locations.give_up([Blake3::of(b"pack")]);
        assert!(locations.knows(&Blake3::of(b"pack")));
    }
}
