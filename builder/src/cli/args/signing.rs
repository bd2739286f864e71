//! How a change is signed: by which keys, with which passphrases, and whether one is asked.

use std::path::PathBuf;

use clap::Args;

pub(super) const KEY_HELP_WORDS: &str = "\
KEY is the name of a key here, a file with a public one, or its 64 hexadecimal digits.";

/// Where passphrases come from.
#[derive(Args, Clone, Debug)]
pub struct Secret {
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// How a change is signed.
#[derive(Args, Clone, Debug)]
pub struct Signing {
    /// Sign with this key only; all that count and are here, when left out
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
}

/// How a person consents to what is signed.
#[derive(Args, Clone, Copy, Debug)]
pub struct Consenting {
    /// Show all that would be signed, and sign nothing
    #[arg(long, visible_alias = "dry-run", conflicts_with = "yes")]
    pub show: bool,
    /// Do not ask at the terminal before signing
    #[arg(short, long)]
    pub yes: bool,
}
