//! Errors of tars that are read: what is wrong, and at which byte.

use crate::canonical_tar::display_short;
use crate::error::{Error, ErrorKind};

/// The error for an entry that is refused: its name, why, and where it is.
pub(super) fn refuse(path: &[u8], why: &str, offset: u64) -> Error {
    let shown = if path.is_empty() {
        "./".to_owned()
    } else {
        display_short(path)
    };
    let text = format!("{shown}: {why} (at byte {offset} of the tar)");
    Error::new(ErrorKind::NotCanonical, text)
}

/// The error for an archive that is broken where no entry is known.
pub(super) fn broken(why: &str, offset: u64) -> Error {
    let text = format!("{why} (at byte {offset} of the tar)");
    Error::new(ErrorKind::NotCanonical, text)
}
