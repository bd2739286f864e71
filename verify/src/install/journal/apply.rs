//! What an operation does while its journal stands, and how that is taken back.

use super::entry::{JournalEntry, Operation, Phase, clear, write};
use super::hooks::{hold_hooks, hooks_after};
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::Lock;

/// Switches the chroot to the new generation and records it.
pub fn commit(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let after = entry
        .after
        .as_ref()
        .ok_or_else(|| Error::failed("the journal has no record to commit"))?;
    let context = node.context(&entry.system);
    if !entry.target.driver().exists(&context, after.active)? {
        return Err(Error::failed(format!(
            "generation {} is not at {}",
            after.active,
            after.active().directory.display()
        )));
    }
    node.schroot.register(&after.chroot(), node.observer)?;
    node.state.set_system(lock, &entry.system, Some(after))
}

/// Does `work` under a journal, with the hooks of an install around it. What fails is undone, and
/// the hooks afterwards run in any case.
pub(crate) fn transaction<T>(
    node: &Node<'_>,
    lock: &Lock,
    mut entry: JournalEntry,
    work: impl FnOnce(&mut JournalEntry) -> Result<T>,
) -> Result<T> {
    let system = entry.system.clone();
    let _hooks = hold_hooks(node)?;
    write(node, lock, &entry)?;
    let done = node
        .hooks
        .before("install", &system, node.observer)
        .and_then(|()| work(&mut entry));
    let undone = match &done {
        Ok(_) => Ok(()),
        Err(_) => undo(node, lock, &mut entry),
    };
    let hooks = hooks_after(node, "install", &system);
    if let Err(error) = undone {
        // The journal stays: the next command tries again.
        node.observer.event(Event::Note(&format!(
            "the install could not be undone: {error}"
        )));
        return done;
    }
    if !entry.asks || done.is_err() || hooks.is_err() {
        clear(node, lock, &system)?;
    }
    done.and_then(|value| hooks.map(|()| value))
}

/// Puts everything back as it was before an install, a switch or a change of access.
pub fn undo(node: &Node<'_>, lock: &Lock, entry: &mut JournalEntry) -> Result<()> {
    if entry.phase == Phase::Committing {
        // From here on there is no way forward: the tree goes away.
        match &entry.before {
            Some(before) => node.schroot.register(&before.chroot(), node.observer)?,
            None => node.schroot.unregister(&entry.system, node.observer)?,
        }
        node.state
            .set_system(lock, &entry.system, entry.before.as_ref())?;
        entry.phase = Phase::Writing;
        write(node, lock, entry)?;
    }
    if matches!(entry.operation, Operation::Switch | Operation::Access) {
        return Ok(());
    }
    let (driver, context) = (entry.target.driver(), node.context(&entry.system));
    driver.clear_staging(&context, entry.generation)?;
    driver.remove(&context, entry.generation)?;
    if entry.before.is_none() {
        driver.close(&context, entry.made_path)?;
    }
    node.state.forget_manifests(lock, &entry.system)
}

/// Removes the generations that the record afterwards does not have: first from the record, so that
/// nothing names what is being removed.
pub fn remove_generations(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
        return Err(Error::failed("the journal has no records to compare"));
    };
    node.state.set_system(lock, &entry.system, Some(after))?;
    let context = node.context(&entry.system);
    for generation in &before.generations {
        if after.generation(generation.number).is_none() {
            entry.target.driver().remove(&context, generation.number)?;
        }
    }
    node.state.forget_manifests(lock, &entry.system)
}

/// Removes a system: the chroot first, so that nothing points at what is being removed.
pub fn remove_system(node: &Node<'_>, lock: &Lock, entry: &JournalEntry) -> Result<()> {
    let system = &entry.system;
    node.schroot.unregister(system, node.observer)?;
    node.state.set_system(lock, system, None)?;
    let (driver, context) = (entry.target.driver(), node.context(system));
    for generation in entry.before.iter().flat_map(|before| &before.generations) {
        driver.clear_staging(&context, generation.number)?;
        driver.remove(&context, generation.number)?;
    }
    driver.clear_staging(&context, 0)?;
    driver.close(&context, false)?;
    atomic_file::remove(&node.state.log_file(system))?;
    atomic_file::remove(&node.state.older_log_file(system))?;
    atomic_file::remove(&node.state.start_file(system))?;
    atomic_file::remove(&node.state.hooks_file(system))?;
    atomic_file::remove(&node.state.prepared_file(system))?;
    atomic_file::remove(&node.state.timers_file(system))?;
    atomic_file::remove(&node.state.watcher_file(system))?;
    node.state.forget_manifests(lock, &entry.system)
}
