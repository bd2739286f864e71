//! Moving what lies beside an image: its log, and what others attest about it.

use crate::attest;
use crate::backend::WritableBackend;
use crate::backend::{Backend, forbidden_is_absent, get_checked};
use crate::build_log::{self, BuildLog};
use crate::digest::{ImageId, Sha256};
use crate::dsse;
use crate::error::{Error, ErrorKind, Result};
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
    let mut moved = u64::from(one(
        from,
        backend,
        &BuildLog::key(image),
        build_log::MAX_BYTES,
        |b| BuildLog::decode(b).map(drop),
    )?);
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
        moved += u64::from(one(from, backend, &key, dsse::MAX_BYTES, named)?);
    }
    attest::renew(backend, image)?;
    Ok(Attachments { moved, unlisted })
}

fn one(
    from: &dyn Backend,
    backend: &dyn WritableBackend,
    key: &str,
    limit: u64,
    check: impl Fn(&[u8]) -> Result<()>,
) -> Result<bool> {
    if backend.hold(&[key.to_owned()])?[0] {
        return Ok(false);
    }
    let checked = |bytes: Vec<u8>| check(&bytes).map(|()| bytes);
    match forbidden_is_absent(get_checked(from, key, limit, checked)) {
        Ok(Some(bytes)) => backend.put(key, &bytes).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
        Err(error) => Err(error),
    }
}
