//! What a node remembers between commands.

pub mod cache;
mod directory;
pub mod record;

pub use self::directory::{Lock, NodeConfig, State, now};
