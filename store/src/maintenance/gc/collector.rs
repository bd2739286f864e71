//! A collector, and what it is told to keep.

use crate::backend::ObjectMeta;
use crate::digest::{ImageId, Sha256};
use crate::store::Store;

/// The policy of a collection: what is kept although no environment or pin needs it.
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
    /// A grace period of one day, the newest image of each name, packs rewritten from half waste on.
    fn default() -> Self {
        Self {
            grace: 24 * 60 * 60,
            keep_last: 1,
            waste: 50,
        }
    }
}

/// Whether an object was written within the grace period.
pub(in super::super) fn young(policy: &Policy, now: u64, object: Option<&ObjectMeta>) -> bool {
    object.is_some_and(|object| object.modified.saturating_add(policy.grace) > now)
}

/// A parser of locks: returns the inputs that one names, or why it cannot be read. The
/// format of locks is the builder's.
pub type LockReader<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<Sha256>, String>;

/// A parser of locks that returns the image that an image stands on, if it stands on one.
pub type BaseReader<'a> = &'a dyn Fn(&[u8]) -> Result<Option<ImageId>, String>;

/// A collector of one store.
pub struct Collector<'a> {
    pub(super) store: &'a Store,
    pub(super) policy: Policy,
    pub(super) locks: LockReader<'a>,
    pub(super) bases: BaseReader<'a>,
}

impl<'a> Collector<'a> {
    /// A collector that has done nothing yet.
    pub fn new(store: &'a Store, policy: Policy, locks: LockReader<'a>) -> Self {
        Self {
            store,
            policy,
            locks,
            bases: &|_| Ok(None),
        }
    }

    /// The same, and what an image that is kept stands on is kept as well.
    #[must_use]
    pub fn with_bases(self, bases: BaseReader<'a>) -> Self {
        Self { bases, ..self }
    }
}
