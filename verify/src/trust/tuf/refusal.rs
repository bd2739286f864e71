//! How a refusal reads.
//!
//! The kind is for programs; the sentence is for whoever is called at night: it
//! names the file, both versions or both times, and what to do.

use jiff::Timestamp as Time;

use super::core::Refusal;
use super::error::{Error, ErrorKind};
use super::precheck;

pub(super) fn too_large(file: &str, limit: u64) -> Error {
    let text = format!("{file} has more than the {limit} bytes that it may have");
    Error::new(ErrorKind::TooLarge, text)
}

pub(super) fn rollback(what: &str, trusted: u64, new: u64) -> Error {
    let text = format!("{what} has version {new}, and version {trusted} was trusted before");
    Error::new(ErrorKind::Rollback, text).with_hint(
        "something between this node and the environment's owner serves old metadata; \
         the active generation is unchanged",
    )
}

/// The core's refusal of a file, as this module's error.
pub(super) fn refused(file: &str, refusal: Refusal, now: Option<Time>) -> Error {
    match refusal {
        Refusal::Signatures(why) => Error::new(
            ErrorKind::Signatures,
            format!("{file} is not signed as it must be: {why}"),
        ),
        Refusal::Rollback { what, trusted, new } if file.contains(&what) => {
            rollback(file, trusted, new)
        }
        Refusal::Rollback { what, trusted, new } => {
            rollback(&format!("{what} in {file}"), trusted, new)
        }
        Refusal::RootVersion { trusted, new } => {
            let text = format!(
                "{file} has version {new}, and only {} can follow root {trusted}",
                trusted.saturating_add(1)
            );
            Error::new(ErrorKind::RootVersion, text)
        }
        Refusal::Expired { expires } => {
            let now = now.map_or(String::new(), |now| {
                format!("; the clock of this machine says {now}")
            });
            Error::new(
                ErrorKind::Expired,
                format!("{file} ran out at {expires}{now}"),
            )
            .with_hint(
                "if the clock is right, the environment's owner must renew the signature; \
                 if not, set the clock",
            )
        }
        Refusal::Mismatch(why) => {
            let text = format!("{file} is not the file that was signed for: {why}");
            Error::new(ErrorKind::Mismatch, text)
        }
        Refusal::Malformed(why) => precheck::malformed(file, &why),
    }
}
