//! `imgbuild build`, `lock`, `plan` and `shell`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::Common;

pub(super) const BUILD_HELP: &str = "\
Example: imgbuild build recipes/fanery.toml --setup

--vary proves a recipe reproducible: the digest must be that of the plain build.
It runs every step afresh, from inputs that the store retains, where all is
different that must not matter: the clock (over a year ahead), the order in which
directories are read (reversed), the CPUs (one), the path of the build, and host
name, locale, time zone and umask of imgbuild. Programs in the steps are traced
for that, so they cannot trace each other. Tests are left out, and the image is
not released. `imgbuild rebuild IMAGE` does the same and reports differences.

--cache names a store that builders share. Inputs are taken from it, compared with
the lock, before a mirror is asked (with --frozen as well; with --offline only from a
directory); a finished image of the same recipe and lock is taken instead of built, if
an environment there has it released whose first root is given with --trust or lies in
KEYS/trusted. A cache that cannot be reached is a warning.
Example: imgbuild recipes/fanery.toml --cache https://images.example/ --trust dev.root.json";

pub(super) const PLAN_HELP: &str = "\
One of four things: `lock` (the lock is not there, or does not fit the recipe: resolve first),
`up-to-date` (the image is released already), `take` (a cache has the image, released by an
environment that this machine trusts), `build` (run the steps that are not cached). Nothing is
changed.

Example: imgbuild plan recipes/fanery.toml --json";

/// `build`.
#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools)] // flags as typed
pub struct BuildArgs {
    /// Recipes to build
    #[arg(value_name = "RECIPE", required = true)]
    pub recipes: Vec<PathBuf>,
    /// Refuse when the lock does not fit the recipe
    #[arg(long)]
    pub locked: bool,
    /// Like --locked, and refuse to fetch what the store lacks
    #[arg(long)]
    pub frozen: bool,
    /// Do not use the network
    #[arg(long)]
    pub offline: bool,
    /// Rebuild those of these recipes that are based on this image, on its newest release, and then
    /// recipes based on those
    #[arg(long, value_name = "ENV/NAME", conflicts_with_all = ["locked", "frozen", "vary"])]
    pub all_on: Option<String>,
    /// Do nothing for recipes whose newest release in dev was built from the same recipe and lock by the
    /// same version, wherever that was
    #[arg(long, conflicts_with_all = ["vary", "all_on"])]
    pub if_needed: bool,
    /// Install missing programs of this machine first, after saying which
    #[arg(long)]
    pub setup: bool,
    /// Build with another clock, locale, paths and more, to show that none of them changes the image;
    /// implies --frozen
    #[arg(long)]
    pub vary: bool,
    /// Where finished things may come from.
    #[command(flatten)]
    pub from: CacheArgs,
    /// Put what was built, and what it was built from, into the caches
    #[arg(long, help_heading = "Sharing")]
    pub push: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `lock`.
#[derive(Args, Debug)]
pub struct LockArgs {
    /// The recipe
    pub recipe: PathBuf,
    /// Take everything anew instead of what changed; with a name, only that Debian package or
    /// Python distribution and what must follow it, with `base` the newest release of the base;
    /// repeatable
    #[arg(
        long,
        value_name = "PACKAGE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_delimiter = ','
    )]
    pub upgrade: Vec<String>,
    /// Install missing programs of this machine first, after saying which
    #[arg(long)]
    pub setup: bool,
    /// Another store to take inputs from; repeatable
    #[arg(
        long = "cache",
        value_name = "PATH|URL",
        env = "IMGBUILD_CACHE",
        value_delimiter = ',',
        help_heading = "Sharing"
    )]
    pub caches: Vec<String>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// Caches, and whose images of them are taken.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Another store to take inputs and finished images from; repeatable
    #[arg(
        long = "cache",
        value_name = "PATH|URL",
        env = "IMGBUILD_CACHE",
        value_delimiter = ',',
        help_heading = "Sharing"
    )]
    pub caches: Vec<String>,
    /// First root of an environment of a cache whose images are taken; repeatable
    #[arg(
        long,
        value_name = "FILE",
        env = "IMGBUILD_TRUST",
        value_delimiter = ',',
        help_heading = "Sharing"
    )]
    pub trust: Vec<PathBuf>,
}

/// `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The recipe
    pub recipe: PathBuf,
    /// Where the finished image may come from.
    #[command(flatten)]
    pub from: CacheArgs,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `shell`.
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// The recipe
    pub recipe: PathBuf,
    /// Number of a step as `imgbuild plan` counts them
    #[arg(long, value_name = "N")]
    pub step: Option<usize>,
    /// Keep what the shell changes, in a directory that is named at the end
    #[arg(long)]
    pub keep: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}
