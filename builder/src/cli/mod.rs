//! The command line of `imgbuild`.
//!
//! ```text
//! commands  one file for each command: what was typed -> a request of the library -> what is shown
//! args      what can be typed, with its help
//! ```

pub mod args;
pub mod commands;
