//! The commands, one file each: a flat list of what it does.
//!
//! ```text
//! init       follow an environment
//! install    install, upgrade, build-schroot: a release becomes the active generation
//! switch     switch, rollback: another generation becomes the active one
//! gc         old generations go
//! exec       a command in a system
//! run        a system in the foreground, for a service manager
//! name       what this node is called, and its group
//! receipts   what this node says of itself
//! access     who of the host may enter a system's sessions
//! uninstall  a system goes
//! sessions   start, stop, reload
//! status     what is installed and what runs
//! verify     the installed tree against the signed layout
//! logs       what the processes of a system wrote
//! ```

mod access;
mod exec;
mod gc;
mod init;
mod install;
mod logs;
mod name;
mod receipts;
mod run;
mod sessions;
mod status;
mod switch;
mod uninstall;
mod verify;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use ::verify::atomic_file::SCHEMA;
use ::verify::error::{Context, Result};
use ::verify::host::descriptors;
use ::verify::host::hooks::Hooks;
use ::verify::host::provisions::Provisions;
use ::verify::host::schroot::Schroot;
use ::verify::node::{Node, require_root};
use ::verify::state::{NodeConfig, State};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::args::{HiArgs, Mode};
use crate::cli::ui::Ui;

/// Runs the command.
pub(crate) fn run(args: HiArgs, ui: &Ui) -> Result<ExitCode> {
    // Files get the modes they are given, whatever shell we were started from.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    descriptors::keep_descriptors().context(|| "cannot look at /proc/self/fd")?;
    let cancel = interruption(&args.mode)?;
    let node = Node {
        state: State::new(args.state),
        schroot: Schroot::default(),
        hooks: Hooks::default(),
        provisions: Provisions::default(),
        observer: ui,
        cancel,
    };
    if !matches!(args.mode, Mode::Status { .. } | Mode::Logs { .. }) {
        require_root()?;
    }
    let noted = receipts::Noted::before(&node, &args.mode);
    let done = carry_out(&node, args.mode, ui, cancel);
    let Some(noted) = noted else {
        return done;
    };
    // What came of it is said before anything is sent.
    Ok(match done {
        Ok(code) => {
            noted.after(&node, ui, code, None);
            code
        }
        Err(error) => {
            let code = ui.fail(&error);
            noted.after(&node, ui, code, Some(&error));
            code
        }
    })
}

fn carry_out(
    node: &Node<'_>,
    mode: Mode,
    ui: &Ui,
    cancel: &'static AtomicBool,
) -> Result<ExitCode> {
    match mode {
        Mode::Init {
            environment,
            repository,
            root,
            reset,
            receipts: to,
            names,
        } => {
            let config = NodeConfig {
                schema: SCHEMA,
                environment,
                repository,
            };
            let done = init::run(node, ui, &config, &root, reset)?;
            if let Some(to) = to {
                receipts::set(node, ui, to, names.name, names.group)?;
            } else if names.are_given() {
                name::set(node, ui, names)?;
            }
            Ok(done)
        }
        Mode::Install {
            name,
            system,
            target,
            ahead,
            json,
        } => install::run(node, ui, name, system, target, ahead, json),
        Mode::Upgrade {
            system,
            timeouts,
            again,
            ahead,
            json,
        } => install::upgrade(node, ui, &system, timeouts, again, ahead, json),
        Mode::BuildSchroot {
            tarball,
            system,
            target,
            json,
        } => install::build_schroot(node, ui, tarball, system, target, json),
        Mode::Switch {
            system,
            to,
            timeouts,
            json,
        } => switch::run(node, ui, &system, to, timeouts, json),
        Mode::Gc { system, keep, json } => gc::run(node, ui, system.as_ref(), keep, json),
        Mode::Start {
            system,
            listen,
            words,
            timeouts,
        } => sessions::start(node, ui, &system, listen, words, timeouts),
        Mode::Run {
            system,
            listen,
            words,
            timeouts,
        } => run::run(node, ui, &system, listen, words, timeouts, cancel),
        Mode::Stop {
            system,
            timeouts,
            force,
        } => sessions::stop(node, ui, &system, timeouts, force),
        Mode::Reload { system, timeouts } => sessions::reload(node, ui, &system, timeouts),
        Mode::Status { system, form } => status::run(node, ui, system.as_ref(), &form),
        Mode::Verify {
            system,
            generation,
            json,
        } => verify::run(node, ui, &system, generation, json),
        Mode::Logs {
            system,
            lines,
            follow,
        } => logs::run(node, ui, &system, lines, follow),
        Mode::Exec { system, request } => exec::run(node, &system, &request),
        Mode::Access {
            system,
            users,
            root_users,
        } => access::run(node, ui, &system, users, root_users),
        Mode::Name { names, json } => name::run(node, ui, names, json),
        Mode::Receipts(mode) => receipts::run(node, ui, mode),
        Mode::Uninstall { system } => uninstall::run(node, ui, &system),
    }
}

/// The flag that the first Ctrl-C sets; the second ends us at once, which the journal survives.
///
/// `run` stops a system in order, whatever comes meanwhile, and SIGHUP tells it something else.
fn interruption(mode: &Mode) -> Result<&'static AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    let in_order = matches!(mode, Mode::Run { .. });
    let signals = [SIGINT, SIGTERM, SIGHUP];
    for signal in &signals[..if in_order { 2 } else { 3 }] {
        let set = || signal_hook::flag::register(*signal, Arc::clone(flag));
        let end = || signal_hook::flag::register_conditional_default(*signal, Arc::clone(flag));
        if in_order {
            set()
        } else {
            end().and_then(|_| set())
        }
        .context(|| "cannot listen for Ctrl-C")?;
    }
    Ok(flag)
}
