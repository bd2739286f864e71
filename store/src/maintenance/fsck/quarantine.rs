//! Quarantine: moves damaged objects to where nothing reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::gc::{LOCK, busy};
use super::super::references::PackReferences;
use super::super::repack::rewrite;
use super::report::Report;
use crate::backend::WritableBackend;
use crate::digest::{Blake3, Sha256};
use crate::error::Result;
use crate::hint::{self, Hint};
use crate::inventory;
use crate::manifest::Manifest;
use crate::pack;
use crate::store::{IMAGES, INPUTS};

/// What was moved to `quarantine/`, and what was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantined {
    /// The keys that objects had.
    pub moved: Vec<String>,
    /// Manifests that were put back from an environment.
    pub restored: Vec<String>,
    /// Keys of what was missing already and is not looked for any more.
    pub given_up: Vec<String>,
    /// Bytes of packs into which the good chunks of damaged ones went.
    pub written: u64,
}

/// Moves damaged objects to `quarantine/`. The good chunks of a damaged pack are
/// written into a new one before; a manifest is put back from an environment that
/// has it signed. Environments are left as they are: a wrong file there is refused
/// by every reader, and only their keys can make a new one.
pub fn quarantine(report: &Report, backend: &dyn WritableBackend) -> Result<Quarantined> {
    let _alone = backend.try_lock(LOCK)?.ok_or_else(|| busy(backend))?;
    let mut moved = Quarantined::default();
    save(report, backend, &mut moved)?;
    let known: BTreeSet<&str> = report.damage.iter().map(|d| d.key.as_str()).collect();
    for key in known {
        if let Some(name) = pack::parse_index_key(key).or_else(|| pack::parse_pack_key(key)) {
            for key in pack::keys([name]) {
                aside(backend, &key, &mut moved)?;
            }
        } else if key.starts_with(IMAGES) {
            aside(backend, key, &mut moved)?;
            if !restore(backend, key, &mut moved)? {
                give_up(backend, key, &mut moved)?;
            }
        } else if [
            INPUTS,
            "hints/",
            "logs/",
            crate::attest::FOLDER,
            crate::delta::FOLDER,
            inventory::FOLDER,
        ]
        .iter()
        .any(|f| key.starts_with(f))
        {
            aside(backend, key, &mut moved)?;
            give_up(backend, key, &mut moved)?;
        }
    }
    Ok(moved)
}

fn aside(backend: &dyn WritableBackend, key: &str, moved: &mut Quarantined) -> Result<()> {
    // One of a pair may be gone, and both may be in the report.
    let there = backend.hold(&[key.to_owned()])?.contains(&true);
    if !there || moved.moved.iter().any(|done| done == key) {
        return Ok(());
    }
    backend.quarantine(key)?;
    moved.moved.push(key.to_owned());
    Ok(())
}

/// Writes the good chunks of damaged packs into new ones, which hints then name.
fn save(report: &Report, backend: &dyn WritableBackend, moved: &mut Quarantined) -> Result<()> {
    let references = PackReferences::read(backend)?;
    let numbers = 0..references.packs.len();
    let bad: BTreeMap<usize, &Vec<bool>> = numbers
        .filter_map(|number| Some((number, report.bad.get(&references.packs[number].name)?)))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let want = |pack: usize, chunk: usize| !bad[&pack][chunk];
    let packs: Vec<usize> = bad.keys().copied().collect();
    let (new, written) = rewrite(&references, &packs, &want, backend, &mut |_| {})?;
    moved.written = written;
    let old: BTreeSet<Blake3> = packs
        .iter()
        .map(|pack| references.packs[*pack].name)
        .collect();
    for object in backend.list_all("hints/")? {
        let json = backend.get(&object.key, hint::MAX_BYTES)?;
        let Some(Ok(mut hint)) = json.map(|json| Hint::from_json(&json)) else {
            continue;
        };
        if hint.packs.iter().any(|pack| old.contains(pack)) {
            hint.packs.retain(|pack| !old.contains(pack));
            hint.packs.extend(&new);
            backend.put(&object.key, &hint.to_json())?;
        }
    }
    Ok(())
}

/// Takes what is not there any more out of its image's inventory.
fn give_up(backend: &dyn WritableBackend, key: &str, moved: &mut Quarantined) -> Result<()> {
    let Some(image) = inventory::image_beside(key) else {
        return Ok(());
    };
    let known = inventory::read(backend, &image)?;
    if known.is_some_and(|known| known.objects.contains_key(key)) {
        inventory::record(backend, &image, &[(key.to_owned(), None)])?;
        if !moved.moved.iter().any(|done| done == key) {
            moved.given_up.push(key.to_owned());
        }
    }
    Ok(())
}

/// Puts a manifest back that an environment has: the one that was there, or else any.
/// Returns whether there was one.
fn restore(backend: &dyn WritableBackend, key: &str, moved: &mut Quarantined) -> Result<bool> {
    let Some(image) = inventory::image_beside(key) else {
        return Ok(false);
    };
    let known = inventory::read(backend, &image)?;
    let wanted = known.and_then(|known| known.objects.get(key).copied());
    let mut found: Option<Vec<u8>> = None;
    for object in backend.list_all("env/")? {
        if !object.key.contains("/targets/") {
            continue;
        }
        let json = backend.get(&object.key, crate::manifest::MAX_BYTES)?;
        let Some(Ok(manifest)) = json.as_deref().map(Manifest::from_json) else {
            continue;
        };
        if manifest.image != image {
            continue;
        }
        let json = manifest.to_json();
        let same = Some(Sha256::of(&json)) == wanted;
        if same || found.is_none() {
            found = Some(json);
        }
        if same {
            break;
        }
    }
    let Some(json) = found else {
        return Ok(false);
    };
    inventory::put(backend, &image, key, &json)?;
    moved.restored.push(key.to_owned());
    Ok(true)
}
