//! Marking: which images are kept, and everything that they need.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::deltas;
use super::super::references::{Marked, PackReferences, Referrer};
use super::super::roots::{KeepReason, Root, Roots};
use super::collector::{Collector, young};
use super::history;
use super::report::GcProgress;
use crate::backend::{ListableBackend, ObjectMeta, Writers};
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, Result};
use crate::inventory;
use crate::manifest::{LayoutRef, MAX_LOCK};
use crate::store::pin_key;

/// What a store has, and what of it is needed.
pub(super) struct Marking {
    pub(super) roots: Roots,
    pub(super) references: PackReferences,
    /// The images that are kept.
    pub(super) kept: BTreeMap<ImageId, MarkedImage>,
    /// The inputs that are needed.
    pub(super) inputs: BTreeSet<Sha256>,
    pub(super) writers: Writers,
    pub(super) others: Vec<ObjectMeta>,
    pub(super) deltas: Vec<deltas::StoredDelta>,
    /// Old versions of environments' metadata.
    pub(super) retirable: Vec<ObjectMeta>,
    pub(super) now: u64,
    /// Locks that were read.
    locks: HashMap<Sha256, Named>,
}

/// What a lock names.
#[derive(Default)]
struct Named {
    inputs: Vec<Sha256>,
    base: Option<ImageId>,
}

/// An image that is kept.
pub(super) struct MarkedImage {
    pub(super) why: Vec<KeepReason>,
    /// The packs that it is counted in.
    pub(super) packs: BTreeSet<Blake3>,
    /// Whether those are all: the rest of an image that came after the packs were
    /// listed is in younger ones.
    pub(super) complete: bool,
}

impl Marking {
    /// Lists what there is and marks what is needed.
    pub(super) fn read(
        collector: &Collector<'_>,
        backend: &dyn ListableBackend,
        watch: &mut dyn FnMut(GcProgress),
    ) -> Result<Self> {
        let now = backend.now()?;
        let writers = backend.writers()?;
        let (mut retirable, mut retired) = (Vec::new(), HashMap::new());
        for (_, plan) in history::plans(collector, backend)? {
            let manifests = plan.manifests.iter();
            retired.extend(manifests.map(|one| (one.key.clone(), one.version.clone())));
            retirable.extend(plan.objects);
            retirable.extend(plan.manifests);
        }
        let roots = Roots::read(collector.store, backend, retired)?;
        refuse_lost(&roots, backend)?;
        let mut others = Vec::new();
        for folder in [
            "hints/",
            "logs/",
            crate::attest::FOLDER,
            inventory::FOLDER,
            crate::store::INPUTS,
        ] {
            others.extend(backend.list_all(folder)?);
        }
        let deltas = deltas::list(backend)?;
        // After the manifests: whatever they need is listed.
        let references = PackReferences::read(backend)?;
        let mut marking = Self {
            retirable,
            kept: BTreeMap::new(),
            inputs: BTreeSet::new(),
            locks: HashMap::new(),
            roots,
            references,
            writers,
            others,
            deltas,
            now,
        };
        let keep = marking.decide(collector, backend)?;
        let total = keep.len() as u64;
        for (done, (image, why)) in keep.into_iter().enumerate() {
            let done = done as u64;
            watch(GcProgress::Mark { done, total });
            // Another image stands on it.
            if let Some(kept) = marking.kept.get_mut(&image) {
                kept.why.extend(why);
                continue;
            }
            marking.keep(collector, image, why, true)?;
        }
        Ok(marking)
    }

    /// Whether the images at both ends of any of these pairs are kept.
    pub(super) fn keeps_any(&self, pairs: &BTreeSet<(ImageId, ImageId)>) -> bool {
        let kept = |image: &ImageId| self.kept.contains_key(image);
        pairs.iter().any(|(from, to)| kept(from) && kept(to))
    }

    /// Whether an object was written within the grace period.
    pub(super) fn is_young(&self, collector: &Collector<'_>, object: &ObjectMeta) -> bool {
        young(&collector.policy, self.now, Some(object))
    }

    /// Which images are kept, and why.
    fn decide(
        &self,
        collector: &Collector<'_>,
        backend: &dyn ListableBackend,
    ) -> Result<Vec<(ImageId, Vec<KeepReason>)>> {
        let mut keep = Vec::new();
        // The images that are not released by name, the newest first.
        let mut rest: BTreeMap<_, Vec<(u64, ImageId)>> = BTreeMap::new();
        for (image, root) in &self.roots.images {
            let mut why = root.why(image, &self.writers.held);
            let object = root.object.as_ref();
            if object.is_some_and(|object| self.is_young(collector, object)) {
                why.push(KeepReason::Young);
            }
            if !root.in_environment {
                let same = rest.entry(&root.name).or_default();
                same.push((root.published, *image));
            }
            keep.push((*image, why));
        }
        let mut newest = BTreeSet::new();
        for mut images in rest.into_values() {
            images.sort_unstable_by(|a, b| b.cmp(a));
            let last = images.iter().take(collector.policy.keep_last);
            newest.extend(last.map(|(_, image)| *image));
        }
        for (image, why) in &mut keep {
            if newest.contains(image) {
                why.push(KeepReason::Newest);
            }
            // Whoever pinned it has not unpinned it.
            if why.is_empty()
                && let Some(known) = inventory::read(backend, image)?
                && known.objects.contains_key(&pin_key(image))
            {
                let lost = "its pin is lost: pin it again, or unpin it";
                why.push(KeepReason::Pinned(lost.to_owned()));
            }
        }
        keep.retain(|(_, why)| !why.is_empty());
        Ok(keep)
    }

    /// Keeps an image: one that was there before the packs were listed (`all` of it
    /// must be in them), or one that came since.
    pub(super) fn keep(
        &mut self,
        collector: &Collector<'_>,
        image: ImageId,
        why: Vec<KeepReason>,
        all: bool,
    ) -> Result<()> {
        let Some(root) = self.roots.images.get(&image) else {
            return Ok(());
        };
        let Root {
            name,
            layouts,
            sources,
            ..
        } = root.clone();
        let (mut packs, mut complete) = (BTreeSet::new(), true);
        for layout in &layouts {
            let marked = self.mark(collector, &image, layout)?;
            if all && let Some(chunk) = marked.missing.first() {
                let more = marked.missing.len() - 1;
                let what = format_args!("{chunk} of {image} (and {more} other chunks)");
                return Err(Error::missing(what, collector.store.backend().describe()));
            }
            complete &= marked.missing.is_empty();
            packs.extend(marked.packs);
        }
        let mut bases = BTreeSet::new();
        for (recipe, lock) in sources {
            self.inputs.extend([recipe, lock]);
            if let Entry::Vacant(vacant) = self.locks.entry(lock) {
                let named = named(collector, &lock).map_err(|error| {
                    let text = format!("the lock of {name}, {image}, cannot be read");
                    Error::new(error.kind(), text).with_source(error)
                })?;
                vacant.insert(named);
            }
            self.inputs.extend(&self.locks[&lock].inputs);
            bases.extend(self.locks[&lock].base);
        }
        let wanted = MarkedImage {
            why,
            packs,
            complete,
        };
        self.kept.insert(image, wanted);
        for base in bases {
            if !self.kept.contains_key(&base) {
                self.keep(collector, base, vec![KeepReason::Base(image)], all)?;
            }
        }
        Ok(())
    }

    fn mark(
        &mut self,
        collector: &Collector<'_>,
        image: &ImageId,
        layout: &LayoutRef,
    ) -> Result<Marked> {
        self.references
            .mark(collector.store, image, layout, Referrer(0))
            .map_err(|error| {
                let text = format!("the image {image} cannot be read, so nothing is removed");
                Error::new(error.kind(), text).with_source(error)
            })
    }
}

/// Refuses to go on where a manifest is gone that no collector removed: all that it leads to
/// would go as well.
fn refuse_lost(roots: &Roots, backend: &dyn ListableBackend) -> Result<()> {
    for object in backend.list_all(inventory::FOLDER)? {
        if let Some(image) = inventory::parse_key(&object.key)
            && !roots.images.contains_key(&image)
            && inventory::has_lost_manifest(backend, &image)?
        {
            let what = format_args!("the manifest of {image}");
            return Err(Error::missing(what, backend.describe()).with_hint(
                "nothing is removed: imgbuild store fsck --repair-from STORE fetches it; with \
                 --quarantine the image is given up",
            ));
        }
    }
    Ok(())
}

/// What a lock names; nothing when the lock is not here.
fn named(collector: &Collector<'_>, lock: &Sha256) -> Result<Named> {
    let Some(text) = collector.store.input(lock, MAX_LOCK)? else {
        return Ok(Named::default());
    };
    let corrupt = |why: String| Error::corrupt(format_args!("the lock {lock}"), why);
    Ok(Named {
        inputs: (collector.locks)(&text).map_err(corrupt)?,
        base: (collector.bases)(&text).map_err(corrupt)?,
    })
}
