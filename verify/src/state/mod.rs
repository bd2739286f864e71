//! What a node remembers between commands.
//!
//! ```text
//! directory  the state directory: its files, its lock, and what `init` decided
//! record     the record of a system: its generations, and which one is active
//! cache      what the node has of its store
//! ```

pub mod cache;
mod directory;
pub mod record;

pub use self::directory::{Lock, NodeConfig, State, now};
