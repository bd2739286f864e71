//! Taking a system away.

use super::gc;
use super::journal::{self, Operation, Pending, Phase};
use crate::error::{Error, Kind, Result};
use crate::node::Node;
use crate::session;
use crate::state::{SCHEMA, now};
use crate::storage::Desk;
use crate::system::SystemName;

/// Takes a system away with all its generations.
pub fn uninstall(node: &Node<'_>, system: &SystemName, patience: session::Patience) -> Result<()> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let record = node.state.installed(system)?;
    session::sweep(node, &lock, system, patience)?;
    if let Some(session) = session::read(node, system)? {
        return Err(
            Error::failed(format!("{system} is running in the session {}", session.id))
                .hint(format!("imgnode stop {system}")),
        );
    }
    for generation in &record.generations {
        if let Some(id) = gc::holders(node, &record, generation)?.first() {
            let number = generation.number;
            let what = format!("generation {number} of {system} is in use by {id}");
            return Err(Error::new(Kind::Busy, what).hint(format!(
                "if it is a session: schroot --end-session --chroot {id}"
            )));
        }
    }
    node.schroot.check(system)?;
    record.target.keeper().inspect(&Desk::of(node, system), 0)?;
    let mut pending = Pending {
        schema: SCHEMA,
        operation: Operation::Uninstall,
        phase: Phase::Writing,
        system: system.clone(),
        target: record.target.clone(),
        made_path: false,
        generation: 0,
        before: Some(record),
        after: None,
        started: now(),
    };
    journal::write(node, &lock, &pending)?;
    let allowed = node.hooks.before("uninstall", system, node.observer);
    if allowed.is_ok() {
        pending.phase = Phase::Committing;
        journal::write(node, &lock, &pending)?;
        journal::dismantle(node, &lock, &pending)?;
    }
    journal::clear(node, &lock)?;
    let hooks = node.hooks.after("uninstall", system, node.observer);
    allowed.and(hooks)
}
