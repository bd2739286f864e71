//! `imgbuild`: what was typed, what it means, what it does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::process::ExitCode;

use builder::cli::args::LowArgs;
use builder::cli::commands;
use builder::error::{Error, ErrorKind, Result};
use builder::interrupt;
use builder::sandbox;
use builder::settings::{Given, Settings};
use builder::ui::{self, Ui};
use builder::unpack;

fn main() -> ExitCode {
    let mut typed = std::env::args_os().skip(1);
    match typed.next() {
        Some(first) if first == sandbox::INIT_COMMAND => return sandbox_init(typed.next()),
        Some(first) if first == unpack::COMMAND => {
            return exit_code(unpack::run(typed).map(|()| 0));
        }
        _ => {}
    }
    let args = match LowArgs::typed(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let text = error.render().to_string();
            match common::display::escape(&text) {
                // What was typed may hold what a terminal obeys.
                Cow::Owned(escaped) => eprint!("{escaped}"),
                Cow::Borrowed(_) => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut ui = Ui::new(args.common().json, args.common().verbose);
    match run(args, &mut ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whatever failed, failed because its programs were ended.
            let error = interrupt::check().err().unwrap_or(error);
            if error.kind() != ErrorKind::Interrupted || interrupt::tell_once() {
                ui.error(&error);
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn run(args: LowArgs, ui: &mut Ui) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if root && commands::mounts(&args) {
        sandbox::enter_mount_namespace(commands::varies(&args))?;
        // The caller's is no part of a build.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    interrupt::install(ui::last_words)?;
    let common = args.common().clone();
    let given = Given {
        store: common.store,
        work: common.work,
        keys: common.keys,
        archives: common.archives,
        environment: environment(),
    };
    let settings = Settings::resolve(given, root)?;
    ui.hide(settings.secrets());
    commands::run(args, &settings, ui)
}

/// Our environment; what is no UTF-8 cannot be meant for us.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The first process of a sandbox; see `builder::sandbox`.
fn sandbox_init(spec: Option<std::ffi::OsString>) -> ExitCode {
    let result = match spec {
        Some(spec) => sandbox::run_init(spec.as_ref()),
        None => Err(Error::usage("sandbox-init is not for people")),
    };
    exit_code(result)
}

/// How a part of ourselves ends that another part has started.
fn exit_code(result: Result<u8>) -> ExitCode {
    result.map_or_else(
        |error| {
            Ui::new(false, false).error(&error);
            ExitCode::from(error.kind().exit_code())
        },
        ExitCode::from,
    )
}
