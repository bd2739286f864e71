//! Stopping an app, and ending its session.

use std::time::Duration;

use rustix::process::Signal;

use super::app::App;
use super::further;
use super::processes::{self, Process};
use super::record::{Session, StartOptions, Timeouts, endings, forget, read};
use super::scope;
use super::traffic::remove_files;
use crate::atomic_file;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::host::schroot::{schroot, sessions};
use crate::node::Node;
use crate::state::record::SystemRecord;

/// The result of a stop.
#[derive(Debug, Default)]
pub struct Stopped {
    /// Processes that did not end by themselves.
    pub killed: Vec<Process>,
}

/// Stops the app and ends its session, and those that should have ended before. What will not go is
/// named; `force` kills it.
pub fn stop(
    node: &Node<'_>,
    record: &SystemRecord,
    timeouts: Timeouts,
    force: bool,
) -> Result<Stopped> {
    let mut sessions = endings(node, &record.system)?;
    sessions.extend(read(node, &record.system)?);
    if sessions.is_empty() {
        return Err(Error::failed(format!("{} is not running", record.system)));
    }
    // On a full disk it is more important that it stops.
    if let Err(error) = note_stop(node, record) {
        node.observer.event(Event::Note(&format!(
            "{error}; who watches {} will take it for dead",
            record.system
        )));
    }
    let mut stopped = Stopped::default();
    for session in sessions {
        if session.exists(node)? && !session.processes().is_empty() {
            // Both waits together are as long as was asked for.
            let last = timeouts.end / 4;
            let first = Timeouts {
                end: timeouts.end * 3 / 4,
                ..timeouts
            };
            ask_to_stop(node, record, &session, first)?;
            processes::signal_all(&session.root(), Signal::TERM);
            let left = processes::wait_empty(&session.root(), last);
            if !left.is_empty() && !force {
                return Err(unwilling(&session, &left));
            }
        }
        stopped.killed.extend(end(node, &session, timeouts)?.killed);
    }
    Ok(stopped)
}

/// Notes that a system was asked to stop, for whoever watches it.
fn note_stop(node: &Node<'_>, record: &SystemRecord) -> Result<()> {
    let mut options = match read(node, &record.system)? {
        Some(session) => session.options(),
        None => StartOptions::remembered(node, &record.system)?,
    };
    options.stopped = true;
    atomic_file::write_json(&node.state.start_file(&record.system), &options)
}

/// The error of a session whose processes do not end.
pub(super) fn unwilling(session: &Session, left: &[Process]) -> Error {
    let mut error = Error::new(
        Kind::Busy,
        format!("the session {} will not end", session.id),
    );
    for process in left {
        error = error.cause(format!("{}: {}", process.pid, process.command));
    }
    error.hint(format!(
        "wait and try again, or kill these: imgnode stop {} --force",
        session.system
    ))
}

/// Stops the further processes, then runs the app's own `stop`, or asks its first processes to end, and
/// waits.
pub(super) fn ask_to_stop(
    node: &Node<'_>,
    record: &SystemRecord,
    session: &Session,
    timeouts: Timeouts,
) -> Result<()> {
    // Whatever the app wants: a session can always be ended.
    let app = App::load(node, record, session.generation);
    let app = match app {
        Ok(app) => app.with_given_if_there(node, &record.system),
        Err(error) => {
            node.observer
                .event(Event::Note(&format!("{error}; ending its processes")));
            return Ok(());
        }
    };
    let further = &app.service.processes;
    further::stop(node, session, further, timeouts.end / 2, |_| true);
    if app.service.stop.is_empty() {
        // Jobs of timers have time to end.
        processes::signal_first(&session.root(), Signal::TERM, &session.further());
        processes::wait_empty(&session.root(), timeouts.end);
        return Ok(());
    }
    let run = match app.enter(session, &app.service.stop) {
        Ok(run) => run.timeout(timeouts.command),
        Err(error) => {
            node.observer
                .event(Event::Note(&format!("{error}; ending its processes")));
            return Ok(());
        }
    };
    let ended = run.finish(node.observer)?;
    if ended.success() {
        processes::wait_empty(&session.root(), timeouts.end);
    } else {
        node.observer.event(Event::Note(&format!(
            "{}; ending its processes",
            ended.error()
        )));
    }
    Ok(())
}

/// Ends a session: its processes, its mounts, its file.
pub(super) fn end(node: &Node<'_>, session: &Session, timeouts: Timeouts) -> Result<Stopped> {
    let killed = processes::end_all(&session.root(), timeouts.end.min(Duration::from_secs(5)));
    if sessions(node.observer)?.contains(&session.id) {
        let words = ["--end-session", "--chroot", &session.id];
        if schroot(words).run(node.observer).is_err() {
            // The mount may be gone already, as after a reboot: then schroot must be told to go on.
            let forced = schroot(words).arg("--force").run(node.observer);
            // The schroot of a command that was killed may have been at it too.
            if let Err(error) = forced
                && sessions(node.observer)?.contains(&session.id)
            {
                let root = session.root();
                return Err(error
                    .under(format!("schroot cannot end the session {}", session.id))
                    .hint(format!("see what holds it: fuser -vm {}", root.display())));
            }
        }
    }
    remove_files(node, session);
    scope::remove(session);
    if let Some(record) = node.state.system(&session.system)? {
        let context = node.context(&session.system);
        record
            .target
            .driver()
            .clean_session(&context, &session.id)?;
    }
    forget(node, session)?;
    Ok(Stopped { killed })
}
