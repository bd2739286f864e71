//! Inventories: what lies beside an image, with digests.
//!
//! Packs, inputs and attestations have their digests in their names, and releases are
//! signed. A manifest, a log and a pin have neither, and of a name that is gone nothing
//! remains. The inventory of an image is where a check learns what should be there. Whoever
//! writes one of these objects records it; nobody else reads it, and a store without
//! inventories is as good for everything but a check. See [`crate::format::inventory`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::backend::{ListableBackend, WritableBackend};
use crate::build_log::{self, BuildLog};
use crate::digest::{ImageId, Sha256};
use crate::dsse;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::manifest;
use crate::store::{ATTESTATIONS, IMAGES, PINS, manifest_key, pin_key};

/// Folder of inventories, as a prefix of keys.
pub(crate) const FOLDER: &str = "inventory/";

/// The longest inventory that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The longest pin that is read.
pub(crate) const MAX_PIN: u64 = 16 << 10;

/// The version of the format.
const SCHEMA: u32 = 1;

/// What lies beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Digests by key.
    pub(crate) objects: BTreeMap<String, Sha256>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: u32,
    objects: BTreeMap<String, Sha256>,
    /// The digest of `objects`: an inventory that is damaged must not accuse others.
    check: Sha256,
}

/// The key of an image's inventory.
pub(crate) fn key(image: &ImageId) -> String {
    format!("{FOLDER}{}.json", image.hex())
}

/// The image whose inventory has this key.
pub(crate) fn parse_key(key: &str) -> Option<ImageId> {
    ImageId::from_hex(key.strip_prefix(FOLDER)?.strip_suffix(".json")?).ok()
}

/// The image beside which an object with this key lies.
pub(crate) fn image_beside(key: &str) -> Option<ImageId> {
    let (folder, name) = key.split_once('/')?;
    let ours = ["images", "logs", "pins", "attestations"].contains(&folder);
    let (hex, _) = name.split_once(['/', '.'])?;
    ImageId::from_hex(hex).ok().filter(|_| ours)
}

/// The most bytes that an object beside an image can have.
pub(crate) fn limit(key: &str) -> u64 {
    match key.split_once('/') {
        Some(("images", _)) => manifest::MAX_BYTES,
        Some(("logs", _)) => build_log::MAX_BYTES,
        Some(("pins", _)) => MAX_PIN,
        _ => dsse::MAX_BYTES,
    }
}

impl Inventory {
    /// Reads the inventory of an image.
    pub(crate) fn from_json(image: &ImageId, json: &[u8]) -> Result<Self> {
        let damaged = |why: &dyn std::fmt::Display| {
            Error::corrupt(format_args!("the inventory of {image}"), why)
        };
        let written: Written = serde_json::from_slice(json).map_err(|e| damaged(&e))?;
        if written.schema != SCHEMA {
            return Err(damaged(&format_args!("its schema is {}", written.schema)));
        }
        if written.check != check(&written.objects) {
            return Err(damaged(&"its digest is not the one that it names"));
        }
        let folder = format!("{ATTESTATIONS}{}/", image.hex());
        let own = [manifest_key(image), BuildLog::key(image), pin_key(image)];
        let is_own = |key: &String| own.contains(key) || key.starts_with(&folder);
        if !written.objects.keys().all(is_own) {
            return Err(damaged(&"it is that of another image"));
        }
        Ok(Self {
            objects: written.objects,
        })
    }

    fn to_json(&self) -> Vec<u8> {
        let written = Written {
            schema: SCHEMA,
            objects: self.objects.clone(),
            check: check(&self.objects),
        };
        let mut json = serde_json::to_vec(&written).expect("an inventory has a JSON form");
        json.push(b'\n');
        json
    }

    /// The inventory of an image as its objects are now.
    fn of_what_is_there(place: &dyn ListableBackend, image: &ImageId) -> Result<Self> {
        let mut keys = vec![manifest_key(image), BuildLog::key(image), pin_key(image)];
        let folder = format!("{ATTESTATIONS}{}/", image.hex());
        keys.extend(
            place
                .list_all(&folder)?
                .into_iter()
                .map(|object| object.key),
        );
        let mut objects = BTreeMap::new();
        for key in keys {
            match place.get(&key, limit(&key)) {
                Ok(Some(bytes)) => {
                    objects.insert(key, Sha256::of(&bytes));
                }
                Ok(None) => {}
                // Longer than anybody reads.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { objects })
    }
}

/// The digest of the objects, as they are written.
fn check(objects: &BTreeMap<String, Sha256>) -> Sha256 {
    Sha256::of(&serde_json::to_vec(objects).expect("an inventory has a JSON form"))
}

/// Reads the inventory of an image; `None` if there is none or it is damaged.
pub(crate) fn read(place: &dyn ListableBackend, image: &ImageId) -> Result<Option<Inventory>> {
    match place.get(&key(image), MAX_BYTES) {
        Ok(json) => Ok(json.and_then(|json| Inventory::from_json(image, &json).ok())),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an image's manifest is gone without the collector: it takes away the inventory
/// first, and an older one all that lies beside the image.
pub(crate) fn has_lost_manifest(place: &dyn ListableBackend, image: &ImageId) -> Result<bool> {
    let own = manifest_key(image);
    let Some(inventory) = read(place, image)?.filter(|known| known.objects.contains_key(&own))
    else {
        return Ok(false);
    };
    let there = |key: &String| match place.get(key, limit(key)) {
        Ok(bytes) => Ok(bytes.is_some()),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error),
    };
    if there(&own)? {
        return Ok(false);
    }
    for key in inventory.objects.keys().chain([&Hint::key(image)]) {
        if there(key)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the inventory of an image, and says why it cannot be read.
pub(crate) fn read_strictly(
    place: &dyn ListableBackend,
    image: &ImageId,
) -> Result<Option<Inventory>> {
    let json = place.get(&key(image), MAX_BYTES)?;
    json.map(|json| Inventory::from_json(image, &json))
        .transpose()
}

/// Changes what an image's inventory says about some objects: their digests, or nothing any
/// more. Where there is none, one is made of what is there.
pub(crate) fn record(
    place: &dyn WritableBackend,
    image: &ImageId,
    changes: &[(String, Option<Sha256>)],
) -> Result<()> {
    let own = key(image);
    loop {
        let there = match place.get_versioned(&own, MAX_BYTES) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                place.remove(&own)?;
                continue;
            }
            there => there?,
        };
        let before = there
            .as_ref()
            .and_then(|(json, _)| Inventory::from_json(image, json).ok());
        let mut inventory = match before {
            Some(before) => before,
            None => Inventory::of_what_is_there(place, image)?,
        };
        for (key, digest) in changes {
            match digest {
                Some(digest) => inventory.objects.insert(key.clone(), *digest),
                None => inventory.objects.remove(key),
            };
        }
        let json = inventory.to_json();
        let written = match &there {
            Some((before, _)) if *before == json => true,
            _ => {
                place.hold(std::slice::from_ref(&own))?;
                match &there {
                    Some((_, seen)) => place.replace(&own, &json, seen)?,
                    None => place.put_new(&own, &json)?,
                }
            }
        };
        if written {
            return Ok(());
        }
    }
}

/// Puts an object beside an image in place of what was there, and records it. Killed in
/// between, it is an object that nothing vouches for, never one with a wrong digest.
pub(crate) fn put(
    place: &dyn WritableBackend,
    image: &ImageId,
    key: &str,
    bytes: &[u8],
) -> Result<()> {
    let digest = Sha256::of(bytes);
    let known = read(place, image)?.and_then(|known| known.objects.get(key).copied());
    if known.is_some_and(|known| known != digest) {
        record(place, image, &[(key.to_owned(), None)])?;
    }
    place.put(key, bytes)?;
    let mut put = digest;
    loop {
        record(place, image, &[(key.to_owned(), Some(put))])?;
        // Whoever put another one meanwhile may have recorded it before: what lies there counts,
        // and the last to record sees the last that was put.
        match place.get(key, limit(key))? {
            Some(there) if Sha256::of(&there) != put => put = Sha256::of(&there),
            _ => return Ok(()),
        }
    }
}

/// The images that have a manifest, with what lies beside them and is not recorded. Where an
/// inventory is damaged, nothing is known to be lacking.
pub(crate) fn unrecorded(
    place: &dyn ListableBackend,
) -> Result<BTreeMap<ImageId, BTreeSet<String>>> {
    let images: BTreeSet<ImageId> = place
        .list_all(IMAGES)?
        .iter()
        .filter_map(|object| {
            ImageId::from_hex(object.key[IMAGES.len()..].strip_suffix(".json")?).ok()
        })
        .collect();
    let mut beside: BTreeMap<ImageId, BTreeSet<String>> = BTreeMap::new();
    for folder in [IMAGES, "logs/", PINS, ATTESTATIONS] {
        for object in place.list_all(folder)? {
            let name = &object.key[folder.len()..];
            let inner = folder == ATTESTATIONS;
            let Some((hex, rest)) = name.split_once(if inner { '/' } else { '.' }) else {
                continue;
            };
            let ours = match folder {
                "logs/" => rest == "json.zst",
                ATTESTATIONS => rest
                    .strip_suffix(".json")
                    .is_some_and(|hex| Sha256::from_hex(hex).is_ok()),
                _ => rest == "json",
            };
            if let Ok(image) = ImageId::from_hex(hex)
                && ours
                && images.contains(&image)
            {
                beside.entry(image).or_default().insert(object.key);
            }
        }
    }
    let mut lacking = BTreeMap::new();
    for (image, mut keys) in beside {
        match read_strictly(place, &image) {
            Ok(Some(inventory)) => keys.retain(|key| !inventory.objects.contains_key(key)),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => continue,
            Err(error) => return Err(error),
        }
        if !keys.is_empty() {
            lacking.insert(image, keys);
        }
    }
    Ok(lacking)
}

/// Records what lies beside images and is in no inventory, as in stores that an older version
/// wrote. What is recorded already stays as it is.
pub fn complete(place: &dyn WritableBackend) -> Result<()> {
    for (image, keys) in unrecorded(place)? {
        let mut changes = Vec::new();
        for key in keys {
            match place.get(&key, limit(&key)) {
                Ok(Some(bytes)) => changes.push((key, Some(Sha256::of(&bytes)))),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        record(place, &image, &changes)?;
    }
    Ok(())
}
