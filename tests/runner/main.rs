//! Runs the tests that cargo has built: side by side, each as a process of its own.
//!
//! `cargo test --no-run --message-format json` says which programs there are, each program lists
//! its tests, and every test is started in mount and PID namespaces of its own ([`sandbox`]), so
//! that tests which register chroots, mount and look at the whole machine do not see each other,
//! and none can leave anything behind. At the end stand the phases, the slowest tests, and for
//! each failed one its output and the command that repeats it alone.

mod inside;
mod jobs;
mod report;
mod sandbox;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the tests that cargo has built.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the tests of all programs that cargo named.
    Run(Options),
    /// Enters the namespaces of one test, then runs it; what `run` starts for each test.
    Inside {
        /// The directory in which the tests of this run write.
        scratch: PathBuf,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        words: Vec<std::ffi::OsString>,
    },
}

/// What to run, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What cargo printed: `--message-format json`.
    #[arg(long)]
    messages: PathBuf,
    /// Leave out what takes long.
    #[arg(long)]
    quick: bool,
    /// How many tests run at once; by default three for each CPU, as many of them wait.
    #[arg(long)]
    jobs: Option<usize>,
    /// Say how long something took that came before: `NAME=SECONDS`.
    #[arg(long, value_name = "NAME=SECONDS")]
    phase: Vec<String>,
    /// Only the tests whose `PACKAGE::MODULE::NAME` contains one of these.
    names: Vec<String>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(options) => match jobs::run(&options) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Inside { scratch, words } => match inside::run(&scratch, &words) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("error: cannot enter the test's namespaces: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
