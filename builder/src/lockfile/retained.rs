//! The inputs that the lock of an image names, read from the retained text.

use store::{ImageId, Sha256};

use super::{ImportRecord, Lock};

/// The inputs that a retained lock names.
pub(crate) fn inputs_of(lock: &[u8]) -> std::result::Result<Vec<Sha256>, String> {
    // An imported image has a record in place of a lock, and no inputs.
    if ImportRecord::is(lock) {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let lock = Lock::parse(text).map_err(|error| error.to_string())?;
    Ok(lock.inputs().copied().collect())
}

/// The image that the image of a retained lock stands on.
pub(crate) fn base_of(lock: &[u8]) -> std::result::Result<Option<ImageId>, String> {
    if ImportRecord::is(lock) {
        return Ok(None);
    }
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let lock = Lock::parse(text).map_err(|error| error.to_string())?;
    Ok(lock.base.map(|base| base.image))
}

/// The inputs that a lock names, with their sizes.
pub(crate) fn sized_inputs_of(lock: &[u8]) -> std::result::Result<Vec<(Sha256, u64)>, String> {
    if ImportRecord::is(lock) {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let lock = Lock::parse(text).map_err(|error| error.to_string())?;
    Ok(lock.sized_inputs().collect())
}
