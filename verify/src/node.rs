//! What every operation works with: this machine, and who listens.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};
use crate::event::Observer;
use crate::host::hooks::Hooks;
use crate::host::schroot::Schroot;
use crate::state::{NodeConfig, State};

/// A node: its state, its schroot, its hooks.
pub struct Node<'a> {
    /// What it remembers.
    pub state: State,
    /// Where chroots are registered.
    pub schroot: Schroot,
    /// What the operator wants run around an install.
    pub hooks: Hooks,
    /// Who listens.
    pub observer: &'a dyn Observer,
    /// Set when the operator wants us to stop.
    pub cancel: &'a AtomicBool,
}

impl Node<'_> {
    /// An error when the operator wants us to stop.
    pub fn go_on(&self) -> Result<()> {
        go_on(self.cancel)
    }

    /// What `init` decided.
    pub fn config(&self) -> Result<NodeConfig> {
        self.state.config()?.ok_or_else(|| {
            Error::usage(format!(
                "this node follows no environment yet (nothing in {})",
                self.state.root().display()
            ))
            .hint("imgnode init --env ENV --repo PATH|URL --root FILE")
        })
    }
}

/// An error when `cancel` is set.
pub fn go_on(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::new(Kind::Interrupted, "interrupted"));
    }
    Ok(())
}

/// Changing a node needs root; says so before anything fails half-way.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::failed("this needs root")
        .cause("it sets owners and registers chroots")
        .hint("run it with sudo"))
}
