//! `imgbuild env`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Common;
use super::signing::{Consenting, KEY_HELP_WORDS, Secret, Signing};

const INIT_HELP: &str = "\
KEY is the name of a key here, a file with a public one, or its 64 hexadecimal digits.
A group without keys gets one, ENV.root, ENV.targets or ENV.online, made if it is not
here: the first two with a passphrase unless --plain, the online key without, because
a timer uses it. Keep the root keys elsewhere afterwards.

When keys in hand sign for all that it takes, the environment is there. Otherwise a
file waits for the others: each runs `imgbuild env root sign FILE`, the last one
`imgbuild env root publish FILE`.

The policy is a TOML file:
  built = { keys = [\"ci\"] }
  rebuilt = { count = 1 }
  approvals = { count = 2, keys = [\"ann\", \"bob\", \"eve\"] }
  audited = { keys = [\"ci\"], max-age-days = 7, pending-security = 0, severity = \"high\" }
  max-age-days = 30
  from = [\"staging\"]
  [keys]
  ci = \"64 hexadecimal digits\"

Examples: imgbuild env init staging --plain
          imgbuild env init prod --root ann --root bob.pub --root-threshold 2 \\
              --targets ann --targets bob.pub --targets-threshold 2 --policy prod.toml";

const PROPOSE_HELP: &str = "\
GROUP is root, targets or online. The change is written to a file, signed with the
keys in hand; nothing is published.

Example: imgbuild env root propose prod --add targets=eve.pub --threshold targets=2";

const SAVE_HELP: &str = "\
Whoever has this file believes the environment and nobody else: compare the digest that
is printed with the one that `imgbuild env init` printed to those who made it.

Example: imgbuild env root save prod --store s3://images/team";

const WITNESS_HELP: &str = "\
For a machine of its own, whose administrator signs no releases: it remembers what it signed
last, beside its keys, and refuses a store that shows another history than then. Where a policy
asks for `witnessed`, nothing is released until the log has been seen to its end.

Example: imgbuild env witness prod --key notary --store https://images.example/ --output seen.json";

const STATUS_HELP: &str = "\
Warns of what is in the last third of its time. Exit code 3: something has run out, and
nodes refuse it.";

/// `env`.
#[derive(Args, Debug)]
pub struct EnvArgs {
    /// What to do with environments.
    #[command(subcommand)]
    pub command: EnvCommand,
}

/// The commands of `env`.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Make an environment
    #[command(after_help = INIT_HELP)]
    Init(Box<EnvInitArgs>),
    /// Show releases, keys, expiries and what is revoked
    #[command(after_help = STATUS_HELP)]
    Status(EnvStatusArgs),
    /// Sign snapshot and timestamp anew before they run out; for a timer
    Refresh(EnvRefreshArgs),
    /// Replace a key by another one
    #[command(after_help = KEY_HELP_WORDS)]
    RotateKey(EnvRotateArgs),
    /// Show what was done to an environment
    Log(EnvLogArgs),
    /// Compare an environment's log with what was seen before, and sign where it ends
    #[command(after_help = WITNESS_HELP)]
    Witness(EnvWitnessArgs),
    /// Vouch for an environment that others made
    Trust(EnvTrustArgs),
    /// Change keys, thresholds, lifetimes or policy, hand in hand
    Root(EnvRootArgs),
}

/// `env init`.
#[derive(Args, Debug)]
pub struct EnvInitArgs {
    /// Its name
    #[arg(value_name = "ENV")]
    pub env: String,
    /// A key that decides about keys and policy; repeatable
    #[arg(long = "root", value_name = "KEY", help_heading = "Keys")]
    pub root: Vec<String>,
    /// A key that signs releases; repeatable
    #[arg(long = "targets", value_name = "KEY", help_heading = "Keys")]
    pub targets: Vec<String>,
    /// A key that signs snapshots and timestamps; repeatable
    #[arg(long = "online", value_name = "KEY", help_heading = "Keys")]
    pub online: Vec<String>,
    /// How many root keys must sign
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Keys")]
    pub root_threshold: u64,
    /// How many targets keys must sign
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Keys")]
    pub targets_threshold: u64,
    /// Make missing keys without a passphrase
    #[arg(long, help_heading = "Keys")]
    pub plain: bool,
    /// How long signatures last.
    #[command(flatten)]
    pub days: Days,
    /// What releases need: a TOML file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// File that waits for more signatures
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// How long signatures last.
#[derive(Args, Clone, Debug)]
pub struct Days {
    /// Days that root signatures last [default: 365]
    #[arg(long, value_name = "N", help_heading = "Lifetimes")]
    pub root_days: Option<u32>,
    /// Days that targets signatures last [default: 90]
    #[arg(long, value_name = "N", help_heading = "Lifetimes")]
    pub targets_days: Option<u32>,
    /// Days that snapshot signatures last [default: 14]
    #[arg(long, value_name = "N", help_heading = "Lifetimes")]
    pub snapshot_days: Option<u32>,
    /// Days that timestamp signatures last [default: 7]
    #[arg(long, value_name = "N", help_heading = "Lifetimes")]
    pub timestamp_days: Option<u32>,
}

/// `env status`.
#[derive(Args, Debug)]
pub struct EnvStatusArgs {
    /// The environment; all of the store when left out
    #[arg(value_name = "ENV")]
    pub env: Option<String>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env refresh`.
#[derive(Args, Debug)]
pub struct EnvRefreshArgs {
    /// The environments
    #[arg(value_name = "ENV", required = true)]
    pub envs: Vec<String>,
    /// Also targets and root, when due and their keys are here; targets that take more
    /// signatures wait in ENV-targets-VERSION.json
    #[arg(long)]
    pub all: bool,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env rotate-key`.
#[derive(Args, Debug)]
pub struct EnvRotateArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The key that goes
    #[arg(long, value_name = "KEY")]
    pub old: String,
    /// The key that comes
    #[arg(long, value_name = "KEY")]
    pub new: String,
    /// File that waits for more signatures
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env log`.
#[derive(Args, Debug)]
pub struct EnvLogArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The most entries to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    pub most: usize,
    /// Write all of it, with every signature, to a file for whoever checks it elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "most")]
    pub export: Option<PathBuf>,
    /// Read such a file in place of the store
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    pub from: Option<PathBuf>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env witness`.
#[derive(Args, Debug)]
pub struct EnvWitnessArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The key of the witness
    #[arg(long, value_name = "NAME", required_unless_present_any = ["add", "show"])]
    pub key: Option<String>,
    /// Read a file of `env log --export` in place of the store
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Write what is signed to a file, and not into the store
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Put such a file into the store
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "from", "output", "show"])]
    pub add: Option<PathBuf>,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env trust`.
#[derive(Args, Debug)]
pub struct EnvTrustArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The digest of its first root, as somebody who made it says it
    #[arg(value_name = "DIGEST")]
    pub fingerprint: String,
    /// Read a file of `env log --export` in place of the store
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Believe no other environment of that name any more
    #[arg(long)]
    pub only: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env root`.
#[derive(Args, Debug)]
pub struct EnvRootArgs {
    /// What to do with a root.
    #[command(subcommand)]
    pub command: EnvRootCommand,
}

/// The commands of `env root`.
#[derive(Debug, Subcommand)]
pub enum EnvRootCommand {
    /// Write a change to a file
    #[command(after_help = PROPOSE_HELP)]
    Propose(Box<EnvProposeArgs>),
    /// See what a file changes, and sign it
    Sign(FileArgs),
    /// Publish a file that enough have signed
    Publish(PublishArgs),
    /// Save the first root to a file: what nodes and builders are given to trust
    #[command(after_help = SAVE_HELP)]
    Save(SaveArgs),
}

/// `env root save`.
#[derive(Args, Debug)]
pub struct SaveArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// The file [default: ENV.root.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env root propose`.
#[derive(Args, Debug)]
pub struct EnvProposeArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// Let a key sign for a group; repeatable
    #[arg(long, value_name = "GROUP=KEY")]
    pub add: Vec<String>,
    /// Let a key no longer sign for a group; repeatable
    #[arg(long, value_name = "GROUP=KEY")]
    pub remove: Vec<String>,
    /// How many keys of a group must sign; repeatable
    #[arg(long, value_name = "GROUP=N")]
    pub threshold: Vec<String>,
    /// How long signatures last.
    #[command(flatten)]
    pub days: Days,
    /// What releases need from now on: a TOML file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Releases need nothing any more
    #[arg(long, conflicts_with = "policy")]
    pub no_policy: bool,
    /// The file [default: ENV-root-VERSION.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// A file that waits for signatures.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `env root publish`.
#[derive(Args, Debug)]
pub struct PublishArgs {
    /// The file, or copies of it that were signed apart
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How a person consents.
    #[command(flatten)]
    pub consenting: Consenting,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

impl EnvCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            Self::Init(args) => &args.common,
            Self::Status(args) => &args.common,
            Self::Refresh(args) => &args.common,
            Self::RotateKey(args) => &args.common,
            Self::Log(args) => &args.common,
            Self::Witness(args) => &args.common,
            Self::Trust(args) => &args.common,
            Self::Root(args) => match &args.command {
                EnvRootCommand::Propose(args) => &args.common,
                EnvRootCommand::Sign(args) => &args.common,
                EnvRootCommand::Publish(args) => &args.common,
                EnvRootCommand::Save(args) => &args.common,
            },
        }
    }
}
