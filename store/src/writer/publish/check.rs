//! Reading an image back that was just published.
//!
//! The layout is read through the same code that any reader uses: it must describe a tar as long as
//! the one that was hashed, and all of its chunks must be there. Every frame that the image needs is
//! decoded and each chunk compared with its digest, the digests that were taken of the very
//! bytes that the tar was hashed from. Packs that this machine has verified before, and that
//! nobody changed since, need not be decoded again. That the layout expands to the tar is for the
//! first check of the store to see ([`crate::maintenance::fsck`]), and for every node.
//!
//! Only where that fails is the image expanded as a whole: perhaps another pack has what this one
//! lost, and if not, the error says what is missing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Progress;
use super::tar_hasher::Tar;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::image::{ChunkLocation, Image, Outline};
use crate::manifest::LayoutRef;
use crate::pack::{self, Index};
use crate::verified::Fact;
use crate::writer::WritableStore;

/// Reads the image back and compares it with what was hashed. Returns the packs that it is in.
pub(super) fn check(
    store: &WritableStore,
    tar: &Tar,
    layout: &LayoutRef,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Blake3>> {
    let image = Image::with_layout(store.store().source(), tar.blake3, layout.clone())?;
    let outline = image.outline()?;
    if outline.size != tar.size {
        let why = format_args!(
            "its layout describes {} bytes, and {} were hashed",
            outline.size, tar.size
        );
        return Err(Error::corrupt(
            format_args!("the image {}", tar.blake3),
            why,
        ));
    }
    // Before anything is read: what is changed meanwhile has another seal.
    let seals = seals(store, &outline)?;
    let is_known = |pack: &Blake3| match (&store.verified, seals.get(pack)) {
        (Some(verified), Some(seal)) => verified.knows(&Fact::Pack { pack, seal }),
        _ => false,
    };
    let known: HashSet<&Blake3> = seals.keys().filter(|pack| is_known(pack)).collect();
    let due = outline.frames.iter();
    let due = due.filter(|((pack, _), _)| !known.contains(pack));
    let due: Vec<_> = due.map(|(_, location)| location.clone()).collect();
    let total: u64 = due.iter().map(ChunkLocation::size).sum();
    let done = AtomicU64::new(0);
    let read = image.verify_frames(&due, &|bytes| {
        let bytes = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        progress(Progress::Checked { bytes, total });
    });
    let packs: BTreeSet<Blake3> = outline.frames.keys().map(|(pack, _)| *pack).collect();
    let packs = packs.into_iter().collect();
    if read.is_err() {
        expand(&image, tar.size, progress)?;
        return Ok(packs);
    }
    if let Some(verified) = &store.verified {
        // A pack of which this image needs a part was read in part.
        let mut read: BTreeMap<Blake3, usize> = BTreeMap::new();
        for location in &due {
            *read.entry(location.frame_id().0).or_default() += 1;
        }
        let whole = due.iter().filter_map(|location| location.index());
        let whole: HashSet<&Blake3> = whole
            .filter(|index| read.get(index.pack()) == Some(&index.frames().len()))
            .map(Index::pack)
            .collect();
        let whole_packs = seals.iter().filter(|(pack, _)| whole.contains(pack));
        let whole_packs = whole_packs.map(|(pack, seal)| Fact::Pack { pack, seal });
        verified.keep(whole_packs);
    }
    Ok(packs)
}

/// What the store says now of the packs that an image needs.
fn seals(store: &WritableStore, outline: &Outline) -> Result<HashMap<Blake3, String>> {
    let needed: HashSet<&Blake3> = outline.frames.keys().map(|(pack, _)| pack).collect();
    let backend = store.backend();
    let listed = backend.list_all(pack::FOLDER)?.into_iter();
    let seals = listed.filter_map(|object| {
        let pack = pack::parse_pack_key(&object.key)?;
        needed.contains(&pack).then_some(())?;
        Some((pack, backend.seal(&object)?))
    });
    Ok(seals.collect())
}

/// Expands the whole image and compares its digest.
fn expand(image: &Image, total: u64, progress: &(dyn Fn(Progress) + Sync)) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    image.expand(&mut |bytes| {
        hasher.update(bytes);
        let bytes = hasher.count();
        progress(Progress::Checked { bytes, total });
        Ok(())
    })?;
    image.check_digest(hasher.finalize().into())
}
