//! Pointing the chroot of a system at another of its generations, under a journal.

use super::journal::{self, JournalEntry, Operation, Phase};
use super::local_changes;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::Lock;
use crate::state::record::SystemRecord;

/// Makes another generation the active one, without asking whether it may run. With `asks` the
/// journal stays until [`take_over`](super::takeover::take_over) knows whether it works.
pub(super) fn activate(
    node: &Node<'_>,
    lock: &Lock,
    before: &SystemRecord,
    number: u64,
    asks: bool,
) -> Result<SystemRecord> {
    become_active(node, lock, before, before.switched(number), asks)
}

/// Switches back from a generation, as if it had never been active: the previous one is the one that
/// was so before. What somebody interrupted may work the next time.
pub(super) fn give_up(
    node: &Node<'_>,
    lock: &Lock,
    failed: &SystemRecord,
    before: &SystemRecord,
    why: &Error,
) -> Result<SystemRecord> {
    let said = (why.kind() != Kind::Interrupted).then(|| why.to_string());
    let after = failed.given_up(before, said.as_deref());
    become_active(node, lock, failed, after, false)
}

fn become_active(
    node: &Node<'_>,
    lock: &Lock,
    before: &SystemRecord,
    after: SystemRecord,
    asks: bool,
) -> Result<SystemRecord> {
    let (system, number) = (&before.system, after.active);
    let context = node.context(system);
    if !before.target.driver().exists(&context, number)? {
        let place = before.target.driver().location(system, number);
        return Err(Error::failed(format!(
            "generation {number} of {system} is not at {} any more",
            place.display()
        ))
        .hint(format!("imgnode upgrade {system}")));
    }
    node.schroot.check(system)?;
    let consequence = "it becomes active as it is now";
    local_changes::note(node, before, number, consequence);
    let mut entry = JournalEntry::begin(Operation::Switch, before, Some(before), Some(&after));
    entry.asks = asks;
    let _hooks = journal::hold_hooks(node)?;
    journal::write(node, lock, &entry)?;
    let hooks = node.hooks.before("switch", system, node.observer);
    let done = hooks.and_then(|()| {
        entry.phase = Phase::Committing;
        journal::write(node, lock, &entry)?;
        node.observer.event(Event::Phase(&format!(
            "switching {system} to generation {number}"
        )));
        journal::commit(node, lock, &entry)
    });
    if done.is_err() {
        journal::undo(node, lock, &mut entry)?;
    }
    if !asks || done.is_err() {
        journal::clear(node, lock, system)?;
    }
    let hooks = journal::hooks_after(node, "switch", system);
    if hooks.is_err() && asks {
        journal::clear(node, lock, system)?;
    }
    done.and(hooks).map(|()| after)
}
