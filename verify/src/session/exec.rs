//! A command of the operator's in a system.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use super::app::App;
use super::further::kill;
use super::processes::MainProcess;
use super::record::{Session, StartOptions, Timeouts, read};
use super::seen;
use super::start::{begin, prepare};
use super::stop::end;
use super::timers;
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::host::commands::HostCommand;
use crate::node::Node;
use crate::state::now;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// What is to be run, and where.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The user of the image; the one of its service when none is named.
    pub user: Option<String>,
    /// Whether it gets a session of its own although one runs.
    pub fresh: bool,
    /// The timer whose job is run, instead of a command.
    pub timer: Option<String>,
    /// Variables beside those of the service.
    pub environment: Vec<(String, String)>,
    /// The words; the user's shell when there are none.
    pub command: Vec<String>,
}

/// The session that a command joins; `None` when it gets one of its own.
pub fn joined(
    node: &Node<'_>,
    system: &SystemName,
    request: &ExecRequest,
) -> Result<Option<Session>> {
    let session = read(node, system)?.filter(|one| !one.processes().is_empty());
    Ok(session.filter(|_| !request.fresh))
}

/// Runs a command in a session, or in one of its own, which ends with it. It has our streams.
pub fn exec(
    node: &Node<'_>,
    record: &SystemRecord,
    session: Option<&Session>,
    request: &ExecRequest,
) -> Result<ExitStatus> {
    let generation = session.map_or(record.active, |session| session.generation);
    let app = App::of_user(node, record, generation, request.user.as_deref())?;
    let app = app.with_environment(&request.environment);
    if let Some(name) = &request.timer {
        return exec_timer(node, record, session, &app, name);
    }
    let shell = [app.shell().to_owned()];
    let command = match &request.command[..] {
        [] => &shell,
        words => words,
    };
    if let Some(session) = session {
        let app = app.with_given_if_there(node, &record.system);
        return Err(app.enter(session, command)?.become_it(node.observer));
    }
    let app = app.with_given(node, &record.system)?;
    in_own_session(node, record, &app, |own| {
        app.with_own_namespaces(app.enter(own, command)?)
            .accompany(node.observer, node.cancel)
    })
}

/// Runs the job of a timer with our streams, unless it runs already, and notes how it ended.
fn exec_timer(
    node: &Node<'_>,
    record: &SystemRecord,
    session: Option<&Session>,
    app: &App,
    name: &str,
) -> Result<ExitStatus> {
    let system = &record.system;
    let all = &app.service.timers;
    let timer = all.iter().find(|timer| timer.name == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|timer| timer.name.as_str()).collect();
        let error = Error::usage(format!("{system} has no timer `{}`", name.escape_debug()));
        error.hint(format!("it has: {}", names.join(" ")))
    })?;
    let app = app.clone().with_given(node, system)?;
    let app = app.of_timer(timer, &timers::label(name))?;
    let started = now();
    let run = |session: &Session, run: HostCommand| {
        let lock = node.state.lock(system)?;
        timers::refuse_second(node, &lock, session, name)?;
        let begun = run.begin(node.observer)?;
        // From here on it can be seen.
        drop(lock);
        let (label, since, mut told) = (timers::label(name), Instant::now(), None);
        let grace = Timeouts::default().end;
        let ended = begun.end(node.cancel, || {
            let seen = seen::look(&session.root(), &session.id).remove(&label);
            if let Some(seen) = seen.filter(|_| timer.limit.is_some()) {
                told = timers::bound(node, session, (&label, timer), &seen, (told, grace)).or(told);
            }
        });
        let status = ended?;
        // Whoever watches may have been first.
        let over = timer
            .limit
            .is_some_and(|limit| since.elapsed().as_secs() >= limit);
        let timed_out = told.is_some() || (over && !status.success());
        if let (true, Some(left)) = (
            timed_out,
            seen::look(&session.root(), &session.id).remove(&label),
        ) {
            kill(node, session, &label, &left);
        }
        Ok((status, timed_out))
    };
    let (status, timed_out) = match session {
        Some(session) => run(session, app.enter(session, &timer.command)?),
        None => in_own_session(node, record, &app, |own| {
            run(
                own,
                app.with_own_namespaces(app.enter(own, &timer.command)?),
            )
        }),
    }?;
    timers::note_by_hand(node, system, name, started, (status, timed_out))?;
    Ok(if timed_out {
        ExitStatus::from_raw(timers::TIMED_OUT << 8)
    } else {
        status
    })
}

/// Lets a command have a session of its own, which ends with it.
fn in_own_session<R>(
    node: &Node<'_>,
    record: &SystemRecord,
    app: &App,
    run: impl FnOnce(&Session) -> Result<R>,
) -> Result<R> {
    let options = StartOptions::new(Vec::new(), Vec::new());
    let mut own = prepare(node, record, options)?;
    own.keeper = MainProcess::of_self();
    atomic_file::write_json(&node.state.command_file(&own.id), &own)?;
    let ran = begin(node, &own)
        .and_then(|()| app.provided.enter(&own))
        .and_then(|()| run(&own));
    let ended = end(node, &own, Timeouts::default());
    let status = ran?;
    ended.map(|_| status)
}
