//! Deltas, as a collector and a check see them: they live and die with their images.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{ListableBackend, ObjectMeta};
use crate::delta::{DeltaInfo, FOLDER, delta_key, pair_limit, parse_delta_key, parse_pair_key};
use crate::digest::{Blake3, ImageId};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a delta that are hashed at once.
const PIECE: u64 = 1 << 20;

/// An object below `deltas/`.
#[derive(Clone, Debug)]
pub(super) struct StoredDelta {
    pub(super) object: ObjectMeta,
    /// The pairs of images that it is for. None when it is nobody's.
    pub(super) pairs: BTreeSet<(ImageId, ImageId)>,
    /// What it says, if it is a description that can be read.
    pub(super) description: Option<DeltaInfo>,
}

/// All deltas and descriptions of a store.
pub(super) fn list(backend: &dyn ListableBackend) -> Result<Vec<StoredDelta>> {
    let objects = backend.list_all(FOLDER)?;
    let mut of_delta: BTreeMap<Blake3, BTreeSet<_>> = BTreeMap::new();
    let mut of_pair: BTreeMap<&str, DeltaInfo> = BTreeMap::new();
    for object in &objects {
        let Some(ends) = parse_pair_key(&object.key) else {
            continue;
        };
        // A damaged description is of no use to anybody.
        if let Some(pair) = describe(backend, &object.key)?
            && (pair.from, pair.to) == ends
        {
            of_delta.entry(pair.delta).or_default().insert(ends);
            of_pair.insert(&object.key, pair);
        }
    }
    let pairs = |key: &str| match parse_delta_key(key) {
        Some(delta) => of_delta.get(&delta).cloned().unwrap_or_default(),
        None => of_pair
            .get(key)
            .iter()
            .map(|one| (one.from, one.to))
            .collect(),
    };
    let ours = |key: &str| parse_delta_key(key).is_some() || parse_pair_key(key).is_some();
    let listed = objects.iter().filter(|object| ours(&object.key));
    Ok(listed
        .map(|object| StoredDelta {
            object: object.clone(),
            pairs: pairs(&object.key),
            description: of_pair.get(object.key.as_str()).cloned(),
        })
        .collect())
}

/// The description with this key, if it can be read.
fn describe(backend: &dyn ListableBackend, key: &str) -> Result<Option<DeltaInfo>> {
    let json = match backend.get(key, pair_limit()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(None),
        other => other?,
    };
    Ok(json.and_then(|json| DeltaInfo::from_json(&json).ok()))
}

/// Why a description is not that of its delta, which is an object of so many bytes and whole;
/// `None` if it is.
pub(super) fn check_description(
    backend: &dyn ListableBackend,
    description: &DeltaInfo,
    size: Option<u64>,
) -> Result<Option<String>> {
    const CHECK: usize = 32;
    let Some(size) = size else {
        return Ok(Some("the delta that it describes is missing".into()));
    };
    if size != description.size {
        return Ok(Some(format!(
            "it says {} bytes of a delta of {size}",
            description.size
        )));
    }
    let table = u64::from(description.table);
    let key = delta_key(&description.delta);
    let bytes = backend.get_range(&key, size - table, table)?;
    let (rows, check) = bytes.split_at(bytes.len().saturating_sub(CHECK));
    let ends = Blake3::of(rows).bytes()[..] == *check;
    Ok((!ends).then(|| "its table is not where it says".to_owned()))
}

/// Why an object below `deltas/` is not what it should be; `None` if it is.
pub(super) fn check(
    backend: &dyn ListableBackend,
    object: &ObjectMeta,
    quick: bool,
) -> Option<String> {
    if let Some(ends) = parse_pair_key(&object.key) {
        let read = || {
            let json = backend.get(&object.key, pair_limit())?;
            let pair = json.map(|json| DeltaInfo::from_json(&json)).transpose()?;
            match pair {
                Some(pair) if (pair.from, pair.to) != ends => Err(Error::corrupt(
                    "the description of a delta",
                    "it is that of other images",
                )),
                _ => Ok(()),
            }
        };
        return read().err().map(|error| error.to_string());
    }
    let name = parse_delta_key(&object.key).filter(|_| !quick)?;
    let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
    while offset < object.size {
        let len = (object.size - offset).min(PIECE);
        match backend.get_range(&object.key, offset, len) {
            Ok(bytes) => hasher.update(&bytes),
            Err(error) => return Some(error.to_string()),
        };
        offset += len;
    }
    let found = Blake3::from(hasher.finalize());
    (found != name).then(|| format!("its digest is {found}"))
}
