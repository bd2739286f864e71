//! The command line, as typed.

mod audit;
mod build;
mod env;
mod fleet;
mod key;
mod maintenance;
mod page;
mod promote;
mod signing;
mod spelling;

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
pub use self::key::{KeyArgs, KeyCommand, KeyNewArgs, KeyShowArgs};
pub use self::maintenance::{
    CopyArgs, FsckArgs, GcArgs, PinArgs, StoreArgs, StoreCommand, UnpinArgs,
};
pub use self::page::PageArgs;
pub use self::promote::{ApproveArgs, PromoteArgs, RevokeArgs, WaveArgs};
pub use self::signing::{Consenting, Secret, Signing};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::inspect::sbom;
use crate::transfer::export::Format;

const AFTER_HELP: &str = "\
Without a command, the arguments are recipes to build: `imgbuild recipes/fanery.toml`.

Exit codes: 0 done, 1 failed, 2 usage, 3 verification failed or refused by
policy, 4 an audit found something, 75 busy (try later), 130 interrupted.

Data goes to stdout, everything else to stderr. Flags win over the environment
(IMGBUILD_STORE, IMGBUILD_WORK, IMGBUILD_KEYS, IMGBUILD_ARCHIVE_NAME,
IMGBUILD_PASSPHRASE, IMGBUILD_PASSPHRASE_FILE), which wins over defaults. A download below 1 KiB/s is given up after
IMGBUILD_PATIENCE seconds (60).";

const BUILD_HELP: &str = "\
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

const REBUILD_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ]. Recipe, lock and every input come from the store; there is no network.
The build runs in a varied world (`imgbuild build --help`) and in a directory
below --work that is removed afterwards.

Exit code 0: the same bytes; the digest is on stdout. 3: they differ; stdout says
in which files, of which package, in what, with the changed lines of short texts,
and what diffoscope says when it is installed. 1: it could not be rebuilt.

With --attest, another machine than the one that built it says that it came to the
same bytes: policies of environments can ask for that (`imgbuild env init --help`).

Example: imgbuild rebuild dev/fanery-node --attest";

const IMAGE_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ].";

const LIST_HELP: &str = "\
A line an image: name, digest, size of its files, suite and architecture, time since it came into
the store, and where it is released (ENV/NAME/SEQ), revoked, or pinned.";

const LOG_HELP: &str = "\
RECIPE is a file; its logs are those of the last attempt on this machine, failed
or not. IMAGE is a digest, its first 8 or more hex digits, NAME (its newest
release) or ENV/NAME[/SEQ]; its log comes from the store.

Example: imgbuild log dev/fanery-node 4";

const DELTA_HELP: &str = "\
FROM and TO are digests, their first 8 or more hex digits, NAME (its newest
release) or ENV/NAME[/SEQ]. The delta holds the content that TO has and FROM has not,
compressed against what it resembles in FROM. Whatever comes out is verified like any
content, and what does not come out is fetched from packs. It can be removed at any
time, and `store gc` does so when one of the two images goes. `imgnode upgrade` takes
it from a web server or a bucket where it is the cheapest way.

Stdout says how many bytes there are to fetch with the delta, from packs, and without
FROM.

Example: imgbuild delta prod/fanery-node dev/fanery-node";

const IMPORT_HELP: &str = "\
Takes in what mmdebstrap, debootstrap, mkosi, debos or `docker export` made. The
tar may be of any dialect and order; it becomes the one canonical tar of its tree,
whose digest is the image. What no image can have (devices, FIFOs, sockets, some
extended attributes) is left out and reported. Owners are the numbers in the
archive. Times are kept; with SOURCE_DATE_EPOCH none is later. A tar that is
canonical already keeps its digest.

A tar needs no root; a directory may, to be read. A tar that is compressed or
comes through a pipe needs its unpacked size on the store's disk meanwhile.

Exit code 3: the archive is damaged, or has entries that no tree can have; the
entry is named and nothing is imported.

Examples: imgbuild import root.tar.zst --name base
          docker export web | imgbuild import - --name web
          SOURCE_DATE_EPOCH=1700000000 imgbuild import ./root --name base";

const EXPORT_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ]. The tar is the image: its blake3 is the image's name. The compressed
forms are the same bytes on every machine, whatever its number of cores, as long
as imgbuild brings the same encoders. Any tar(1) unpacks them.

With -o, these lie beside FILE, which gets its name last:
  FILE.manifest.json  the manifest as it was released
  FILE.sha256         for sha256sum -c
  FILE.dsse.json      both digests of FILE, the encoder's version and the manifest's
                      digest, signed with the environment's targets key (in-toto
                      statement in a DSSE envelope)
Who exports the same release to the same name again adds a signature.

Examples: imgbuild export fanery-node -o fanery-node.tar.zst
          imgbuild export prod/fanery-node --format tar | tar -tv";

const DIFF_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ]. Nothing is unpacked: the images' layouts are compared.

The exit code is 0 whether or not they differ; with --exit-code it is 3 when
they do.

Example: imgbuild diff prod/fanery-node dev/fanery-node --text";

const PLAN_HELP: &str = "\
One of four things: `lock` (the lock is not there, or does not fit the recipe: resolve first),
`up-to-date` (the image is released already), `take` (a cache has the image, released by an
environment that this machine trusts), `build` (run the steps that are not cached). Nothing is
changed.

Example: imgbuild plan recipes/fanery.toml --json";

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
    #[command(after_help = BUILD_HELP)]
    Build(BuildArgs),
    /// Resolve every input of a recipe and write its lock
    #[command(
        after_help = "Examples: imgbuild lock recipes/fanery.toml --upgrade\n          imgbuild lock recipes/fanery.toml --upgrade libssl1.1 --upgrade gunicorn"
    )]
    Lock(LockArgs),
    /// Show what a build would do and why, step by step
    #[command(after_help = PLAN_HELP)]
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
    #[command(after_help = LIST_HELP)]
    List(ListArgs),
    /// Show an image's manifest, or its bill of materials
    #[command(after_help = IMAGE_HELP)]
    Show(ShowArgs),
    /// Build an image again from the store alone, and compare the bytes
    #[command(after_help = REBUILD_HELP)]
    Rebuild(RebuildArgs),
    /// Show what differs between two images
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Show pending security updates of an image, and advisories that fit it
    Audit(AuditArgs),
    /// Write what runs where as web pages
    Page(PageArgs),
    /// Make the upgrade from one image to another small to fetch
    #[command(after_help = DELTA_HELP)]
    Delta(DeltaArgs),
    /// Keep a store small and whole
    Store(StoreArgs),
    /// Show what the steps of a recipe, or of an image's build, printed
    #[command(after_help = LOG_HELP)]
    Log(LogArgs),
    /// Take in a root filesystem that another tool made
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write an image as a tarball, signed to be carried by hand
    #[command(after_help = EXPORT_HELP)]
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
    #[command(after_help = IMAGE_HELP)]
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

/// `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Show each image below the one that it begins with
    #[arg(long)]
    pub tree: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
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

/// `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Show what it is made of instead.
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "cyclonedx",
        help = "Show what is installed in it: a bill of materials as JSON"
    )]
    pub sbom: Option<sbom::Format>,
    /// Sign that document: write it as an in-toto statement in a DSSE envelope
    #[arg(long, requires = "sbom")]
    pub sign: bool,
    /// The key that signs it; `builder`, made if it is not there, when left out
    #[arg(long, value_name = "NAME", requires = "sign")]
    pub key: Option<String>,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
    /// Show what is said about it, and who signed that
    #[arg(long, conflicts_with = "sbom")]
    pub attestations: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `rebuild`.
#[derive(Args, Debug)]
pub struct RebuildArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Keep the rebuilt image, in a store of its own, with its trees and logs
    #[arg(long)]
    pub keep: bool,
    /// If the bytes are the same, sign that and put it beside the image
    #[arg(long)]
    pub attest: bool,
    /// The key that signs that; `builder`, made if it is not there, when left out
    #[arg(long, value_name = "NAME", requires = "attest")]
    pub key: Option<String>,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The image that was
    #[arg(value_name = "A")]
    pub old: String,
    /// The image that is
    #[arg(value_name = "B")]
    pub new: String,
    /// Show the changed lines of short text files
    #[arg(long)]
    pub text: bool,
    /// List also the files of packages that came, went or have another version
    #[arg(long)]
    pub files: bool,
    /// End with 3 when the images differ
    #[arg(long)]
    pub exit_code: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `delta`.
#[derive(Args, Debug)]
pub struct DeltaArgs {
    /// The image that nodes have
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The image that they are to get
    #[arg(value_name = "TO")]
    pub to: String,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// A root filesystem: a directory, a tar (plain, gz, xz or zst), or `-`
    #[arg(value_name = "TAR|DIR")]
    pub from: PathBuf,
    /// What the image is called
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Environment to release into; repeatable
    #[arg(long, value_name = "ENV", default_value = "dev")]
    pub env: Vec<String>,
    /// Debian suite; read from /etc/os-release when left out
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<String>,
    /// Debian architecture; read from the tree when left out
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The image
    #[arg(value_name = "IMAGE", required_unless_present = "sign")]
    pub image: Option<String>,
    /// Form of the file; by the name of FILE when left out, else tar
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The file; standard output when left out
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Environment whose release it is and whose keys sign; dev when left out
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Add signatures to FILE.dsse.json of an export that somebody else made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "format", "output", "env"])]
    pub sign: Option<PathBuf>,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `log`.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// A recipe, or an image
    #[arg(value_name = "RECIPE|IMAGE")]
    pub of: PathBuf,
    /// Number of a step as `imgbuild plan` counts them; all when left out
    #[arg(value_name = "STEP")]
    pub step: Option<usize>,
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
