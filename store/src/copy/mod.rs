//! Copying images from one store to another.
//!
//! ```text
//! FROM: manifest, hint, indexes ----> which frames have chunks that TO lacks?
//! TO:   packs that are there   --/             |
//!                                               v
//!     fetch, decode, hash every chunk (some at once) --> packs of TO, in order
//!                                                              |
//! inputs, log, attestations --> hint --> the image expanded at TO --> manifest
//! ```
//!
//! Frames move as they are: nothing is compressed again. A pack of which every frame
//! is wanted becomes the same pack at the destination, byte for byte; frames of other
//! packs are gathered in new ones. A frame is also taken whole when only some of its
//! chunks are wanted.
//!
//! # Killed at any moment
//!
//! A pack becomes part of the destination when it is full, and at the latest
//! [`CHECKPOINT`] after it was begun, its index with it; an input when it is whole. The
//! next attempt finds them there and asks for the rest. The manifest comes last, after
//! the image was expanded from what the destination holds and compared with every
//! digest in it: an image that can be seen is whole.
//!
//! # Beside others
//!
//! Everything that the copy relies on, found or written, is held at the destination
//! ([`WritableBackend::hold`]) until the writer there ends. What is collected there before it
//! is held is copied again. At the source nothing is held, so that it may be read only:
//! a chunk that moves into another pack meanwhile is found there where the source can
//! list, and is an error where it cannot; the next attempt goes on from there.
//!
//! # What is not copied
//!
//! Environments. Their metadata says what *that* repository releases, and a node trusts
//! it as far as its version goes; two places that serve different versions of one
//! environment would look like an attack. Images are released at the destination by the
//! keys of an environment there. Pins stay where they are as well.
//!
//! # What is where
//!
//! ```text
//! walk         an image -> the frames that have to be moved
//! destination  what the destination has already
//! packs        frames moved, and gathered in packs
//! pipe         work on many things at once, results in their order
//! inputs       recipe, lock, and all that the lock names
//! attachments  the log and the attestations of an image
//! failure      failures of the source, after which a copy goes on
//! repair       a store mended from another one
//! ```

mod attachments;
mod destination;
mod failure;
mod inputs;
mod packs;
mod pipe;
mod repair;
mod walk;

use std::time::Duration;

use common::clock::now;

use self::destination::DestinationIndex;
use self::failure::{is_damage, sentence};
use self::inputs::ImageInputs;
pub use self::inputs::{CopiedInputs, LockedInputs, copy_held_inputs, copy_inputs};
pub use self::repair::{Repaired, repair};
use self::walk::{SourceIndex, Walk};
use crate::WritableStore;
use crate::backend::{ListableBackend, WritableBackend};
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::{self, Hint};
use crate::inventory;
use crate::manifest::{self, Manifest};
use crate::name::ImageName;
use crate::store::{Store, manifest_key};
use crate::verified::Fact;

/// How long a pack is worked on before what there is of it becomes a pack of its own.
pub const CHECKPOINT: Duration = Duration::from_secs(10);

/// How often an image begins anew because of a collector.
const ATTEMPTS: u32 = 5;

/// Copies images between two stores.
pub struct Copier<'a> {
    from: &'a Store,
    locked: Option<LockedInputs<'a>>,
    described: Option<Manifest>,
    checkpoint: Duration,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyProgress {
    /// So many images were looked at.
    Look {
        /// Images so far.
        done: u64,
        /// Images of all.
        total: u64,
    },
    /// So many bytes have come: frames and inputs.
    Move {
        /// Bytes so far.
        done: u64,
        /// Bytes of all.
        total: u64,
    },
    /// So many bytes of an image were expanded and hashed at the destination.
    Check {
        /// Bytes so far.
        done: u64,
        /// Bytes of its tar.
        total: u64,
    },
}

/// What of an image has to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedImage {
    /// The image.
    pub image: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Bytes of its tar.
    pub size: u64,
    /// Whether the destination has it, whole.
    pub present: bool,
    /// Frames that the destination lacks, less those of the images before.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Inputs that the destination lacks, less those of the images before.
    pub inputs: u64,
    /// Bytes of these inputs.
    pub inputs_bytes: u64,
}

/// What a copy would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The images, in the order in which they are copied: the oldest first.
    pub images: Vec<PlannedImage>,
    /// Images that the source does not have whole, and why.
    pub failed: Vec<(ImageId, String)>,
}

impl Plan {
    /// Bytes of all that has to be moved.
    pub fn bytes(&self) -> u64 {
        let bytes = |image: &PlannedImage| image.bytes + image.inputs_bytes;
        self.images.iter().map(bytes).sum()
    }
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Images that are at the destination now and were not before.
    pub images: Vec<(ImageId, ImageName)>,
    /// Images that were there before.
    pub there: Vec<(ImageId, ImageName)>,
    /// Images that could not be copied, and why: the source does not have them whole.
    pub failed: Vec<(ImageId, String)>,
    /// Those of the images whose manifest at the destination is another one, and stays.
    pub manifest_differs: Vec<ImageId>,
    /// Frames that were moved.
    pub frames: u64,
    /// Bytes of frames and inputs that were moved.
    pub moved: u64,
    /// Bytes of the packs and indexes that the destination gained.
    pub written: u64,
    /// Packs that the destination gained.
    pub packs: Vec<Blake3>,
    /// Inputs that were moved.
    pub inputs: u64,
    /// Bytes of these inputs.
    pub inputs_bytes: u64,
    /// Inputs that the source does not have, or has damaged.
    pub inputs_lacking: Vec<(Sha256, String)>,
    /// Logs and attestations that were moved.
    pub beside: u64,
    /// Images whose attestations were not found: the source cannot list, and has no list.
    pub unlisted: Vec<ImageId>,
}

impl<'a> Copier<'a> {
    /// Copies from `from`, without inputs.
    pub fn new(from: &'a Store) -> Self {
        Self {
            from,
            locked: None,
            described: None,
            checkpoint: CHECKPOINT,
        }
    }

    /// Takes recipe, lock and all inputs that the lock names as well.
    #[must_use]
    pub fn with_inputs(mut self, locked: LockedInputs<'a>) -> Self {
        self.locked = Some(locked);
        self
    }

    /// Takes the image of this manifest as it describes it, whatever the source says:
    /// the manifest is signed, and what lies in the source's `images/` is not.
    #[must_use]
    pub fn with_manifest(mut self, manifest: Manifest) -> Self {
        self.described = Some(manifest);
        self
    }

    fn manifest(&self, image: &ImageId) -> Result<Manifest> {
        match self
            .described
            .as_ref()
            .filter(|described| described.image == *image)
        {
            Some(described) => Ok(described.clone()),
            None => self.from.manifest(image),
        }
    }

    /// Another time than [`CHECKPOINT`].
    #[must_use]
    pub fn with_checkpoint(mut self, checkpoint: Duration) -> Self {
        self.checkpoint = checkpoint;
        self
    }

    /// The images that the source lists, the oldest first.
    pub fn all(&self) -> Result<Vec<ImageId>> {
        match self.from.ids()? {
            Some(ids) => Ok(ids),
            None => Ok(self
                .from
                .catalogue()?
                .into_iter()
                .map(|listed| listed.image)
                .collect()),
        }
    }

    /// What has to be moved for these images; `None` is a destination that is not
    /// there yet.
    pub fn plan(
        &self,
        images: &[ImageId],
        to: Option<(&Store, &dyn ListableBackend)>,
        watch: &mut dyn FnMut(CopyProgress),
    ) -> Result<Plan> {
        let mut known = match to {
            Some((_, backend)) => DestinationIndex::read(backend)?,
            None => DestinationIndex::default(),
        };
        let mut source = SourceIndex::open(self.from, images)?;
        let here = to.map(|(store, _)| store);
        Ok(self.look(&mut source, &mut known, here, watch)?.0)
    }

    /// Copies the images. What cannot be copied because the source does not have it
    /// whole is in the result; any other failure ends it.
    pub fn run(
        &self,
        images: &[ImageId],
        to: &WritableStore,
        watch: &mut dyn FnMut(CopyProgress),
    ) -> Result<Copied> {
        let backend: &dyn WritableBackend = to.backend();
        let mut known = DestinationIndex::read(backend)?;
        let mut source = SourceIndex::open(self.from, images)?;
        let (plan, order) = self.look(&mut source, &mut known.clone(), Some(to.store()), watch)?;
        let mut job = Job {
            copier: self,
            to,
            backend,
            source: &mut source,
            known: &mut known,
            meter: Meter {
                done: 0,
                total: plan.bytes(),
            },
            copied: Copied {
                failed: plan.failed,
                ..Copied::default()
            },
        };
        for (manifest, _) in order {
            let (image, name) = (manifest.image, manifest.name.clone());
            match job.image(&manifest, watch) {
                Ok(true) => job.copied.images.push((image, name)),
                Ok(false) => job.copied.there.push((image, name)),
                Err(error) if is_damage(&error) => {
                    job.copied.failed.push((image, sentence(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        job.copied.moved = job.meter.done;
        Ok(job.copied)
    }

    /// Looks at every image once. `known` comes to hold what would be moved. Returns
    /// the manifests as well, in the order of the plan.
    fn look(
        &self,
        source: &mut SourceIndex,
        known: &mut DestinationIndex,
        to: Option<&Store>,
        watch: &mut dyn FnMut(CopyProgress),
    ) -> Result<(Plan, Vec<(Manifest, u64)>)> {
        let mut plan = Plan::default();
        let mut order = Vec::new();
        for image in source.images.clone() {
            match self.manifest(&image) {
                Ok(manifest) => order.push((manifest, source.published(&image))),
                Err(error) if is_damage(&error) => plan.failed.push((image, sentence(&error))),
                Err(error) => return Err(error),
            }
        }
        order.sort_by_key(|(manifest, published): &(Manifest, u64)| (*published, manifest.image));
        let total = order.len() as u64;
        for (number, (manifest, _)) in order.iter().enumerate() {
            watch(CopyProgress::Look {
                done: number as u64,
                total,
            });
            match self.look_at(manifest, source, known, to) {
                Ok(planned) => plan.images.push(planned),
                Err(error) if is_damage(&error) => {
                    plan.failed.push((manifest.image, sentence(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        watch(CopyProgress::Look { done: total, total });
        order.retain(|(manifest, _)| {
            plan.failed
                .iter()
                .all(|(image, _)| *image != manifest.image)
        });
        Ok((plan, order))
    }

    fn look_at(
        &self,
        manifest: &Manifest,
        source: &mut SourceIndex,
        known: &mut DestinationIndex,
        to: Option<&Store>,
    ) -> Result<PlannedImage> {
        let walk = source.walk(manifest, to, known)?;
        let there = match to {
            Some(to) => has(to, known, manifest, &walk)?.0,
            None => false,
        };
        known.expect(&walk.frames);
        let wanted = match self.locked {
            Some(locked) => inputs::wanted(self.from, manifest, locked)?,
            None => ImageInputs::default(),
        };
        let (inputs, inputs_bytes) = known.lacks(&wanted);
        Ok(PlannedImage {
            image: manifest.image,
            name: manifest.name.clone(),
            size: manifest.size,
            present: there,
            frames: walk.frames.len() as u64,
            bytes: walk.bytes(),
            inputs,
            inputs_bytes,
        })
    }
}

/// Whether a store has an image, as far as its manifest, hint and indexes say; and its
/// own manifest, if it has one.
fn has(
    to: &Store,
    known: &DestinationIndex,
    manifest: &Manifest,
    walk: &Walk,
) -> Result<(bool, Option<Manifest>, Option<Hint>)> {
    let there = match to
        .backend()
        .get(&manifest_key(&manifest.image), manifest::MAX_BYTES)?
    {
        // A damaged one is replaced.
        Some(json) => Manifest::from_json(&json)
            .ok()
            .filter(|there| there.image == manifest.image),
        None => None,
    };
    let json = to
        .backend()
        .get(&Hint::key(&manifest.image), hint::MAX_BYTES)?;
    let hint = json.and_then(|json| Hint::from_json(&json).ok());
    let led = hint
        .as_ref()
        .is_some_and(|hint| walk.packs.iter().all(|pack| hint.packs.contains(pack)))
        && hint
            .as_ref()
            .is_some_and(|hint| hint.packs.iter().all(|pack| known.has(pack)));
    let whole = there.is_some() && walk.frames.is_empty() && led;
    Ok((whole, there, hint))
}

/// How far all of it is.
struct Meter {
    done: u64,
    total: u64,
}

impl Meter {
    fn add(&mut self, bytes: u64, watch: &mut dyn FnMut(CopyProgress)) {
        self.done += bytes;
        watch(CopyProgress::Move {
            done: self.done,
            total: self.total.max(self.done),
        });
    }
}

/// A copy under way.
struct Job<'a, 'b> {
    copier: &'b Copier<'a>,
    to: &'b WritableStore,
    backend: &'b dyn WritableBackend,
    source: &'b mut SourceIndex,
    known: &'b mut DestinationIndex,
    meter: Meter,
    copied: Copied,
}

impl Job<'_, '_> {
    /// Copies one image; false if it was there.
    fn image(&mut self, ours: &Manifest, watch: &mut dyn FnMut(CopyProgress)) -> Result<bool> {
        self.to.hold_image(&ours.image)?;
        let (there, theirs, hint, packs) = self.content(ours, watch)?;
        self.beside(ours, watch)?;
        if there {
            return Ok(false);
        }
        let published = hint
            .map(|hint| hint.published)
            .filter(|time| *time > 0)
            .or_else(|| Some(self.source.published(&ours.image)).filter(|time| *time > 0))
            .unwrap_or_else(now);
        let hint = Hint { packs, published };
        self.backend.put(&Hint::key(&ours.image), &hint.to_json())?;
        // Another recipe may have described the same bytes there already.
        let manifest = theirs.unwrap_or_else(|| ours.clone());
        if manifest != *ours {
            self.copied.manifest_differs.push(ours.image);
        }
        match self.check(&manifest, watch) {
            // Nothing vouches for a manifest but what it describes: one that is wrong
            // about the bytes is damaged, however well it reads.
            Err(error) if manifest != *ours && is_damage(&error) => {
                self.check(ours, watch)?;
                let key = manifest_key(&ours.image);
                inventory::record(self.backend, &ours.image, &[(key.clone(), None)])?;
                self.backend.quarantine(&key)?;
                self.copied.manifest_differs.pop();
                self.to.put_manifest(ours)?;
            }
            checked => {
                checked?;
                self.to.put_manifest(&manifest)?;
            }
        }
        Ok(true)
    }

    /// Expands an image from what the destination holds.
    fn check(&self, manifest: &Manifest, watch: &mut dyn FnMut(CopyProgress)) -> Result<()> {
        let mut done = 0;
        let image = self.to.store().image(manifest)?;
        Store::verify_tar(manifest, &image, &mut |bytes| {
            done += bytes;
            watch(CopyProgress::Check {
                done,
                total: manifest.size,
            });
        })?;
        if let Some(verified) = self.to.verified() {
            verified.keep([Fact::expansion_of(manifest)]);
        }
        Store::verify_lists(manifest, &image)
    }

    /// Moves the frames that the destination lacks. Returns whether it had the image,
    /// its own manifest and hint, and the packs that now hold the image.
    #[expect(clippy::type_complexity, reason = "four answers of one question")]
    fn content(
        &mut self,
        ours: &Manifest,
        watch: &mut dyn FnMut(CopyProgress),
    ) -> Result<(bool, Option<Manifest>, Option<Hint>, Vec<Blake3>)> {
        for _ in 0..ATTEMPTS {
            let walk = self.source.walk(ours, Some(self.to.store()), self.known)?;
            let (there, theirs, hint) = has(self.to.store(), self.known, ours, &walk)?;
            let old = crate::pack::keys(walk.packs.iter().copied());
            if self.backend.hold(&old)?.contains(&false) {
                // What was there at the beginning was collected before it was held.
                *self.known = DestinationIndex::read(self.backend)?;
                continue;
            }
            let moving = packs::Moving {
                from: self.copier.from.backend(),
                backend: self.backend,
                checkpoint: self.copier.checkpoint,
            };
            let mut packs = walk.packs.clone();
            let meter = &mut self.meter;
            let moved = moving.run(&walk.frames, self.known, &mut |bytes| {
                meter.add(bytes, watch);
            })?;
            self.copied.frames += walk.frames.len() as u64;
            self.copied.written += moved.written;
            self.copied.packs.extend(&moved.packs);
            packs.extend(moved.packs);
            return Ok((there, theirs, hint, packs.into_iter().collect()));
        }
        Err(Error::new(
            ErrorKind::Busy,
            "what this image shares with others was collected, again and again",
        ))
    }

    /// Copies log, attestations and inputs.
    fn beside(&mut self, manifest: &Manifest, watch: &mut dyn FnMut(CopyProgress)) -> Result<()> {
        let from = self.copier.from;
        let attached = attachments::copy(from, self.backend, &manifest.image)?;
        self.copied.beside += attached.moved;
        if attached.unlisted {
            self.copied.unlisted.push(manifest.image);
        }
        let Some(locked) = self.copier.locked else {
            return Ok(());
        };
        let wanted = inputs::wanted(from, manifest, locked)?;
        let meter = &mut self.meter;
        let moved = inputs::copy(from, self.backend, &wanted, &mut |bytes| {
            meter.add(bytes, watch);
        })?;
        self.copied.inputs += moved.count;
        self.copied.inputs_bytes += moved.bytes;
        self.copied.inputs_lacking.extend(moved.lacking);
        Ok(())
    }
}
