//! What a node believes: the environment's signed metadata, and what follows from it.
//!
//! ```text
//! allowed       which of the installed generations may run, by the environment's newest word
//! environment   an environment refreshed a moment ago: what it has for this node, what it allows
//! root          the root of trust: begun from a file, its keys, forgotten
//! tuf           the TUF client: metadata fetched, verified and kept
//! ```
//! The clock is read in `environment` and `root` and nowhere deeper. The environment's files lie
//! below `env/NAME/` of the same store that holds the images.

pub mod allowed;
mod environment;
mod root;
pub mod tuf;

pub use self::environment::{
    Environment, NotAllowed, refresh, refresh_if_reachable, remembers_nothing_against,
};
pub use self::root::{
    LogEnd, TargetsFile, TrustedMetadata, follow, forget, is_there, last_refresh, targets_keys,
    trusted_metadata,
};
pub use self::tuf::{Asker, Held, VerifiedRelease};
