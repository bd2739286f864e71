//! `imgbuild store ...`, as typed.

use clap::{Args, Subcommand};

use super::Common;

const GC_HELP: &str = "\
Without --delete nothing changes: it says what would go, and how much that frees.

Kept are: images released in any environment, pinned images, what living builds
use, whatever is younger than --grace, and of each name the newest --keep-last
images that are not released. With an image stay its log, recipe, lock and every
input that the lock names, so that `imgbuild rebuild` works. Packs of which more
than --waste percent are not needed are rewritten.

Safe beside builds and readers; it waits for nobody. Ends with 75 while another gc
or fsck is at work, with 3 when something that is kept is damaged: nothing is
removed then, and `imgbuild store fsck` says what it is.

Example: imgbuild store gc --keep-last 3 --delete";

const FSCK_HELP: &str = "\
Reads every byte and compares it with its name: packs and each chunk in them, indexes,
manifests, inputs, the metadata of environments. An image is also expanded to its tar
and hashed, once: with the same chunks it gives the same tar for ever, and this machine
remembers that in its work directory (--work). --paranoid expands all of them again. With
--quick no content is read: are all names, sizes and indexes right, is everything
there that images need?

Changes nothing, unless --quarantine: then damaged objects move to STORE/quarantine,
where nothing looks, after what is good in a damaged pack was saved. The next build
or publication writes again what is missing. --repair-from fetches it from another
store: chunks, manifests, inputs, manifests of releases, each verified.

Exit code 0: all is well, or was repaired. 3: something is damaged; stdout names each object, each
image that it hurts, and the files in it.

Examples: imgbuild store fsck --quick
          imgbuild store fsck --repair-from https://images.example/";

const STATS_HELP: &str = "\
`exclusive` are the bytes that only this image needs: what its removal would free,
about. `waste` are bytes in packs that no image needs.";

const PIN_HELP: &str = "\
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ]. A pin keeps the image that NAME means now, not the name.

Example: imgbuild store pin prod/fanery-node --reason 'audit of 2026'";

const COPY_HELP: &str = "\
FROM and TO are stores: PATH, or a URL; TO is made if it is an empty directory.
IMAGE is a digest, its first 8 or more hex digits, NAME (its newest release) or
ENV/NAME[/SEQ], in FROM. Without IMAGE and --env, everything that FROM lists is copied.

Only what TO lacks is moved, compressed as it is: frames of packs, inputs, logs,
attestations. Every chunk is hashed when it comes, and every image is expanded at TO
and compared with its manifest before it can be seen there. Killed or cut off, the
same command goes on where it was; what came is not sent again. Builds, readers and
gc may work on both stores meanwhile.

Environments and pins are not copied: what is released at TO is up to the keys of an
environment there.

Exit code 3: FROM does not have some image or input whole; the rest was copied.

Examples: imgbuild store copy /var/lib/imgbuild /mnt/usb/store
          imgbuild store copy https://images.example/ /srv/store prod/fanery-node
          imgbuild store copy /var/lib/imgbuild /srv/store --env prod --dry-run";

/// `store`.
#[derive(Args, Debug)]
pub struct StoreArgs {
    /// What to do with the store.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// The commands of `store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show or remove what nobody needs any more
    #[command(after_help = GC_HELP)]
    Gc(GcArgs),
    /// Check every byte of the store
    #[command(after_help = FSCK_HELP)]
    Fsck(FsckArgs),
    /// Show what the store holds, and what that takes
    #[command(after_help = STATS_HELP)]
    Stats(Common),
    /// Copy images from one store to another
    #[command(after_help = COPY_HELP)]
    Copy(CopyArgs),
    /// Keep an image whatever happens
    #[command(after_help = PIN_HELP)]
    Pin(PinArgs),
    /// End a pin
    #[command(after_help = super::image::IMAGE_HELP)]
    Unpin(UnpinArgs),
}

/// `store gc`.
#[derive(Args, Debug)]
pub struct GcArgs {
    /// Remove what would go
    #[arg(long)]
    pub delete: bool,
    /// Keep whatever was written within this time: seconds, or 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub grace: u64,
    /// Keep so many of the newest images of each name that are not released
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub keep_last: usize,
    /// Rewrite packs of which more is waste; 100 for none
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 50,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub waste: u8,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `store fsck`.
#[derive(Args, Debug)]
pub struct FsckArgs {
    /// Read no content: names, sizes, indexes and presence only
    #[arg(long)]
    pub quick: bool,
    /// Expand every image, also those that this machine has expanded before
    #[arg(long, conflicts_with = "quick")]
    pub paranoid: bool,
    /// Move damaged objects out of the way, into STORE/quarantine
    #[arg(long)]
    pub quarantine: bool,
    /// Move damaged objects out of the way, and fetch them from another store
    #[arg(long, value_name = "PATH|URL", conflicts_with = "quick")]
    pub repair_from: Option<String>,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `store copy`.
#[derive(Args, Debug)]
pub struct CopyArgs {
    /// The store to copy from
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The store to copy to
    #[arg(value_name = "TO")]
    pub to: String,
    /// Images of FROM
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Copy the images released in this environment of FROM; repeatable
    #[arg(long, value_name = "ENV")]
    pub env: Vec<String>,
    /// Leave out recipes, locks and the inputs that they name
    #[arg(long)]
    pub no_inputs: bool,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `store pin`.
#[derive(Args, Debug)]
pub struct PinArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Why; shown by `store stats` and `list`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// `store unpin`.
#[derive(Args, Debug)]
pub struct UnpinArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

impl StoreCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            Self::Gc(args) => &args.common,
            Self::Fsck(args) => &args.common,
            Self::Stats(common) => common,
            Self::Copy(args) => &args.common,
            Self::Pin(args) => &args.common,
            Self::Unpin(args) => &args.common,
        }
    }
}

/// Seconds; a number alone, or one with a unit behind it.
fn duration(text: &str) -> Result<u64, String> {
    let wrong =
        || "expected seconds, or a number with s, m, h or d behind it, as in 24h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("24h", 86400),
            ("7d", 604_800),
        ] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "h",
            "1w",
            "-1",
            "1.5h",
            "1 h",
            "99999999999999999999",
            "9999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
