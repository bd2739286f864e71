//! What a build needs of this machine.

use crate::error::{Error, Result};
use crate::host::Tools;
use crate::recipe::Recipe;
use crate::ui::Ui;

/// Fails for anybody but root.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(
        Error::failed("building needs root: it mounts and enters a chroot")
            .hint("run the same command with sudo"),
    )
}

/// Sees to the programs that a build needs.
pub fn prepare(recipe: &Recipe, setup: bool, ui: &mut Ui) -> Result<()> {
    let with_git = recipe.virtualenvs.iter().any(|v| !v.git.is_empty());
    let tools = Tools::look(with_git);
    if tools.missing.is_empty() {
        return Ok(());
    }
    if !setup {
        return tools.require();
    }
    install_tools(&tools, ui)?;
    Tools::look(with_git).require()
}

/// Installs the packages of the programs that are missing.
pub fn install_tools(tools: &Tools, ui: &mut Ui) -> Result<()> {
    let packages = tools.packages().join(" ");
    ui.note(&format!("installing on this machine: {packages}"));
    let mut phase = ui.phase("set up the machine");
    tools.install(&mut |line| phase.output(line))?;
    phase.finish(&packages);
    Ok(())
}
