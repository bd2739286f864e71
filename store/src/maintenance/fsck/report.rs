//! What a check found, and how far it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::stats::Amount;
use crate::digest::{Blake3, ImageId};
use crate::name::ImageName;

/// An object that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

/// An image that damage affects.
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

/// The findings of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Objects that are damaged or missing.
    pub damage: Vec<Damage>,
    /// The images that this affects.
    pub affected: Vec<AffectedImage>,
    /// Images that could not be built again, for want of so many inputs.
    pub unbuildable: Vec<(ImageId, u64)>,
    /// Objects that a killed writer or collector left, harmless.
    pub strays: Vec<String>,
    /// Objects that are no part of a store.
    pub foreign: Vec<String>,
    /// Images that were checked.
    pub images: u64,
    /// Packs that were checked.
    pub packs: Amount,
    /// Inputs that were checked.
    pub inputs: Amount,
    /// Environments that were checked.
    pub environments: u64,
    /// Chunks of packs that are not what they should be.
    pub(super) bad: BTreeMap<Blake3, Vec<bool>>,
}

impl Report {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.affected.is_empty()
    }
}

/// The progress of a check, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes of all.
    pub total: u64,
}

/// Adds up what several threads have done.
pub(super) struct Meter<'a> {
    pub(super) done: AtomicU64,
    pub(super) total: u64,
    pub(super) watch: &'a (dyn Fn(Progress) + Sync),
}

impl Meter<'_> {
    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.max(done);
        (self.watch)(Progress { done, total });
    }
}
