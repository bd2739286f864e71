//! Commands about images of the store, as typed: `list`, `show`, `rebuild`, `diff`, `delta` and `log`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Secret};
use crate::inspect::sbom;

pub(super) const REBUILD_HELP: &str = "\
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

pub(super) const IMAGE_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ].";

pub(super) const LIST_HELP: &str = "\
A line an image: name, digest, size of its files, suite and architecture, time since it came into
the store, and where it is released (ENV/NAME/SEQ), revoked, or pinned.";

pub(super) const LOG_HELP: &str = "\
RECIPE is a file; its logs are those of the last attempt on this machine, failed
or not. IMAGE is a digest, its first 8 or more hex digits, NAME (its newest
release) or ENV/NAME[/SEQ]; its log comes from the store.

Example: imgbuild log dev/fanery-node 4";

pub(super) const DELTA_HELP: &str = "\
FROM and TO are digests, their first 8 or more hex digits, NAME (its newest
release) or ENV/NAME[/SEQ]. The delta holds the content that TO has and FROM has not,
compressed against what it resembles in FROM. Whatever comes out is verified like any
content, and what does not come out is fetched from packs. It can be removed at any
time, and `store gc` does so when one of the two images goes. `imgnode upgrade` takes
it from a web server or a bucket where it is the cheapest way.

Stdout says how many bytes there are to fetch with the delta, from packs, and without
FROM.

Example: imgbuild delta prod/fanery-node dev/fanery-node";

pub(super) const DIFF_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ]. Nothing is unpacked: the images' layouts are compared.

The exit code is 0 whether or not they differ; with --exit-code it is 3 when
they do.

Example: imgbuild diff prod/fanery-node dev/fanery-node --text";

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
