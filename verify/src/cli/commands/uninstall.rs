//! `imgnode uninstall`: take a system away.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install;
use ::verify::node::Node;
use ::verify::session::Timeouts;
use ::verify::system::SystemName;

use crate::cli::ui::Ui;

pub(crate) fn run(node: &Node<'_>, ui: &Ui, system: &SystemName) -> Result<ExitCode> {
    install::uninstall(node, system, Timeouts::default())?;
    ui.note(&format!("{system} is gone"));
    Ok(ExitCode::SUCCESS)
}
