//! `imgnode init`: follow an environment.

use std::path::Path;
use std::process::ExitCode;

use ::verify::atomic_file;
use ::verify::error::{Error, Kind, Result};
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::state::{Lock, NodeConfig};
use ::verify::trust;

use crate::cli::ui::Ui;

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    config: &NodeConfig,
    root: &Path,
    reset: bool,
) -> Result<ExitCode> {
    let lock = node.state.lock_node()?;
    journal::recover_all(node, &lock)?;
    let moved = |old: &NodeConfig| old.environment == config.environment;
    match node.state.config()?.filter(|_| !reset) {
        None => {}
        Some(old) if moved(&old) && !trust::is_there(node) => ui.note(&format!(
            "{} is gone, and with it what this node has seen; it begins again",
            node.state.trust().display()
        )),
        Some(old) if old == *config => {
            ui.note(&format!("this node follows {} already", old.environment));
            return Ok(ExitCode::SUCCESS);
        }
        Some(old) if moved(&old) => return elsewhere(node, ui, &lock, &old, config),
        Some(old) => {
            return Err(Error::usage(format!(
                "this node follows {} from {}",
                old.environment, old.repository
            ))
            .hint("a node follows one environment; --reset makes it forget this one"));
        }
    }
    let bytes = atomic_file::read(root)?.ok_or_else(|| {
        Error::usage(format!("there is no file {}", root.display()))
            .hint("--root names the environment's root metadata")
    })?;
    if reset {
        trust::forget(node)?;
    }
    trust::follow(node, config, &bytes)?;
    node.state.set_config(&lock, config)?;
    ui.note(&format!(
        "following the environment {} from {}",
        config.environment, config.repository
    ));
    ui.note("next: imgnode install NAME --as SYSTEM --target dir:PATH");
    Ok(ExitCode::SUCCESS)
}

/// Follows the same environment at another address: what was trusted and seen so far decides.
fn elsewhere(
    node: &Node<'_>,
    ui: &Ui,
    lock: &Lock,
    old: &NodeConfig,
    config: &NodeConfig,
) -> Result<ExitCode> {
    trust::refresh(node, config).map_err(|error| {
        let text = format!(
            "this node follows {} from {}, and does not go over to {}",
            old.environment, old.repository, config.repository
        );
        let hint = "--reset makes it forget this one, and trust what --root names";
        match error.kind() {
            Kind::Refused => error.under(text).hint(hint),
            _ => error.under(text),
        }
    })?;
    node.state.set_config(lock, config)?;
    ui.note(&format!(
        "following the environment {} from {}, with the trust that this node has",
        config.environment, config.repository
    ));
    Ok(ExitCode::SUCCESS)
}
