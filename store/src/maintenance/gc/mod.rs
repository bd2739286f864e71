//! Collecting garbage: what nobody needs goes, packs that are mostly waste shrink.
//!
//! ```text
//! roots --mark--> plan --gate--> remove --> repack --gate--> remove the old packs
//! ```
//!
//! A plan alone changes nothing and needs no permission to write.

mod hints;
mod mark;
mod plan;
mod repack;
mod sweep;

use crate::backend::{ListableBackend, ObjectMeta, WritableBackend};
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ImageName;
use crate::store::Store;

use self::mark::Marking;
use super::roots::KeepReason;

/// The lock that collectors take alone and checks share.
pub(super) const LOCK: &str = "gc";

/// What a collector keeps although no environment or pin wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Seconds for which anything stays after it was written.
    pub grace: u64,
    /// How many of the newest images of each name stay that are not released.
    pub keep_last: usize,
    /// Percent of a pack's bytes that may be waste before it is rewritten; 100 for
    /// never.
    pub waste: u8,
}

impl Default for Policy {
    /// A day, one, half.
    fn default() -> Self {
        Self {
            grace: 24 * 60 * 60,
            keep_last: 1,
            waste: 50,
        }
    }
}

/// Whether an object was written within the grace period.
pub(super) fn young(policy: &Policy, now: u64, object: Option<&ObjectMeta>) -> bool {
    object.is_some_and(|object| object.modified.saturating_add(policy.grace) > now)
}

/// Says which inputs a lock names, or why it cannot be read: the format of locks is
/// their writer's.
pub type LockReader<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<Sha256>, String>;

/// An image that is kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    /// The image.
    pub image: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Every reason there is.
    pub why: Vec<KeepReason>,
}

/// An image that nobody needs.
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

/// An object that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
}

/// A pack that is mostly waste.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragmented {
    /// The pack.
    pub pack: Blake3,
    /// Its bytes.
    pub size: u64,
    /// Those of them that are needed, about.
    pub needed: u64,
}

/// What a collector would do.
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
        let worn = self.fragmented.iter();
        let worn: u64 = worn.map(|worn| worn.size.saturating_sub(worn.needed)).sum();
        objects + worn + self.leftover
    }
}

/// What a collector did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What it was going to do.
    pub plan: Plan,
    /// Objects that it removed, and their bytes.
    pub removed: Vec<Removed>,
    /// Bytes of packs that it rewrote.
    pub rewritten: u64,
    /// Bytes of packs that it wrote instead.
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

/// What a collector is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
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

/// A collector of one store.
pub struct Collector<'a> {
    store: &'a Store,
    policy: Policy,
    locks: LockReader<'a>,
}

impl<'a> Collector<'a> {
    /// A collector that has done nothing yet.
    pub fn new(store: &'a Store, policy: Policy, locks: LockReader<'a>) -> Self {
        Self {
            store,
            policy,
            locks,
        }
    }

    /// What would be done. Reads only; beside writers it is an estimate.
    pub fn plan(&self, place: &dyn ListableBackend, watch: &mut dyn FnMut(Stage)) -> Result<Plan> {
        Ok(Marking::read(self, place, watch)?.plan(self).0)
    }

    /// Removes what nobody needs, and rewrites packs. [`ErrorKind::Busy`] while
    /// another collector or a check is at work.
    pub fn run(
        &self,
        place: &dyn WritableBackend,
        watch: &mut dyn FnMut(Stage),
    ) -> Result<Collected> {
        let _alone = place.try_lock(LOCK)?.ok_or_else(|| busy(place))?;
        let mut marking = Marking::read(self, place, watch)?;
        let (plan, doomed) = marking.plan(self);
        let mut collected = Collected {
            plan,
            ..Collected::default()
        };
        hints::follow(&marking, place)?;
        watch(Stage::Remove);
        sweep::sweep(self, &mut marking, &doomed, place, &mut collected)?;
        repack::repack(self, &mut marking, place, watch, &mut collected)?;
        // Once more: a publication may have ended with a hint from before.
        hints::follow(&marking, place)?;
        place.remove_leftovers(self.policy.grace)?;
        Ok(collected)
    }
}

pub(super) fn busy(place: &dyn ListableBackend) -> Error {
    let text = format!(
        "the store {} is being cleaned up or checked by another process",
        place.describe()
    );
    Error::new(ErrorKind::Busy, text)
}
