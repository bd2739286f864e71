//! The command line of `imgnode`.
//!
//! ```text
//! commands  one file for each command: a flat list of what it does
//! args      what was typed, and what it means
//! typed     the command line as clap sees it
//! report    what several commands report in the same way
//! notify    what a service manager is told
//! ui        the only place that prints
//! ```

pub(crate) mod args;
pub(crate) mod commands;
mod notify;
mod report;
mod typed;
pub(crate) mod ui;
