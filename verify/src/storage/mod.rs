//! Where generations live.
//!
//! ```text
//! dir:PATH                       directories side by side; sessions get an overlay
//! btrfs:PATH                     the same as subvolumes; the next one begins as a snapshot
//! lvm:VG/LV:SIZE[:FS[:SNAP]]     a logical volume each; sessions are LVM snapshots of SNAP
//! lvm-thin:VG/POOL:SIZE[:FS]     thin volumes; the next one begins as a snapshot
//! ```
//! What was typed is a [`Target`], and so is what the records say. What a kind can do is the trait
//! [`Keeper`], one room each; everything above works with that alone. A keeper touches only what
//! carries the mark of this system and this state directory: the mark file of a directory, the tags
//! of a volume. Whatever has the right name and no mark is foreign and makes it refuse.
//!
//! A generation is built as *staging*, which nobody else sees and which a dead process may leave
//! behind, and becomes a generation by one atomic act ([`Keeper::place`]).

mod btrfs;
mod dir;
mod lvm;
mod lvm_thin;
mod mount;
mod safe_path;
mod volume;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::btrfs::Btrfs;
pub use self::dir::Directory;
pub use self::lvm::Lvm;
pub use self::lvm_thin::Thin;
pub use self::volume::{FileSystem, Size};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::node::Node;
use crate::system::SystemName;

/// A place for generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Plain directories.
    Directory(Directory),
    /// Subvolumes of btrfs.
    Btrfs(Btrfs),
    /// Logical volumes.
    Lvm(Lvm),
    /// Thin logical volumes.
    Thin(Thin),
}

/// Whose generations, and who listens.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// The system.
    pub system: &'a SystemName,
    /// The state directory that knows it.
    pub state: &'a Path,
    /// Who hears of the commands that are run.
    pub observer: &'a dyn Observer,
}

impl<'a> Desk<'a> {
    /// The desk of a system on a node.
    pub fn of(node: &'a Node<'_>, system: &'a SystemName) -> Self {
        Self {
            system,
            state: node.state.root(),
            observer: node.observer,
        }
    }
}

/// A tree that is open, and with it whatever has to stay mounted for it.
#[derive(Debug)]
pub struct Tree {
    /// Its root directory, open for reading.
    pub root: OwnedFd,
    /// The mount that the root is in, when it is ours alone.
    mount: Option<OwnedFd>,
}

impl Tree {
    /// A tree that needs no mount.
    pub fn plain(root: OwnedFd) -> Self {
        Self { root, mount: None }
    }

    /// The root opened once more.
    pub fn reopen(&self) -> Result<OwnedFd> {
        mount::directory(&self.root)
    }

    /// Closes the tree; what was mounted for it is unmounted when this returns.
    pub fn close(self) {
        drop(self.root);
        drop(self.mount);
    }
}

/// A generation under construction.
#[derive(Debug)]
pub struct Staging {
    /// Its tree.
    pub tree: Tree,
    /// Whether it began as a copy of the previous generation.
    pub copied: bool,
}

/// What a keeper can do for one system. Everything that removes may be repeated.
pub trait Keeper {
    /// Whether the place itself would have to be made; refuses a place that must not be used for
    /// generation `number`, or at all when that is 0.
    fn inspect(&self, desk: &Desk<'_>, number: u64) -> Result<bool>;

    /// Refuses when a tree of `bytes` and `inodes` has no room.
    fn check_space(&self, desk: &Desk<'_>, bytes: u64, inodes: u64) -> Result<()>;

    /// Bytes that are free for further generations.
    fn free(&self, desk: &Desk<'_>) -> Result<u64>;

    /// Begins generation `number`: empty, or as a copy of `previous` where the kind can. What a
    /// dead process left of an earlier attempt goes away.
    fn prepare(&self, desk: &Desk<'_>, number: u64, previous: Option<u64>) -> Result<Staging>;

    /// Makes the synced and closed staging a generation, in one act.
    fn place(&self, desk: &Desk<'_>, number: u64) -> Result<()>;

    /// Whether a generation is there.
    fn exists(&self, desk: &Desk<'_>, number: u64) -> Result<bool>;

    /// Opens the tree of a generation for reading.
    fn open(&self, desk: &Desk<'_>, number: u64) -> Result<Tree>;

    /// What keeps a generation from being removed, beside sessions of schroot: snapshots that
    /// somebody made.
    fn holders(&self, _: &Desk<'_>, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Takes away one generation.
    fn remove(&self, desk: &Desk<'_>, number: u64) -> Result<()>;

    /// Takes away what is left of generation `number` under construction.
    fn clear_staging(&self, desk: &Desk<'_>, number: u64) -> Result<()>;

    /// Takes away what holds a system without generations, and the place too if `made` says that
    /// the install made it.
    fn close(&self, desk: &Desk<'_>, made: bool) -> Result<()>;

    /// Takes away what schroot left of the ended session `id`.
    fn sweep(&self, desk: &Desk<'_>, id: &str) -> Result<()>;

    /// Where a generation is: a directory or a device.
    fn location(&self, system: &SystemName, number: u64) -> PathBuf;

    /// The keys of schroot.conf(5) that make a chroot of a generation.
    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)>;
}

impl Target {
    /// Who keeps generations there.
    pub fn keeper(&self) -> &dyn Keeper {
        match self {
            Self::Directory(directory) => directory,
            Self::Btrfs(btrfs) => btrfs,
            Self::Lvm(lvm) => lvm,
            Self::Thin(thin) => thin,
        }
    }
}

const SYNTAX: &str = "use dir:PATH, btrfs:PATH, lvm:VG/LV:SIZE[:xfs|ext4[:SNAPSHOT]] or lvm-thin:VG/POOL:SIZE[:xfs|ext4]";

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "dir" => Directory::parse(rest).map(Self::Directory),
            "btrfs" => Btrfs::parse(rest).map(Self::Btrfs),
            "lvm" => Lvm::parse(rest).map(Self::Lvm),
            "lvm-thin" => Thin::parse(rest).map(Self::Thin),
            _ => {
                Err(Error::usage(format!("`{}` is not a target", text.escape_debug())).hint(SYNTAX))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "dir:{}", directory.path().display()),
            Self::Btrfs(btrfs) => write!(f, "btrfs:{}", btrfs.path().display()),
            Self::Lvm(lvm) => write!(f, "lvm:{lvm}"),
            Self::Thin(thin) => write!(f, "lvm-thin:{thin}"),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_targets() {
        for (text, canonical) in [
            ("dir:/srv/images/", "dir:/srv/images"),
            ("btrfs:/srv/images", "btrfs:/srv/images"),
            ("lvm:vg0/web:10G", "lvm:vg0/web:10G:xfs:2G"),
            ("lvm:vg0/web:10g:ext4", "lvm:vg0/web:10G:ext4:2G"),
            ("lvm:vg0/web:512M:ext4:64M", "lvm:vg0/web:512M:ext4:64M"),
            ("lvm-thin:vg0/pool:10G", "lvm-thin:vg0/pool:10G:xfs"),
            ("lvm-thin:vg-0/p.1_x:1T:ext4", "lvm-thin:vg-0/p.1_x:1T:ext4"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), canonical);
            assert_eq!(canonical.parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn texts_that_are_not() {
        for text in [
            "",
            "dir:",
            "dir:/",
            "dir:rel",
            "dir:/a/../b",
            "dir:/a b",
            "dir:/a#b",
            "dir://a",
            "btrfs:rel",
            "lvm:vg/lv",
            "lvm:vg/lv:",
            "lvm:vg:1G",
            "lvm:/dev/vg/lv:1G",
            "lvm:-vg/lv:1G",
            "lvm:vg/..:1G",
            "lvm:vg/lv:1G:fat",
            "lvm:vg/lv:1X",
            "lvm:vg/lv:0G",
            "lvm:vg/lv:G",
            "lvm:vg/lv:+1G",
            "lvm:vg/lv:1G:xfs:2G:more",
            "lvm:vg/lv:99999999999999999999G",
            "lvm-thin:vg/pool:1G:xfs:2G",
            "lvm:vg/l v:1G",
            "x:/y",
        ] {
            assert_eq!(text.parse::<Target>().unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
