//! Mending a store from another one.
//!
//! What a check found damaged is out of the way already
//! ([`quarantine`](crate::maintenance::quarantine)), so what was damaged is now missing, and
//! mending is copying: hurt images as any image is copied, inputs by their digests,
//! manifests of releases by the digest in their names. All of it is verified; the other
//! store is believed in nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{is_damage, sentence};
use super::inputs::{self, LockedInputs};
use super::{Copied, Copier, CopyProgress};
use crate::WritableStore;
use crate::digest::{ImageId, Sha256};
use crate::error::{Error, Result};
use crate::inventory;
use crate::maintenance::Report;
use crate::manifest::{self, MAX_LOCK};
use crate::store::{ATTESTATIONS, IMAGES, PINS, Store, input_key};

/// What was repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Images that are whole now.
    pub images: Vec<ImageId>,
    /// Other objects that are there again, by their keys.
    pub objects: Vec<String>,
    /// What could not be repaired, and why.
    pub failed: Vec<(String, String)>,
    /// Bytes that were fetched.
    pub moved: u64,
}

/// Fetches from another store what a check of `to` found missing or damaged.
pub fn repair(
    report: &Report,
    from: &Store,
    to: &WritableStore,
    locked: LockedInputs<'_>,
    watch: &mut dyn FnMut(CopyProgress),
) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    let hurt = report.affected.iter().filter(|hurt| !hurt.whole);
    let mut images: BTreeSet<ImageId> = hurt.map(|hurt| hurt.image).collect();
    images.extend(report.damage.iter().filter_map(|d| image_of(&d.key)));
    let images: Vec<ImageId> = images.into_iter().collect();
    take_over(Copier::new(from).run(&images, to, watch)?, &mut repaired);
    missing_inputs(report, from, to, locked, &mut repaired)?;
    for damage in &report.damage {
        released(&damage.key, from, to, &mut repaired)?;
        beside(&damage.key, from, to, &mut repaired)?;
    }
    Ok(repaired)
}

fn take_over(copied: Copied, repaired: &mut Repaired) {
    repaired.moved += copied.moved;
    let images = copied.images.into_iter().chain(copied.there);
    repaired.images = images.map(|(image, _)| image).collect();
    let failed = copied.failed.into_iter();
    let failed = failed.map(|(image, why)| (image.to_string(), why));
    repaired.failed.extend(failed);
}

/// The image that a manifest, a hint, a log or an attestation is of.
fn image_of(key: &str) -> Option<ImageId> {
    if let Some(name) = key.strip_prefix("hints/") {
        return ImageId::from_hex(name.strip_suffix(".json")?).ok();
    }
    inventory::image_beside(key).filter(|_| !key.starts_with(PINS))
}

/// Says of a manifest, a log or an attestation whether it came with its image.
fn beside(key: &str, from: &Store, to: &WritableStore, repaired: &mut Repaired) -> Result<()> {
    let lies_beside = ["logs/", ATTESTATIONS]
        .iter()
        .any(|folder| key.starts_with(folder));
    if !lies_beside && !key.starts_with(IMAGES) {
        return Ok(());
    }
    if to.backend().hold(&[key.to_owned()])?[0] {
        repaired.objects.push(key.to_owned());
    } else if lies_beside {
        // That an image could not be copied is told already.
        let why = format!("{} does not have it whole", from.backend().describe());
        repaired.failed.push((key.to_owned(), why));
    }
    Ok(())
}

/// Fetches inputs of the images that could not be built again.
fn missing_inputs(
    report: &Report,
    from: &Store,
    to: &WritableStore,
    locked: LockedInputs<'_>,
    repaired: &mut Repaired,
) -> Result<()> {
    let mut images: BTreeSet<ImageId> = report.unbuildable.iter().map(|(id, _)| *id).collect();
    images.extend(report.affected.iter().map(|hurt| hurt.image));
    let mut named = BTreeMap::new();
    for image in images {
        // One that could not be repaired is told already.
        let Ok(manifest) = to.store().manifest(&image) else {
            continue;
        };
        for digest in [manifest.recipe, manifest.lock] {
            text(&digest, from, to, repaired)?;
        }
        let Ok(Some(lock)) = to.store().input(&manifest.lock, MAX_LOCK) else {
            continue;
        };
        match locked(&lock) {
            Ok(inputs) => named.extend(inputs),
            Err(why) => repaired.failed.push((input_key(&manifest.lock), why)),
        }
    }
    let keys: Vec<String> = named.keys().map(input_key).collect();
    let there = to.backend().hold(&keys)?;
    let absent = named.into_iter().zip(there).filter(|(_, there)| !there);
    let absent: Vec<(Sha256, u64)> = absent.map(|(input, _)| input).collect();
    let moved = inputs::copy_inputs(from, to, absent.iter().copied(), &mut |_| {})?;
    repaired.moved += moved.bytes;
    let lacking: BTreeMap<Sha256, String> = moved.lacking.into_iter().collect();
    for (digest, _) in absent {
        let key = input_key(&digest);
        match lacking.get(&digest) {
            Some(why) => repaired.failed.push((key, why.clone())),
            None => repaired.objects.push(key),
        }
    }
    Ok(())
}

/// Fetches a recipe or a lock.
fn text(digest: &Sha256, from: &Store, to: &WritableStore, repaired: &mut Repaired) -> Result<()> {
    let key = input_key(digest);
    let place = to.backend();
    let known = repaired.failed.iter().any(|(failed, _)| *failed == key);
    if known || place.hold(std::slice::from_ref(&key))?[0] {
        return Ok(());
    }
    let missing = || Error::missing(&key, from.backend().describe());
    let found = from.input(digest, MAX_LOCK);
    match found.and_then(|found| found.ok_or_else(missing)) {
        Ok(bytes) => {
            repaired.moved += bytes.len() as u64;
            place.put(&key, &bytes)?;
            repaired.objects.push(key);
        }
        Err(error) if is_damage(&error) => repaired.failed.push((key, sentence(&error))),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Fetches the manifest of a release: the digest in its name is signed.
fn released(key: &str, from: &Store, to: &WritableStore, repaired: &mut Repaired) -> Result<()> {
    if !key.starts_with("env/") {
        return Ok(());
    }
    if !key.contains("/targets/") {
        // Which version of its metadata is the right one, nobody can say here.
        let why = "only the environment's keys can sign its metadata anew";
        repaired.failed.push((key.to_owned(), why.to_owned()));
        return Ok(());
    }
    let found = from.backend().get(key, manifest::MAX_BYTES)?;
    let signed = |bytes: &Vec<u8>| key.contains(&Sha256::of(bytes).hex());
    if let Some(bytes) = found.filter(signed) {
        to.put(key, &bytes)?;
        repaired.moved += bytes.len() as u64;
        repaired.objects.push(key.to_owned());
    } else {
        let why = format!("{} does not have it whole", from.backend().describe());
        repaired.failed.push((key.to_owned(), why));
    }
    Ok(())
}
