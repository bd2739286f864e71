//! Pins: images that somebody wants to keep, and says why.

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::backend::WritableBackend;
use crate::digest::ImageId;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::inventory::{self, MAX_PIN as MAX_BYTES};
use crate::store::{PINS, manifest_key, pin_key as key};

/// The longest reason.
const MAX_REASON: usize = 1000;

/// The schema that this crate reads and writes.
const SCHEMA: u32 = 1;

/// An image that is kept whatever happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    schema: u32,
    /// The image.
    pub image: ImageId,
    /// Why; may be empty.
    pub reason: String,
    /// When it was pinned, in seconds since 1970.
    pub since: u64,
}

impl Pin {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a pin has a JSON form")
    }
}

/// All pins, sorted by image. One that is damaged is an error: whoever deletes
/// must not guess.
pub fn pins(backend: &dyn Backend) -> Result<Vec<Pin>> {
    let keys = backend.list(PINS)?.unwrap_or_default();
    let pinned = keys.iter().filter_map(|key| parse_key(key));
    let pins = pinned.map(|image| read(backend, &image));
    Ok(pins
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// The image whose pin has this key.
pub(super) fn parse_key(key: &str) -> Option<ImageId> {
    ImageId::from_hex(key.strip_prefix(PINS)?.strip_suffix(".json")?).ok()
}

/// The pin of an image, if it has one.
pub(super) fn read(backend: &dyn Backend, image: &ImageId) -> Result<Option<Pin>> {
    let key = key(image);
    let Some(json) = backend.get(&key, MAX_BYTES)? else {
        return Ok(None);
    };
    let damaged = |why: &dyn std::fmt::Display| {
        Error::corrupt(format_args!("{key} in {}", backend.describe()), why)
    };
    let pin: Pin = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
    if pin.schema != SCHEMA || pin.image != *image {
        return Err(damaged(&"it is not a pin of this image and schema"));
    }
    Ok(Some(pin))
}

/// Keeps an image until [`unpin`], in place of an earlier pin of it.
pub fn pin(place: &dyn WritableBackend, image: &ImageId, reason: &str) -> Result<Pin> {
    if reason.len() > MAX_REASON {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the reason for a pin has at most {MAX_REASON} bytes"),
        ));
    }
    // Held first, so that it cannot go between the look and the pin.
    let present = place.hold(&[manifest_key(image), Hint::key(image)])?[0];
    if !present {
        return Err(Error::missing(
            format_args!("the image {image}"),
            place.describe(),
        ));
    }
    let pin = Pin {
        schema: SCHEMA,
        image: *image,
        reason: reason.to_owned(),
        since: place.now()?,
    };
    inventory::put(place, image, &key(image), &pin.to_json())?;
    Ok(pin)
}

/// Ends a pin; `false` if there was none.
pub fn unpin(place: &dyn WritableBackend, image: &ImageId) -> Result<bool> {
    let key = key(image);
    let known = inventory::read(place, image)?;
    let recorded = known.is_some_and(|known| known.objects.contains_key(&key));
    let there = match place.get(&key, MAX_BYTES) {
        // Longer than any pin: it was meant as one.
        Err(error) if error.kind() == ErrorKind::Corrupt => true,
        there => there?.is_some(),
    };
    if recorded {
        inventory::record(place, image, &[(key.clone(), None)])?;
    }
    place.remove(&key)?;
    place.sync()?;
    Ok(there || recorded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WritableStore;
    use crate::digest::Blake3;

    #[test]
    fn pins_are_strict() {
        let dir = tempfile::tempdir().unwrap();
        let store = WritableStore::open_or_create(dir.path()).unwrap();
        let (image, other) = (Blake3::of(b"a"), Blake3::of(b"b"));
        let error = pin(store.backend(), &image, "why").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        store.put(&manifest_key(&image), b"{}").unwrap();
        let made = pin(store.backend(), &image, "why").unwrap();
        assert!(pin(store.backend(), &image, &"x".repeat(1001)).is_err());
        let backend = store.store().backend();
        assert_eq!(pins(backend).unwrap(), [made]);

        let json = backend.get(&key(&image), 999).unwrap().unwrap();
        store.put(&key(&other), &json).unwrap();
        assert_eq!(pins(backend).unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(unpin(store.backend(), &other).unwrap());
        for bad in [
            &b"{}"[..],
            br#"{"schema":2}"#,
            &json[1..],
            &[&json[..], b"x"].concat(),
        ] {
            store.put(&key(&image), bad).unwrap();
            assert_eq!(pins(backend).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(unpin(store.backend(), &image).unwrap());
        assert!(!unpin(store.backend(), &image).unwrap());
        assert!(pins(backend).unwrap().is_empty());
    }
}
