//! A command of the operator's in a system.

use std::convert::Infallible;

use super::app::App;
use super::record::{Session, read};
use super::start::check_registered;
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

/// Becomes a command in a session, or in one of its own, which ends with it. It has our streams.
pub fn exec(
    node: &Node<'_>,
    record: &SystemRecord,
    session: Option<&Session>,
    request: &ExecRequest,
) -> Result<Infallible> {
    let generation = session.map_or(record.active, |session| session.generation);
    let app = App::of_user(node, record, generation, request.user.as_deref())?;
    let app = app.with_environment(&request.environment);
    let shell = [app.shell().to_owned()];
    let command = match &request.command[..] {
        [] => &shell,
        words => words,
    };
    let run = if let Some(session) = session {
        app.enter(session, command)?
    } else {
        check_registered(node, record)?;
        app.enter_alone(&record.system, command)
    };
    Err(run.become_it(node.observer))
}
