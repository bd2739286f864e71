//! From an image to the frames that have to be moved for it.

use std::collections::{BTreeSet, HashSet};

use super::destination::DestinationIndex;
use super::pipe;
use crate::backend::{Backend, get_checked};
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, ImageId};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::{self, Hint};
use crate::image::{ChunkLocation, Image, Locations, list_packs, read_index};
use crate::manifest::Manifest;
use crate::store::Store;

use std::collections::HashMap;

/// Hints and indexes that are read at once: each may be a request.
const LANES: usize = 8;

/// The store that is copied from, and where its chunks are.
pub(super) struct SourceIndex {
    store: Store,
    /// The images that are copied.
    pub(super) images: Vec<ImageId>,
    published: HashMap<ImageId, u64>,
    chunks: Locations,
    /// Whether the packs that it lists are among those that are known.
    listed: bool,
}

/// What an image needs.
#[derive(Default)]
pub(super) struct Walk {
    /// Packs of the destination that have parts of it.
    pub(super) packs: BTreeSet<Blake3>,
    /// Frames of the source that have the rest.
    pub(super) frames: Vec<ChunkLocation>,
}

impl Walk {
    /// Bytes of the frames.
    pub(super) fn bytes(&self) -> u64 {
        let len = |location: &ChunkLocation| {
            let range = location.wanted().range;
            range.end - range.start
        };
        self.frames.iter().map(len).sum()
    }
}

impl SourceIndex {
    /// Reads the hints of the images and the indexes that they name.
    pub(super) fn open(store: &Store, images: &[ImageId]) -> Result<Self> {
        let backend = store.backend();
        let mut seen = HashSet::new();
        let images: Vec<ImageId> = images.iter().copied().filter(|i| seen.insert(*i)).collect();
        let mut source = Self {
            store: store.clone(),
            images,
            published: HashMap::new(),
            chunks: Locations::default(),
            listed: false,
        };
        let mut packs = BTreeSet::new();
        let hint = |(): &mut (), image: &ImageId| {
            let read = |json: Vec<u8>| Hint::from_json(&json);
            match get_checked(backend, &Hint::key(image), hint::MAX_BYTES, read) {
                Ok(hint) => Ok((*image, hint)),
                // Then its packs are found in the list.
                Err(error) if error.kind() == ErrorKind::Corrupt => Ok((*image, None)),
                Err(error) => Err(error),
            }
        };
        let published = &mut source.published;
        pipe::ordered(
            &source.images,
            LANES,
            || Ok(()),
            hint,
            |(image, hint)| {
                if let Some(hint) = hint {
                    published.insert(image, hint.published);
                    packs.extend(hint.packs);
                }
                Ok(())
            },
        )?;
        source.read(&packs.into_iter().collect::<Vec<_>>())?;
        Ok(source)
    }

    /// When an image was published there, in seconds since 1970; 0 when not known.
    pub(super) fn published(&self, image: &ImageId) -> u64 {
        self.published.get(image).copied().unwrap_or_default()
    }

    /// Reads the indexes of packs. One that is missing or damaged is passed over:
    /// another pack may have the same chunks.
    fn read(&mut self, packs: &[Blake3]) -> Result<()> {
        let backend = self.store.backend();
        let read = |(): &mut (), pack: &Blake3| match read_index(backend, None, pack) {
            Ok(index) => Ok(index),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
            Err(error) => Err(error),
        };
        let mut indexes = Vec::new();
        pipe::ordered(
            packs,
            LANES,
            || Ok(()),
            read,
            |index| {
                indexes.extend(index);
                Ok(())
            },
        )?;
        self.chunks.add(indexes);
        Ok(())
    }

    /// Where a chunk is.
    fn find(&mut self, chunk: &ChunkRef, image: &ImageId) -> Result<ChunkLocation> {
        if let Some(location) = self.chunks.find(chunk).next() {
            return Ok(location);
        }
        if !self.listed {
            self.listed = true;
            let packs = list_packs(self.store.backend())?.unwrap_or_default();
            let new = packs.into_iter().filter(|pack| !self.chunks.knows(pack));
            self.read(&new.collect::<Vec<_>>())?;
        }
        self.chunks.find(chunk).next().ok_or_else(|| {
            let what = format_args!("{chunk} of the image {image}");
            Error::missing(what, self.store.backend().describe())
        })
    }

    /// What of an image the destination has, and what has to come. The layout is read
    /// where that is cheaper.
    pub(super) fn walk(
        &mut self,
        manifest: &Manifest,
        to: Option<&Store>,
        known: &DestinationIndex,
    ) -> Result<Walk> {
        let here = to.filter(|_| {
            let remote = self.store.backend().is_remote();
            let has = |chunk: &ChunkRef| known.pack_of(chunk).is_some();
            remote && manifest.layout.chunks.iter().all(has)
        });
        if let Some(to) = here {
            let image = Image::with_layout(to.source(), manifest.image, manifest.layout.clone())?;
            match self.gather(&image, manifest, known) {
                // Then it is damaged there.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                other => return other,
            }
        }
        for chunk in &manifest.layout.chunks {
            // So that the list was asked for, if it is needed.
            self.find(chunk, &manifest.image)?;
        }
        let image = Image::with_locations(
            self.store.source(),
            manifest.image,
            manifest.layout.clone(),
            self.chunks.clone(),
        )?;
        self.gather(&image, manifest, known)
    }

    fn gather(
        &mut self,
        image: &Image,
        manifest: &Manifest,
        known: &DestinationIndex,
    ) -> Result<Walk> {
        let mut walk = Walk::default();
        let mut frames: HashMap<(Blake3, u32), ChunkLocation> = HashMap::new();
        let mut add = |chunk: &ChunkRef| -> Result<()> {
            if let Some(pack) = known.pack_of(chunk) {
                walk.packs.insert(*pack);
                return Ok(());
            }
            let location = self.find(chunk, &manifest.image)?;
            let id = location.frame_id();
            if !known.expects(&id) {
                frames.entry(id).or_insert(location);
            }
            Ok(())
        };
        manifest.layout.chunks.iter().try_for_each(&mut add)?;
        for item in image.entries()? {
            item?.1.iter().try_for_each(&mut add)?;
        }
        // As they lie in the source's packs, which is the order of the images' tars.
        let mut frames: Vec<_> = frames.into_iter().collect();
        frames.sort_unstable_by_key(|(id, _)| *id);
        walk.frames = frames.into_iter().map(|(_, location)| location).collect();
        Ok(walk)
    }
}

/// Says beforehand which frames are going to be fetched.
pub(super) fn announce(from: &dyn Backend, frames: &[ChunkLocation]) {
    if from.is_remote() {
        from.prefetch(frames.iter().map(ChunkLocation::wanted).collect());
    }
}
