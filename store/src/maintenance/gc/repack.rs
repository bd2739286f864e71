//! Rewriting packs that are mostly waste, some at a time, so that little more space
//! is needed than the packs take.

use std::collections::BTreeSet;

use super::super::references::Pack;
use super::super::repack::rewrite;
use super::collector::Collector;
use super::hints;
use super::mark::Marking;
use super::report::{Collected, GcProgress, Removed};
use super::sweep::Gate;
use crate::backend::WritableBackend;
use crate::digest::Blake3;
use crate::error::Result;
use crate::pack;
use crate::store::IMAGES;

/// Needed bytes of the packs that are rewritten together.
const BATCH: u64 = pack::PACK_MAX / 2;

pub(super) fn repack(
    collector: &Collector<'_>,
    marking: &mut Marking,
    backend: &dyn WritableBackend,
    watch: &mut dyn FnMut(GcProgress),
    collected: &mut Collected,
) -> Result<()> {
    let fragmented: BTreeSet<Blake3> = collected
        .plan
        .fragmented
        .iter()
        .map(|fragmented| fragmented.pack)
        .collect();
    let total = collected
        .plan
        .fragmented
        .iter()
        .map(|fragmented| fragmented.size)
        .sum();
    let numbers = 0..marking.references.packs.len();
    let fragmented =
        numbers.filter(|number| fragmented.contains(&marking.references.packs[*number].name));
    let mut done = 0;
    for batch in batches(marking, fragmented.collect()) {
        let before: Vec<usize> = counts(marking, &batch);
        let references = &marking.references;
        let want =
            |pack: usize, chunk: usize| !references.packs[pack].marks[chunk].is_unreferenced();
        let mut each = |bytes| {
            done += bytes;
            watch(GcProgress::Repack { done, total });
        };
        let (new, written) = rewrite(references, &batch, &want, backend, &mut each)?;
        collected.written += written;
        let packs = batch.iter().map(|n| marking.references.packs[*n].name);
        moved(marking, &packs.collect(), &new);
        hints::follow(marking, backend)?;
        let removed = remove(collector, marking, backend, &batch, &before, collected)?;
        // Also those that came to be kept meanwhile.
        moved(marking, &removed, &new);
    }
    Ok(())
}

/// Packs that are rewritten together.
fn batches(marking: &Marking, fragmented: Vec<usize>) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for number in fragmented {
        let bytes = marking.references.living_bytes(number);
        match batches.last_mut() {
            Some(batch) if bytes <= room => batch.push(number),
            _ => {
                batches.push(vec![number]);
                room = BATCH;
            }
        }
        room = room.saturating_sub(bytes);
    }
    batches
}

fn counts(marking: &Marking, batch: &[usize]) -> Vec<usize> {
    let packs = batch
        .iter()
        .map(|number| &marking.references.packs[*number]);
    packs.map(Pack::referenced).collect()
}

/// Images that were counted in the old packs now are in the new ones.
fn moved(marking: &mut Marking, old: &BTreeSet<Blake3>, new: &[Blake3]) {
    for wanted in marking.kept.values_mut() {
        let before = wanted.packs.len();
        wanted.packs.retain(|pack| !old.contains(pack));
        if wanted.packs.len() < before {
            wanted.packs.extend(new);
        }
    }
}

/// Removes rewritten packs of which nothing more is needed than was; returns them.
fn remove(
    collector: &Collector<'_>,
    marking: &mut Marking,
    backend: &dyn WritableBackend,
    batch: &[usize],
    before: &[usize],
    collected: &mut Collected,
) -> Result<BTreeSet<Blake3>> {
    let mut removed = BTreeSet::new();
    let gate = Gate::shut(collector, marking, backend, &[IMAGES, pack::FOLDER])?;
    let after = counts(marking, batch);
    for ((number, before), after) in batch.iter().zip(before).zip(after) {
        let pack = &marking.references.packs[*number];
        let objects = [&pack.index, &pack.file];
        collected.rewritten += pack.file.size;
        if *before != after || !gate.may_remove(&objects) {
            // It stays, beside its copy; the next collector decides anew.
            collected.spared += 2;
            continue;
        }
        for object in objects {
            backend.remove(&object.key)?;
            collected.removed.push(Removed::of(object));
        }
        removed.insert(pack.name);
    }
    backend.sync()?;
    Ok(removed)
}
