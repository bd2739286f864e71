//! `imgbuild promote`, `revoke` and `approve`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::signing::{Consenting, Secret, Signing};
use super::{Common, WaveArgs};

const PROMOTE_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME, or ENV/NAME[/SEQ].

Checks the release that it comes from, the policy of the environment and every byte in
the destination; shows which packages change; signs; publishes. Nothing is built or
compressed again. With --store, the destination, the image comes from --source, or
from the store of IMGBUILD_STORE; what the destination lacks of it is copied.

Where it takes more than one signature, a file waits for the others: each runs
`imgbuild promote --sign FILE`, which shows them the same; the last one publishes.
Interrupted anywhere, it can be repeated.

With --waves a release reaches nodes in stages: --widen takes the newest release of NAME one
stage further, --halt keeps it from everybody who does not have it, --resume ends that. Each
is signed as a release is.

Exit codes: 3 the policy is not met; each point is named, with what would meet it.
            4 with --if-clean: it stays at its stage, and why.

Examples: imgbuild promote dev/web --to staging
          imgbuild promote --sign prod-web-7.json
          imgbuild promote staging/web --to prod --waves canary,10%,50%,100% \\
              --widen-after 2h --widen-nodes 3
          imgbuild promote web --to prod --widen --if-clean
          imgbuild promote web --to prod --halt --reason 'it does not start on eu03'";

const REVOKE_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME, or ENV/NAME[/SEQ]. Nodes that follow
ENV do not start or install it any more, under any name; it cannot be promoted there
again.

Example: imgbuild revoke 1f0c2d3e --in prod --reason 'CVE-2026-12345 in libfoo'";

/// `promote`.
#[derive(Args, Debug)]
#[command(after_help = PROMOTE_HELP)]
pub struct PromoteArgs {
    /// The image
    #[arg(
        value_name = "IMAGE",
        required_unless_present = "sign",
        conflicts_with = "sign"
    )]
    pub image: Option<String>,
    /// The environment that it comes from; dev when left out
    #[arg(long, value_name = "ENV")]
    pub from: Option<String>,
    /// The environment that it goes to
    #[arg(long, value_name = "ENV", required_unless_present = "sign")]
    pub to: Option<String>,
    /// Sign what somebody else has proposed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "from", "min_seq", "output"])]
    pub sign: Option<PathBuf>,
    /// The store that it comes from
    #[arg(long, value_name = "PATH|URL", help_heading = "Places")]
    pub source: Option<PathBuf>,
    /// Let nodes go back to this release and no further
    #[arg(long, value_name = "N")]
    pub min_seq: Option<u64>,
    /// Make deltas from so many earlier releases of the image there; 0: none
    ///
    /// Nodes that run one of them fetch less.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        env = "IMGBUILD_DELTAS",
        hide_env = true
    )]
    pub deltas: usize,
    /// How it reaches nodes.
    #[command(flatten)]
    pub waves: WaveArgs,
    /// File that waits for more signatures [default: ENV-NAME-SEQ.json]
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

/// `revoke`.
#[derive(Args, Debug)]
#[command(after_help = REVOKE_HELP)]
pub struct RevokeArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The environment
    #[arg(long = "in", value_name = "ENV")]
    pub env: String,
    /// Why; it is public
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Let nodes go back to this release and no further
    #[arg(long, value_name = "N")]
    pub min_seq: Option<u64>,
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

/// `approve`.
#[derive(Args, Debug)]
pub struct ApproveArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The environment that it may be released in
    #[arg(long = "for", value_name = "ENV")]
    pub env: String,
    /// The key of whoever approves
    #[arg(long, value_name = "NAME")]
    pub key: String,
    /// What there is to say about it; it is public
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// The environment is in another store, to which image and approval will be copied
    #[arg(long)]
    pub elsewhere: bool,
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
