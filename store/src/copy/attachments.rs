//! Moving what lies beside an image: its log, and what others attest about it.

use crate::attest;
use crate::backend::WritableBackend;
use crate::backend::{Backend, get_checked};
use crate::build_log::{self, BuildLog};
use crate::digest::{ImageId, Sha256};
use crate::dsse;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Copies what the destination lacks; how many objects that were. A damaged one is
/// left behind: no image depends on it. Where the source cannot list, attestations
/// are not found.
pub(super) fn copy(from: &Store, backend: &dyn WritableBackend, image: &ImageId) -> Result<u64> {
    let from = from.backend();
    let mut moved = u64::from(one(
        from,
        backend,
        &BuildLog::key(image),
        build_log::MAX_BYTES,
        |b| BuildLog::decode(b).map(drop),
    )?);
    let folder = format!("{}{}/", attest::FOLDER, image.hex());
    for key in from.list(&folder)?.unwrap_or_default() {
        let named = |bytes: &[u8]| {
            let digest = Sha256::of(bytes).hex();
            if key.ends_with(&format!("/{digest}.json")) {
                return Ok(());
            }
            Err(Error::corrupt(&key, "its digest is not its name"))
        };
        moved += u64::from(one(from, backend, &key, dsse::MAX_BYTES, named)?);
    }
    Ok(moved)
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
    match get_checked(from, key, limit, checked) {
        Ok(Some(bytes)) => backend.put(key, &bytes).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
        Err(error) => Err(error),
    }
}
