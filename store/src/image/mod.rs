//! Reading an image of a store.
//!
//! An image is read through three questions. What is in it? Its layout says, whose
//! chunks the manifest names. Where is a chunk? The indexes of the packs that the
//! image's hint names say; if they do not, all others are asked. Is it what it
//! should be? Its own digest says, after decoding, whatever location it came from.

mod locate;
mod replay;

#[cfg(feature = "write")]
use std::collections::BTreeMap;
use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(crate) use self::locate::{ChunkLocation, Locations, list_packs, read_index};
use crate::backend::{Backend, get_checked};
use crate::cache::CachedBackend;
use crate::canonical_tar::{END, Entry, padding};
use crate::chunk::ChunkRef;
use crate::delta::{Delta, DeltaInfo, PreviousImage};
use crate::digest::{Blake3, ImageId};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::{self, Hint};
use crate::layout;
use crate::manifest::{LayoutRef, Manifest};
use crate::pack::{Decoder, Index};
#[cfg(feature = "write")]
use crate::parallel;

/// Frames that were decoded and verified, by pack and number.
pub(crate) type DecodedFrames = Mutex<HashSet<(Blake3, u32)>>;

/// The most chunks that the packs of a hint may have together: what knowing so many
/// takes is what a node has. An image has a million entries at most.
const HINTED_CHUNKS: usize = 1 << 21;

/// From how many packs a chunk is tried. Two writers at once make two; an index
/// that lies costs a frame each time.
const TRIES: usize = 8;

/// An image, ready to be read.
pub struct Image {
    source: CachedBackend,
    id: ImageId,
    layout: LayoutRef,
    /// Bytes of the canonical tar, as far as that is known.
    size: u64,
    locations: RwLock<Locations>,
    /// Whether the indexes that the hint names are among them.
    hinted: AtomicBool,
    /// What makes chunks from those of another image.
    delta: Option<Arc<Delta>>,
    /// The frame that was decoded last, for readers who ask for one chunk after
    /// another, and the decoder.
    recent: Mutex<Recent>,
    /// The set that records which frames were decoded.
    witness: Option<Arc<DecodedFrames>>,
}

struct Recent {
    decoder: Decoder,
    frame: Option<((Blake3, u32), Vec<u8>)>,
}

/// Bytes to fetch.
#[cfg(feature = "write")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FetchCost {
    /// Frames with chunks that are not there, and all indexes.
    pub(crate) missing: u64,
    /// All frames and indexes.
    pub(crate) whole: u64,
    /// What the chunks that are not there decode to.
    pub(crate) fresh: u64,
}

/// What an image consists of.
#[cfg(feature = "write")]
pub(crate) struct Outline {
    /// Bytes of its canonical tar.
    pub(crate) size: u64,
    /// The frames that it needs, by pack and number.
    pub(crate) frames: BTreeMap<(Blake3, u32), ChunkLocation>,
}

/// An event of [`Image::replay`]: an entry, or content of the entry before.
#[derive(Debug)]
pub enum ReplayEvent<'a> {
    /// The next entry, and the exact bytes of its header.
    Entry(&'a Entry, &'a [u8]),
    /// The next bytes of that entry's content.
    Content(&'a [u8]),
    /// A chunk of that entry's content which the caller said it has; only
    /// [`Image::replay_without`] hands these out.
    Known(ChunkRef),
}

impl Image {
    pub(crate) fn open(source: CachedBackend, manifest: &Manifest) -> Result<Self> {
        let image = Self::with_layout(source, manifest.image, manifest.layout.clone())?;
        Ok(Self {
            size: manifest.size,
            ..image
        })
    }

    /// An image whose manifest may not exist yet.
    pub(crate) fn with_layout(
        source: CachedBackend,
        id: ImageId,
        layout: LayoutRef,
    ) -> Result<Self> {
        let image = Self::without_indexes(source, id, layout)?;
        image.locate_hinted()?;
        Ok(image.announced())
    }

    /// An image whose chunks are in these locations, as far as that is known.
    #[cfg(feature = "write")]
    pub(crate) fn with_locations(
        source: CachedBackend,
        id: ImageId,
        layout: LayoutRef,
        locations: Locations,
    ) -> Result<Self> {
        let mut image = Self::without_indexes(source, id, layout)?;
        image.locations = RwLock::new(locations);
        image.hinted = AtomicBool::new(true);
        Ok(image.announced())
    }

    /// The same image, of whose layout the backend knows that it will be read.
    fn announced(self) -> Self {
        let image = &self;
        let backend = image.source.backend();
        if backend.is_remote() {
            // Who opens an image reads its layout, and knows where it is.
            let locations = image
                .locations
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let kept = |chunk: &&ChunkRef| {
                let cache = image.source.cache();
                cache.is_some_and(|cache| cache.has_chunk(chunk))
            };
            let lacked = image.layout.chunks.iter().filter(|chunk| !kept(chunk));
            let locations = lacked.filter_map(|chunk| locations.find(chunk).next());
            backend.prefetch(locations.map(|location| location.wanted()).collect());
        }
        self
    }

    /// An image of which nothing was read yet.
    fn without_indexes(source: CachedBackend, id: ImageId, layout: LayoutRef) -> Result<Self> {
        let decoder = Decoder::new().map_err(|error| {
            Error::new(ErrorKind::Io, "zstd could not be prepared").with_source(error)
        })?;
        let recent = Mutex::new(Recent {
            decoder,
            frame: None,
        });
        Ok(Self {
            source,
            id,
            layout,
            size: u64::MAX,
            locations: RwLock::default(),
            hinted: AtomicBool::new(false),
            delta: None,
            recent,
            witness: None,
        })
    }

    /// An image whose chunks a delta makes from those of `previous`; what it cannot
    /// make comes from packs, whose indexes are read when the first such chunk is
    /// asked for.
    pub(crate) fn with_delta(
        source: CachedBackend,
        manifest: &Manifest,
        pair: &DeltaInfo,
        previous: Arc<dyn PreviousImage>,
    ) -> Result<Self> {
        let layout = manifest.layout.clone();
        let delta = Delta::open(source.backend(), pair, previous, &layout.chunks)?;
        let delta = Arc::new(delta);
        let mut image = Self::without_indexes(source, manifest.image, layout)?;
        image.size = manifest.size;
        image.delta = Some(Arc::clone(&delta));
        delta.resolve(image.source.backend(), &image.layout.chunks, |each| {
            for item in image.entries()? {
                each(&item?.1);
            }
            Ok(())
        })?;
        // Of a frame that makes more than layout, only the layout could be verified until now.
        let recent = image.recent.get_mut();
        recent.unwrap_or_else(PoisonError::into_inner).frame = None;
        Ok(image)
    }

    /// The same image, which from now on tells `witness` what it has decoded.
    #[cfg(feature = "write")]
    pub(crate) fn watched(mut self, witness: Arc<DecodedFrames>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// The same image, refused if its layout expands to more than a tar of `size` bytes.
    #[cfg(feature = "write")]
    pub(crate) fn limited(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// Fetches a frame and decodes it.
    fn decode(&self, location: &ChunkLocation, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let frame = location.decode(self.source.backend(), decoder)?;
        if let Some(witness) = &self.witness {
            let mut seen = witness.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert(location.frame_id());
        }
        Ok(frame)
    }

    /// The chunks of the image's layout.
    pub fn layout_chunks(&self) -> &[ChunkRef] {
        &self.layout.chunks
    }

    /// The image's digest.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// The image's entries in order, each with the chunks of its content.
    ///
    /// What the iterator yields is verified chunk by chunk of the layout; the
    /// digest of the whole layout is compared at its end.
    pub fn entries(&self) -> Result<Entries<'_>> {
        Ok(Entries {
            items: Items::new(self),
        })
    }

    /// The verified bytes of one chunk. For many chunks in the image's order,
    /// [`Image::replay`] is faster.
    pub fn fetch(&self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        let location = self.find(chunk)?;
        let range = location.range.clone();
        let taken = self.with_frame(&location, |frame| frame[range].to_vec());
        taken.or_else(|error| self.fetch_elsewhere(chunk, error))
    }

    /// One of the chunks of the layout, which stay in the cache.
    pub fn fetch_layout(&self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        let Some(cache) = self.source.cache() else {
            return self.fetch(chunk);
        };
        if let Some(bytes) = cache.chunk(chunk) {
            return Ok(bytes);
        }
        let bytes = self.fetch(chunk)?;
        cache.keep_chunk(chunk, &bytes);
        Ok(bytes)
    }

    /// Calls `take` with the frame at `location`, which is decoded unless it was the
    /// last one.
    fn with_frame<T>(&self, location: &ChunkLocation, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = &mut *recent;
        let frame = match &recent.frame {
            Some((id, frame)) if *id == location.frame_id() => frame,
            _ => {
                let frame = self.decode(location, &mut recent.decoder)?;
                &recent.frame.insert((location.frame_id(), frame)).1
            }
        };
        Ok(take(frame))
    }

    /// The chunk from any location that still has it, after one location failed with
    /// `error`: a pack can be damaged, or rewritten while it is read.
    fn fetch_elsewhere(&self, chunk: &ChunkRef, error: Error) -> Result<Vec<u8>> {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) {
            return Err(error);
        }
        // If the list cannot be had, the first error is still the better one.
        let _ = self.locate_all();
        let locations: Vec<ChunkLocation> = {
            let locations = self
                .locations
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            locations.find(chunk).take(TRIES).collect()
        };
        let mut fetched = locations.iter().map(|location| {
            let range = location.range.clone();
            self.with_frame(location, |frame| frame[range].to_vec())
        });
        fetched.find_map(Result::ok).ok_or(error)
    }

    /// Writes the image's exact canonical tar. Every chunk is verified before it is
    /// written, and the whole against the image's digest at the end: what was
    /// written before an error is not to be used.
    pub fn copy_tar(&self, output: &mut dyn Write) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        self.expand(&mut |bytes| {
            hasher.update(bytes);
            output
                .write_all(bytes)
                .map_err(|error| Error::io("write", "the tar", error))
        })?;
        output
            .flush()
            .map_err(|error| Error::io("write", "the tar", error))?;
        self.check_digest(hasher.finalize().into())
    }

    /// Hands out the bytes of the canonical tar, in pieces of about a megabyte.
    pub(crate) fn expand(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        const PIECE: usize = 1 << 20;
        let mut piece = Vec::with_capacity(PIECE + crate::chunk::MAX);
        let mut pad = 0;
        self.replay(&mut |_| true, &mut |part| {
            match part {
                ReplayEvent::Entry(entry, header) => {
                    piece.resize(piece.len() + pad, 0);
                    piece.extend_from_slice(header);
                    pad = padding(entry.size());
                }
                ReplayEvent::Content(bytes) => piece.extend_from_slice(bytes),
                // Nobody said that a chunk is had.
                ReplayEvent::Known(_) => {}
            }
            if piece.len() >= PIECE {
                each(&piece)?;
                piece.clear();
            }
            Ok(())
        })?;
        piece.resize(piece.len() + pad, 0);
        piece.extend_from_slice(&END);
        each(&piece)
    }

    /// How many bytes the tar has that the layout describes, and which frames of packs it and
    /// the layout need. Nothing but the layout is read.
    #[cfg(feature = "write")]
    pub(crate) fn outline(&self) -> Result<Outline> {
        let mut outline = Outline {
            size: END.len() as u64,
            frames: BTreeMap::new(),
        };
        let mut add = |chunk: &ChunkRef| -> Result<()> {
            let location = self.find(chunk)?;
            outline
                .frames
                .entry(location.frame_id())
                .or_insert(location);
            Ok(())
        };
        self.layout.chunks.iter().try_for_each(&mut add)?;
        let mut items = Items::new(self);
        while let Some(item) = items.next()? {
            item.chunks.iter().try_for_each(&mut add)?;
            let content = item.entry.size();
            outline.size += item.header.len() as u64 + content + padding(content) as u64;
        }
        Ok(outline)
    }

    /// Decodes frames on all cores and compares every chunk in them with its digest, telling
    /// `each` how many bytes were compared.
    #[cfg(feature = "write")]
    pub(crate) fn verify_frames(
        &self,
        frames: &[ChunkLocation],
        each: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let backend = self.source.backend();
        if backend.is_remote() {
            backend.prefetch(frames.iter().map(ChunkLocation::wanted).collect());
        }
        // As many as keep a decoder's tables in use for a while.
        let some: Vec<&[ChunkLocation]> = frames.chunks(8).collect();
        let verified = parallel::each(&some, backend.is_remote(), |frames| {
            let mut decoder = Decoder::new().map_err(|e| Error::io("prepare", "zstd", e))?;
            for location in *frames {
                let bytes = location.decode(backend, &mut decoder)?;
                each(bytes.len() as u64);
                decoder.reuse(bytes);
            }
            Ok(())
        });
        verified.into_iter().collect()
    }

    /// Refuses a tar that is not this image.
    pub(crate) fn check_digest(&self, found: Blake3) -> Result<()> {
        if found == self.id {
            return Ok(());
        }
        let why = format_args!("its layout expands to {found}");
        Err(Error::corrupt(format_args!("the image {}", self.id), why))
    }

    /// Where a chunk is. If the packs of the hint do not have it, those that the
    /// store lists are asked as well.
    fn find(&self, chunk: &ChunkRef) -> Result<ChunkLocation> {
        let made = self.delta.as_ref();
        if let Some(location) = made.and_then(|delta| ChunkLocation::in_delta(delta, chunk)) {
            return Ok(location);
        }
        let known = || {
            let locations = self
                .locations
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            locations.find(chunk).next()
        };
        if let Some(location) = known() {
            return Ok(location);
        }
        if !self.hinted.load(Ordering::Relaxed) {
            self.locate_hinted()?;
            if let Some(location) = known() {
                return Ok(location);
            }
        }
        self.locate_all()?;
        known().ok_or_else(|| {
            let what = format_args!("{chunk} of the image {}", self.id);
            Error::missing(what, self.source.backend().describe())
        })
    }

    /// Adds the packs that the hint names.
    fn locate_hinted(&self) -> Result<()> {
        let backend = self.source.backend();
        // A hint may name packs that are gone or damaged: others may have the same
        // chunks, and if not, the error belongs to the chunk. Nobody signs it, so it
        // may also name one pack often, and very many.
        let packs: BTreeSet<Blake3> = hinted(backend, &self.id)?.into_iter().collect();
        let (indexes, _) = read_indexes(&self.source, &packs, HINTED_CHUNKS)?;
        let mut locations = self
            .locations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        locations.add(indexes);
        self.hinted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What it costs to fetch the image from packs when these chunks are there, and
    /// when none is.
    #[cfg(feature = "write")]
    pub(crate) fn cost(&self, had: &HashSet<Blake3>) -> Result<FetchCost> {
        let (mut frames, mut missing) = (HashSet::new(), HashSet::new());
        let mut fresh = HashSet::new();
        let mut cost = FetchCost::default();
        let mut add = |chunk: &ChunkRef| -> Result<()> {
            let location = self.find(chunk)?;
            let wanted = location.wanted().range;
            if frames.insert(location.frame_id()) {
                cost.whole += wanted.end - wanted.start;
            }
            if had.contains(chunk.digest()) {
                return Ok(());
            }
            if missing.insert(location.frame_id()) {
                cost.missing += wanted.end - wanted.start;
            }
            if fresh.insert(*chunk.digest()) {
                cost.fresh += u64::from(chunk.len());
            }
            Ok(())
        };
        self.layout.chunks.iter().try_for_each(&mut add)?;
        for item in self.entries()? {
            item?.1.iter().try_for_each(&mut add)?;
        }
        let locations = self
            .locations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let indexes = locations.stored();
        cost.missing += indexes;
        cost.whole += indexes;
        Ok(cost)
    }

    /// Adds the packs that the store lists to those that the hint named.
    fn locate_all(&self) -> Result<()> {
        let backend = self.source.backend();
        let mut packs = match list_packs(backend)? {
            Some(packs) => packs,
            // A collector that rewrites packs also writes the hint anew.
            None => hinted(backend, &self.id)?,
        };
        let mut locations = self
            .locations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        packs.retain(|pack| !locations.knows(pack));
        // A damaged index is not read again, or each missing chunk would cost all of
        // the damaged indexes.
        let (indexes, damaged) = read_indexes(&self.source, &packs, usize::MAX)?;
        locations.add(indexes);
        locations.give_up(damaged);
        Ok(())
    }
}

/// The packs that an image's hint names; none if there is no hint, or a damaged one.
pub(crate) fn hinted(backend: &dyn Backend, id: &ImageId) -> Result<Vec<Blake3>> {
    let read = |json: Vec<u8>| Hint::from_json(&json);
    match get_checked(backend, &Hint::key(id), hint::MAX_BYTES, read) {
        Ok(hint) => Ok(hint.map(|hint| hint.packs).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The indexes of packs, and the packs whose indexes are damaged, until there are
/// `most` chunks. One that is missing or damaged is passed over: another pack may
/// have the same chunks. A server that fails is no such case.
fn read_indexes<'a>(
    source: &CachedBackend,
    packs: impl IntoIterator<Item = &'a Blake3>,
    most: usize,
) -> Result<(Vec<Index>, Vec<Blake3>)> {
    let (mut indexes, mut damaged) = (Vec::new(), Vec::new());
    let backend = source.backend();
    let mut chunks = 0;
    for pack in packs {
        match read_index(backend, source.cache(), pack) {
            Ok(Some(index)) => {
                chunks += index.chunks().len();
                if chunks > most {
                    break;
                }
                indexes.push(index);
            }
            Err(error) if backend.is_remote() && error.kind() == ErrorKind::Io => {
                return Err(error);
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => damaged.push(*pack),
            Ok(None) | Err(_) => {}
        }
    }
    Ok((indexes, damaged))
}

/// The items of an image's layout, its digest compared at the end.
struct Items<'a> {
    layout: layout::Reader<Stream<'a>>,
}

impl<'a> Items<'a> {
    fn new(image: &'a Image) -> Self {
        Self {
            layout: layout::Reader::new(Stream::new(image)).limited(image.size),
        }
    }

    fn next(&mut self) -> Result<Option<layout::Item>> {
        self.layout.next()
    }
}

/// The bytes of an image's layout, one chunk in memory at a time.
struct Stream<'a> {
    image: &'a Image,
    chunks: std::slice::Iter<'a, ChunkRef>,
    chunk: io::Cursor<Vec<u8>>,
    hasher: blake3::Hasher,
}

impl<'a> Stream<'a> {
    fn new(image: &'a Image) -> Self {
        let chunks = image.layout.chunks.iter();
        Self {
            image,
            chunks,
            chunk: io::Cursor::default(),
            hasher: blake3::Hasher::new(),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.chunk.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                return Ok(len);
            }
            let Some(chunk) = self.chunks.next() else {
                if Blake3::from(self.hasher.finalize()) == self.image.layout.digest {
                    return Ok(0);
                }
                let what = format!("the layout of {}", self.image.id);
                return Err(io::Error::other(Error::corrupt(
                    what,
                    "its chunks are not its digest's",
                )));
            };
            let bytes = self.image.fetch_layout(chunk).map_err(io::Error::other)?;
            self.hasher.update(&bytes);
            self.chunk = io::Cursor::new(bytes);
        }
    }
}

/// Iterates over the entries of an [`Image`].
pub struct Entries<'a> {
    items: Items<'a>,
}

impl Iterator for Entries<'_> {
    type Item = Result<(Entry, Vec<ChunkRef>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.next().transpose()?;
        Some(item.map(|item| (item.entry, item.chunks)))
    }
}

/// An image of a store that can be reached.
impl PreviousImage for Image {
    fn chunks(&self, each: &mut dyn FnMut(&[ChunkRef])) -> Result<()> {
        each(self.layout_chunks());
        for item in self.entries()? {
            each(&item?.1);
        }
        Ok(())
    }

    fn fetch(&self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>> {
        Image::fetch(self, chunk).map(Some)
    }
}
