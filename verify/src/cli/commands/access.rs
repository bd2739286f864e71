//! `imgnode access`: who of the host may enter a system's sessions.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install;
use ::verify::node::Node;
use ::verify::system::SystemName;

use crate::cli::ui::Ui;

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    users: Option<Vec<String>>,
    root_users: Option<Vec<String>>,
) -> Result<ExitCode> {
    let mut access = install::access(node, system)?;
    if users.is_some() || root_users.is_some() {
        access.users = users.unwrap_or(access.users);
        access.root_users = root_users.unwrap_or(access.root_users);
        install::set_access(node, system, access.clone())?;
    }
    let names = |more: &[String]| {
        let all = std::iter::once("root").chain(more.iter().map(String::as_str));
        all.collect::<Vec<_>>().join(" ")
    };
    ui.data(&format!("sessions          {}", names(&access.users)));
    ui.data(&format!("sessions as root  {}", names(&access.root_users)));
    Ok(ExitCode::SUCCESS)
}
