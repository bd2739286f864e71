//! Programs and configuration of the host.
//!
//! ```text
//! hooks         what the operator wants run around an install
//! schroot       the files by which schroot knows a system
//! commands      running programs
//! descriptors   what those programs inherit
//! ```

pub mod commands;
pub mod descriptors;
pub mod hooks;
pub mod schroot;
