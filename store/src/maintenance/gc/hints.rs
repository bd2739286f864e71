//! Hints follow the packs: a node behind a plain web server has nothing else.

use super::mark::Marking;
use crate::backend::WritableBackend;
use crate::digest::ImageId;
use crate::error::Result;
use crate::hint::{self, Hint};

/// Makes the hints of all kept images name the packs that they are counted in.
pub(super) fn follow(marking: &Marking, backend: &dyn WritableBackend) -> Result<()> {
    marking
        .kept
        .keys()
        .try_for_each(|image| point(marking, backend, image))
}

/// Makes the hint of one kept image name the packs that it is counted in.
pub(super) fn point(
    marking: &Marking,
    backend: &dyn WritableBackend,
    image: &ImageId,
) -> Result<()> {
    let (Some(root), Some(wanted)) = (marking.roots.images.get(image), marking.kept.get(image))
    else {
        return Ok(());
    };
    let key = Hint::key(image);
    let json = backend.get(&key, hint::MAX_BYTES)?;
    let old = json.and_then(|json| Hint::from_json(&json).ok());
    let mut packs = wanted.packs.clone();
    if let Some(old) = &old {
        let same = old.packs.len() == packs.len() && old.packs.iter().all(|p| packs.contains(p));
        let more = !wanted.complete && packs.iter().all(|pack| old.packs.contains(pack));
        if same || more {
            return Ok(());
        }
        if !wanted.complete {
            packs.extend(&old.packs);
        }
    }
    let hint = Hint {
        packs: packs.into_iter().collect(),
        published: old.map_or(root.published, |old| old.published),
    };
    backend.put(&key, &hint.to_json())
}
