//! A command of the operator's in a system.

use std::process::ExitStatus;

use super::app::{App, with_own_ipc};
use super::processes::MainProcess;
use super::record::{Session, StartOptions, Timeouts, read};
use super::start::{begin, prepare};
use super::stop::end;
use crate::atomic_file;
use crate::error::Result;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// What is to be run, and where.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The user of the image; the one of its service when none is named.
    pub user: Option<String>,
    /// Whether it gets a session of its own although one runs.
    pub fresh: bool,
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
    let options = StartOptions::new(Vec::new(), Vec::new());
    let mut own = prepare(node, record, options)?;
    own.keeper = MainProcess::of_self();
    atomic_file::write_json(&node.state.command_file(&own.id), &own)?;
    let ran = run_alone(node, &own, &app, command);
    let ended = end(node, &own, Timeouts::default());
    let status = ran?;
    ended.map(|_| status)
}

fn run_alone(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    command: &[String],
) -> Result<ExitStatus> {
    begin(node, session)?;
    app.given.enter(session)?;
    with_own_ipc(app.enter(session, command)?).accompany(node.observer, node.cancel)
}
