//! File system check of a store: every byte against its name, every image against its
//! digest.
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
//!
//! ```text
//! packs        packs against their names, frames against their indexes
//! images       chunks are there, and expand to the digest
//! inventories  what was put beside an image is there
//! objects      everything else: manifests, environments, pins, hints, logs, inputs
//! quarantine   damaged objects, moved to where nothing reads them
//! report       what was found, and how far the check is
//! ```

mod images;
mod inventories;
mod objects;
mod packs;
mod quarantine;
mod report;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use super::gc::{LOCK, LockReader, busy};
use super::references::PackReferences;
use crate::backend::ListableBackend;
use crate::error::Result;
use crate::store::{INPUTS, Store};

pub use self::quarantine::{Quarantined, quarantine};
use self::report::Meter;
pub use self::report::{AffectedImage, Damage, Progress, Report};

/// Checks a store; reads only. Publications may go on beside it, collectors not.
pub fn fsck(
    store: &Store,
    backend: &dyn ListableBackend,
    quick: bool,
    locks: LockReader<'_>,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Report> {
    let _steady = backend.try_share(LOCK)?.ok_or_else(|| busy(backend))?;
    let mut report = Report::default();
    let subjects = objects::subjects(store, backend, &mut report)?;
    objects::beside(backend, quick, &mut report)?;
    let references = PackReferences::read(backend)?;
    for (index, why) in &references.damaged {
        report.damage.push(Damage {
            key: index.key.clone(),
            why: why.clone(),
        });
    }
    let inventoried = inventories::compare(backend, &subjects, &mut report)?;
    let hints = objects::about_images(
        store,
        backend,
        &subjects,
        &references,
        &inventoried,
        &mut report,
    )?;
    objects::foreign(backend, &mut report)?;
    let damaged: BTreeSet<_> = report.damage.iter().map(|d| d.key.clone()).collect();
    let strays = references.strays.iter().flat_map(|stray| &stray.objects);
    let strays = strays.map(|object| object.key.clone());
    report
        .strays
        .extend(strays.filter(|key| !damaged.contains(key)));
    report.images = subjects.len() as u64;
    report.packs.count = references.packs.len() as u64;
    report.packs.bytes = references.packs.iter().map(|pack| pack.file.size).sum();
    let inputs = backend.list_all(INPUTS)?;

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
    let mut state = packs::State::new(&references);
    if quick {
        images::walk(store, &references, &state, &subjects, &hints, &mut report);
    } else {
        packs::raw(&references, backend, &meter, &mut state, &mut report)?;
        let whole = images::walk(store, &references, &state, &subjects, &hints, &mut report);
        let failed = images::expand(
            store,
            &references,
            backend,
            &mut state,
            &subjects,
            &whole,
            &meter,
        )?;
        packs::frames(&references, backend, &mut state, &mut report)?;
        images::explain(store, &references, &state, &subjects, failed, &mut report);
    }
    let damaged = objects::inputs(backend, &inputs, quick, &meter, &mut report);
    objects::builds(store, &subjects, &inputs, &damaged, locks, &mut report);
    report.bad = state.into_bad(&references);
    Ok(report)
}
