//! Removing, while no writer can begin to hold anything: behind the gate of
//! [`crate::format::maintenance`].

use std::collections::{BTreeSet, HashMap};

use super::super::roots::KeepReason;
use super::collector::Collector;
use super::hints;
use super::mark::Marking;
use super::plan::Removable;
use super::report::{Collected, Removed};
use crate::backend::{ETag, Guard, ObjectMeta, WritableBackend, Writers};
use crate::delta;
use crate::error::Result;
use crate::inventory;
use crate::pack;
use crate::store::{IMAGES, INPUTS, manifest_key};

/// The time in which nobody can begin to hold anything.
pub(super) struct Gate {
    writers: Writers,
    /// What is there now.
    objects: HashMap<String, ETag>,
    _guard: Guard,
}

impl Gate {
    /// Shuts the gate, and keeps what came to be needed since the last look.
    pub(super) fn shut(
        collector: &Collector<'_>,
        marking: &mut Marking,
        backend: &dyn WritableBackend,
        folders: &[&str],
    ) -> Result<Self> {
        let guard = backend.gate()?;
        // First what is held: whoever ends after this has written its manifest.
        let writers = backend.writers()?;
        let mut wanted = marking.roots.refresh(collector.store, backend)?;
        let held = marking.roots.images.keys();
        let held = held.filter(|image| writers.held.contains(&manifest_key(image)));
        let held = held.filter(|image| !marking.kept.contains_key(image));
        wanted.extend(held.copied());
        for image in wanted {
            marking.keep(collector, image, vec![KeepReason::Held], false)?;
            hints::point(marking, backend, &image)?;
        }
        let mut objects = HashMap::new();
        for folder in folders {
            let listed = backend.list_all(folder)?.into_iter();
            objects.extend(listed.map(|object| (object.key, object.version)));
        }
        Ok(Self {
            writers,
            objects,
            _guard: guard,
        })
    }

    /// Whether objects are still those that were planned for, and nobody's.
    pub(super) fn may_remove(&self, objects: &[&ObjectMeta]) -> bool {
        let same = |object: &&&ObjectMeta| self.objects.get(&object.key) == Some(&object.version);
        let held = |object: &&ObjectMeta| self.writers.held.contains(&object.key);
        objects.iter().filter(same).count() == objects.len() && !objects.iter().any(held)
    }
}

/// Removes what was planned and is still nobody's.
pub(super) fn sweep(
    collector: &Collector<'_>,
    marking: &mut Marking,
    doomed: &Removable,
    backend: &dyn WritableBackend,
    collected: &mut Collected,
) -> Result<()> {
    let folders = [
        IMAGES,
        "hints/",
        "logs/",
        crate::attest::FOLDER,
        inventory::FOLDER,
        pack::FOLDER,
        delta::FOLDER,
        INPUTS,
    ];
    let gate = Gate::shut(collector, marking, backend, &folders)?;
    let mut remove = |objects: &[&ObjectMeta], needed: bool| -> Result<bool> {
        if needed || !gate.may_remove(objects) {
            collected.spared += objects.len() as u64;
            return Ok(false);
        }
        for object in objects {
            backend.remove(&object.key)?;
            collected.removed.push(Removed::of(object));
        }
        Ok(true)
    };
    // What is not there any more must not be looked for.
    let mut changed = BTreeSet::new();
    for (image, object) in &doomed.inventories {
        if !remove(&[object], marking.kept.contains_key(image))? {
            changed.insert(*image);
        }
    }
    backend.sync()?;
    for (image, object) in &doomed.images {
        let needed = marking.kept.contains_key(image) || changed.contains(image);
        remove(&[object], needed)?;
    }
    // A manifest must not come back after a power cut when its packs do not.
    backend.sync()?;
    for (image, object) in &doomed.beside {
        remove(&[object], marking.kept.contains_key(image))?;
    }
    for stray in &doomed.strays {
        // Whoever published what lacked then may have ended, and holds it no more.
        let finished = stray.absent().any(|key| gate.objects.contains_key(&key));
        remove(&stray.objects.iter().collect::<Vec<_>>(), finished)?;
    }
    for number in &doomed.packs {
        let pack = &marking.references.packs[*number];
        remove(&[&pack.index, &pack.file], pack.referenced() > 0)?;
    }
    for delta in &doomed.deltas {
        remove(&[&delta.object], marking.keeps_any(&delta.pairs))?;
    }
    for (input, object) in &doomed.inputs {
        remove(&[object], marking.inputs.contains(input))?;
    }
    backend.sync()
}
