//! Removing a system.

use super::gc::holders;
use super::journal::{self, JournalEntry, Operation, Phase};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::{self, Timeouts};
use crate::system::SystemName;

/// Removes a system with all its generations.
pub fn uninstall(node: &Node<'_>, system: &SystemName, timeouts: Timeouts) -> Result<()> {
    let lock = node.state.lock(system)?;
    journal::recover(node, &lock, system)?;
    let record = node.state.installed(system)?;
    session::sweep(node, &lock, system, timeouts)?;
    if let Some(session) = session::read(node, system)? {
        return Err(
            Error::failed(format!("{system} is running in the session {}", session.id))
                .hint(format!("imgnode stop {system}")),
        );
    }
    for generation in &record.generations {
        if let Some(id) = holders(node, &record, generation)?.first() {
            let number = generation.number;
            let what = format!("generation {number} of {system} is in use by {id}");
            return Err(Error::new(Kind::Busy, what).hint(format!(
                "if it is a session: schroot --end-session --chroot {id}"
            )));
        }
    }
    node.schroot.check(system)?;
    record.target.driver().inspect(&node.context(system), 0)?;
    let mut entry = JournalEntry::begin(Operation::Uninstall, &record, Some(&record), None);
    let _hooks = journal::hold_hooks(node)?;
    journal::write(node, &lock, &entry)?;
    let allowed = node.hooks.before("uninstall", system, node.observer);
    if allowed.is_ok() {
        entry.phase = Phase::Committing;
        journal::write(node, &lock, &entry)?;
        journal::remove_system(node, &lock, &entry)?;
    }
    journal::clear(node, &lock, system)?;
    let hooks = if allowed.is_ok() {
        // Of a system that is gone nothing is remembered.
        node.hooks.after("uninstall", system, node.observer)
    } else {
        journal::hooks_after(node, "uninstall", system)
    };
    let data = node.state.data(system);
    if allowed.is_ok() && data.exists() {
        node.observer.event(Event::Note(&format!(
            "the data of {system} stays in {}",
            data.display()
        )));
    }
    allowed.and(hooks)
}
