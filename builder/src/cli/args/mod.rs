//! The command line, as typed.

mod audit;
mod build;
mod env;
mod fleet;
mod image;
mod key;
mod maintenance;
mod page;
mod promote;
mod signing;
mod spelling;
mod transfer;
mod waves;

use std::ffi::OsString;
use std::path::PathBuf;

pub use self::audit::AuditArgs;
pub use self::build::{BuildArgs, CacheArgs, LockArgs, PlanArgs, ShellArgs};
pub use self::env::{
    Days, EnvArgs, EnvCommand, EnvInitArgs, EnvLogArgs, EnvProposeArgs, EnvRefreshArgs,
    EnvRootArgs, EnvRootCommand, EnvRotateArgs, EnvStatusArgs, EnvTrustArgs, EnvWitnessArgs,
    FileArgs, PublishArgs, SaveArgs,
};
pub use self::fleet::{
    FleetArgs, FleetCommand, FleetEnrolArgs, FleetPruneArgs, FleetShowArgs, FleetStatusArgs,
    ReceiptsFrom, WhyArgs,
};
pub use self::image::{DeltaArgs, DiffArgs, ListArgs, LogArgs, RebuildArgs, ShowArgs};
pub use self::key::{KeyArgs, KeyCommand, KeyNewArgs, KeyShowArgs};
pub use self::maintenance::{
    CopyArgs, FsckArgs, GcArgs, PinArgs, StoreArgs, StoreCommand, UnpinArgs,
};
pub use self::page::PageArgs;
pub use self::promote::{ApproveArgs, PromoteArgs, RevokeArgs};
pub use self::signing::{Consenting, Secret, Signing};
pub use self::transfer::{ExportArgs, ImportArgs};
pub use self::waves::WaveArgs;
use clap::{Args, CommandFactory, Parser, Subcommand};

const AFTER_HELP: &str = "\
Without a command, the arguments are recipes to build: `imgbuild recipes/fanery.toml`.

Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed or refused by
policy, 4 an audit found something, 75 busy (try later), 130 interrupted.

Data goes to stdout, everything else to stderr. Flags win over the environment
(IMGBUILD_STORE, IMGBUILD_WORK, IMGBUILD_KEYS, IMGBUILD_ARCHIVE_NAME,
IMGBUILD_PASSPHRASE, IMGBUILD_PASSPHRASE_FILE), which wins over defaults. A download below 1 KiB/s is given up after
IMGBUILD_PATIENCE seconds (60).";

/// Builds reproducible Debian node images from recipes.
#[derive(Debug, Parser)]
#[command(name = "imgbuild", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LowArgs {
    /// What to do; `build` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `build`.
    #[command(flatten)]
    pub build: BuildArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build recipes into signed images (the default command)
    #[command(after_help = build::BUILD_HELP)]
    Build(BuildArgs),
    /// Resolve every input of a recipe and write its lock
    #[command(
        after_help = "Examples: imgbuild lock recipes/fanery.toml --upgrade\n          imgbuild lock recipes/fanery.toml --upgrade libssl1.1 --upgrade gunicorn"
    )]
    Lock(LockArgs),
    /// Show what a build would do and why, step by step
    #[command(after_help = build::PLAN_HELP)]
    Plan(PlanArgs),
    /// Open a shell in the tree of a recipe: of the failed step, else of the last
    #[command(
        after_help = "The shell sees what the step sees: no network, the same environment. What it \
                      changes is\nthrown away when it ends, unless --keep; no build ever uses it."
    )]
    Shell(ShellArgs),
    /// Check what this machine offers for building, and say what is missing
    Doctor(DoctorArgs),
    /// List the images of the store
    #[command(after_help = image::LIST_HELP)]
    List(ListArgs),
    /// Show an image's manifest, or its bill of materials
    #[command(after_help = image::IMAGE_HELP)]
    Show(ShowArgs),
    /// Build an image again from the store alone, and compare the bytes
    #[command(after_help = image::REBUILD_HELP)]
    Rebuild(RebuildArgs),
    /// Show what differs between two images
    #[command(after_help = image::DIFF_HELP)]
    Diff(DiffArgs),
    /// Show pending security updates of an image, and advisories that fit it
    Audit(AuditArgs),
    /// Write what runs where as web pages
    Page(PageArgs),
    /// Make the upgrade from one image to another small to fetch
    #[command(after_help = image::DELTA_HELP)]
    Delta(DeltaArgs),
    /// Keep a store small and whole
    Store(StoreArgs),
    /// Show what the steps of a recipe, or of an image's build, printed
    #[command(after_help = image::LOG_HELP)]
    Log(LogArgs),
    /// Take in a root filesystem that another tool made
    #[command(after_help = transfer::IMPORT_HELP)]
    Import(ImportArgs),
    /// Write an image as a tarball, signed to be carried by hand
    #[command(after_help = transfer::EXPORT_HELP)]
    Export(ExportArgs),
    /// Make keys and show them
    Key(KeyArgs),
    /// Make environments, watch them, change their keys and policy
    Env(EnvArgs),
    /// Show which images run on which nodes, by what these say
    Fleet(FleetArgs),
    /// Show what runs on a node, who built, tested and approved it, and what vouches for that
    #[command(after_help = fleet::WHY_HELP)]
    Why(WhyArgs),
    /// Release an image of one environment in another one
    Promote(Box<PromoteArgs>),
    /// Say that an image must not run any more
    Revoke(RevokeArgs),
    /// Approve of an image for an environment
    #[command(after_help = image::IMAGE_HELP)]
    Approve(ApproveArgs),
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The artifact store; commands that only read take a web server's too
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "IMGBUILD_STORE",
        help_heading = "Places"
    )]
    pub store: Option<PathBuf>,
    /// Trees, cached steps and logs; safe to remove
    #[arg(
        long,
        value_name = "DIR",
        env = "IMGBUILD_WORK",
        help_heading = "Places"
    )]
    pub work: Option<PathBuf>,
    /// Private keys of environments
    #[arg(
        long,
        value_name = "DIR",
        env = "IMGBUILD_KEYS",
        help_heading = "Places"
    )]
    pub keys: Option<PathBuf>,
    /// Address of an archive that recipes name, e.g. debian=URL; repeatable
    #[arg(long = "archive", value_name = "NAME=URL", help_heading = "Places")]
    pub archives: Vec<String>,
    /// JSON on stdout: events of long work, data of the rest
    #[arg(long)]
    pub json: bool,
    /// Show the output of every step
    #[arg(short, long)]
    pub verbose: bool,
}

/// `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Install what is missing
    #[arg(long)]
    pub setup: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// Whether the word is one of our commands.
pub fn is_command(word: &str) -> bool {
    LowArgs::command().find_subcommand(word).is_some()
}

impl LowArgs {
    /// What was typed; the first word is the program's name.
    pub fn typed(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words = words.into_iter().collect();
        Self::try_parse_from(spelling::in_order(&Self::command(), words))
    }

    /// The common flags, wherever they were typed.
    pub fn common(&self) -> &Common {
        match &self.command {
            None => &self.build.common,
            Some(command) => command.common(),
        }
    }
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Self::Build(args) => &args.common,
            Self::Lock(args) => &args.common,
            Self::Plan(args) => &args.common,
            Self::Shell(args) => &args.common,
            Self::Doctor(args) => &args.common,
            Self::List(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Rebuild(args) => &args.common,
            Self::Diff(args) => &args.common,
            Self::Audit(args) => &args.common,
            Self::Page(args) => &args.common,
            Self::Delta(args) => &args.common,
            Self::Store(args) => args.command.common(),
            Self::Log(args) => &args.common,
            Self::Import(args) => &args.common,
            Self::Export(args) => &args.common,
            Self::Key(args) => args.command.common(),
            Self::Env(args) => args.command.common(),
            Self::Fleet(args) => args.command.common(),
            Self::Why(args) => &args.common,
            Self::Promote(args) => &args.common,
            Self::Revoke(args) => &args.common,
            Self::Approve(args) => &args.common,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        LowArgs::command().debug_assert();
    }

    #[test]
    fn a_recipe_alone_is_a_build() {
        let args = LowArgs::try_parse_from(["imgbuild", "a.toml", "b.toml", "--frozen"]).unwrap();
        assert!(args.command.is_none() && args.build.frozen);
        assert_eq!(args.build.recipes.len(), 2);
        let args = LowArgs::try_parse_from(["imgbuild", "build", "a.toml", "--json"]).unwrap();
        assert!(args.common().json);
    }
}
