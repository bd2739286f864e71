//! The command line.

pub(crate) mod args;
pub(crate) mod commands;
mod notify;
pub(crate) mod ui;
