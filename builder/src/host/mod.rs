//! What this machine contributes: programs, mirrors, proxies, index settings.
//!
//! Host names and credentials are facts of a machine. They are read here, used
//! while locking and fetching, and never stored in a lock, a log or an image.

mod archives;
mod python;
mod tools;

pub(crate) use archives::credentials;
pub use archives::{Archives, acquire_settings};
pub use python::PipSettings;
pub use tools::{Missing, Tools, architecture};
