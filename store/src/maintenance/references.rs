//! References to the chunks of every pack, and which images they come from.
//!
//! A chunk that two packs have is counted where it is in the larger one; the other
//! copy is nobody's. A mark takes four bytes, so with its place in the index a
//! chunk costs some fifty.

use crate::backend::{ListableBackend, ObjectMeta};
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, ImageId};
use crate::error::Result;
use crate::image::{Image, Locations, read_index};
use crate::manifest::LayoutRef;
use crate::pack::{self, Index};
use crate::store::Store;

use std::collections::{BTreeMap, BTreeSet};

/// The references to a chunk: none, by one image, or by several; and whether it is
/// part of a layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReferenceMark(u32);

/// An image that references chunks, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Referrer(pub(super) u32);

impl ReferenceMark {
    const LAYOUT: u32 = 1 << 31;
    const SHARED: u32 = Self::LAYOUT - 1;

    fn add(&mut self, owner: Referrer, layout: bool) {
        let number = (owner.0 + 1).min(Self::SHARED);
        let before = self.0 & Self::SHARED;
        let after = match before {
            0 => number,
            same if same == number => number,
            _ => Self::SHARED,
        };
        self.0 = (self.0 & Self::LAYOUT) | after | if layout { Self::LAYOUT } else { 0 };
    }

    /// Whether nobody owns it.
    pub(super) fn is_unreferenced(self) -> bool {
        self.0 == 0
    }

    /// Whether it is part of a layout.
    pub(super) fn is_layout(self) -> bool {
        self.0 & Self::LAYOUT != 0
    }

    /// The only owner.
    pub(super) fn owner(self) -> Option<Referrer> {
        match self.0 & Self::SHARED {
            0 | Self::SHARED => None,
            number => Some(Referrer(number - 1)),
        }
    }
}

/// A pack that has its index.
pub(super) struct Pack {
    pub(super) name: Blake3,
    pub(super) file: ObjectMeta,
    pub(super) index: ObjectMeta,
    /// A mark for each chunk of the index.
    pub(super) marks: Vec<ReferenceMark>,
}

impl Pack {
    /// How many chunks somebody owns.
    pub(super) fn referenced(&self) -> usize {
        self.marks
            .iter()
            .filter(|mark| !mark.is_unreferenced())
            .count()
    }
}

/// What there is of a pack that cannot be read.
#[derive(Clone)]
pub(super) struct Stray {
    pack: Blake3,
    /// Its file, its index, or both.
    pub(super) objects: Vec<ObjectMeta>,
}

impl Stray {
    /// The keys that the whole pack has, and of which nothing was there.
    pub(super) fn absent(&self) -> impl Iterator<Item = String> {
        let mut keys = pack::keys([self.pack]);
        keys.retain(|key| self.objects.iter().all(|object| object.key != *key));
        keys.into_iter()
    }
}

/// All packs of a store.
pub(super) struct PackReferences {
    locations: Locations,
    pub(super) packs: Vec<Pack>,
    /// Packs without a usable index, and indexes without their pack.
    pub(super) strays: Vec<Stray>,
    /// What is wrong with indexes that are there.
    pub(super) damaged: Vec<(ObjectMeta, String)>,
}

/// What an image has in the packs.
#[derive(Default)]
pub(super) struct Marked {
    /// The packs.
    pub(super) packs: BTreeSet<Blake3>,
    /// Chunks that no pack has.
    pub(super) missing: Vec<ChunkRef>,
}

impl PackReferences {
    /// All packs that there is anything of.
    pub(super) fn names(&self) -> BTreeSet<Blake3> {
        let strays = self.strays.iter().map(|stray| stray.pack);
        let packs = self.packs.iter().map(|pack| pack.name);
        strays.chain(packs).collect()
    }

    /// Whether a chunk is in packs, and in none of these.
    pub(super) fn is_elsewhere(&self, chunk: &ChunkRef, packs: &BTreeSet<Blake3>) -> bool {
        let mut there = self.locations.packs_of(chunk).peekable();
        there.peek().is_some() && !there.any(|pack| packs.contains(pack))
    }

    /// Reads the indexes of a store.
    pub(super) fn read(backend: &dyn ListableBackend) -> Result<Self> {
        let mut pairs: BTreeMap<Blake3, [Option<ObjectMeta>; 2]> = BTreeMap::new();
        for object in backend.list_all(pack::FOLDER)? {
            if let Some(pack) = pack::parse_index_key(&object.key) {
                pairs.entry(pack).or_default()[1] = Some(object);
            } else if let Some(pack) = pack::parse_pack_key(&object.key) {
                pairs.entry(pack).or_default()[0] = Some(object);
            }
        }
        let (mut good, mut strays, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for (pack, pair) in pairs {
            let (file, object) = match pair {
                [Some(file), Some(index)] => (file, index),
                [file, index] => {
                    let objects = file.into_iter().chain(index).collect();
                    strays.push(Stray { pack, objects });
                    continue;
                }
            };
            let why = match read_index(backend, None, &pack) {
                Ok(Some(index)) if index.pack_size() == file.size => {
                    good.push((pack, file, object, index));
                    continue;
                }
                Ok(Some(index)) => format!(
                    "its index says {} bytes, and it has {}",
                    index.pack_size(),
                    file.size
                ),
                // Removed since it was listed.
                Ok(None) => continue,
                Err(error) if error.kind() == crate::ErrorKind::Corrupt => error.to_string(),
                Err(error) => return Err(error),
            };
            damaged.push((object.clone(), why));
            let objects = vec![file, object];
            strays.push(Stray { pack, objects });
        }
        // The largest first: of two copies, the one in the larger pack counts.
        good.sort_by(|a, b| b.1.size.cmp(&a.1.size).then(a.0.cmp(&b.0)));
        let mut locations = Locations::default();
        let mut packs = Vec::new();
        let mut indexes = Vec::new();
        for (pack, file, object, index) in good {
            packs.push(Pack {
                name: pack,
                file,
                index: object,
                marks: vec![ReferenceMark::default(); index.chunks().len()],
            });
            indexes.push(index);
        }
        locations.add(indexes);
        Ok(Self {
            locations,
            packs,
            strays,
            damaged,
        })
    }

    /// Where all chunks are.
    pub(super) fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The index of a pack.
    pub(super) fn index(&self, pack: usize) -> &Index {
        self.locations.index(pack)
    }

    /// The places of a chunk, as numbers of pack and chunk.
    pub(super) fn places(&self, chunk: &ChunkRef) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.locations.places(chunk)
    }

    /// Marks all that a layout needs.
    pub(super) fn mark(
        &mut self,
        store: &Store,
        image: &ImageId,
        layout: &LayoutRef,
        owner: Referrer,
    ) -> Result<Marked> {
        let mut marked = Marked::default();
        for chunk in &layout.chunks {
            self.mark_chunk(chunk, owner, true, &mut marked);
        }
        let image = Image::with_layout(store.source(), *image, layout.clone())?;
        for entry in image.entries()? {
            for chunk in entry?.1 {
                self.mark_chunk(&chunk, owner, false, &mut marked);
            }
        }
        Ok(marked)
    }

    fn mark_chunk(&mut self, chunk: &ChunkRef, owner: Referrer, layout: bool, marked: &mut Marked) {
        let place = self.places(chunk).next();
        match place {
            Some((pack, number)) => {
                let pack = &mut self.packs[pack];
                pack.marks[number].add(owner, layout);
                marked.packs.insert(pack.name);
            }
            None => marked.missing.push(*chunk),
        }
    }

    /// Calls `each` with every chunk's mark and its share of the pack's bytes.
    pub(super) fn shares(&self, pack: usize, each: &mut dyn FnMut(ReferenceMark, u64)) {
        let index = self.index(pack);
        let mut number = 0;
        for frame in index.frames() {
            let chunks = index.chunks_of(frame);
            let raw: u64 = chunks.iter().map(|chunk| u64::from(chunk.len())).sum();
            for chunk in chunks {
                let share = u64::from(chunk.len()) * u64::from(frame.stored) / raw.max(1);
                each(self.packs[pack].marks[number], share);
                number += 1;
            }
        }
    }

    /// Bytes of a pack that somebody owns, about.
    pub(super) fn living_bytes(&self, pack: usize) -> u64 {
        let mut bytes = 0;
        self.shares(pack, &mut |mark, share| {
            if !mark.is_unreferenced() {
                bytes += share;
            }
        });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_know_their_only_owner() {
        let mut mark = ReferenceMark::default();
        assert!(mark.is_unreferenced() && mark.owner().is_none());
        mark.add(Referrer(0), false);
        mark.add(Referrer(0), true);
        assert!(!mark.is_unreferenced() && mark.is_layout());
        assert_eq!(mark.owner(), Some(Referrer(0)));
        mark.add(Referrer(7), false);
        assert!(!mark.is_unreferenced() && mark.is_layout());
        assert_eq!(mark.owner(), None);
    }
}
