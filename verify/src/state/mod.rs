//! What a node remembers between commands.
//!
//! ```text
//! manifests  the signed manifests of installed images
//! names      what this node is called, and its group
//! directory  the state directory: its files, and what `init` decided
//! lock       who may change what of it
//! record     the record of a system: its generations, and which one is active
//! cache      what the node has of its store
//! ```

pub mod cache;
mod directory;
mod lock;
mod manifests;
mod names;
pub mod record;

pub use self::directory::{NodeConfig, State};
pub use self::lock::Lock;
pub use self::names::{NodeNames, machine_name};
pub use common::clock::now;
