//! `imgnode start`, `stop` and `reload`.

use std::fmt::Write as _;
use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::session::{self, Address, StartOptions, Timeouts};
use ::verify::system::SystemName;
use ::verify::trust::allowed;

use crate::cli::ui::Ui;

pub(crate) fn start(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    listen: Vec<Address>,
    words: Vec<String>,
    timeouts: Timeouts,
) -> Result<ExitCode> {
    let lock = node.state.lock(system)?;
    journal::recover_if_possible(node, &lock, system, true)?;
    let record = node.state.installed(system)?;
    allowed::may_start(&record)?;
    let options = if listen.is_empty() && words.is_empty() {
        StartOptions::remembered(node, system)?
    } else {
        StartOptions::new(listen, words)
    };
    let session = session::start(node, &lock, &record, &options, timeouts)?;
    let mut said = format!("{system} runs in the session {}", session.id);
    for address in &session.listen {
        let _ = write!(said, ", listening on {address}");
    }
    ui.note(&said);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn stop(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    timeouts: Timeouts,
    force: bool,
) -> Result<ExitCode> {
    let lock = node.state.lock(system)?;
    journal::recover_if_possible(node, &lock, system, false)?;
    let record = node.state.installed(system)?;
    let stopped = session::stop(node, &record, timeouts, force)?;
    for process in stopped.killed {
        ui.note(&format!("killed {}: {}", process.pid, process.command));
    }
    ui.note(&format!("{system} is stopped"));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn reload(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    timeouts: Timeouts,
) -> Result<ExitCode> {
    let lock = node.state.lock(system)?;
    journal::recover_if_possible(node, &lock, system, false)?;
    let record = node.state.installed(system)?;
    let session = session::reload(node, &record, timeouts)?;
    ui.note(&format!(
        "{system} was told to reload (session {})",
        session.id
    ));
    Ok(ExitCode::SUCCESS)
}
