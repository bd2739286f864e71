//! Images: their chunks are there, and expand to their digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::references::PackReferences;
use super::objects::{CheckedImage, Hinted, damaged};
use super::packs::State;
use super::report::{AffectedImage, Meter, Report};
use crate::backend::ListableBackend;
use crate::canonical_tar;
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::Result;
use crate::hint::Hint;
use crate::image::Image;
use crate::manifest::{self, LayoutRef, Manifest};
use crate::parallel;
use crate::store::Store;
use crate::verified::{Fact, Verified};

/// Entries that are named of one image.
const NAMED: usize = 50;

/// Looks for the chunks of all images. Returns the images that have all of them.
pub(super) fn walk(
    store: &Store,
    references: &PackReferences,
    state: &State,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    hints: &Hinted,
    report: &mut Report,
) -> Vec<ImageId> {
    let items: Vec<_> = subjects.iter().collect();
    let found = parallel::each(&items, false, |(image, subject)| {
        let mut elsewhere = false;
        let hint = hints.get(image);
        let hurt = look(store, references, state, image, subject, &mut |chunk| {
            elsewhere |= hint.is_some_and(|packs| references.is_elsewhere(chunk, packs));
        });
        (hurt, elsewhere)
    });
    let mut whole = Vec::new();
    for ((image, _), (hurt, elsewhere)) in items.into_iter().zip(found) {
        if elsewhere {
            let why = "it does not name the packs that the image is in";
            damaged(report, Hint::key(image), why.into());
        }
        match hurt {
            Some(hurt) => report.affected.push(hurt),
            None => whole.push(*image),
        }
    }
    whole
}

/// An image, with the locations that were read already: an image of very many files takes
/// as much for them as all else together.
fn open(
    store: &Store,
    references: &PackReferences,
    image: &ImageId,
    layout: &LayoutRef,
) -> Result<Image> {
    let locations = references.locations().clone();
    Image::with_locations(store.source(), *image, layout.clone(), locations)
}

/// What of an image cannot be had. Calls `each` with the chunks that it consists of.
fn look(
    store: &Store,
    references: &PackReferences,
    state: &State,
    image: &ImageId,
    subject: &CheckedImage,
    each: &mut dyn FnMut(&ChunkRef),
) -> Option<AffectedImage> {
    let mut hurt = AffectedImage {
        image: *image,
        name: Some(subject.name.clone()),
        released: subject.released.clone(),
        why: String::new(),
        entries: Vec::new(),
        more: 0,
        whole: false,
    };
    for (layout, _) in &subject.manifests {
        layout.chunks.iter().for_each(&mut *each);
        let lost = |chunk: &&_| state.is_lost(references, chunk);
        let gone = layout.chunks.iter().filter(lost).count();
        if gone > 0 {
            let of = layout.chunks.len();
            hurt.why = format!("{gone} of the {of} chunks of its layout are lost");
            return Some(hurt);
        }
        let walked = open(store, references, image, layout).and_then(|opened| -> Result<()> {
            for item in opened.entries()? {
                let (entry, chunks) = item?;
                chunks.iter().for_each(&mut *each);
                if chunks.iter().any(|chunk| state.is_lost(references, chunk)) {
                    if hurt.entries.len() < NAMED {
                        hurt.entries.push(canonical_tar::display(&entry.path));
                    } else {
                        hurt.more += 1;
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = walked {
            hurt.why = error.to_string();
            return Some(hurt);
        }
        if !hurt.entries.is_empty() {
            let count = hurt.entries.len() as u64 + hurt.more;
            hurt.why = format!("content of {count} entries is lost");
            return Some(hurt);
        }
    }
    None
}

/// What came of comparing an image with its manifests.
pub(super) struct Expanded {
    image: ImageId,
    /// What was said about it, if it is something else.
    why: Option<String>,
    /// The layouts that expand to it, each with the other digest of its tar.
    layouts: Vec<(Blake3, Sha256)>,
    /// Whether a layout was not expanded, because this machine had done that before.
    known: bool,
}

impl Expanded {
    /// What need not be found out again.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact<'_>> {
        let layouts = self.layouts.iter();
        layouts.map(|(layout, sha256)| Fact::Expansion {
            layout,
            image: &self.image,
            sha256,
        })
    }
}

/// Compares images with their manifests, and expands those that `verified` does not know.
pub(super) fn expand(
    store: &Store,
    references: &PackReferences,
    backend: &dyn ListableBackend,
    state: &State,
    (subjects, whole, verified): (
        &BTreeMap<ImageId, CheckedImage>,
        &[ImageId],
        Option<&Verified>,
    ),
    meter: &Meter<'_>,
) -> Result<Vec<Expanded>> {
    let found = parallel::each(whole, false, |image| -> Result<Expanded> {
        let mut expanded = Expanded {
            image: *image,
            why: None,
            layouts: Vec::new(),
            known: false,
        };
        let Some(subject) = subjects.get(image) else {
            return Ok(expanded);
        };
        let mut first: Option<Manifest> = None;
        for (_, key) in &subject.manifests {
            let Some(json) = backend.get(key, manifest::MAX_BYTES)? else {
                expanded.why = Some(format!("{key} vanished"));
                return Ok(expanded);
            };
            let manifest = match Manifest::from_json(&json) {
                Ok(manifest) => manifest,
                Err(error) => {
                    expanded.why = Some(error.to_string());
                    return Ok(expanded);
                }
            };
            if first
                .as_ref()
                .is_some_and(|first| says_the_same(first, &manifest))
            {
                continue;
            }
            let fact = Fact::expansion_of(&manifest);
            let is_known = verified.is_some_and(|verified| verified.knows(&fact));
            expanded.known |= is_known;
            let compared = open(store, references, image, &manifest.layout).and_then(|opened| {
                let opened = opened.watched(Arc::clone(&state.witness));
                let opened = opened.limited(manifest.size);
                if is_known {
                    meter.add(manifest.size);
                } else {
                    Store::verify_tar(&manifest, &opened, &mut |bytes| meter.add(bytes))?;
                }
                Store::verify_lists(&manifest, &opened)
            });
            if let Err(error) = compared {
                expanded.why = Some(error.to_string());
                return Ok(expanded);
            }
            let digests = (manifest.layout.digest, manifest.sha256);
            expanded.layouts.push(digests);
            first.get_or_insert(manifest);
        }
        Ok(expanded)
    });
    found.into_iter().collect()
}

/// Whether two manifests of one image agree about what its bytes are.
fn says_the_same(a: &Manifest, b: &Manifest) -> bool {
    a.image == b.image
        && a.sha256 == b.sha256
        && a.size == b.size
        && a.entries == b.entries
        && a.layout == b.layout
        && a.setuid == b.setuid
        && a.xattrs == b.xattrs
}

/// Says which entries are the reason, now that every frame was looked at.
pub(super) fn explain(
    store: &Store,
    references: &PackReferences,
    state: &State,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    expanded: Vec<Expanded>,
    report: &mut Report,
) {
    for Expanded {
        image, why, known, ..
    } in expanded
    {
        // One that was not read again can have lost what only its packs' frames showed.
        if why.is_none() && !(known && state.has_lost()) {
            continue;
        }
        let Some(subject) = subjects.get(&image) else {
            continue;
        };
        let hurt = look(store, references, state, &image, subject, &mut |_| {});
        let hurt = hurt.or_else(|| {
            Some(AffectedImage {
                image,
                name: Some(subject.name.clone()),
                released: subject.released.clone(),
                why: why?,
                entries: Vec::new(),
                more: 0,
                whole: false,
            })
        });
        report.affected.extend(hurt);
    }
}
