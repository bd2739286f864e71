//! Inventories: what was put beside an image is there, as it was put.

use std::collections::{BTreeMap, BTreeSet};

use super::objects::{CheckedImage, PIN_AGAIN, damaged};
use super::report::{AffectedImage, Report};
use crate::backend::ListableBackend;
use crate::digest::{ImageId, Sha256};
use crate::error::{ErrorKind, Result};
use crate::inventory::{self, Inventory};
use crate::store::{manifest_key, pin_key};

/// Compares all inventories with what lies beside their images. Returns the images whose
/// inventory could be read.
pub(super) fn compare(
    backend: &dyn ListableBackend,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    report: &mut Report,
) -> Result<BTreeSet<ImageId>> {
    let mut told: BTreeSet<String> = report.damage.iter().map(|one| one.key.clone()).collect();
    let mut read = BTreeSet::new();
    for object in backend.list_all(inventory::FOLDER)? {
        let Some(image) = inventory::parse_key(&object.key) else {
            continue;
        };
        let known = match inventory::read_strictly(backend, &image) {
            Ok(Some(known)) => known,
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damaged(report, object.key, error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        read.insert(image);
        let manifest = manifest_key(&image);
        let mut found = Comparison::of(backend, &known)?;
        if !(found.wrong.is_empty() && found.missing.is_empty())
            && let Some(now) = inventory::read(backend, &image)?
            && now != known
        {
            // A writer was at work on one of them.
            found = Comparison::of(backend, &now)?;
        }
        let any = found.any || subjects.contains_key(&image);
        for (key, why) in found.wrong {
            if told.insert(key.clone()) {
                damaged(report, key.clone(), with_advice(&image, &key, why));
            }
        }
        let lost = inventory::has_lost_manifest(backend, &image)?;
        if !any && !lost {
            // Of a collector that did not know inventories.
            report.strays.push(object.key);
            continue;
        }
        if lost && !subjects.contains_key(&image) {
            report.affected.push(AffectedImage {
                image,
                name: None,
                released: Vec::new(),
                why: "its manifest is missing".into(),
                entries: Vec::new(),
                more: 0,
                whole: false,
            });
        }
        let gone = |key: &String| *key != manifest || lost || subjects.contains_key(&image);
        for key in found.missing.into_iter().filter(gone) {
            if told.insert(key.clone()) {
                let why = with_advice(&image, &key, "it is missing".into());
                damaged(report, key, why);
            }
        }
    }
    for (image, _) in inventory::unrecorded(backend)? {
        // Of a store that an older version wrote, or of a writer that was killed.
        report.strays.push(inventory::key(&image));
    }
    Ok(read)
}

/// What an inventory names, as it is.
#[derive(Default)]
struct Comparison {
    /// Whether any of it is there.
    any: bool,
    missing: Vec<String>,
    /// What is not as it was put there, and why.
    wrong: Vec<(String, String)>,
}

impl Comparison {
    fn of(backend: &dyn ListableBackend, known: &Inventory) -> Result<Self> {
        let mut found = Self::default();
        for (key, digest) in &known.objects {
            let why = match backend.get(key, inventory::limit(key)) {
                Ok(None) => {
                    found.missing.push(key.clone());
                    continue;
                }
                Ok(Some(bytes)) if Sha256::of(&bytes) == *digest => None,
                Ok(Some(_)) => Some("it is not what was put there".to_owned()),
                Err(error) if error.kind() == ErrorKind::Corrupt => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            found.any = true;
            found.wrong.extend(why.map(|why| (key.clone(), why)));
        }
        Ok(found)
    }
}

fn with_advice(image: &ImageId, key: &str, why: String) -> String {
    if key == pin_key(image) {
        return format!("{why}; {PIN_AGAIN}");
    }
    why
}
