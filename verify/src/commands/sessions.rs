//! `imgnode start`, `stop` and `reload`.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::journal;
use ::verify::node::Node;
use ::verify::session::{self, Patience};
use ::verify::system::SystemName;

use crate::ui::Ui;

pub(crate) fn start(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    words: &[String],
    patience: Patience,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let record = node.state.installed(system)?;
    let session = session::start(node, &lock, &record, words, patience)?;
    ui.note(&format!("{system} runs in the session {}", session.id));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn stop(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    patience: Patience,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let record = node.state.installed(system)?;
    let stopped = session::stop(node, &record, patience)?;
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
    patience: Patience,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let record = node.state.installed(system)?;
    let session = session::reload(node, &record, patience)?;
    ui.note(&format!(
        "{system} was told to reload (session {})",
        session.id
    ));
    Ok(ExitCode::SUCCESS)
}
