//! The entry of a journal: what it says, read and written.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::session::{self, Timeouts};
use crate::state::record::SystemRecord;
use crate::state::{Lock, now};
use crate::storage::Target;
use crate::system::SystemName;

/// The operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A generation is being added and made the active one.
    Install,
    /// Another generation becomes the active one.
    Switch,
    /// Old generations are being removed.
    Gc,
    /// A system is being removed.
    Uninstall,
    /// Other users of the host may enter its sessions.
    Access,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing that others see has changed.
    Writing,
    /// The new tree is in place; the chroot may or may not have been switched, or be gone.
    Committing,
}

/// The content of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalEntry {
    /// The version of this file.
    pub schema: u32,
    /// The operation.
    pub operation: Operation,
    /// How far the operation is.
    pub phase: Phase,
    /// The system it changes.
    pub system: SystemName,
    /// The target of that system.
    pub target: Target,
    /// Whether the target directory itself was made for this.
    pub made_path: bool,
    /// The generation that is added; 0 when none is.
    pub generation: u64,
    /// The system's record before.
    pub before: Option<SystemRecord>,
    /// The system's record when it is done.
    pub after: Option<SystemRecord>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Whether the generation counts as active only after it was asked whether it works: the session
    /// of the generation before runs, and a kill in between goes back to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
}

impl JournalEntry {
    /// The entry of an operation on the system of `record` that begins now.
    pub(crate) fn begin(
        operation: Operation,
        record: &SystemRecord,
        before: Option<&SystemRecord>,
        after: Option<&SystemRecord>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            operation,
            phase: Phase::Writing,
            system: record.system.clone(),
            target: record.target.clone(),
            made_path: false,
            generation: 0,
            before: before.cloned(),
            after: after.cloned(),
            started: now(),
            asks: false,
        }
    }
}

/// The operations that were begun and are not over, oldest first.
pub fn unfinished(node: &Node<'_>) -> Result<Vec<JournalEntry>> {
    let mut found = Vec::new();
    for system in node.state.journals()? {
        found.extend(unfinished_of(node, &system)?);
    }
    found.extend(read(&node.state.common_journal())?);
    found.sort_by_key(|entry| entry.started);
    Ok(found)
}

/// The operation on a system that was begun and is not over.
pub fn unfinished_of(node: &Node<'_>, system: &SystemName) -> Result<Option<JournalEntry>> {
    let path = node.state.journal(system);
    let entry = read(&path)?;
    if let Some(entry) = &entry
        && entry.system != *system
    {
        return Err(damaged(&path, "it is about another system"));
    }
    Ok(entry)
}

pub(super) fn read(path: &Path) -> Result<Option<JournalEntry>> {
    let entry: Option<JournalEntry> = atomic_file::read_json(path)?;
    if let Some(entry) = &entry {
        check_schema(path, entry.schema)?;
        let whole = match entry.operation {
            Operation::Install => entry.after.is_some(),
            Operation::Switch | Operation::Gc | Operation::Access => {
                entry.after.is_some() && entry.before.is_some()
            }
            Operation::Uninstall => entry.before.is_some(),
        };
        let records = [&entry.before, &entry.after];
        let fits = |record: &SystemRecord| {
            record.check(&entry.system).is_ok() && record.target == entry.target
        };
        if !whole || !records.into_iter().flatten().all(fits) {
            return Err(damaged(path, "its parts contradict each other"));
        }
    }
    Ok(entry)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::failed(format!("{} is damaged", path.display()))
        .cause(why)
        .hint("nothing was changed; put the file back from a backup")
}

/// Writes the journal.
pub fn write(node: &Node<'_>, _: &Lock, entry: &JournalEntry) -> Result<()> {
    debug_assert_eq!(entry.schema, SCHEMA);
    atomic_file::write_json(&node.state.journal(&entry.system), entry)
}

/// Removes the journal of a system: the operation is over.
pub fn clear(node: &Node<'_>, _: &Lock, system: &SystemName) -> Result<()> {
    atomic_file::remove(&node.state.journal(system))
}

impl Operation {
    /// The command's name, as the operator knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Switch => "switch",
            Self::Gc => "gc",
            Self::Uninstall => "uninstall",
            Self::Access => "access",
        }
    }
}

/// Whether the generation that becomes active is asked first whether it works: a session of the
/// one before runs, and is to hand over.
pub(crate) fn asks(
    node: &Node<'_>,
    before: &SystemRecord,
    timeouts: Option<Timeouts>,
) -> Result<bool> {
    let session = session::read(node, &before.system)?;
    Ok(timeouts.is_some() && session.is_some_and(|session| !session.listen.is_empty()))
}
