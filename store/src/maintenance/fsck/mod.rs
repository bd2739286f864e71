//! Checking a store: every byte against its name, every image against its digest.
//!
//! ```text
//! manifests, environments --+
//! indexes ------------------+--> subjects: which images, in which chunks
//! packs, raw: hashed, all cores       \
//!   a pack that differs: each chunk    +--> which chunks are lost
//! images: expanded, hashed            /
//! frames that no image needed: decoded
//! inputs: hashed, all cores
//! ```
//!
//! A byte is read once to be hashed, and a frame is decoded once for each image that
//! needs it; what no image needs is decoded once at the end. Memory holds the
//! indexes and a few frames.
//!
//! A quick check reads no pack but for layouts: names, sizes, indexes, and whether
//! everything that an image needs is in one.

mod images;
mod objects;
mod packs;
mod quarantine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::gc::{LOCK, LockReader, busy};
use super::references::PackReferences;
use super::stats::Amount;
use crate::backend::ListableBackend;
use crate::digest::{Blake3, ImageId};
use crate::error::Result;
use crate::name::ImageName;
use crate::store::{INPUTS, Store};

pub use self::quarantine::{Quarantined, quarantine};

/// An object that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

/// An image that damage has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedImage {
    /// The image.
    pub image: ImageId,
    /// Its name, if that can be read.
    pub name: Option<ImageName>,
    /// Where it is released, as `ENV/NAME SEQ`.
    pub released: Vec<String>,
    /// What is wrong with it.
    pub why: String,
    /// Its entries that cannot be had, the first of them.
    pub entries: Vec<String>,
    /// How many more there are.
    pub more: u64,
    /// Whether the image itself is whole, and only an input of its build is not.
    pub whole: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Objects that are damaged or missing.
    pub damage: Vec<Damage>,
    /// The images that this hurts.
    pub affected: Vec<AffectedImage>,
    /// Images that could not be built again, for want of so many inputs.
    pub unbuildable: Vec<(ImageId, u64)>,
    /// Objects that a killed writer or collector left, harmless.
    pub strays: Vec<String>,
    /// Images that were checked.
    pub images: u64,
    /// Packs that were checked.
    pub packs: Amount,
    /// Inputs that were checked.
    pub inputs: Amount,
    /// Environments that were checked.
    pub environments: u64,
    /// Chunks of packs that are not what they should be.
    bad: BTreeMap<Blake3, Vec<bool>>,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.affected.is_empty()
    }
}

/// How far a check is, in bytes that were gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes of all.
    pub total: u64,
}

/// Adds up what several threads have done.
struct Meter<'a> {
    done: AtomicU64,
    total: u64,
    watch: &'a (dyn Fn(Progress) + Sync),
}

impl Meter<'_> {
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.max(done);
        (self.watch)(Progress { done, total });
    }
}

/// Checks a store; reads only. Publications may go on beside it, collectors not.
pub fn fsck(
    store: &Store,
    place: &dyn ListableBackend,
    quick: bool,
    locks: LockReader<'_>,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Report> {
    let _steady = place.try_share(LOCK)?.ok_or_else(|| busy(place))?;
    let mut report = Report::default();
    let subjects = objects::subjects(store, place, &mut report)?;
    objects::beside(place, quick, &mut report)?;
    let census = PackReferences::read(place)?;
    for (index, why) in &census.damaged {
        report.damage.push(Damage {
            key: index.key.clone(),
            why: why.clone(),
        });
    }
    let damaged: BTreeSet<_> = report.damage.iter().map(|d| d.key.clone()).collect();
    let strays = census.strays.iter().map(|object| object.key.clone());
    report.strays = strays.filter(|key| !damaged.contains(key)).collect();
    report.images = subjects.len() as u64;
    report.packs.count = census.packs.len() as u64;
    report.packs.bytes = census.packs.iter().map(|pack| pack.file.size).sum();
    let inputs = place.list_all(INPUTS)?;

    let images: u64 = subjects.values().map(|subject| subject.size).sum();
    let inputs_size: u64 = inputs.iter().map(|object| object.size).sum();
    let meter = Meter {
        done: AtomicU64::new(0),
        total: if quick {
            0
        } else {
            report.packs.bytes + images + inputs_size
        },
        watch,
    };
    let mut state = packs::State::new(&census);
    if quick {
        images::walk(store, &census, &state, &subjects, &mut report);
    } else {
        packs::raw(&census, place, &meter, &mut state, &mut report)?;
        let whole = images::walk(store, &census, &state, &subjects, &mut report);
        let failed = images::expand(store, place, &mut state, &subjects, &whole, &meter)?;
        packs::frames(&census, place, &mut state, &mut report)?;
        images::explain(store, &census, &state, &subjects, failed, &mut report);
    }
    let damaged = objects::inputs(place, &inputs, quick, &meter, &mut report);
    objects::builds(store, &subjects, &inputs, &damaged, locks, &mut report);
    report.bad = state.into_bad(&census);
    Ok(report)
}
