//! Moving what lies beside an image: its log, and what others attest about it.

use crate::attest;
use crate::backend::WritableBackend;
use crate::backend::{Backend, forbidden_is_absent, get_checked};
use crate::build_log::{self, BuildLog};
use crate::digest::{ImageId, Sha256};
use crate::dsse;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory;
use crate::store::Store;

/// What was copied.
pub(super) struct Attachments {
    /// Objects that the destination lacked.
    pub(super) moved: u64,
    /// Whether the source can neither list attestations nor has a list of them.
    pub(super) unlisted: bool,
}

/// Copies what the destination lacks. A damaged object is left behind: no image depends
/// on it.
pub(super) fn copy(
    from: &Store,
    backend: &dyn WritableBackend,
    image: &ImageId,
) -> Result<Attachments> {
    let from = from.backend();
    let log = BuildLog::key(image);
    let decodes = |bytes: &[u8]| BuildLog::decode(bytes).map(drop);
    let mut recorded = Vec::new();
    if let Some(digest) = one(from, backend, &log, build_log::MAX_BYTES, decodes)? {
        recorded.push((log, Some(digest)));
    }
    let keys = match attest::keys(from, image) {
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        keys => keys?,
    };
    let unlisted = keys.is_none();
    for key in keys.unwrap_or_default() {
        let named = |bytes: &[u8]| {
            let digest = Sha256::of(bytes).hex();
            if key.ends_with(&format!("/{digest}.json")) {
                return Ok(());
            }
            Err(Error::corrupt(&key, "its digest is not its name"))
        };
        if let Some(digest) = one(from, backend, &key, dsse::MAX_BYTES, named)? {
            recorded.push((key, Some(digest)));
        }
    }
    attest::renew(backend, image)?;
    if !recorded.is_empty() {
        inventory::record(backend, image, &recorded)?;
    }
    let moved = recorded.len() as u64;
    Ok(Attachments { moved, unlisted })
}

/// Copies an object that is not there; returns its digest.
fn one(
    from: &dyn Backend,
    backend: &dyn WritableBackend,
    key: &str,
    limit: u64,
    check: impl Fn(&[u8]) -> Result<()>,
) -> Result<Option<Sha256>> {
    if backend.hold(&[key.to_owned()])?[0] {
        return Ok(None);
    }
    let checked = |bytes: Vec<u8>| check(&bytes).map(|()| bytes);
    match forbidden_is_absent(get_checked(from, key, limit, checked)) {
        Ok(Some(bytes)) => {
            backend.put(key, &bytes)?;
            Ok(Some(Sha256::of(&bytes)))
        }
        Ok(None) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}
