//! `imgnode exec`: a command in a system.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::node::Node;
use ::verify::session::{self, ExecRequest};
use ::verify::system::SystemName;
use ::verify::trust::allowed;

pub(crate) fn run(node: &Node<'_>, system: &SystemName, request: &ExecRequest) -> Result<ExitCode> {
    let record = node.state.installed(system)?;
    let session = session::joined(node, system, request)?;
    if session.is_none() {
        allowed::may_start(&record)?;
    }
    let status = session::exec(node, &record, session.as_ref(), request)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(
        code.and_then(|code| code.try_into().ok()).unwrap_or(1),
    ))
}
