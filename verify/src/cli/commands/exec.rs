//! `imgnode exec`: a command in a system.

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
    match session::exec(node, &record, session.as_ref(), request)? {}
}
