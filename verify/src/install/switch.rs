//! Making another generation the active one.
//!
//! Going back is what an operator does when something is wrong, so it needs neither the store nor
//! the time to write a tree: one rename. What may be gone back to is the environment's to say. Its
//! newest word is asked for first and remembered in the record (see `bars`); where it cannot be
//! reached, or what it says ran out, the remembered word counts. A revoked image, a release below the
//! oldest allowed one, and a release of an environment that this node does not follow any more stay
//! barred.

use super::journal::{self, Operation, Pending, Phase};
use super::local_changes;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::{self, Handover, Patience};
use crate::state::record::SystemRecord;
use crate::state::{Lock, SCHEMA, now};
use crate::storage::Desk;
use crate::system::SystemName;
use crate::trust::allowed;

/// Which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// This one.
    Number(u64),
    /// The one that was active before.
    Previous,
}

/// What was done.
#[derive(Debug)]
pub struct Switched {
    /// The system's record.
    pub record: SystemRecord,
    /// Whether anything had to be done.
    pub changed: bool,
    /// What became of a session that runs.
    pub traffic: Handover,
}

/// Makes another generation of a system the active one.
///
/// A session that runs hands over to one of that generation, if `patience` is given for that.
pub fn switch(
    node: &Node<'_>,
    system: &SystemName,
    to: To,
    patience: Option<Patience>,
) -> Result<Switched> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let before = node.state.installed(system)?;
    let number = match to {
        To::Number(number) => number,
        To::Previous => before.previous.ok_or_else(|| {
            Error::usage(format!("{system} has no previous generation")).hint(have(&before))
        })?,
    };
    if before.generation(number).is_none() {
        return Err(
            Error::usage(format!("{system} has no generation {number}")).hint(have(&before))
        );
    }
    if number == before.active {
        let traffic = session::take_over(node, &lock, None, &before, patience)?;
        return Ok(Switched {
            record: before,
            changed: false,
            traffic,
        });
    }
    let before = allowed::consult(node, &lock, before)?;
    let wanted = before.generation(number);
    if let Some(why) = wanted.and_then(|wanted| wanted.barred.as_ref()) {
        return Err(Error::refused(format!(
            "generation {number} of {system} may not run any more"
        ))
        .cause(why.clone())
        .hint(allowed::elsewhere(&before)));
    }
    let record = carry_out(node, &lock, &before, number)?;
    let traffic = session::take_over(node, &lock, Some(&before), &record, patience)?;
    Ok(Switched {
        record,
        changed: true,
        traffic,
    })
}

fn have(record: &SystemRecord) -> String {
    let numbers: Vec<_> = record
        .generations
        .iter()
        .map(|generation| generation.number.to_string())
        .collect();
    format!("its generations: {}", numbers.join(", "))
}

/// Switches without asking anybody.
pub(crate) fn carry_out(
    node: &Node<'_>,
    lock: &Lock,
    before: &SystemRecord,
    number: u64,
) -> Result<SystemRecord> {
    become_active(node, lock, before, before.switched(number))
}

/// Switches back from a generation that did not work, as if it had never been active: the previous
/// one is the one that was so before.
pub(crate) fn give_up(
    node: &Node<'_>,
    lock: &Lock,
    failed: &SystemRecord,
    before: &SystemRecord,
) -> Result<SystemRecord> {
    let after = SystemRecord {
        active: before.active,
        previous: before.previous,
        ..failed.clone()
    };
    become_active(node, lock, failed, after)
}

fn become_active(
    node: &Node<'_>,
    lock: &Lock,
    before: &SystemRecord,
    after: SystemRecord,
) -> Result<SystemRecord> {
    let (system, number) = (&before.system, after.active);
    let desk = Desk::of(node, system);
    if !before.target.keeper().exists(&desk, number)? {
        let place = before.target.keeper().location(system, number);
        return Err(Error::failed(format!(
            "generation {number} of {system} is not at {} any more",
            place.display()
        ))
        .hint(format!("imgnode upgrade {system}")));
    }
    node.schroot.check(system)?;
    let so = "it becomes active as it is now";
    local_changes::tell(node, before, number, so);
    let mut pending = Pending {
        schema: SCHEMA,
        operation: Operation::Switch,
        phase: Phase::Writing,
        system: system.clone(),
        target: before.target.clone(),
        made_path: false,
        generation: 0,
        before: Some(before.clone()),
        after: Some(after.clone()),
        started: now(),
    };
    journal::write(node, lock, &pending)?;
    let hooks = node.hooks.before("switch", system, node.observer);
    let done = hooks.and_then(|()| {
        pending.phase = Phase::Committing;
        journal::write(node, lock, &pending)?;
        node.observer.event(Event::Phase(&format!(
            "switching {system} to generation {number}"
        )));
        journal::commit(node, lock, &pending)
    });
    if done.is_err() {
        journal::undo(node, lock, &mut pending)?;
    }
    journal::clear(node, lock)?;
    let hooks = node.hooks.after("switch", system, node.observer);
    done.and(hooks).map(|()| after)
}
