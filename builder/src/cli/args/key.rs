//! `imgbuild key`, as typed.

use clap::{Args, Subcommand};

use super::Common;
use super::signing::{KEY_HELP_WORDS, Secret};

const KEY_NEW_HELP: &str = "\
Makes KEYS/NAME.pem (ed25519, PKCS#8, mode 0600) and KEYS/NAME.pub. The passphrase is
typed on the terminal, or is the first line of --passphrase-file, or of the file that
IMGBUILD_PASSPHRASE_FILE names, or IMGBUILD_PASSPHRASE; never an argument. openssl
reads both files.

A key that is elsewhere is described by a file KEYS/NAME.signer:
  public = \"64 hexadecimal digits\"
  command = [\"/usr/local/bin/sign-with-token\", \"--slot\", \"1\"]
The command gets the bytes to sign on standard input and writes the signature, 64
bytes or 128 hexadecimal digits, to standard output.

Example: imgbuild key new ann";

/// `key`.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key
    #[command(after_help = KEY_NEW_HELP)]
    New(KeyNewArgs),
    /// Show the public half of a key
    #[command(after_help = KEY_HELP_WORDS)]
    Show(KeyShowArgs),
    /// List the keys that are here
    List(Common),
}

/// `key new`.
#[derive(Args, Debug)]
pub struct KeyNewArgs {
    /// What it is called
    pub name: String,
    /// Without a passphrase
    #[arg(long)]
    pub plain: bool,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `key show`.
#[derive(Args, Debug)]
pub struct KeyShowArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// As PEM, for openssl
    #[arg(long)]
    pub pem: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

impl KeyCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            Self::New(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::List(common) => common,
        }
    }
}
