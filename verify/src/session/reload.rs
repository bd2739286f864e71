//! Telling an app to reload.

use std::fs;
use std::thread;

use rustix::process::Signal;

use super::app::{App, follow_resolver};
use super::further;
use super::health;
use super::processes::{self, MainProcess};
use super::record::{Session, Timeouts, running};
use super::scope::Scope;
use super::traffic::restore_names;
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::record::SystemRecord;

/// Tells the app to reload.
pub fn reload(node: &Node<'_>, record: &SystemRecord, timeouts: Timeouts) -> Result<Session> {
    let mut session = running(node, &record.system)?;
    let before = session.processes();
    let app = App::load(node, record, session.generation)?;
    let app = app.with_given_if_there(node, &record.system);
    follow_resolver(node, &session)?;
    restore_names(node, &session);
    show_local_changes(node, record, session.generation);
    if app.service.reload.is_empty() {
        processes::signal_first(&session.root(), Signal::HUP, &session.further());
    } else {
        let run = app.enter(&session, &app.service.reload)?;
        // It may begin what goes on.
        let run = Scope::beside(&session).around(run, &app.provided.fences);
        run.timeout(timeouts.command)
            .run(node.observer)
            .map_err(|error| error.under(format!("cannot reload {}", record.system)))?;
    }
    further::reload(&session, &app.service.processes);
    // A server that cannot load what is new may take a moment to end, and answers until then.
    for _ in 0..2 {
        thread::sleep(timeouts.settle);
        node.check_cancelled()?;
        if session.processes().is_empty() {
            return Err(did_not_survive(&session));
        }
        health::wait_running(node, &session, &app)?;
    }
    if !session.is_alive() {
        // Only what the reload began can have taken its place.
        let successor = MainProcess::find(&session.root(), None, &session.further());
        session.main = successor.filter(|new| before.iter().all(|old| old.pid != new.pid));
        if session.main.is_none() {
            return Err(did_not_survive(&session));
        }
        atomic_file::write_json(&node.state.session_file(&record.system), &session)?;
    }
    Ok(session)
}

fn did_not_survive(session: &Session) -> Error {
    let system = &session.system;
    Error::failed(format!("{system} did not survive its reload"))
        .hint(format!("imgnode logs {system}"))
}

/// Lets a session see what was changed in place in its generation, and says so. An overlay goes on
/// with the files that it knows by name, and no program can make it forget one; the kernel forgets
/// all names that nobody uses, when it is told to (`drop_caches` of proc(5)). What the app has open
/// stays.
fn show_local_changes(node: &Node<'_>, record: &SystemRecord, number: u64) {
    let keys = record.target.driver().chroot(&record.system, number);
    let (true, Some(generation)) = (
        keys.iter().any(|(key, _)| *key == "union-type"),
        record.generation(number),
    ) else {
        return;
    };
    let Ok(Some(changes)) = node.local_changes(record, generation) else {
        return;
    };
    let what = match fs::write("/proc/sys/vm/drop_caches", "2") {
        Ok(()) => "what the app keeps open it sees as it was".to_owned(),
        Err(error) => format!("the app may not see that, for the kernel keeps its names ({error})"),
    };
    let system = &record.system;
    node.observer.event(Event::Note(&format!(
        "generation {number} of {system} was changed in place ({changes}); \
         {what} until it is stopped and started"
    )));
}
