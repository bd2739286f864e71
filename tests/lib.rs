//! Shared pieces of the end-to-end tests.
//!
//! The tests run the programs a user runs: `imgbuild` and `imgnode`,
//! built like the tests themselves. They need root, the packages that `tests/run`
//! installs, and the machine's own archive and package index; what is missing
//! makes them fail with the command that brings it.

// A panic in here is a failed test, as it should be.
#![allow(clippy::missing_panics_doc)]

pub mod archive;
pub mod bench;
pub mod binaries;
pub mod fixtures;
pub mod host;
pub mod http;
pub mod index;
pub mod measure;
pub mod pip;
pub mod rebuilt;
pub mod server;
pub mod shell;
pub mod terminal;
pub mod vm;
