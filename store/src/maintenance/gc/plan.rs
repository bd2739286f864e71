//! From what is marked to what goes.

use std::cell::Cell;

use super::super::deltas::StoredDelta;
use super::super::references::Stray;
use super::collector::Collector;
use super::mark::Marking;
use super::report::{Fragmented, KeptImage, Plan, Removed, Unreferenced};
use crate::attest;
use crate::backend::ObjectMeta;
use crate::build_log::BuildLog;
use crate::delta::parse_delta_key;
use crate::digest::{ImageId, Sha256};
use crate::hint::Hint;
use crate::inventory;
use crate::store::INPUTS;

/// Objects that go, in the order in which they do.
#[derive(Default)]
pub(super) struct Removable {
    /// Inventories: they say what should be there.
    pub(super) inventories: Vec<(ImageId, ObjectMeta)>,
    /// Manifests.
    pub(super) images: Vec<(ImageId, ObjectMeta)>,
    /// Hints, logs and attestations, with their images.
    pub(super) beside: Vec<(ImageId, ObjectMeta)>,
    /// Packs without an index or the other way round.
    pub(super) strays: Vec<Stray>,
    /// Whole packs, by number.
    pub(super) packs: Vec<usize>,
    /// Inputs.
    pub(super) inputs: Vec<(Sha256, ObjectMeta)>,
    /// Deltas and their descriptions.
    pub(super) deltas: Vec<StoredDelta>,
}

impl Marking {
    /// What goes, for people and for the sweep.
    pub(super) fn plan(&self, collector: &Collector<'_>) -> (Plan, Removable) {
        let (mut plan, mut doomed) = (Plan::default(), Removable::default());
        plan.writers = self.writers.alive;
        plan.leftover = self.writers.leftover;
        for (image, root) in &self.roots.images {
            if let Some(wanted) = self.kept.get(image) {
                plan.kept.push(KeptImage {
                    image: *image,
                    name: root.name.clone(),
                    why: wanted.why.clone(),
                });
            } else if let Some(object) = &root.object {
                plan.images.push(Unreferenced {
                    image: *image,
                    name: root.name.clone(),
                    size: root.size,
                    published: root.published,
                });
                doomed.images.push((*image, object.clone()));
            }
        }
        let waiting = Cell::new(0);
        let goes = |objects: &[&ObjectMeta], alone: bool| {
            let young = |object: &&ObjectMeta| alone && self.is_young(collector, object);
            let held = |object: &&ObjectMeta| self.writers.held.contains(&object.key);
            if objects.iter().any(|object| young(object) || held(object)) {
                let size: u64 = objects.iter().map(|object| object.size).sum();
                waiting.set(waiting.get() + size);
                return false;
            }
            true
        };
        for object in &self.others {
            if let Some(input) = input(&object.key) {
                if !self.inputs.contains(&input) && goes(&[object], true) {
                    doomed.inputs.push((input, object.clone()));
                }
                continue;
            }
            let inventory = inventory::parse_key(&object.key);
            if let Some(image) = inventory.or_else(|| beside(&object.key))
                && !self.kept.contains_key(&image)
            {
                // With its image, or by its own age.
                let alone = !self.roots.images.contains_key(&image);
                if goes(&[object], alone) {
                    let doomed = match inventory {
                        Some(_) => &mut doomed.inventories,
                        None => &mut doomed.beside,
                    };
                    doomed.push((image, object.clone()));
                }
            }
        }
        for delta in &self.deltas {
            // One of no pair may be older than its description, by its own age.
            let alone = delta.pairs.is_empty();
            if !self.keeps_any(&delta.pairs) && goes(&[&delta.object], alone) {
                doomed.deltas.push(delta.clone());
            }
        }
        // Descriptions first: none may name a delta that is gone.
        let is_delta = |delta: &StoredDelta| parse_delta_key(&delta.object.key).is_some();
        doomed.deltas.sort_by_key(is_delta);
        for stray in &self.references.strays {
            if goes(&stray.objects.iter().collect::<Vec<_>>(), true) {
                doomed.strays.push(stray.clone());
            }
        }
        for (number, pack) in self.references.packs.iter().enumerate() {
            let living = self.references.living_bytes(number);
            if living == 0 {
                if goes(&[&pack.file, &pack.index], true) {
                    doomed.packs.push(number);
                }
                continue;
            }
            let waste = pack.file.size.saturating_sub(living);
            if waste * 100 <= pack.file.size * u64::from(collector.policy.waste) {
                continue;
            }
            let both = [&pack.file, &pack.index];
            let young = both.iter().any(|object| self.is_young(collector, object));
            let keys = [&pack.file.key, &pack.index.key];
            if young || keys.iter().any(|key| self.writers.held.contains(*key)) {
                waiting.set(waiting.get() + waste);
                continue;
            }
            plan.fragmented.push(Fragmented {
                pack: pack.name,
                size: pack.file.size,
                needed: living,
            });
        }
        plan.waiting = waiting.get();
        plan.objects = doomed
            .objects(self)
            .iter()
            .map(|o| Removed::of(o))
            .collect();
        (plan, doomed)
    }
}

impl Removable {
    fn objects<'a>(&'a self, marking: &'a Marking) -> Vec<&'a ObjectMeta> {
        let packs = self
            .packs
            .iter()
            .map(|number| &marking.references.packs[*number]);
        let mut objects: Vec<_> = self.inventories.iter().map(|(_, object)| object).collect();
        objects.extend(self.images.iter().map(|(_, object)| object));
        objects.extend(self.beside.iter().map(|(_, object)| object));
        objects.extend(self.strays.iter().flat_map(|stray| &stray.objects));
        objects.extend(packs.flat_map(|pack| [&pack.index, &pack.file]));
        objects.extend(self.inputs.iter().map(|(_, object)| object));
        objects.extend(self.deltas.iter().map(|delta| &delta.object));
        objects.extend(&marking.retirable);
        objects
    }
}

impl Removed {
    pub(super) fn of(object: &ObjectMeta) -> Self {
        Self {
            key: object.key.clone(),
            size: object.size,
        }
    }
}

/// The input that has this key.
fn input(key: &str) -> Option<Sha256> {
    Sha256::from_hex(key.strip_prefix(INPUTS)?).ok()
}

/// The image whose hint, log or attestation has this key.
fn beside(key: &str) -> Option<ImageId> {
    if key.starts_with(attest::FOLDER) {
        return attest::parse_key(key).or_else(|| attest::parse_list_key(key));
    }
    let (_, name) = key.split_once('/')?;
    let (hex, _) = name.split_once('.')?;
    let image = ImageId::from_hex(hex).ok()?;
    let ours = key == Hint::key(&image) || key == BuildLog::key(&image);
    ours.then_some(image)
}
