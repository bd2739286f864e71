//! `imgbuild import` and `export`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::{Common, Consenting, Signing};
use crate::transfer::export::Format;

pub(super) const IMPORT_HELP: &str = "\
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

pub(super) const EXPORT_HELP: &str = "\
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
