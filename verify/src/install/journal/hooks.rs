//! The hooks afterwards, which run until they succeed.

use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::Result;
use crate::node::Node;
use crate::state::now;
use crate::system::SystemName;

/// Keeps other commands from running hooks until it is dropped: what the hooks of one system lock
/// may be what another one is writing to. Nothing where there are none.
pub(crate) fn hold_hooks(node: &Node<'_>) -> Result<Option<File>> {
    if node.hooks.is_empty()? {
        return Ok(None);
    }
    node.state.lock_hooks().map(Some)
}

/// The hooks afterwards that failed the last time, and what they were called for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedHooks {
    /// The version of this file.
    pub schema: u32,
    /// The first word that they got.
    pub act: String,
    /// What was wrong.
    pub why: String,
    /// When they failed, in seconds since 1970.
    pub since: u64,
}

/// The hooks of a system that failed and did not succeed since.
pub fn failed_hooks(node: &Node<'_>, system: &SystemName) -> Result<Option<FailedHooks>> {
    let path = node.state.hooks_file(system);
    let failed: Option<FailedHooks> = atomic_file::read_json(&path)?;
    if let Some(failed) = &failed {
        check_schema(&path, failed.schema)?;
    }
    Ok(failed)
}

/// Runs the hooks afterwards, and remembers whether they failed.
pub(crate) fn hooks_after(node: &Node<'_>, act: &str, system: &SystemName) -> Result<()> {
    let path = node.state.hooks_file(system);
    let Err(error) = node.hooks.after(act, system, node.observer) else {
        return atomic_file::remove(&path);
    };
    let failed = FailedHooks {
        schema: SCHEMA,
        act: act.to_owned(),
        why: error.to_string(),
        since: now(),
    };
    atomic_file::write_json(&path, &failed)?;
    Err(error.hint("mend the hook and run the command again: it runs until it succeeds"))
}

/// Runs the hooks afterwards again if they failed the last time.
pub(crate) fn hooks_again(node: &Node<'_>, system: &SystemName) -> Result<()> {
    match failed_hooks(node, system)? {
        Some(failed) => {
            let _hooks = hold_hooks(node)?;
            hooks_after(node, &failed.act, system)
        }
        None => Ok(()),
    }
}
