//! `btrfs:PATH`: generations as subvolumes.
//!
//! Laid out as a plain directory is (see `dir`), but each generation is a subvolume, and the
//! next one begins as a snapshot of the one before: what did not change costs no space and is not
//! written again. Sessions get an overlay, as with directories, so a killed session leaves no
//! subvolume behind.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dir::{Dir, existing, open_directory};
use super::driver::{Driver, Staging, SystemContext};
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::host::commands::HostCommand;
use crate::system::SystemName;
use crate::tree::open::OpenTree;

/// `BTRFS_SUPER_MAGIC` of linux/magic.h, as `statfs` tells it.
const MAGIC: u32 = 0x9123_683e;
/// The inode of every subvolume's root; btrfs(5) calls it the first free object id.
const ROOT_INODE: u64 = 256;

/// A directory on btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Btrfs(Dir);

impl Btrfs {
    /// Reads the part of a target behind `btrfs:`.
    pub(super) fn parse(path: &str) -> Result<Self> {
        Dir::parse(path).map(Self)
    }

    /// The path of the target directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Driver for Btrfs {
    fn inspect(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        let made = self.0.inspect(context, number)?;
        let place = existing(self.path());
        let found =
            rustix::fs::statfs(place).context(|| format!("cannot look at {}", place.display()))?;
        // The field is wider on some architectures; the magic fits all of them.
        if u32::try_from(found.f_type).is_ok_and(|kind| kind == MAGIC) {
            return Ok(made);
        }
        Err(Error::usage(format!("{} is not on btrfs", place.display()))
            .hint(format!("--target dir:{}", self.path().display())))
    }

    fn check_space(&self, context: &SystemContext<'_>, bytes: u64, inodes: u64) -> Result<()> {
        self.0.check_space(context, bytes, inodes)
    }

    fn free(&self, context: &SystemContext<'_>) -> Result<u64> {
        self.0.free(context)
    }

    fn begin_staging(
        &self,
        context: &SystemContext<'_>,
        number: u64,
        previous: Option<u64>,
    ) -> Result<Staging> {
        self.0.open_home(context)?;
        self.clear_staging(context, number)?;
        let staging = self.0.staging(context.system);
        let words = match previous {
            Some(previous) => vec![
                "snapshot".to_owned(),
                words(&self.location(context.system, previous)),
                words(&staging),
            ],
            None => vec!["create".to_owned(), words(&staging)],
        };
        subvolume(words, context)?;
        Ok(Staging {
            tree: OpenTree::plain(open_directory(&staging)?),
            copied: previous.is_some(),
        })
    }

    fn publish(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        self.0.publish(context, number)
    }

    fn exists(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        self.0.exists(context, number)
    }

    fn open(&self, context: &SystemContext<'_>, number: u64) -> Result<OpenTree> {
        self.0.open(context, number)
    }

    fn remove(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        delete(&self.location(context.system, number), context)
    }

    fn clear_staging(&self, context: &SystemContext<'_>, _: u64) -> Result<()> {
        delete(&self.0.staging(context.system), context)
    }

    fn close(&self, context: &SystemContext<'_>, made: bool) -> Result<()> {
        self.0.close(context, made)
    }

    fn clean_session(&self, context: &SystemContext<'_>, id: &str) -> Result<()> {
        self.0.clean_session(context, id)
    }

    fn location(&self, system: &SystemName, number: u64) -> PathBuf {
        self.0.location(system, number)
    }

    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)> {
        self.0.chroot(system, number)
    }
}

fn words(path: &Path) -> String {
    // Targets are text and generations numbers.
    path.to_string_lossy().into_owned()
}

fn subvolume(words: Vec<String>, context: &SystemContext<'_>) -> Result<()> {
    HostCommand::new("btrfs")
        .args(["--quiet", "subvolume"])
        .args(words)
        .timeout(Duration::from_secs(300))
        .run(context.observer)
        .map(|_| ())
}

/// Deletes a subvolume or an ordinary tree, if there is one.
fn delete(path: &Path, context: &SystemContext<'_>) -> Result<()> {
    let is_subvolume = std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.ino() == ROOT_INODE);
    if is_subvolume {
        subvolume(vec!["delete".to_owned(), words(path)], context)
    } else {
        atomic_file::remove_tree(path)
    }
}
