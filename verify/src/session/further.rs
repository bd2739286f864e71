//! The further processes of an app: `[[process]]` of a recipe.
//!
//! They are started after the main process works and stopped before it. Of those that may not run in
//! two generations at once, the old one has ended before the new one starts, also after a kill in
//! between: [`complete`] ends what still runs in a session that is about to end.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use store::manifest::{Fences, Process};

use super::app::App;
use super::log;
use super::processes;
use super::record::{Session, Timeouts, endings};
use super::scope::Scope;
use super::seen::{self, Seen};
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::host::commands::{HostCommand, describe, has_ended, last_lines};
use crate::node::Node;
use crate::state::Lock;
use crate::state::record::SystemRecord;

/// How long one may take to appear in its session.
const APPEAR: Duration = Duration::from_secs(20);

/// How long what a dead one left behind may take to end.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// How long what it said may take to be in the log.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Puts the label in front of each line, for one log has them all. bash becomes the command, so that
/// the number is the same; its child ends when nobody can write any more.
const PREFIX: &str = "label=$1; shift; exec \"$@\" > >(exec sed -u \"s/^/$label: /\") 2>&1";

/// A further process as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    /// Its name and number: `worker.1`.
    pub label: String,
    /// The process, if it runs.
    pub pid: Option<i32>,
}

/// The further processes that a session should have.
pub fn all(processes: &[Process], session: &Session) -> Vec<Further> {
    let mut seen = look(processes, session);
    let labels = processes.iter().flat_map(Process::labels);
    let one = |label: String| {
        let found = seen.remove(&label).filter(|seen| seen.wrapper.is_some());
        let pid = found.and_then(|seen| seen.main).map(|main| main.pid);
        Further { label, pid }
    };
    labels.map(one).collect()
}

/// The further processes that the image of a session has.
pub(super) fn of_session(node: &Node<'_>, session: &Session) -> Result<Vec<Process>> {
    let app = App::of_session(node, session)?;
    Ok(app.map_or_else(Vec::new, |app| app.service.processes))
}

/// What runs of them, by label, with the program of the host that waits for it.
pub(super) fn running(processes: &[Process], session: &Session) -> Vec<(String, i32)> {
    let seen = look(processes, session).into_iter();
    seen.filter_map(|(label, seen)| Some((label, seen.wrapper?)))
        .collect()
}

fn look(processes: &[Process], session: &Session) -> std::collections::BTreeMap<String, Seen> {
    if processes.is_empty() {
        return std::collections::BTreeMap::new();
    }
    seen::look(&session.root(), &session.id)
}

/// The labels of an app's processes that do not run in a session.
pub(super) fn missing(processes: &[Process], session: &Session) -> Vec<String> {
    let running = running(processes, session);
    let labels = processes.iter().flat_map(Process::labels);
    labels
        .filter(|label| running.iter().all(|(other, _)| other != label))
        .collect()
}

/// Whether all of them run.
pub(super) fn check(app: &App, session: &Session) -> Result<()> {
    match missing(&app.service.processes, session).first() {
        None => Ok(()),
        Some(label) => {
            let (number, system) = (session.generation, &session.system);
            let what = format!("the process {label} of generation {number} of {system} ended");
            Err(Error::failed(what).hint(format!("imgnode logs {system}")))
        }
    }
}

/// Starts those that may run in two generations at once, and waits until they have stayed alive for a
/// moment.
pub(super) fn start_overlapping(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    timeouts: Timeouts,
) -> Result<()> {
    let overlapping = app.service.processes.iter().filter(|one| one.overlap);
    let labels = overlapping.flat_map(Process::labels).collect();
    start(node, session, app, timeouts, labels)
}

/// Starts all that do not run yet, and waits until they have stayed alive for a moment.
pub(super) fn start_all(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    timeouts: Timeouts,
) -> Result<()> {
    let labels = missing(&app.service.processes, session);
    start(node, session, app, timeouts, labels)
}

fn start(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    timeouts: Timeouts,
    labels: Vec<String>,
) -> Result<()> {
    if labels.is_empty() {
        return Ok(());
    }
    node.observer.event(Event::Phase(&format!(
        "starting {} of generation {} of {}",
        labels.join(", "),
        session.generation,
        session.system
    )));
    let (_, offset) = log::open(node, &session.system)?;
    let mut begun = Vec::new();
    for label in labels {
        let child = spawn(node, session, app, &label)?;
        begun.push((label, child));
    }
    let since = Instant::now();
    let mut seen: Option<Instant> = None;
    loop {
        node.check_cancelled()?;
        for (label, child) in &mut begun {
            if has_ended(child).context(|| "cannot wait for schroot")? {
                let status = child.wait().context(|| "cannot wait for schroot")?;
                return Err(ended(node, session, label, &describe(status), offset));
            }
        }
        let now = seen::look(&session.root(), &session.id);
        let there = |label: &String| now.get(label).is_some_and(|seen| seen.main.is_some());
        match begun.iter().find(|(label, _)| !there(label)) {
            None => {
                seen.get_or_insert_with(Instant::now);
            }
            Some((label, _)) if since.elapsed() > APPEAR => {
                return Err(ended(node, session, label, "did not come to life", offset));
            }
            Some(_) => {}
        }
        if seen.is_some_and(|since| since.elapsed() >= timeouts.settle) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(25));
    }
}

fn ended(node: &Node<'_>, session: &Session, label: &str, how: &str, offset: u64) -> Error {
    let (number, system) = (session.generation, &session.system);
    let what = format!("the process {label} of generation {number} of {system} {how}");
    // What puts its label in front of each line may still be at the last ones.
    let (since, own) = (Instant::now(), format!("{label}: "));
    let told = || {
        let text = log::since(node, system, offset);
        text.lines().any(|line| line.starts_with(&own))
    };
    while since.elapsed() < LAST_WORDS && !told() {
        thread::sleep(Duration::from_millis(25));
    }
    let lines = last_lines(&log::since(node, system, offset), 10);
    let error = lines.into_iter().fold(Error::failed(what), Error::cause);
    error.hint(format!("imgnode logs {system}"))
}

/// Starts one of them, and ends what an earlier one left behind.
fn spawn(node: &Node<'_>, session: &Session, app: &App, label: &str) -> Result<Child> {
    let name = label.split('.').next().unwrap_or_default();
    let mut processes = app.service.processes.iter();
    let process = processes
        .find(|one| one.name == name)
        .ok_or_else(|| Error::failed(format!("{} has no process {label}", session.system)))?;
    let left = seen::look(&session.root(), &session.id).remove(label);
    if left.is_some_and(|left| !left.members.is_empty()) {
        end(
            node,
            session,
            &[label.to_owned()],
            |_| Signal::TERM,
            LEFTOVERS,
        );
    }
    let app = app.of_process(process, label)?;
    let run = app.enter(session, &process.command)?;
    detach(node, session, (run, &app.provided.fences), label)
}

/// Starts a command that lives on, in a unit of its own, its label in front of each line that it says.
pub(super) fn detach(
    node: &Node<'_>,
    session: &Session,
    (run, fences): (HostCommand, &Fences),
    label: &str,
) -> Result<Child> {
    let run = run.wrapped_by(["bash", "-c", PREFIX, "bash", label]);
    let run = Scope::further(session, label).around(run, fences);
    let (log, _) = log::open(node, &session.system)?;
    run.detach(&log, node.observer)
}

/// Stops the further processes of a session that are `chosen`: each is asked to end by its signal, and
/// killed when it has not after `timeout`.
pub(super) fn stop(
    node: &Node<'_>,
    session: &Session,
    processes: &[Process],
    timeout: Duration,
    chosen: impl Fn(&Process) -> bool,
) {
    let chosen = processes.iter().filter(|one| chosen(one));
    let chosen: Vec<_> = chosen.flat_map(Process::labels).collect();
    let there = look(processes, session).into_keys();
    let labels: Vec<_> = there.filter(|label| chosen.contains(label)).collect();
    if labels.is_empty() {
        return;
    }
    node.observer.event(Event::Phase(&format!(
        "stopping {} of generation {} of {}",
        labels.join(", "),
        session.generation,
        session.system
    )));
    let signal_of = |label: &str| {
        let name = label.split('.').next();
        let process = processes.iter().find(|one| Some(one.name.as_str()) == name);
        process.map_or(Signal::TERM, |one| signal(&one.stop_signal))
    };
    end(node, session, &labels, signal_of, timeout);
}

/// Ends processes by their labels.
fn end(
    node: &Node<'_>,
    session: &Session,
    labels: &[String],
    signal: impl Fn(&str) -> Signal,
    timeout: Duration,
) {
    let root = session.root();
    let look = || {
        let mut found = seen::look(&root, &session.id);
        found.retain(|label, _| labels.contains(label));
        found
    };
    for (label, seen) in look() {
        tell(session, &seen, signal(&label));
    }
    let until = Instant::now() + timeout;
    let mut left = look();
    while !left.is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(25));
        left = look();
    }
    // One that forks while it is killed needs another round.
    for _ in 0..10 {
        for (label, seen) in &left {
            kill(node, session, label, seen);
        }
        let until = Instant::now() + Duration::from_millis(500);
        while !left.is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(25));
            left = look();
        }
        if left.is_empty() {
            return;
        }
    }
}

/// Sends a signal to what a command became, or to all that it left behind.
pub(super) fn tell(session: &Session, seen: &Seen, signal: Signal) {
    let members = seen.members.iter().collect();
    let first = seen.main.as_ref().map_or(members, |main| vec![main]);
    for process in first {
        processes::send(process, &session.root(), signal);
    }
}

/// Kills all that belongs to a command, and says what that was.
pub(super) fn kill(node: &Node<'_>, session: &Session, label: &str, seen: &Seen) {
    for process in &seen.members {
        if processes::send(process, &session.root(), Signal::KILL) {
            let what = format!("killed {}: {} ({label})", process.pid, process.command);
            node.observer.event(Event::Note(&what));
        }
    }
    if let (true, Some(wrapper)) = (seen.members.is_empty(), seen.wrapper) {
        processes::kill_program(wrapper);
    }
}

/// Tells those that reload to do so.
pub(super) fn reload(session: &Session, processes: &[Process]) {
    for (label, seen) in look(processes, session) {
        let name = label.split('.').next();
        let process = processes.iter().find(|one| Some(one.name.as_str()) == name);
        let told = process.and_then(|one| one.reload_signal.as_deref());
        if let (Some(told), Some(main)) = (told, seen.main) {
            processes::send(&main, &session.root(), signal(told));
        }
    }
}

/// Starts what is missing of a session that runs, and is wanted; says what that was. Whoever calls it holds
/// the lock, so what still runs in a session that is about to end was left by a command that was killed.
pub(super) fn complete(
    node: &Node<'_>,
    _: &Lock,
    record: &SystemRecord,
    session: &Session,
    timeouts: Timeouts,
    wanted: impl Fn(&String) -> bool,
) -> Result<Vec<String>> {
    let app = App::load(node, record, session.generation)?;
    let processes = &app.service.processes;
    let mut missing = missing(processes, session);
    missing.retain(wanted);
    if missing.is_empty() {
        return Ok(missing);
    }
    for old in endings(node, &session.system)? {
        if old.id != session.id {
            let app = App::load(node, record, old.generation)?;
            let processes = &app.service.processes;
            stop(node, &old, processes, timeouts.end, |one| !one.overlap);
        }
    }
    let app = app.with_given(node, &session.system)?;
    start(node, session, &app, timeouts, missing.clone())?;
    Ok(missing)
}

fn signal(name: &str) -> Signal {
    match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        // The manifest has no others.
        _ => Signal::TERM,
    }
}
