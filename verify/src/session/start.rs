//! Beginning a session and starting the app in it.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use store::Manifest;
use store::manifest::Fences;

use super::app::App;
use super::processes::MainProcess;
use super::record::{Session, StartOptions, Timeouts, is_mounted, read};
use super::scope::{Scope, warn_of_what_nobody_counts};
use super::sockets::Listener;
use super::stop::end;
use super::sweep::{end_dead, sweep};
use super::traffic::{open_first, remove_files};
use super::{further, health, log};
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::host::commands::{HostCommand, describe, has_ended, last_lines};
use crate::host::schroot::schroot;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::state::{Lock, now};
use crate::system::SystemName;

/// How long the first process of a session may take to appear.
const APPEAR: Duration = Duration::from_secs(20);

/// Begins a session and starts the app in it.
pub fn start(
    node: &Node<'_>,
    lock: &Lock,
    record: &SystemRecord,
    options: &StartOptions,
    timeouts: Timeouts,
) -> Result<Session> {
    let generation = record.active();
    let app = App::load(node, record, generation.number)?.with_given(node, &record.system)?;
    if app.service.start.is_empty() {
        return Err(Error::usage(format!(
            "the image of {} has no start command",
            record.system
        )));
    }
    sweep(node, lock, &record.system, timeouts)?;
    end_dead(node, lock, &record.system, timeouts)?;
    if let Some(session) = read(node, &record.system)? {
        let started = further::complete(node, lock, record, &session, timeouts, |_| true)?;
        if !started.is_empty() {
            return Ok(session);
        }
        let pids: Vec<_> = session
            .processes()
            .iter()
            .map(|process| process.pid.to_string())
            .collect();
        return Err(
            Error::failed(format!("{} is already running", record.system))
                .cause(format!(
                    "session {}, processes {}",
                    session.id,
                    pids.join(" ")
                ))
                .hint(format!(
                    "imgnode stop {}, or imgnode reload {}",
                    record.system, record.system
                )),
        );
    }
    let mut session = prepare(node, record, options.clone())?;
    let path = node.state.session_file(&record.system);
    let opened = open_first(&session, &app.provided.sockets);
    let opened = opened.and_then(|all| atomic_file::write_json(&path, &session).map(|()| all));
    let listeners = opened.inspect_err(|_| remove_files(node, &session))?;
    match bring_up(node, &session, &app, &listeners, timeouts) {
        Ok(main) => session.main = main,
        Err(error) => {
            end(node, &session, timeouts)?;
            return Err(error);
        }
    }
    atomic_file::write_json(&node.state.session_file(&record.system), &session)?;
    if let Err(error) = further::start_all(node, &session, &app, timeouts) {
        end(node, &session, timeouts)?;
        return Err(error);
    }
    atomic_file::write_json(&node.state.start_file(&record.system), &session.options())?;
    Ok(session)
}

/// A session of the active generation that is not begun yet.
pub(super) fn prepare(
    node: &Node<'_>,
    record: &SystemRecord,
    options: StartOptions,
) -> Result<Session> {
    check_registered(node, record)?;
    let driver = record.target.driver();
    driver.activate(&node.context(&record.system), record.active)?;
    Ok(Session {
        schema: SCHEMA,
        system: record.system.clone(),
        id: fresh_id(record),
        generation: record.active,
        started: now(),
        listen: options.listen,
        words: options.words,
        main: None,
        keeper: None,
    })
}

/// Refuses a chroot that somebody pointed elsewhere.
pub(super) fn check_registered(node: &Node<'_>, record: &SystemRecord) -> Result<()> {
    let generation = record.active();
    if node.schroot.registered(&record.system)?.as_deref() != Some(&generation.directory) {
        return Err(Error::refused(format!(
            "the chroot {} does not point at generation {}",
            record.system, generation.number
        ))
        .cause(format!(
            "{} was changed by somebody else",
            node.schroot.file(&record.system).display()
        ))
        .hint("install the system again"));
    }
    Ok(())
}

/// Begins a session, starts the app in it, and waits until it works. Says which process is the main
/// one.
pub(super) fn bring_up(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    listeners: &[Listener],
    timeouts: Timeouts,
) -> Result<Option<MainProcess>> {
    begin(node, session)?;
    app.provided.enter(session)?;
    prepare_generation(node, session, app)?;
    let share = |listener: &Listener| listener.socket.try_clone();
    let sockets = listeners.iter().map(share).collect::<std::io::Result<_>>();
    let sockets = sockets.context(|| "cannot share a socket")?;
    let run = app.start(session, sockets)?;
    warn_of_what_nobody_counts(node, session, &app.provided.fences);
    let run = app.with_own_namespaces(run);
    let mut child = launch(node, session, (run, &app.provided.fences), timeouts)?;
    health::wait(node, session, app, listeners)?;
    let by = match child.try_wait().context(|| "cannot wait for schroot")? {
        None => Some(child.id()),
        Some(status) if status.success() => None,
        Some(status) => {
            let what = format!("the app of {} {}", session.system, describe(status));
            return Err(Error::failed(what).hint(format!("imgnode logs {}", session.system)));
        }
    };
    Ok(MainProcess::find(&session.root(), by, &[]))
}

/// Whether all that an image needs is given on this node.
pub fn check_needs(node: &Node<'_>, system: &SystemName, manifest: &Manifest) -> Result<()> {
    match &manifest.run {
        None => Ok(()),
        Some(_) => App::of(manifest.clone(), system)?
            .with_given(node, system)
            .map(|_| ()),
    }
}

/// Runs what an image wants to be run once before its service starts, unless that is done.
fn prepare_generation(node: &Node<'_>, session: &Session, app: &App) -> Result<()> {
    let (system, command) = (&session.system, &app.service.before_switch);
    let mut prepared = Prepared::of(node, system)?;
    if command.is_empty() || prepared.generations.contains(&session.generation) {
        return Ok(());
    }
    node.observer.event(Event::Phase(&format!(
        "preparing generation {} of {system}",
        session.generation
    )));
    let (log, offset) = log::open(node, system)?;
    let run = app.with_own_namespaces(app.enter(session, command)?);
    // A migration may take hours, and is bounded as the service is.
    let run = Scope::beside(session).around(run, &app.provided.fences);
    let mut child = run.detach(&log, node.observer)?;
    let status = loop {
        if let Err(error) = node.check_cancelled() {
            // What it began in the session ends with that.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        match child.try_wait().context(|| "cannot wait for schroot")? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(25)),
        }
    };
    if !status.success() {
        let what = format!("the before-switch command of {system} {}", describe(status));
        let lines = last_lines(&log::since(node, system, offset), 10);
        let error = lines.into_iter().fold(Error::failed(what), Error::cause);
        return Err(error.hint(format!("imgnode logs {system}")));
    }
    prepared.generations.push(session.generation);
    atomic_file::write_json(&node.state.prepared_file(system), &prepared)
}

/// The generations of a system in which `before-switch` succeeded.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prepared {
    schema: u32,
    generations: Vec<u64>,
}

impl Prepared {
    fn of(node: &Node<'_>, system: &SystemName) -> Result<Self> {
        let path = node.state.prepared_file(system);
        let found: Option<Self> = atomic_file::read_json(&path)?;
        let found = found.unwrap_or(Self {
            schema: SCHEMA,
            generations: Vec::new(),
        });
        check_schema(&path, found.schema)?;
        Ok(found)
    }
}

/// Lets schroot begin a session.
pub(super) fn begin(node: &Node<'_>, session: &Session) -> Result<()> {
    let chroot = format!("chroot:{}", session.system);
    schroot([
        "--begin-session",
        "--session-name",
        &session.id,
        "--chroot",
        &chroot,
    ])
    .run(node.observer)
    .map_err(|error| {
        error.under(format!(
            "schroot cannot begin a session of {}",
            session.system
        ))
    })?;
    if is_mounted(&session.root())? {
        return Ok(());
    }
    Err(Error::failed(format!(
        "schroot began the session {} but mounted nothing at {}",
        session.id,
        session.root().display()
    )))
}

/// Starts the app in a session that has begun, and waits until it has stayed alive for a moment.
/// Returns the schroot that waits for it, unless the app went into the background.
fn launch(
    node: &Node<'_>,
    session: &Session,
    (run, fences): (HostCommand, &Fences),
    timeouts: Timeouts,
) -> Result<Child> {
    let (log, offset) = log::open(node, &session.system)?;
    let scope = Scope::of(session);
    let run = scope.around(run, fences);
    let mut child = run.detach(&log, node.observer)?;
    let mut placed = false;
    let begun = Instant::now();
    let mut seen: Option<Instant> = None;
    loop {
        node.check_cancelled()?;
        let ended = has_ended(&child).context(|| "cannot wait for schroot")?;
        // As long as it was not waited for, the kernel says where it was.
        placed = placed || scope.holds(child.id());
        let ended = if ended {
            child.try_wait().context(|| "cannot wait for schroot")?
        } else {
            None
        };
        let alive = !session.processes().is_empty();
        if alive {
            seen.get_or_insert_with(Instant::now);
        }
        let dead = match ended {
            Some(status) if !status.success() => Some(describe(status)),
            // A command that put itself into the background and left something behind is fine.
            Some(_) if !alive => Some("ended at once".to_owned()),
            None if seen.is_none() && begun.elapsed() > APPEAR => {
                Some("did not come to life".to_owned())
            }
            None if seen.is_some() && !alive && begun.elapsed() > APPEAR => {
                Some("has no process".to_owned())
            }
            _ => None,
        };
        if let Some(how) = dead {
            let _ = child.kill();
            let _ = child.wait();
            let system = &session.system;
            let mut error = Error::failed(if placed {
                format!("the app of {system} {how}")
            } else {
                format!("systemd gives the app of {system} no scope: systemd-run {how}")
            });
            for line in last_lines(&log::since(node, &session.system, offset), 10) {
                error = error.cause(line);
            }
            return Err(error.hint(format!("imgnode logs {}", session.system)));
        }
        if seen.is_some_and(|since| since.elapsed() >= timeouts.settle) {
            return Ok(child);
        }
        thread::sleep(Duration::from_millis(25));
    }
}

/// A new identifier, `SYSTEM-GENERATION-TIME`, cut to what schroot allows.
fn fresh_id(record: &SystemRecord) -> String {
    let nanos = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    let unique = format!("-{}-{:x}", record.active, nanos % (1 << 48));
    let name = record.system.as_str();
    format!("{}{unique}", &name[..name.len().min(64 - unique.len())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::tests::sample;

    #[test]
    fn identifiers_are_distinct_and_fit_schroot() {
        let record = sample("dir:/srv/images", &"x".repeat(64), 3);
        let (one, two) = (fresh_id(&record), fresh_id(&record));
        assert_ne!(one, two);
        assert!(
            one.len() <= 64 && one.parse::<SystemName>().is_ok(),
            "{one}"
        );
    }
}
