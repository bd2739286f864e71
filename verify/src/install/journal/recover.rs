//! Finishing or undoing what a killed process left.

use super::apply::{commit, remove_generations, remove_system, undo};
use super::entry::{JournalEntry, Operation, Phase, clear, read, unfinished_of};
use super::hooks::{hold_hooks, hooks_after};
use crate::atomic_file;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session;
use crate::state::Lock;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// Finishes or undoes what a killed process left of a system; the first act of every command that
/// changes it. So is what was left of others, as far as that can be done now.
pub fn recover(node: &Node<'_>, lock: &Lock, system: &SystemName) -> Result<()> {
    settle(node, lock, system)?;
    settle_others(node, system)
}

/// Finishes or undoes everything that killed processes left.
pub fn recover_all(node: &Node<'_>, lock: &Lock) -> Result<()> {
    for system in left_over(node)? {
        settle(node, lock, &system)?;
    }
    Ok(())
}

/// The systems of which something can be left.
fn left_over(node: &Node<'_>) -> Result<Vec<SystemName>> {
    let mut systems = node.state.leftovers()?;
    systems.extend(read(&node.state.common_journal())?.map(|left| left.system));
    Ok(systems)
}

/// Makes the journal that an earlier version kept for all systems the one of its system.
fn take_common(node: &Node<'_>, system: &SystemName) -> Result<()> {
    let path = node.state.common_journal();
    let Some(left) = read(&path)?.filter(|left| left.system == *system) else {
        return Ok(());
    };
    atomic_file::write_json(&node.state.journal(system), &left)?;
    atomic_file::remove(&path)
}

fn finish(node: &Node<'_>, lock: &Lock, mut left: JournalEntry) -> Result<()> {
    let system = left.system.clone();
    let say = |what: &str| node.observer.event(Event::Note(what));
    let word = left.operation.name();
    match (left.operation, left.phase) {
        (Operation::Uninstall, Phase::Committing) => {
            say(&format!("finishing the interrupted uninstall of {system}"));
            remove_system(node, lock, &left)
                .context(|| format!("cannot finish the interrupted uninstall of {system}"))?;
        }
        (Operation::Gc, _) => {
            say(&format!("finishing the interrupted gc of {system}"));
            remove_generations(node, lock, &left)
                .context(|| format!("cannot finish the interrupted gc of {system}"))?;
        }
        (Operation::Install | Operation::Switch | Operation::Access, Phase::Committing) => {
            say(&format!("finishing the interrupted {word} of {system}"));
            if left.asks && !has_answered(node, &left)? {
                go_back(node, lock, &left)
                    .context(|| format!("cannot undo the interrupted {word} of {system}"))?;
            } else if let Err(error) = commit(node, lock, &left) {
                say(&format!("{error}; undoing it"));
                undo(node, lock, &mut left)
                    .context(|| format!("cannot undo the interrupted {word} of {system}"))?;
            }
        }
        (Operation::Switch | Operation::Uninstall | Operation::Access, Phase::Writing) => {
            say(&format!(
                "the {word} of {system} was interrupted before it began"
            ));
        }
        (Operation::Install, Phase::Writing) => {
            say(&format!("undoing the interrupted install of {system}"));
            undo(node, lock, &mut left)
                .context(|| format!("cannot undo the interrupted install of {system}"))?;
        }
    }
    if !matches!(left.operation, Operation::Gc | Operation::Access) {
        let _hooks = hold_hooks(node)?;
        // Reported by the hooks themselves; a failing one must not keep the journal for ever.
        let _ = hooks_after(node, word, &system);
    }
    clear(node, lock, &system)
}

/// Recovers for commands that only begin or end sessions: what cannot be finished or undone now is
/// left to others, unless it `must` be, so that nothing is kept from stopping.
pub fn recover_if_possible(
    node: &Node<'_>,
    lock: &Lock,
    system: &SystemName,
    must: bool,
) -> Result<()> {
    let done = settle(node, lock, system);
    if must {
        done?;
    } else {
        or_later(node, done);
    }
    settle_others(node, system)
}

fn settle(node: &Node<'_>, lock: &Lock, system: &SystemName) -> Result<()> {
    take_common(node, system)?;
    // Where nobody watches, nobody else does.
    if let Err(error) = session::bound_log(node, system) {
        node.observer.event(Event::Note(&error.to_string()));
    }
    match unfinished_of(node, system)? {
        Some(left) => finish(node, lock, left),
        // It may have been cut short before it was there.
        None => clear(node, lock, system),
    }
}

/// What was left of other systems, where nobody is at work on them.
fn settle_others(node: &Node<'_>, system: &SystemName) -> Result<()> {
    for other in left_over(node)?.iter().filter(|other| *other != system) {
        if let Ok(lock) = node.state.lock(other) {
            or_later(node, settle(node, &lock, other));
        }
    }
    Ok(())
}

/// Says what could not be done; the next command tries again.
fn or_later(node: &Node<'_>, done: Result<()>) {
    if let Err(error) = done {
        node.observer.event(Event::Note(&format!(
            "{error}; the next command tries again"
        )));
    }
}

/// Whether the new generation has the traffic: then it was asked, and works.
pub(super) fn has_answered(node: &Node<'_>, left: &JournalEntry) -> Result<bool> {
    let session = session::read(node, &left.system)?;
    let after = left.after.as_ref().map(|after| after.active);
    Ok(session.map(|session| session.generation) == after)
}

/// Goes back from a generation that nobody knows to work. It stays, and is not active.
fn go_back(node: &Node<'_>, lock: &Lock, left: &JournalEntry) -> Result<()> {
    let (Some(before), Some(after)) = (&left.before, &left.after) else {
        return commit(node, lock, left);
    };
    let (system, context) = (&left.system, node.context(&left.system));
    let record = SystemRecord {
        active: before.active,
        previous: before.previous,
        ..after.clone()
    };
    if !left.target.driver().exists(&context, record.active)? {
        return commit(node, lock, left);
    }
    node.schroot.register(&record.chroot(), node.observer)?;
    node.state.set_system(lock, system, Some(&record))?;
    node.observer.event(Event::Note(&format!(
        "generation {} of {system} was not asked to the end whether it works, so generation {} is \
         the active one; to try again: imgnode switch {system} {0}",
        after.active, record.active
    )));
    Ok(())
}
