//! What every operation works with: this machine, and the receiver of what operations say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use store::{Backend, ClientOptions, Store};

use crate::error::{self, Error, Result};
use crate::event::Observer;
use crate::host::hooks::Hooks;
use crate::host::provisions::Provisions;
use crate::host::schroot::Schroot;
use crate::state::cache::StoreCache;
use crate::state::record::{Generation, SystemRecord};
use crate::state::{NodeConfig, State};
use crate::storage::SystemContext;
use crate::system::SystemName;
use crate::tree::local_changes::{LocalChanges, local_changes};

/// A node: its state, its schroot, its hooks.
pub struct Node<'a> {
    /// The state directory.
    pub state: State,
    /// The configuration in which chroots are registered.
    pub schroot: Schroot,
    /// The hooks that the operator wants run around an install.
    pub hooks: Hooks,
    /// What the operator gives to systems.
    pub provisions: Provisions,
    /// The receiver of what operations say.
    pub observer: &'a dyn Observer,
    /// A flag that is set when the operator wants us to stop.
    pub cancel: &'a AtomicBool,
}

impl Node<'_> {
    /// Ends an operation with an error when the operator wants us to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        error::check_cancelled(self.cancel)
    }

    /// The environment and the store that `init` decided on.
    pub fn config(&self) -> Result<NodeConfig> {
        self.state.config()?.ok_or_else(|| {
            Error::usage(format!(
                "this node follows no environment yet (nothing in {})",
                self.state.root().display()
            ))
            .hint("imgnode init --env ENV --repo PATH|URL --root FILE")
        })
    }

    /// Opens the store of this node. Of a far one the node keeps what it will need again.
    pub fn store(&self, config: &NodeConfig) -> Result<Store> {
        let store = Store::open(self.backend(config)?).map_err(unopened)?;
        if store.backend().is_remote() {
            return Ok(store.with_cache(Arc::new(StoreCache::new(self.state.store_cache()))));
        }
        Ok(store)
    }

    /// The place where the store of this node is. Nothing of it is asked yet.
    pub fn backend(&self, config: &NodeConfig) -> Result<Box<dyn Backend>> {
        let access = ClientOptions::from_environment(&|name| std::env::var(name).ok())?;
        config.repository.open(&access).map_err(unopened)
    }

    /// The context in which storage drivers work for a system.
    pub fn context<'a>(&'a self, system: &'a SystemName) -> SystemContext<'a> {
        SystemContext {
            system,
            state: self.state.root(),
            observer: self.observer,
        }
    }

    /// What was changed in place in a generation since it was installed; `None` when nothing was,
    /// or the generation is gone.
    pub fn local_changes(
        &self,
        record: &SystemRecord,
        generation: &Generation,
    ) -> Result<Option<LocalChanges>> {
        let (driver, context) = (record.target.driver(), self.context(&record.system));
        if !driver.exists(&context, generation.number)? {
            return Ok(None);
        }
        let tree = driver.open(&context, generation.number)?;
        local_changes(&tree, &generation.image, generation.settled)
    }
}

/// Refuses to go on without root, which changing a node needs, before anything fails half-way.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::failed("this needs root")
        .cause("it sets owners and registers chroots")
        .hint("run it with sudo"))
}

/// Why the store of a node cannot be opened. One that is not there is not one that is being
/// brought up to date.
fn unopened(error: store::Error) -> Error {
    if error.kind() != store::ErrorKind::Missing {
        return error.into();
    }
    let hint = error.own_hint().unwrap_or("check the address of the store");
    Error::refused(error.to_string()).sources_of(&error, Some(hint))
}
