//! The target of a system, as an operator types it and as records have it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::btrfs::Btrfs;
use super::dir::Dir;
use super::driver::Driver;
use super::lvm::Lvm;
use super::lvm_thin::LvmThin;
use crate::error::{Error, Result};

/// A place for generations, and how they are kept there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Plain directories.
    Dir(Dir),
    /// Subvolumes of btrfs.
    Btrfs(Btrfs),
    /// Logical volumes.
    Lvm(Lvm),
    /// Thin logical volumes.
    LvmThin(LvmThin),
}

impl Target {
    /// The driver that keeps generations there.
    pub fn driver(&self) -> &dyn Driver {
        match self {
            Self::Dir(directory) => directory,
            Self::Btrfs(btrfs) => btrfs,
            Self::Lvm(lvm) => lvm,
            Self::LvmThin(thin) => thin,
        }
    }
}

const SYNTAX: &str = "use dir:PATH, btrfs:PATH, lvm:VG/LV:SIZE[:xfs|ext4[:SNAPSHOT]] or lvm-thin:VG/POOL:SIZE[:xfs|ext4]";

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "dir" => Dir::parse(rest).map(Self::Dir),
            "btrfs" => Btrfs::parse(rest).map(Self::Btrfs),
            "lvm" => Lvm::parse(rest).map(Self::Lvm),
            "lvm-thin" => LvmThin::parse(rest).map(Self::LvmThin),
            _ => {
                Err(Error::usage(format!("`{}` is not a target", text.escape_debug())).hint(SYNTAX))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(directory) => write!(f, "dir:{}", directory.path().display()),
            Self::Btrfs(btrfs) => write!(f, "btrfs:{}", btrfs.path().display()),
            Self::Lvm(lvm) => write!(f, "lvm:{lvm}"),
            Self::LvmThin(thin) => write!(f, "lvm-thin:{thin}"),
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
