//! `imgbuild fleet` and `imgbuild why`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Common;
use super::signing::{Consenting, Signing};

const STATUS_HELP: &str = "\
A line for each group of nodes, and one for each node of which there is something to say.
The list of nodes has to be signed by one who signs releases of the environment, and the
environment vouched for here (`imgbuild env trust`).

Exit codes: 4 something was found, 3 receipts are missing, forged or of a copied key.

Example: imgbuild fleet status prod --receipts https://receipts.example/";

const ENROL_HELP: &str = "\
FILE has a line for each node, as `imgnode receipts key` prints it: NAME GROUP KEY; `-` is
standard input. Lines that are empty or begin with # are passed over.

Example: ssh web07 imgnode receipts key | imgbuild fleet enrol --env prod -";

const PRUNE_HELP: &str = "\
The newest receipt of a node stays, whatever is asked for.

Example: imgbuild fleet prune prod --keep 100 --delete";

pub(super) const WHY_HELP: &str = "\
Each line ends with what vouches for it: the name of a key, or its first digits, else
`nothing vouches for this`.

Example: imgbuild why web07 --receipts s3://images/receipts";

/// `fleet`.
#[derive(Args, Debug)]
pub struct FleetArgs {
    /// What to do with nodes.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// The commands of `fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Show which images run where, and what is not as it should be
    #[command(after_help = STATUS_HELP)]
    Status(FleetStatusArgs),
    /// Show the receipts of a node
    Show(FleetShowArgs),
    /// Let the receipts of nodes count, or no longer
    #[command(after_help = ENROL_HELP)]
    Enrol(Box<FleetEnrolArgs>),
    /// Remove old receipts
    #[command(after_help = PRUNE_HELP)]
    Prune(FleetPruneArgs),
}

/// Where receipts are.
#[derive(Args, Clone, Debug)]
pub struct ReceiptsFrom {
    /// The folder that nodes put receipts into; the store when left out
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "IMGBUILD_RECEIPTS",
        help_heading = "Places"
    )]
    pub receipts: Option<String>,
}

/// `fleet status`.
#[derive(Args, Debug)]
pub struct FleetStatusArgs {
    /// The environment; all that have nodes when left out
    #[arg(value_name = "ENV")]
    pub env: Option<String>,
    /// Show also nodes of which there is nothing to say
    #[arg(long)]
    pub all: bool,
    /// Hours without a receipt after which a node is overdue
    #[arg(long, value_name = "HOURS", default_value_t = 26)]
    pub overdue: u32,
    /// Write metrics for Prometheus to FILE as well
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `fleet show`.
#[derive(Args, Debug)]
pub struct FleetShowArgs {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
    /// The environment; the one that has a node of that name when left out
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// The most receipts to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub most: usize,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `fleet enrol`.
#[derive(Args, Debug)]
pub struct FleetEnrolArgs {
    /// Files with lines of nodes
    #[arg(value_name = "FILE", required_unless_present = "remove")]
    pub files: Vec<PathBuf>,
    /// The environment whose nodes they are
    #[arg(long, value_name = "ENV")]
    pub env: String,
    /// Take a node off the list; repeatable
    #[arg(long, value_name = "NODE")]
    pub remove: Vec<String>,
    /// Let another key take the place of the one that a node had
    #[arg(long)]
    pub replace: bool,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
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

/// `fleet prune`.
#[derive(Args, Debug)]
pub struct FleetPruneArgs {
    /// The environment
    #[arg(value_name = "ENV")]
    pub env: String,
    /// How many of the newest receipts of each node stay
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub keep: usize,
    /// Remove them; without it, only say how many there are
    #[arg(long)]
    pub delete: bool,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// The node
    #[arg(value_name = "NODE")]
    pub node: String,
    /// One of its systems; all of them when left out
    #[arg(value_name = "SYSTEM")]
    pub system: Option<String>,
    /// The environment; the one that has a node of that name when left out
    #[arg(long, value_name = "ENV")]
    pub env: Option<String>,
    /// Where receipts are.
    #[command(flatten)]
    pub from: ReceiptsFrom,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

impl FleetCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            Self::Status(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Enrol(args) => &args.common,
            Self::Prune(args) => &args.common,
        }
    }
}
