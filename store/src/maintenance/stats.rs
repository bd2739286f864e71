//! How much a store holds, and how much it takes.

use std::collections::HashMap;

use super::gc::{Policy, young};
use super::pins::{self, Pin};
use super::references::{PackReferences, ReferenceMark, Referrer};
use super::roots::{KeepReason, Roots};
use crate::backend::ListableBackend;
use crate::digest::ImageId;
use crate::error::Result;
use crate::name::ImageName;
use crate::pack;
use crate::store::{IMAGES, INPUTS, Store};

/// Objects, counted and weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An image's part of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageStats {
    /// The image.
    pub image: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Bytes of its tar.
    pub size: u64,
    /// When it was published, in seconds since 1970.
    pub published: u64,
    /// Bytes in packs, about, that no other image needs.
    pub exclusive: u64,
    /// Why it is kept, other than by how a collector is called.
    pub why: Vec<KeepReason>,
    /// What is wrong with it, as far as that was noticed.
    pub damage: Option<String>,
}

/// A store in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The images, the newest first.
    pub images: Vec<ImageStats>,
    /// Bytes of all images' tars.
    pub logical: u64,
    /// Packs and their indexes; they are counted as one.
    pub packs: Amount,
    /// Bytes in packs that no image needs, about.
    pub waste: u64,
    /// Retained inputs.
    pub inputs: Amount,
    /// Deltas and their descriptions.
    pub deltas: Amount,
    /// Manifests, hints, logs, pins and environments.
    pub metadata: Amount,
    /// What was moved aside as damaged.
    pub quarantine: Amount,
    /// Bytes that dead writers left unfinished.
    pub leftover: u64,
    /// Writers that live now.
    pub writers: usize,
    /// What is pinned.
    pub pins: Vec<Pin>,
}

impl Stats {
    /// Bytes of everything.
    pub fn stored(&self) -> u64 {
        [
            self.packs,
            self.inputs,
            self.deltas,
            self.metadata,
            self.quarantine,
        ]
        .iter()
        .map(|amount| amount.bytes)
        .sum::<u64>()
            + self.leftover
    }
}

impl Amount {
    fn of(backend: &dyn ListableBackend, folders: &[&str]) -> Result<Self> {
        let mut amount = Self::default();
        for folder in folders {
            for object in backend.list_all(folder)? {
                amount.count += 1;
                amount.bytes += object.size;
            }
        }
        Ok(amount)
    }
}

/// Goes through the layouts of all images and the indexes of all packs.
pub fn stats(store: &Store, backend: &dyn ListableBackend) -> Result<Stats> {
    let writers = backend.writers()?;
    let roots = Roots::read(store, backend, HashMap::new())?;
    let mut references = PackReferences::read(backend)?;
    let mut stats = Stats {
        pins: pins::pins(backend)?,
        inputs: Amount::of(backend, &[INPUTS])?,
        quarantine: Amount::of(backend, &["quarantine/"])?,
        deltas: Amount::of(backend, &[crate::delta::FOLDER])?,
        metadata: Amount::of(
            backend,
            &[
                IMAGES,
                "hints/",
                "logs/",
                "pins/",
                "env/",
                crate::attest::FOLDER,
                crate::inventory::FOLDER,
            ],
        )?,
        packs: Amount::of(backend, &[pack::FOLDER])?,
        leftover: writers.leftover,
        writers: writers.alive,
        ..Stats::default()
    };
    stats.packs.count = references.packs.len() as u64;
    let now = backend.now()?;
    for (number, (image, root)) in roots.images.iter().enumerate() {
        let mut damage = None;
        for layout in &root.layouts {
            match references.mark(store, image, layout, Referrer(number as u32)) {
                Ok(marked) if marked.missing.is_empty() => {}
                Ok(marked) => {
                    damage = Some(format!("{} chunks are missing", marked.missing.len()));
                }
                Err(error) => damage = Some(error.to_string()),
            }
        }
        let mut why = root.why(image, &writers.held);
        if young(&Policy::default(), now, root.object.as_ref()) {
            why.push(KeepReason::Young);
        }
        stats.logical += root.size;
        stats.images.push(ImageStats {
            image: *image,
            name: root.name.clone(),
            size: root.size,
            published: root.published,
            exclusive: 0,
            why,
            damage,
        });
    }
    for pack in 0..references.packs.len() {
        let images = &mut stats.images;
        let waste = &mut stats.waste;
        references.shares(pack, &mut |mark: ReferenceMark, share| {
            if mark.is_unreferenced() {
                *waste += share;
            } else if let Some(Referrer(number)) = mark.owner() {
                images[number as usize].exclusive += share;
            }
        });
    }
    stats
        .images
        .sort_by(|a, b| (b.published, &a.name, a.image).cmp(&(a.published, &b.name, b.image)));
    Ok(stats)
}
