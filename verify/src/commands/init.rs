//! `imgnode init`: follow an environment.

use std::path::Path;
use std::process::ExitCode;

use ::verify::durable;
use ::verify::error::{Error, Result};
use ::verify::journal;
use ::verify::node::Node;
use ::verify::state::NodeConfig;
use ::verify::trust;

use crate::ui::Ui;

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    config: &NodeConfig,
    root: &Path,
    reset: bool,
) -> Result<ExitCode> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    if let Some(old) = node.state.config()?.filter(|_| !reset) {
        if old == *config {
            ui.note(&format!("this node follows {} already", old.environment));
            return Ok(ExitCode::SUCCESS);
        }
        return Err(Error::usage(format!(
            "this node follows {} from {}",
            old.environment, old.repository
        ))
        .hint("a node follows one environment; --reset makes it forget this one"));
    }
    let bytes = durable::read(root)?.ok_or_else(|| {
        Error::usage(format!("there is no file {}", root.display()))
            .hint("--root names the environment's root metadata")
    })?;
    if reset {
        trust::reset(node)?;
    }
    trust::init(node, config, &bytes)?;
    node.state.set_config(&lock, config)?;
    ui.note(&format!(
        "following the environment {} from {}",
        config.environment, config.repository
    ));
    ui.note("next: imgnode install NAME --as SYSTEM --target dir:PATH");
    Ok(ExitCode::SUCCESS)
}
