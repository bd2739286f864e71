//! What an image was built from: its recipe and lock, and the images that it stands on.

use std::path::Path;

use store::tuf::revoked_images;
use store::{EnvName, ImageId, Manifest, Store};

use super::environments;
use crate::error::{Context, Error, Result};
use crate::lockfile::{self, Base, ImportRecord, Lock};
use crate::recipe::Recipe;

/// The lock that an image was built from. None when it was imported, or when the store no
/// longer has the lock.
pub fn lock(store: &Store, manifest: &Manifest) -> Result<Option<Lock>> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let found = store.input(&manifest.lock, lockfile::MAX_SIZE);
    match found.context(failed)? {
        Some(text) if !ImportRecord::is(&text) => parse(text, manifest).map(Some),
        _ => Ok(None),
    }
}

/// What an image was built from.
pub struct BuiltFrom {
    /// None where the store no longer has it, or has it as another version writes it.
    pub recipe: Option<Recipe>,
    /// The lock.
    pub lock: Lock,
}

/// What an image was built from, then what those were built from that it stands on, as far as the
/// store has it: nothing of an image that was imported.
pub fn built_from(store: &Store, manifest: &Manifest) -> Result<Vec<BuiltFrom>> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let mut next = Some(manifest.clone());
    while let Some(manifest) = next.take() {
        let Some(lock) = lock(store, &manifest)? else {
            break;
        };
        let failed = || format!("cannot read the recipe of {}", manifest.image);
        let json = store.input(&manifest.recipe, lockfile::MAX_SIZE);
        let json = json.context(failed)?;
        let recipe =
            json.and_then(|json| Recipe::from_canonical_json(&json, Path::new("recipe")).ok());
        seen.push(manifest.image);
        // Its manifest may be gone, and a chain that a stranger made has an end.
        let base = lock.base.as_ref().map(|base| base.image);
        next = base
            .filter(|base| !seen.contains(base))
            .and_then(|base| store.manifest(&base).ok());
        found.push(BuiltFrom { recipe, lock });
    }
    Ok(found)
}

/// The image that an image begins with, as its lock has it.
pub fn base(store: &Store, manifest: &Manifest) -> Result<Option<Base>> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let text = store
        .input(&manifest.lock, lockfile::MAX_SIZE)
        .context(failed)?;
    // Most have none, and reading a whole lock takes its time.
    let has_base = |text: &Vec<u8>| text.windows(8).any(|part| part == b"\n[base]\n");
    match text.filter(has_base) {
        Some(text) => Ok(parse(text, manifest)?.base),
        None => Ok(None),
    }
}

/// What became of the release that an image stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest release of that name, where it is another image.
    pub newer: Option<String>,
    /// Whether the image was revoked in that environment.
    pub revoked: bool,
}

/// What became of a base: in the environment of which it was locked, or, of one that was locked by its
/// digest, in any of this store. Nothing is known where that cannot be read.
pub fn standing(store: &Store, base: &Base) -> Standing {
    let named = base.release.as_deref().and_then(|release| {
        let (env, rest) = release.split_once('/')?;
        let (name, seq) = rest.rsplit_once('/')?;
        Some((env.parse::<EnvName>().ok()?, name, seq.parse::<u64>().ok()?))
    });
    let Some((env, name, seq)) = named else {
        return Standing {
            newer: None,
            revoked: environments::revocations(store, "").contains_key(&base.image),
        };
    };
    let all = environments::releases(store, &env).unwrap_or_default();
    let revoked = revoked_images(&all);
    let newer = all
        .iter()
        .filter(|release| release.name.as_str() == name && release.seq > seq)
        .filter(|release| release.image != base.image && !revoked.contains(&release.image))
        .max_by_key(|release| release.seq);
    Standing {
        newer: newer.map(|newest| format!("{env}/{name}/{}", newest.seq)),
        revoked: revoked.contains(&base.image),
    }
}

/// The images that an image stands on: its base, what that stands on, and so on.
pub fn bases(store: &Store, manifest: &Manifest) -> Result<Vec<ImageId>> {
    let mut found = Vec::new();
    let mut next = base(store, manifest)?;
    while let Some(image) = next.map(|base| base.image) {
        // Its own manifest may be gone, and a chain that a stranger made has an end.
        if found.contains(&image) {
            break;
        }
        found.push(image);
        let of = store.manifest(&image).ok();
        next = match of {
            Some(of) => base(store, &of)?,
            None => None,
        };
    }
    Ok(found)
}

fn parse(text: Vec<u8>, manifest: &Manifest) -> Result<Lock> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let text = String::from_utf8(text).context(failed)?;
    Lock::parse(&text).map_err(|e| Error::failed(failed()).because(&e))
}
