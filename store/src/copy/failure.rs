//! Failures of the source, which a copy reports and goes on after.

use crate::error::{Error, ErrorKind};

/// Whether the source lacks something, or has something else than it should.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::Invalid
    )
}

/// An error with its causes, in one line.
pub(super) fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
