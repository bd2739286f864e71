//! `imgnode start`, `stop` and `reload`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::session::{self, Handover, How, Patience};
use ::verify::system::SystemName;
use ::verify::trust::allowed;

use crate::cli::ui::Ui;

pub(crate) fn start(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    listen: Vec<SocketAddr>,
    words: Vec<String>,
    patience: Patience,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::try_recover(node, &lock, Some(system))?;
    let record = node.state.installed(system)?;
    allowed::may_start(&record)?;
    let how = if listen.is_empty() && words.is_empty() {
        How::remembered(node, system)?
    } else {
        How::new(listen, words)
    };
    let session = session::start(node, &lock, &record, &how, patience)?;
    let mut said = format!("{system} runs in the session {}", session.id);
    for address in &session.listen {
        let _ = write!(said, ", listening on {address}");
    }
    ui.note(&said);
    Ok(ExitCode::SUCCESS)
}

/// Says what became of a session that ran when another generation became active.
pub(super) fn traffic(ui: &Ui, system: &SystemName, traffic: &Handover) {
    match traffic {
        Handover::NotRunning => ui.note(&format!("next: imgnode start {system}")),
        Handover::Same => {}
        Handover::Kept(session) => ui.note(&format!(
            "the session {} keeps generation {}; next: imgnode stop {system} && imgnode start {system}",
            session.id, session.generation
        )),
        Handover::Moved { session, old, left } => {
            ui.note(&format!(
                "generation {} has the traffic, in the session {}",
                session.generation, session.id
            ));
            for process in left {
                ui.note(&format!(
                    "in the old session {}, process {} goes on: {}",
                    old.id, process.pid, process.command
                ));
            }
            if !left.is_empty() {
                ui.note("the next command ends that session when they have ended");
            }
        }
    }
}

pub(crate) fn stop(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    patience: Patience,
    force: bool,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::try_recover(node, &lock, None)?;
    let record = node.state.installed(system)?;
    let stopped = session::stop(node, &record, patience, force)?;
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
    journal::try_recover(node, &lock, None)?;
    let record = node.state.installed(system)?;
    let session = session::reload(node, &record, patience)?;
    ui.note(&format!(
        "{system} was told to reload (session {})",
        session.id
    ));
    Ok(ExitCode::SUCCESS)
}
