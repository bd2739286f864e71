//! Programs and configuration of the host.
//!
//! ```text
//! hooks         what the operator wants run around an install
//! provisions    what the operator gives to systems: settings, directories, secrets
//! schroot       the files by which schroot knows a system
//! commands      running programs
//! descriptors   what those programs inherit
//! ```

pub mod commands;
pub mod descriptors;
pub mod hooks;
pub mod provisions;
pub mod schroot;
