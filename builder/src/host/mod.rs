//! What this machine contributes: programs, mirrors, proxies, index settings.
//!
//! Host names and credentials are facts of a machine. They are read here, used
//! while locking and fetching, and never stored in a lock, a log or an image.

mod archives;
mod network;
mod python;
mod tools;

pub use archives::Archives;
pub(crate) use archives::{MOMENT, credentials};
pub use network::{Network, acquire_settings};
pub use python::PipSettings;
pub use tools::{Missing, Tools, architecture, locate};

/// The credentials in an address, if it has some, and its host; none of an address without a host.
fn authority(address: &str) -> Option<(Option<&str>, &str)> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let host = match place.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then_some((login, host))
}
