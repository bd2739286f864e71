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
