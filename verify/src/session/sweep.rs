//! Ending what dead or killed commands, apps and machines left of sessions.

use super::further;
use super::processes::{MainProcess, Process};
use super::record::{Session, Timeouts, endings, of_commands, read};
use super::sockets::Routing;
use super::stop::{ask_to_stop, end};
use super::traffic::{drain, listeners, route};
use crate::atomic_file;
use crate::error::Result;
use crate::event::Event;
use crate::node::Node;
use crate::state::Lock;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// Ends and forgets a session of `system` that is over: dead app, rebooted machine, killed `start`.
pub fn sweep(node: &Node<'_>, lock: &Lock, system: &SystemName, timeouts: Timeouts) -> Result<()> {
    node.state.forget_unfinished_notes(system)?;
    end_old_sessions(node, lock, system, timeouts)?;
    for session in of_commands(node, system)? {
        let is_kept = session.keeper.is_some_and(MainProcess::lives);
        if !is_kept && session.processes().is_empty() {
            end(node, &session, timeouts)?;
        }
    }
    let Some(session) = read(node, system)? else {
        return Ok(());
    };
    if session.exists(node)? && !session.processes().is_empty() {
        return Ok(());
    }
    node.observer.event(Event::Note(&format!(
        "cleaning up after the dead session {}",
        session.id
    )));
    end(node, &session, timeouts).map(|_| ())
}

/// Ends a session whose main process is gone, with whatever is left in it.
pub fn end_dead(node: &Node<'_>, _: &Lock, system: &SystemName, timeouts: Timeouts) -> Result<()> {
    let Some(session) = read(node, system)? else {
        return Ok(());
    };
    if session.is_alive() {
        return Ok(());
    }
    let id = &session.id;
    node.observer.event(Event::Note(&format!(
        "ending {id}, of which the main process is gone"
    )));
    end(node, &session, timeouts).map(|_| ())
}

/// Ends what an earlier handover left to be ended, if it has ended by itself.
fn end_old_sessions(
    node: &Node<'_>,
    lock: &Lock,
    system: &SystemName,
    timeouts: Timeouts,
) -> Result<()> {
    let current = read(node, system)?;
    let endings = endings(node, system)?;
    let interrupted = !endings.is_empty();
    for session in endings {
        if current
            .as_ref()
            .is_some_and(|current| current.id == session.id)
        {
            atomic_file::remove(&node.state.ending_file(&session.id))?;
            continue;
        }
        if session.processes().is_empty() {
            end(node, &session, timeouts)?;
            continue;
        }
        // A handover was interrupted: whoever is the session has the traffic.
        if let Some(current) = &current
            && let Some(listeners) = listeners(current)
        {
            let newer = session.started <= current.started;
            route(
                &listeners,
                if newer {
                    Routing::Newer
                } else {
                    Routing::Older
                },
                &session,
            )?;
            if let Some(theirs) = self::listeners(&session) {
                drain(&theirs)?;
            }
        }
        let Some(record) = node.state.system(system)? else {
            continue;
        };
        finish(node, &record, &session, timeouts)?;
    }
    // Its further processes may not have been started yet, or again.
    if let (true, Some(current), Some(record)) = (interrupted, current, node.state.system(system)?)
        && current.is_alive()
        && let Err(error) = further::complete(node, lock, &record, &current, timeouts, |_| true)
    {
        node.observer.event(Event::Note(&error.to_string()));
    }
    Ok(())
}

/// Asks the app of a session to stop. Its session ends with its last process.
pub(super) fn finish(
    node: &Node<'_>,
    record: &SystemRecord,
    session: &Session,
    timeouts: Timeouts,
) -> Result<Vec<Process>> {
    node.observer.event(Event::Phase(&format!(
        "generation {} answers what it has and stops",
        session.generation
    )));
    ask_to_stop(node, record, session, timeouts)?;
    let left = session.processes();
    if left.is_empty() {
        end(node, session, timeouts)?;
    }
    Ok(left)
}
