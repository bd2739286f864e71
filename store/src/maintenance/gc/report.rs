//! What a collector would do, does and did.

use super::super::roots::KeepReason;
use crate::digest::{Blake3, ImageId};
use crate::name::ImageName;

/// An image that is kept, with the reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// The image.
    pub image: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Every reason there is.
    pub why: Vec<KeepReason>,
}

/// An image that nothing references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// The image.
    pub image: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Bytes of its tar.
    pub size: u64,
    /// When it was published, in seconds since 1970.
    pub published: u64,
}

/// An object that nothing references, and that is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
}

/// A pack that is mostly unreferenced, so that it is rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragmented {
    /// The pack.
    pub pack: Blake3,
    /// Its bytes.
    pub size: u64,
    /// Those of them that are needed, about.
    pub needed: u64,
}

/// The plan of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The images that stay.
    pub kept: Vec<KeptImage>,
    /// The images that go.
    pub images: Vec<Unreferenced>,
    /// All objects that go, the images' manifests among them.
    pub objects: Vec<Removed>,
    /// The packs that are rewritten.
    pub fragmented: Vec<Fragmented>,
    /// Bytes that nobody needs, but that are held or younger than the grace period.
    pub waiting: u64,
    /// Bytes that dead writers left unfinished. Every writer removes them.
    pub leftover: u64,
    /// Writers that live now.
    pub writers: usize,
}

impl Plan {
    /// Bytes that would be free, about.
    pub fn bytes_to_free(&self) -> u64 {
        let objects: u64 = self.objects.iter().map(|gone| gone.size).sum();
        let fragmented = self.fragmented.iter();
        let fragmented: u64 = fragmented
            .map(|fragmented| fragmented.size.saturating_sub(fragmented.needed))
            .sum();
        objects + fragmented + self.leftover
    }
}

/// The result of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What it was going to do.
    pub plan: Plan,
    /// Objects that it removed, and their bytes.
    pub removed: Vec<Removed>,
    /// Bytes of packs that it rewrote.
    pub rewritten: u64,
    /// Bytes of packs and histories that it wrote instead.
    pub written: u64,
    /// Objects of the plan that it left, because somebody needs them after all.
    pub spared: u64,
}

impl Collected {
    /// Bytes that are free now.
    pub fn bytes_freed(&self) -> u64 {
        let removed: u64 = self.removed.iter().map(|gone| gone.size).sum();
        (removed + self.plan.leftover).saturating_sub(self.written)
    }
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcProgress {
    /// So many of all kept images were gone through.
    Mark {
        /// Images that were marked.
        done: u64,
        /// All that are kept.
        total: u64,
    },
    /// Nobody can begin to hold anything while what is not needed is removed.
    Remove,
    /// So many bytes of packs were rewritten.
    Repack {
        /// Bytes of packs that were gone through.
        done: u64,
        /// Bytes of all that are to be rewritten.
        total: u64,
    },
}
