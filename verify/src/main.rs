//! `imgnode`: installs, verifies and runs signed images on a node.
//!
//! What was typed becomes `LowArgs`, what it means becomes [`args::HiArgs`], and one `match`
//! picks the command. Each command is a file in `commands`; all that is printed goes through
//! [`ui::Ui`].

mod cli;

use std::process::ExitCode;

use self::cli::{args, commands, ui};

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    let ui = ui::Ui::new(args.verbose, args.quiet);
    match commands::run(args, &ui) {
        Ok(code) if code == ExitCode::SUCCESS && ui.has_lost_data() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(error) => ui.fail(&error),
    }
}
