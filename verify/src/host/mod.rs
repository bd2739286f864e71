//! Programs and configuration of the host.

pub mod commands;
pub mod hooks;
pub mod schroot;
