//! Which of the installed generations may run, by the environment's newest word.
//!
//! Every command that asks the environment writes its word into the records of all systems. So a node
//! that cannot ask knows what it heard last, and `start` knows without asking that an image was
//! revoked.

use super::environment::{Environment, NotAllowed, refresh_if_reachable};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::record::{Generation, SystemRecord};
use crate::state::{Lock, NodeConfig};
use crate::system::SystemName;

/// Asks the environment which generations of a system may run; where it does not answer, what is
/// remembered counts.
pub fn consult(node: &Node<'_>, lock: &Lock, mut record: SystemRecord) -> Result<SystemRecord> {
    let config = node.config()?;
    match refresh_if_reachable(node, &config)? {
        Ok(environment) => apply(&environment, &config, &mut record)?,
        Err(why) => {
            node.observer.event(Event::Note(&format!(
                "the environment {} cannot be asked, so its last word counts: {why}",
                config.environment
            )));
            for generation in &mut record.generations {
                if generation.environment != config.environment {
                    set(generation, Some(another_environment(generation, &config)));
                }
            }
        }
    }
    write(node, lock, &record)?;
    Ok(record)
}

/// Remembers what the environment says of everything that is installed. A system that another command
/// is at work on hears it the next time.
pub fn remember(
    node: &Node<'_>,
    lock: &Lock,
    own: &SystemName,
    config: &NodeConfig,
    environment: &Environment,
) -> Result<()> {
    for system in node.state.systems()? {
        let taken;
        let lock = if system == *own {
            lock
        } else {
            match node.state.lock(&system) {
                Ok(other) => taken = other,
                Err(error) if error.kind() == Kind::Busy => continue,
                Err(error) => return Err(error),
            }
            &taken
        };
        let Some(mut record) = node.state.system(&system)? else {
            continue;
        };
        // Releases that make no sense are the business of commands for that system.
        if apply(environment, config, &mut record).is_ok() {
            write(node, lock, &record)?;
        }
    }
    Ok(())
}

/// Refuses to start what is known to be revoked.
pub fn may_start(record: &SystemRecord) -> Result<()> {
    let active = record.active();
    let Some(why) = active.barred.as_ref().filter(|_| active.revoked) else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "generation {} of {} may not run any more",
        active.number, record.system
    ))
    .cause(why.clone())
    .hint(alternatives(record)))
}

/// What the operator can do about a generation that may not run, as a hint.
pub fn alternatives(record: &SystemRecord) -> String {
    let system = &record.system;
    let here = record
        .generations
        .iter()
        .rev()
        .find(|one| one.barred.is_none() && one.number != record.active);
    match here {
        Some(one) => format!(
            "imgnode upgrade {system}, or imgnode switch {system} {}",
            one.number
        ),
        None => format!("imgnode upgrade {system}, as soon as there is a newer release"),
    }
}

fn apply(environment: &Environment, config: &NodeConfig, record: &mut SystemRecord) -> Result<()> {
    for generation in &mut record.generations {
        let denied = if generation.environment == config.environment {
            environment.not_allowed(&record.image_name, generation.seq, &generation.image)?
        } else {
            Some(another_environment(generation, config))
        };
        set(generation, denied);
    }
    Ok(())
}

fn set(generation: &mut Generation, denied: Option<NotAllowed>) {
    generation.revoked = denied.as_ref().is_some_and(|denied| denied.revoked);
    generation.barred = denied.map(|denied| denied.why);
}

fn another_environment(generation: &Generation, config: &NodeConfig) -> NotAllowed {
    NotAllowed::to_return(format!(
        "it was released by {}, and this node follows {}",
        generation.environment, config.environment
    ))
}

fn write(node: &Node<'_>, lock: &Lock, record: &SystemRecord) -> Result<()> {
    if node.state.system(&record.system)?.as_ref() == Some(record) {
        return Ok(());
    }
    node.state.set_system(lock, &record.system, Some(record))
}
