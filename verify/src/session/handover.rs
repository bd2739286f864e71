//! From one generation to another while requests come in.
//!
//! ```text
//! note the new session as ending -> begin it, with sockets of the same addresses, and start the app
//!   -> ask it whether it works, past the traffic -> note the old one as ending
//!   -> the new one is the session -> move the traffic -> wait until nobody waits at the old one
//!   -> stop the old app, which answers what it has -> end its session
//! ```
//! A kill at any moment leaves one session that has the traffic, and notes of those to be ended,
//! which the next command does. A new generation that does not work never had any traffic.

use std::thread;
use std::time::{Duration, Instant};

use super::app::App;
use super::processes::Process;
use super::sockets::{Listener, Steer};
use super::{
    Patience, Session, ask_to_stop, bring_up, busy, end, forget, prepare, read, unwilling,
};
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::install::switch;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::state::{Lock, check_schema};
use crate::system::SystemName;

/// A connection that was being made when the traffic moved ends up at the old one within this.
const UNDERWAY: Duration = Duration::from_millis(500);

/// The longest wait for the old one to accept what waits.
const ACCEPT: Duration = Duration::from_secs(10);

/// What became of the traffic.
#[derive(Debug)]
pub enum Handover {
    /// Nothing runs.
    NotRunning,
    /// What runs is of that generation already.
    Same,
    /// The old session goes on: it has no sockets that could be shared.
    Kept(Session),
    /// The new session has the traffic.
    Moved {
        /// It.
        session: Session,
        /// The session that ended.
        old: Session,
        /// Processes of the old one that still answer; its session ends with them.
        left: Vec<Process>,
    },
}

/// Lets a session of the active generation take over from the one that runs.
fn hand_over(
    node: &Node<'_>,
    lock: &Lock,
    record: &SystemRecord,
    patience: Patience,
) -> Result<Handover> {
    let system = &record.system;
    super::sweep(node, lock, system, patience)?;
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
    let app = App::load(node, record, record.active)?;
    let new = prepare(node, record, old.how())?;
    atomic_file::write_json(&node.state.ending_file(&new.id), &new)?;
    let newers = match open(&olders) {
        Ok(newers) => newers,
        Err(error) => {
            forget(node, &new)?;
            return Err(error);
        }
    };
    if let Err(error) = bring_up(node, &new, &app, &newers, patience) {
        // It has no traffic, so nobody waits for it.
        end(node, &new, patience)?;
        return Err(error);
    }
    atomic_file::write_json(&node.state.ending_file(&old.id), &old)?;
    atomic_file::write_json(&node.state.start_file(system), &new.how())?;
    atomic_file::write_json(&node.state.session_file(system), &new)?;
    atomic_file::remove(&node.state.ending_file(&new.id))?;
    node.observer.event(Event::Phase(&format!(
        "generation {} of {system} takes over",
        new.generation
    )));
    steer(&newers, Steer::Newer)?;
    drop(newers);
    drain(&olders)?;
    drop(olders);
    let left = finish(node, record, &old, patience)?;
    Ok(Handover::Moved {
        session: new,
        old,
        left,
    })
}

/// Lets the active generation take over, which `before` was not. One that does not work is given up:
/// the generation before it becomes the active one again, and goes on.
pub(crate) fn take_over(
    node: &Node<'_>,
    lock: &Lock,
    before: Option<&SystemRecord>,
    record: &SystemRecord,
    patience: Option<Patience>,
) -> Result<Handover> {
    let system = &record.system;
    let Some(patience) = patience else {
        return Ok(match read(node, system)? {
            Some(session) if session.generation != record.active => Handover::Kept(session),
            Some(_) => Handover::Same,
            None => Handover::NotRunning,
        });
    };
    let error = match hand_over(node, lock, record, patience) {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let Some(session) = read(node, system)? else {
        return Err(error);
    };
    let back = before.map_or(session.generation, |before| before.active);
    // What failed after the traffic had moved takes nothing back.
    if back == record.active || session.generation == record.active {
        return Err(error);
    }
    let error = error.under(format!("{system} stays on generation {back}"));
    let given_up = match before {
        Some(before) => switch::give_up(node, lock, record, before),
        None => switch::carry_out(node, lock, record, back),
    };
    let record = match given_up {
        Ok(record) => record,
        Err(also) => return Err(error.cause(format!("and cannot go back: {also}"))),
    };
    if !session.processes().is_empty() {
        return Err(error);
    }
    // It died meanwhile. Its session is swept by the start.
    match super::start(node, lock, &record, &session.how(), patience) {
        Ok(_) => Err(error.cause(format!("generation {back} had died, and was started again"))),
        Err(also) => Err(error
            .cause(format!(
                "generation {back} had died, and does not start: {also}"
            ))
            .cause(format!("nothing of {system} runs now"))),
    }
}

/// The sockets of a session, if it has all of them.
fn listeners(session: &Session) -> Option<Vec<Listener>> {
    let found = Listener::of_session(&session.root(), &session.listen);
    found.into_iter().collect()
}

/// Second sockets of the same addresses, which get nothing yet.
fn open(olders: &[Listener]) -> Result<Vec<Listener>> {
    steer(olders, Steer::Older)?;
    let open =
        |older: &Listener| Listener::beside(older).map_err(|error| busy(older.address, &error));
    olders.iter().map(open).collect()
}

fn steer(listeners: &[Listener], to: Steer) -> Result<()> {
    let failed = |at| format!("cannot decide who answers on {at}");
    let each = |one: &Listener| one.steer(to).context(|| failed(one.address));
    listeners.iter().try_for_each(each)
}

/// Waits until the app has accepted all connections that came before the traffic moved.
fn drain(olders: &[Listener]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut waiting = 0;
        for older in olders {
            waiting += older.waiting().context(|| "cannot read /proc/net/tcp")?;
        }
        let elapsed = begun.elapsed();
        if (waiting == 0 && elapsed >= UNDERWAY) || elapsed >= ACCEPT {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asks the app of a session to stop. Its session ends with its last process.
fn finish(
    node: &Node<'_>,
    record: &SystemRecord,
    session: &Session,
    patience: Patience,
) -> Result<Vec<Process>> {
    node.observer.event(Event::Phase(&format!(
        "generation {} answers what it has and stops",
        session.generation
    )));
    ask_to_stop(node, record, session, patience)?;
    let left = session.processes();
    if left.is_empty() {
        end(node, session, patience)?;
    }
    Ok(left)
}

/// Ends what an earlier handover left to be ended, if it has ended by itself.
pub(super) fn sweep(
    node: &Node<'_>,
    _: &Lock,
    system: &SystemName,
    patience: Patience,
) -> Result<()> {
    let current = read(node, system)?;
    for session in endings(node, system)? {
        if current
            .as_ref()
            .is_some_and(|current| current.id == session.id)
        {
            atomic_file::remove(&node.state.ending_file(&session.id))?;
            continue;
        }
        if session.processes().is_empty() {
            end(node, &session, patience)?;
            continue;
        }
        // A handover was interrupted: whoever is the session has the traffic.
        if let Some(current) = &current
            && let Some(listeners) = listeners(current)
        {
            let newer = session.started <= current.started;
            steer(&listeners, if newer { Steer::Newer } else { Steer::Older })?;
            if let Some(theirs) = self::listeners(&session) {
                drain(&theirs)?;
            }
        }
        let Some(record) = node.state.system(system)? else {
            continue;
        };
        finish(node, &record, &session, patience)?;
    }
    Ok(())
}

/// The sessions of a system that are about to end.
pub fn endings(node: &Node<'_>, system: &SystemName) -> Result<Vec<Session>> {
    let mut found = Vec::new();
    for id in node.state.endings()? {
        let path = node.state.ending_file(id.as_str());
        let Some(session) = atomic_file::read_json::<Session>(&path)? else {
            continue;
        };
        check_schema(&path, session.schema)?;
        if session.id != id.as_str() {
            let what = format!("{} is damaged", path.display());
            return Err(Error::failed(what).cause("it describes another session"));
        }
        if session.system == *system {
            found.push(session);
        }
    }
    Ok(found)
}

/// No third generation while a second one has the address.
fn wait_for_endings(node: &Node<'_>, system: &SystemName) -> Result<()> {
    for session in endings(node, system)? {
        let theirs = Listener::of_session(&session.root(), &session.listen);
        if theirs.iter().any(Option::is_some) {
            return Err(unwilling(&session, &session.processes()));
        }
    }
    Ok(())
}
