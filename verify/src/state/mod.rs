//! What a node remembers between commands.
//!
//! ```text
//! manifests  the signed manifests of installed images
//! directory  the state directory: its files, and what `init` decided
//! lock       who may change what of it
//! record     the record of a system: its generations, and which one is active
//! cache      what the node has of its store
//! ```

pub mod cache;
mod directory;
mod lock;
mod manifests;
pub mod record;

pub use self::directory::{NodeConfig, State};
pub use self::lock::Lock;
pub use common::clock::now;
