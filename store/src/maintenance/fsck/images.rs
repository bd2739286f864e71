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
use crate::digest::ImageId;
use crate::error::Result;
use crate::hint::Hint;
use crate::image::Image;
use crate::manifest::{self, LayoutRef, Manifest};
use crate::parallel;
use crate::store::Store;

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

/// Expands images and compares everything with their manifests. Returns those that
/// are something else, and what was said.
pub(super) fn expand(
    store: &Store,
    references: &PackReferences,
    backend: &dyn ListableBackend,
    state: &mut State,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    whole: &[ImageId],
    meter: &Meter<'_>,
) -> Result<Vec<(ImageId, String)>> {
    let found = parallel::each(whole, false, |image| -> Result<Option<String>> {
        let Some(subject) = subjects.get(image) else {
            return Ok(None);
        };
        let mut first: Option<Manifest> = None;
        for (_, key) in &subject.manifests {
            let Some(json) = backend.get(key, manifest::MAX_BYTES)? else {
                return Ok(Some(format!("{key} vanished")));
            };
            let manifest = match Manifest::from_json(&json) {
                Ok(manifest) => manifest,
                Err(error) => return Ok(Some(error.to_string())),
            };
            if first
                .as_ref()
                .is_some_and(|first| says_the_same(first, &manifest))
            {
                continue;
            }
            let mut each = |bytes| meter.add(bytes);
            let verified = open(store, references, image, &manifest.layout).and_then(|opened| {
                let opened = opened.watched(Arc::clone(&state.witness));
                Store::verify_with(&manifest, &opened.limited(manifest.size), &mut each)
            });
            if let Err(error) = verified {
                return Ok(Some(error.to_string()));
            }
            first.get_or_insert(manifest);
        }
        Ok(None)
    });
    let mut failed = Vec::new();
    for (image, found) in whole.iter().zip(found) {
        failed.extend(found?.map(|why| (*image, why)));
    }
    Ok(failed)
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
    failed: Vec<(ImageId, String)>,
    report: &mut Report,
) {
    for (image, why) in failed {
        let Some(subject) = subjects.get(&image) else {
            continue;
        };
        let hurt = look(store, references, state, &image, subject, &mut |_| {});
        report.affected.push(hurt.unwrap_or_else(|| AffectedImage {
            image,
            name: Some(subject.name.clone()),
            released: subject.released.clone(),
            why,
            entries: Vec::new(),
            more: 0,
            whole: false,
        }));
    }
}
