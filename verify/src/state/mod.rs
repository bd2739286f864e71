//! What a node remembers between commands.

pub mod cache;
mod directory;
pub mod record;

pub use self::directory::{Lock, NodeConfig, SCHEMA, State, check_schema, now};
