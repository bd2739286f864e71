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
//! A byte is read once to be hashed, and every frame is decoded and each chunk in it compared
//! with its digest. That a layout expands to its image follows from its chunks, for ever: an
//! image that this machine has expanded once is not expanded again ([`Verified`]). So a frame
//! is decoded once for each image that needs it and was not expanded yet, and what is left
//! once at the end. Memory holds the indexes and a few frames.
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
use crate::verified::{Fact, Verified};

pub use self::quarantine::{Quarantined, quarantine};
use self::report::Meter;
pub use self::report::{AffectedImage, Damage, Progress, Report};

/// How much of a store a check reads.
#[derive(Clone, Copy)]
pub enum Depth<'a> {
    /// No content: names, sizes, indexes, and whether everything is there.
    Quick,
    /// Every byte.
    Whole {
        /// What this machine verified before, which is added to.
        verified: Option<&'a Verified>,
        /// Whether images are expanded whatever was verified before.
        anew: bool,
    },
}

/// Checks a store; reads only. Publications may go on beside it, collectors not.
pub fn fsck(
    store: &Store,
    backend: &dyn ListableBackend,
    depth: Depth<'_>,
    locks: LockReader<'_>,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Report> {
    let _steady = backend.try_share(LOCK)?.ok_or_else(|| busy(backend))?;
    let (quick, verified, anew) = match depth {
        Depth::Quick => (true, None, false),
        Depth::Whole { verified, anew } => (false, verified, anew),
    };
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
        // Before anything is read: what is changed meanwhile has another seal.
        let seals: Vec<_> = references
            .packs
            .iter()
            .map(|p| backend.seal(&p.file))
            .collect();
        packs::raw(&references, backend, &meter, &mut state, &mut report)?;
        let whole = images::walk(store, &references, &state, &subjects, &hints, &mut report);
        let known = verified.filter(|_| !anew);
        let expanded = images::expand(
            store,
            &references,
            backend,
            &state,
            (&subjects, &whole, known),
            &meter,
        )?;
        packs::frames(&references, backend, &mut state, &mut report)?;
        if let Some(verified) = verified {
            let packs = references.packs.iter().zip(&seals).enumerate();
            let packs = packs.filter(|(number, _)| !state.is_bad(*number));
            let packs = packs.filter_map(|(_, (pack, seal))| {
                let (pack, seal) = (&pack.name, seal.as_deref()?);
                Some(Fact::Pack { pack, seal })
            });
            verified.keep(packs.chain(expanded.iter().flat_map(images::Expanded::facts)));
        }
        images::explain(store, &references, &state, &subjects, expanded, &mut report);
    }
    let damaged = objects::inputs(backend, &inputs, quick, &meter, &mut report);
    objects::builds(store, &subjects, &inputs, &damaged, locks, &mut report);
    report.bad = state.into_bad(&references);
    Ok(report)
}
