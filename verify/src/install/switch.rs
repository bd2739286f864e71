//! Making another generation the active one.
//!
//! Going back is what an operator does when something is wrong, so it needs neither the store nor
//! the time to write a tree: one rename. What may be gone back to is the environment's to say. Its
//! newest word is asked for first and remembered in the record (see
//! [`allowed`]); where it cannot be reached, or what it says ran out, the remembered word counts. A
//! revoked image, a release below the oldest allowed one, and a release of an environment that this
//! node does not follow any more stay barred.

use super::activate::activate;
use super::journal::{self, asks, hooks_again};
use super::needs::require_needs;
use super::takeover::take_over;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::{Handover, Timeouts};
use crate::state::record::SystemRecord;
use crate::system::SystemName;
use crate::trust::allowed;

/// The generation to switch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchTo {
    /// The one with this number.
    Number(u64),
    /// The one that was active before.
    Previous,
}

/// The result of a switch.
#[derive(Debug)]
pub struct Switched {
    /// The system's record.
    pub record: SystemRecord,
    /// Whether anything had to be done.
    pub changed: bool,
    /// What became of a session that runs.
    pub handover: Handover,
}

/// Makes another generation of a system the active one.
///
/// A session that runs hands over to one of that generation, if `timeouts` is given for that.
pub fn switch(
    node: &Node<'_>,
    system: &SystemName,
    to: SwitchTo,
    timeouts: Option<Timeouts>,
) -> Result<Switched> {
    let lock = node.state.lock(system)?;
    journal::recover(node, &lock, system)?;
    let before = node.state.installed(system)?;
    let (before, number) = match to {
        SwitchTo::Number(number) => (before, number),
        SwitchTo::Previous => {
            let previous = before.previous.ok_or_else(|| {
                Error::usage(format!("{system} has no previous generation")).hint(have(&before))
            })?;
            let before = allowed::consult(node, &lock, before)?;
            let number = before.fallback().map_or(previous, |one| one.number);
            if number != previous {
                node.observer.event(Event::Note(&format!(
                    "generation {previous} of {system} may not run any more, so generation \
                     {number} is the one to go back to"
                )));
            }
            (before, number)
        }
    };
    if before.generation(number).is_none() {
        return Err(
            Error::usage(format!("{system} has no generation {number}")).hint(have(&before))
        );
    }
    if number == before.active {
        hooks_again(node, system)?;
        let handover = take_over(node, &lock, None, &before, timeouts)?;
        return Ok(Switched {
            record: before,
            changed: false,
            handover,
        });
    }
    let before = match to {
        SwitchTo::Number(_) => allowed::consult(node, &lock, before)?,
        SwitchTo::Previous => before,
    };
    let wanted = before.generation(number);
    if let Some(why) = wanted.and_then(|wanted| wanted.barred.as_ref()) {
        return Err(Error::refused(format!(
            "generation {number} of {system} may not run any more"
        ))
        .cause(why.clone())
        .hint(allowed::alternatives(&before)));
    }
    let asks = asks(node, &before, timeouts)?;
    if let Some(wanted) = before.generation(number) {
        let manifest = node.state.manifest(wanted.manifest)?;
        require_needs(node, system, &manifest, asks)?;
    }
    let record = activate(node, &lock, &before, number, asks)?;
    let handover = take_over(node, &lock, Some(&before), &record, timeouts)?;
    Ok(Switched {
        record,
        changed: true,
        handover,
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
