//! From one generation to another while requests come in.
//!
//! ```text
//! note the new session as ending -> begin it, with sockets of the same addresses, and start the app
//!   -> ask it whether it works, past the traffic -> note the old one as ending
//!   -> the new one is the session -> move the traffic -> wait until nobody waits at the old one
//!   -> stop the old one's further processes -> start those of the new one, or move all back
//!   -> stop the old app, which answers what it has -> end its session
//! ```
//! A kill at any moment leaves one session that has the traffic, and notes of those to be ended,
//! which the next command does. A new generation whose app does not work never had any traffic.

use std::sync::atomic::AtomicBool;

use super::app::App;
use super::further;
use super::health;
use super::processes::Process;
use super::record::{Session, Timeouts, endings, forget, read};
use super::sockets::{Listener, Routing};
use super::start::{bring_up, prepare};
use super::stop::{ask_to_stop, end, unwilling};
use super::sweep::{finish, sweep};
use super::traffic::{drain, listeners, open, remove_files, route};
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::Lock;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// What became of the session that ran when another generation became active.
#[derive(Debug)]
pub enum Handover {
    /// Nothing runs.
    NotRunning,
    /// The session that runs is of that generation already.
    Same,
    /// The old session goes on: it has no sockets that could be shared.
    Kept(Session),
    /// The new session has the traffic.
    Moved {
        /// The new session.
        session: Session,
        /// The session that ended.
        old: Session,
        /// Processes of the old one that still answer; its session ends with them.
        left: Vec<Process>,
    },
}

/// Lets a session of the active generation take over from the one that runs.
pub fn hand_over(
    node: &Node<'_>,
    lock: &Lock,
    record: &SystemRecord,
    timeouts: Timeouts,
) -> Result<Handover> {
    let system = &record.system;
    sweep(node, lock, system, timeouts)?;
    let Some(old) = read(node, system)? else {
        return Ok(Handover::NotRunning);
    };
    if old.generation == record.active {
        return Ok(Handover::Same);
    }
    if old.listen.is_empty() {
        return Ok(Handover::Kept(old));
    }
    let Some(olders) = listeners(&old) else {
        return Ok(Handover::Kept(old));
    };
    wait_for_endings(node, system)?;
    let app = App::load(node, record, record.active)?.with_given(node, system)?;
    let mut new = prepare(node, record, old.options())?;
    atomic_file::write_json(&node.state.ending_file(&new.id), &new)?;
    let newers = match open(&olders, (&old, &new), &app.provided.sockets) {
        Ok(newers) => newers,
        Err(error) => {
            remove_files(node, &new);
            forget(node, &new)?;
            return Err(error);
        }
    };
    let works = bring_up(node, &new, &app, &newers, timeouts).and_then(|main| {
        new.main = main;
        further::start_overlapping(node, &new, &app, timeouts)
    });
    if let Err(error) = works {
        // It has no traffic, so nobody waits for it.
        end(node, &new, timeouts)?;
        return Err(error);
    }
    atomic_file::write_json(&node.state.ending_file(&old.id), &old)?;
    atomic_file::write_json(&node.state.start_file(system), &new.options())?;
    atomic_file::write_json(&node.state.session_file(system), &new)?;
    atomic_file::remove(&node.state.ending_file(&new.id))?;
    node.observer.event(Event::Phase(&format!(
        "generation {} of {system} takes over",
        new.generation
    )));
    route(&newers, Routing::Newer, &old)?;
    drain(&olders)?;
    if let Err(error) = exchange(node, record, &old, &new, &app, timeouts) {
        let sockets = (olders, newers);
        return Err(move_back(
            node, lock, record, &old, &new, sockets, timeouts, error,
        ));
    }
    drop((olders, newers));
    let left = finish(node, record, &old, timeouts)?;
    Ok(Handover::Moved {
        session: new,
        old,
        left,
    })
}

/// Lets the further processes of one session follow those of another.
fn exchange(
    node: &Node<'_>,
    record: &SystemRecord,
    old: &Session,
    new: &Session,
    app: &App,
    timeouts: Timeouts,
) -> Result<()> {
    // Whatever the old one was, it can be ended.
    if let Ok(before) = App::load(node, record, old.generation) {
        let processes = &before.service.processes;
        further::stop(node, old, processes, timeouts.end, |_| true);
    }
    further::start_all(node, new, app, timeouts)
}

/// Gives the traffic back to the session that had it before, and starts its further processes again.
/// Returns what is to be said.
#[expect(
    clippy::too_many_arguments,
    reason = "both sessions with their sockets"
)]
fn move_back(
    node: &Node<'_>,
    lock: &Lock,
    record: &SystemRecord,
    old: &Session,
    new: &Session,
    (olders, newers): (Vec<Listener>, Vec<Listener>),
    timeouts: Timeouts,
    error: Error,
) -> Error {
    let (system, number) = (&old.system, old.generation);
    // Whoever interrupts this wants the way back.
    let never = AtomicBool::new(false);
    let node = &Node {
        state: node.state.clone(),
        schroot: node.schroot.clone(),
        hooks: node.hooks.clone(),
        provisions: node.provisions.clone(),
        observer: node.observer,
        cancel: &never,
    };
    let attempt = || -> Result<()> {
        atomic_file::write_json(&node.state.ending_file(&new.id), new)?;
        atomic_file::write_json(&node.state.start_file(system), &old.options())?;
        atomic_file::write_json(&node.state.session_file(system), old)?;
        atomic_file::remove(&node.state.ending_file(&old.id))?;
        node.observer.event(Event::Phase(&format!(
            "generation {number} of {system} takes over again"
        )));
        route(&olders, Routing::Older, new)?;
        drain(&newers)?;
        drop((olders, newers));
        ask_to_stop(node, record, new, timeouts)?;
        end(node, new, timeouts)?;
        further::complete(node, lock, record, old, timeouts, |_| true).map(|_| ())
    };
    match attempt() {
        Ok(()) => error,
        Err(also) => error.cause(format!("and generation {number} is not whole: {also}")),
    }
}

/// Watches the session that has taken over for as long as its image wants.
pub fn bake(node: &Node<'_>, record: &SystemRecord, session: &Session) -> Result<()> {
    let app = App::load(node, record, session.generation)?;
    let app = app.with_given_if_there(node, &record.system);
    health::bake(node, session, &app)
}

/// Refuses a third generation while a second one still has the address.
fn wait_for_endings(node: &Node<'_>, system: &SystemName) -> Result<()> {
    for session in endings(node, system)? {
        let theirs = Listener::of_session(&session.root(), &session.id, &session.listen);
        if theirs.iter().any(Option::is_some) {
            return Err(unwilling(&session, &session.processes()));
        }
    }
    Ok(())
}
