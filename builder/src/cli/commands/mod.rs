//! One file a command; each takes what was typed and what it means.

mod approve;
mod audit;
mod base;
mod build;
mod delta;
mod diff;
mod doctor;
mod env;
mod export;
mod fleet;
mod image;
mod import;
mod key;
mod lock;
mod log;
mod maintenance;
mod page;
mod plan;
mod promote;
mod rebuild;
mod shell;
mod waves;
mod why;

use std::path::Path;

use crate::cli::args::{self, BuildArgs, Command, EnvCommand, LowArgs, StoreCommand};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::ui::Ui;

/// Runs the command.
pub fn run(args: LowArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let command = args.command.unwrap_or(Command::Build(args.build));
    let attests = matches!(&command, Command::Rebuild(args) if args.attest);
    let signs = matches!(&command, Command::Audit(args) if args.sign);
    if !only_reads(&command) || attests || signs {
        settings.require_writable()?;
    }
    match command {
        Command::Build(args) => build::run(&args, settings, ui),
        Command::Lock(args) => lock::run(&args, settings, ui),
        Command::Plan(args) => plan::run(&args, settings, ui),
        Command::Shell(args) => shell::run(&args, settings, ui),
        Command::Doctor(args) => doctor::run(&args, settings, ui),
        Command::List(args) => image::list(&args, settings, ui),
        Command::Show(args) => image::show(&args, settings, ui),
        Command::Rebuild(args) => rebuild::run(&args, settings, ui),
        Command::Diff(args) => diff::run(&args, settings, ui),
        Command::Audit(args) => audit::run(&args, settings, ui),
        Command::Page(args) => page::run(&args, settings, ui),
        Command::Delta(args) => delta::run(&args, settings, ui),
        Command::Store(args) => maintenance::run(&args, settings, ui),
        Command::Log(args) => log::run(&args, settings, ui),
        Command::Import(args) => import::run(&args, settings, ui),
        Command::Export(args) => export::run(&args, settings, ui),
        Command::Key(args) => key::run(&args, settings, ui),
        Command::Env(args) => env::run(&args, settings, ui),
        Command::Fleet(args) => fleet::run(&args, settings, ui),
        Command::Why(args) => why::run(&args, settings, ui),
        Command::Promote(args) => promote::run(&args, settings, ui),
        Command::Revoke(args) => promote::revoke(&args, settings, ui),
        Command::Approve(args) => approve::run(&args, settings, ui),
    }
}

/// Whether the command is content with a store that can only be read.
fn only_reads(command: &Command) -> bool {
    match command {
        Command::List(_)
        | Command::Show(_)
        | Command::Diff(_)
        | Command::Audit(_)
        | Command::Page(_)
        | Command::Rebuild(_)
        | Command::Log(_)
        | Command::Export(_)
        | Command::Key(_)
        // Lists and receipts are beside the store, if they are there at all.
        | Command::Fleet(_)
        | Command::Why(_)
        | Command::Doctor(_) => true,
        Command::Env(args) => matches!(
            args.command,
            EnvCommand::Status(_) | EnvCommand::Log(_) | EnvCommand::Trust(_)
                // It asks for more where it writes.
                | EnvCommand::Witness(_)
        ),
        // It names its stores itself.
        Command::Store(args) => matches!(args.command, StoreCommand::Copy(_)),
        Command::Build(_)
        | Command::Lock(_)
        | Command::Plan(_)
        | Command::Shell(_)
        | Command::Import(_)
        | Command::Promote(_)
        | Command::Revoke(_)
        | Command::Approve(_)
        | Command::Delta(_) => false,
    }
}

/// Whether the command mounts trees and so belongs in its own mount namespace.
pub fn mounts(args: &LowArgs) -> bool {
    let build = |args: &BuildArgs| !args.recipes.is_empty();
    match &args.command {
        None => build(&args.build),
        Some(Command::Build(_) | Command::Lock(_) | Command::Shell(_) | Command::Rebuild(_)) => {
            true
        }
        Some(_) => false,
    }
}

/// Whether imgbuild itself runs in a varied environment, as a stranger's machine would have one.
pub fn varies(args: &LowArgs) -> bool {
    match &args.command {
        None => args.build.vary,
        Some(Command::Build(args)) => args.vary,
        Some(Command::Rebuild(_)) => true,
        Some(_) => false,
    }
}

/// Reads a recipe; its error is a usage error.
fn load_recipe(path: &Path) -> Result<Recipe> {
    Recipe::load(path).map_err(|e| {
        let error = Error::usage(e.to_string());
        // `imgbuild --locked plan`: a flag of `build` first, and what follows is a recipe.
        let command = path
            .to_str()
            .filter(|p| args::is_command(p) && !path.exists());
        match (command, e.hint()) {
            (Some(name), _) => error.hint(format!(
                "the flags of a command come after it: imgbuild {name} ..."
            )),
            (None, Some(hint)) => error.hint(hint),
            (None, None) => error,
        }
    })
}
