//! Filling a staging tree from the store, with the help of what the previous generation has.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use store::canonical_tar::Entry;
use store::delta::DeltaInfo;
use store::manifest::Manifest;
use store::{Image, ReplayEvent, Store};

use crate::error::{Error, Result, check_cancelled};
use crate::event::{Event, Observer};
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::storage::Staging;
use crate::tree::extract::Extractor;
use crate::tree::open::OpenTree;
use crate::tree::patch;
use crate::tree::reuse::PreviousTree;

/// The way by which content comes that is not on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchMethod {
    /// All of the image: nothing of it is here.
    #[default]
    Whole,
    /// Ranges of packs.
    Packs,
    /// A delta in place of packs.
    Delta {
        /// Bytes of the delta.
        size: u64,
        /// Bytes of packs and indexes that the delta stands for.
        packs: u64,
    },
}

/// Where the bytes of a new generation came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// Bytes of content that were written or shared anew.
    pub written: u64,
    /// Of all content, bytes that were on this node already.
    pub reused: u64,
    /// Bytes that the store sent, when it is far.
    pub fetched: Option<u64>,
    /// The way by which the rest came.
    pub method: FetchMethod,
}

/// Where the content of a new generation will come from.
#[derive(Clone, Debug, Default)]
pub struct FetchPlan {
    /// The generation that is here and whose content is used again.
    pub previous: Option<u64>,
    /// The way by which the rest comes, unless the previous generation turns out to be of no use.
    pub method: FetchMethod,
    /// The delta to fetch.
    pub delta: Option<DeltaInfo>,
}

impl FetchPlan {
    /// Chooses what costs the fewest bytes. Whatever a delta cannot give comes from packs.
    pub(super) fn choose(
        node: &Node<'_>,
        store: &Store,
        manifest: &Manifest,
        before: Option<&SystemRecord>,
    ) -> Result<Self> {
        let Some(before) = before else {
            return Ok(Self::default());
        };
        let context = node.context(&before.system);
        if !before.target.driver().exists(&context, before.active)? {
            return Ok(Self::default());
        }
        let from = &before.active().image;
        let delta = Self::cheaper_delta(store, manifest, from).unwrap_or_else(|error| {
            note_no_delta(node, &error);
            None
        });
        let (method, delta) = match delta {
            Some((pair, packs)) => {
                let size = pair.size;
                (FetchMethod::Delta { size, packs }, Some(pair))
            }
            None => (FetchMethod::Packs, None),
        };
        Ok(Self {
            previous: Some(before.active),
            method,
            delta,
        })
    }

    /// The delta from an image, if there is one and it is cheaper than packs, with the bytes of
    /// those packs. What a store on this machine has is nearer than what would have to be computed.
    fn cheaper_delta(
        store: &Store,
        manifest: &Manifest,
        from: &store::ImageId,
    ) -> Result<Option<(DeltaInfo, u64)>> {
        if !store.backend().is_remote() {
            return Ok(None);
        }
        let Some(pair) = store.delta(from, &manifest.image)? else {
            return Ok(None);
        };
        // Its price of packs is that of a node which has kept nothing.
        let kept = store.cached_index_bytes(&manifest.image)?;
        let packs = pair.packs.saturating_sub(kept);
        Ok((pair.size < packs).then_some((pair, packs)))
    }
}

/// Notes that packs take the place of a delta.
fn note_no_delta(node: &Node<'_>, error: &Error) {
    node.observer.event(Event::Note(&format!(
        "the delta is not used, packs are: {error}"
    )));
}

/// Fills a staging tree with the image of a release, as planned. Returns the image as well, with
/// which the tree can be compared; it may hold the previous generation open.
pub(super) fn fetch(
    node: &Node<'_>,
    store: &Store,
    manifest: &Manifest,
    before: Option<&SystemRecord>,
    plan: &FetchPlan,
    staging: &Staging,
) -> Result<(TransferStats, Image)> {
    let previous = match before.filter(|_| plan.previous.is_some()) {
        Some(before) => open_previous(node, store, before),
        None => None,
    };
    let (image, previous, method) = match previous {
        None => (store.image(manifest)?, None, FetchMethod::Whole),
        Some((previous, from)) => {
            let (image, method) = open_image(node, store, manifest, plan, &previous, from)?;
            (image, Some(previous), method)
        }
    };
    let mut stats = fill(
        &image,
        manifest,
        staging,
        previous,
        node.observer,
        node.cancel,
    )?;
    stats.method = method;
    stats.fetched = store.backend().traffic().map(|traffic| traffic.received);
    Ok((stats, image))
}

/// The tree of the active generation as a source of content, and its image; `None` when its layout
/// cannot be had.
fn open_previous(
    node: &Node<'_>,
    store: &Store,
    before: &SystemRecord,
) -> Option<(PreviousTree, Image)> {
    let active = before.active();
    let context = node.context(&before.system);
    let open = || -> Result<(PreviousTree, Image)> {
        let image = store.image(&node.state.manifest(active.manifest)?)?;
        let tree = before.target.driver().open(&context, active.number)?;
        let previous = PreviousTree::index(tree, image.entries()?)?;
        Ok((previous, image))
    };
    match open() {
        Ok(previous) => Some(previous),
        Err(error) => {
            node.observer.event(Event::Note(&format!(
                "nothing of generation {} can be used again: {error}",
                active.number
            )));
            None
        }
    }
}

/// The image of a release, by the planned delta if that can be had, else by packs.
fn open_image(
    node: &Node<'_>,
    store: &Store,
    manifest: &Manifest,
    plan: &FetchPlan,
    previous: &PreviousTree,
    from: Image,
) -> Result<(Image, FetchMethod)> {
    if let Some(pair) = &plan.delta {
        let open = || -> Result<Image> {
            let base = Arc::new(previous.delta_base(from)?);
            Ok(store.image_with_delta(manifest, pair, base)?)
        };
        match open() {
            Ok(image) => return Ok((image, plan.method)),
            Err(error) => note_no_delta(node, &error),
        }
    } else {
        // It knows where each of its chunks is, which may be a million.
        drop(from);
    }
    Ok((store.image(manifest)?, FetchMethod::Packs))
}

/// Fills a staging tree with an image, with the help of what the previous generation has.
fn fill(
    image: &Image,
    manifest: &Manifest,
    staging: &Staging,
    previous: Option<PreviousTree>,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<TransferStats> {
    let privileges = manifest.privileges();
    let privilege = |entry: &Entry| privileges.check(entry).map_err(Error::from);
    let root = || staging.tree.reopen();
    let (extractor, mut previous) = if staging.copied {
        observer.event(Event::Phase("comparing the copy with the new release"));
        let patch_plan = patch::plan(root()?, image.entries()?, cancel)?;
        patch::prune(&root()?, &patch_plan)?;
        let previous = if let Some(previous) = previous {
            previous
        } else {
            // What stays must not be fetched, even if nothing else is known.
            let stays = image.entries()?.zip(&patch_plan.keep);
            let stays = stays.filter(|(_, keep)| **keep).map(|(signed, _)| signed);
            PreviousTree::index(OpenTree::plain(root()?), stays)?
        };
        let extractor = Extractor::over(root()?, &privilege, patch_plan.keep);
        (extractor, Some(previous))
    } else {
        (Extractor::new(root()?, &privilege), previous)
    };
    if let Some(previous) = &mut previous {
        previous.probe_sharing(root()?);
    }
    unpack(image, manifest, extractor, previous, observer, cancel)
}

fn unpack(
    image: &Image,
    manifest: &Manifest,
    mut extractor: Extractor<'_>,
    mut previous: Option<PreviousTree>,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<TransferStats> {
    let mut stats = TransferStats::default();
    let (mut done, mut stopped) = (0, None);
    let total = manifest.size;
    let known = previous
        .as_ref()
        .map(PreviousTree::chunks)
        .unwrap_or_default();
    let mut buffer = Vec::new();
    let mut step = |part: ReplayEvent<'_>| -> Result<()> {
        check_cancelled(cancel)?;
        match part {
            ReplayEvent::Entry(entry, header) => {
                done += header.len() as u64;
                return extractor.entry(entry);
            }
            ReplayEvent::Content(bytes) => {
                done += bytes.len() as u64;
                stats.written += bytes.len() as u64;
                extractor.content(bytes)?;
            }
            ReplayEvent::Known(chunk) => {
                let len = u64::from(chunk.len());
                done += len;
                let found = match &mut previous {
                    Some(_) if extractor.is_kept() => {
                        stats.reused += len;
                        return Ok(());
                    }
                    Some(previous) => previous.read(&chunk, &mut buffer),
                    None => None,
                };
                stats.written += len;
                match (found, &previous) {
                    (Some(source), Some(previous)) => {
                        stats.reused += len;
                        if previous.shares() {
                            extractor.content_of(&buffer, &source.file, source.offset)?;
                        } else {
                            extractor.content(&buffer)?;
                        }
                    }
                    // Somebody changed the file since it was installed.
                    _ => extractor.content(&image.fetch(&chunk)?)?,
                }
            }
        }
        observer.event(Event::Progress { done, total });
        Ok(())
    };
    let replayed = image.replay_without(&|chunk| known.contains(chunk.digest()), &mut |part| {
        step(part).map_err(|error| {
            // Our own error waits outside; the store's only ends its work.
            stopped = Some(error);
            store::Error::new(store::ErrorKind::Io, "the extraction stopped")
        })
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    replayed?;
    extractor.finish()?;
    Ok(stats)
}
