//! Lists of attestations, for readers who cannot list a folder.
//!
//! As with the catalogue, the list only repeats what the folder holds, nobody signs it,
//! and whoever puts an attestation renews it. See [`crate::format::attestation`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{FOLDER, MOST, folder, parse_key};
use crate::backend::{
    Backend, ListableBackend, ObjectMeta, WritableBackend, forbidden_is_absent, get_checked,
};
use crate::digest::{ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};

/// The version of the format.
const SCHEMA: u32 = 1;

/// The longest list that is read.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: u32,
    attestations: Vec<Sha256>,
}

/// The key of an image's list.
pub(crate) fn list_key(image: &ImageId) -> String {
    format!("{FOLDER}{}.json", image.hex())
}

/// The image whose list has this key.
pub(crate) fn parse_list_key(key: &str) -> Option<ImageId> {
    ImageId::from_hex(key.strip_prefix(FOLDER)?.strip_suffix(".json")?).ok()
}

/// Reads a list: the keys of the attestations, no more than are read of an image.
pub(crate) fn from_json(image: &ImageId, json: &[u8]) -> Result<Vec<String>> {
    let damaged = |why: &dyn std::fmt::Display| {
        Error::corrupt(
            format_args!("the list of attestations of {image}"),
            format_args!("{why}"),
        )
    };
    let list: List = serde_json::from_slice(json).map_err(|e| damaged(&e))?;
    if list.schema != SCHEMA {
        return Err(damaged(&format_args!("it has the schema {}", list.schema)));
    }
    let digests = list.attestations.iter().take(MOST);
    Ok(digests
        .map(|digest| format!("{}{}.json", folder(image), digest.hex()))
        .collect())
}

/// The list of what a folder holds.
fn to_json(keys: &[String]) -> Vec<u8> {
    let digest = |key: &String| {
        let (_, file) = key.rsplit_once('/')?;
        Sha256::from_hex(file.strip_suffix(".json")?).ok()
    };
    let list = List {
        schema: SCHEMA,
        attestations: keys.iter().filter_map(digest).take(MOST).collect(),
    };
    let mut json = serde_json::to_vec(&list).expect("a list has a JSON form");
    json.push(b'\n');
    json
}

/// The keys of an image's attestations; `None` where a folder cannot be listed and there
/// is no list either.
pub(crate) fn keys(backend: &dyn Backend, image: &ImageId) -> Result<Option<Vec<String>>> {
    if let Some(mut keys) = backend.list(&folder(image))? {
        keys.retain(|key| parse_key(key).is_some());
        keys.truncate(MOST);
        return Ok(Some(keys));
    }
    let read = |json: Vec<u8>| from_json(image, &json);
    forbidden_is_absent(get_checked(backend, &list_key(image), MAX_BYTES, read))
}

/// Writes the list of an image's attestations if it is not what the folder holds. Whoever
/// writes it has listed the folder after it read the list that it replaces, so none is
/// forgotten.
pub(crate) fn renew(place: &dyn WritableBackend, image: &ImageId) -> Result<()> {
    let key = list_key(image);
    loop {
        let there = match place.get_versioned(&key, MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // Longer than any list: nobody reads it.
                place.remove(&key)?;
                continue;
            }
            there => there?,
        };
        let keys = keys(place, image)?.unwrap_or_default();
        let json = to_json(&keys);
        let written = match &there {
            Some((before, _)) if *before == json => true,
            None if keys.is_empty() => true,
            _ => {
                place.hold(std::slice::from_ref(&key))?;
                match &there {
                    Some((_, seen)) => place.replace(&key, &json, seen)?,
                    None => place.put_new(&key, &json)?,
                }
            }
        };
        if written {
            return Ok(());
        }
    }
}

/// The images whose list is not what their folder holds.
pub(crate) fn stale(place: &dyn ListableBackend) -> Result<BTreeSet<ImageId>> {
    let objects = place.list_all(FOLDER)?;
    let images =
        |object: &ObjectMeta| parse_key(&object.key).or_else(|| parse_list_key(&object.key));
    let mut stale = BTreeSet::new();
    for image in objects.iter().filter_map(images).collect::<BTreeSet<_>>() {
        let json = to_json(&keys(place, &image)?.unwrap_or_default());
        match place.get(&list_key(&image), MAX_BYTES) {
            Ok(Some(there)) if there == json => {}
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            _ => {
                stale.insert(image);
            }
        }
    }
    Ok(stale)
}

/// Renews each list that is not what its folder holds, as of stores that an older version
/// wrote.
pub fn renew_lists(place: &dyn WritableBackend) -> Result<()> {
    stale(place)?
        .iter()
        .try_for_each(|image| renew(place, image))
}
