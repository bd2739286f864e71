//! What every kind of storage can do for the generations of one system.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::event::Observer;
use crate::system::SystemName;
use crate::tree::open::OpenTree;

/// The system that a driver works for, and who listens.
#[derive(Clone, Copy)]
pub struct SystemContext<'a> {
    /// The name of the system.
    pub system: &'a SystemName,
    /// The state directory that knows the system.
    pub state: &'a Path,
    /// The receiver of the commands that are run.
    pub observer: &'a dyn Observer,
}

/// A generation under construction.
#[derive(Debug)]
pub struct Staging {
    /// Its tree.
    pub tree: OpenTree,
    /// Whether it began as a copy of the previous generation.
    pub copied: bool,
}

/// The storage of one system's generations. Everything that removes may be repeated.
pub trait Driver {
    /// Says whether the target directory would have to be made; refuses a target that must not be
    /// used for generation `number`, or at all when that is 0.
    fn inspect(&self, context: &SystemContext<'_>, number: u64) -> Result<bool>;

    /// Refuses when a tree of `bytes` and `inodes` has no room.
    fn check_space(&self, context: &SystemContext<'_>, bytes: u64, inodes: u64) -> Result<()>;

    /// Bytes that are free for further generations.
    fn free(&self, context: &SystemContext<'_>) -> Result<u64>;

    /// Begins generation `number`: empty, or as a copy of `previous` where the kind can. What a
    /// dead process left of an earlier attempt goes away.
    fn begin_staging(
        &self,
        context: &SystemContext<'_>,
        number: u64,
        previous: Option<u64>,
    ) -> Result<Staging>;

    /// Makes the synced and closed staging a generation, in one act.
    fn publish(&self, context: &SystemContext<'_>, number: u64) -> Result<()>;

    /// Whether a generation is there.
    fn exists(&self, context: &SystemContext<'_>, number: u64) -> Result<bool>;

    /// Makes sure that the device of a generation is there. At boot it may not be yet: on some
    /// machines LVM activates volumes when it sees their disks, and nothing waits for that.
    fn activate(&self, _: &SystemContext<'_>, _: u64) -> Result<()> {
        Ok(())
    }

    /// Opens the tree of a generation for reading.
    fn open(&self, context: &SystemContext<'_>, number: u64) -> Result<OpenTree>;

    /// The snapshots that keep a generation from being removed, whoever made them;
    /// sessions of schroot beside.
    fn holders(&self, _: &SystemContext<'_>, _: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Removes one generation.
    fn remove(&self, context: &SystemContext<'_>, number: u64) -> Result<()>;

    /// Removes what is left of generation `number` under construction.
    fn clear_staging(&self, context: &SystemContext<'_>, number: u64) -> Result<()>;

    /// Removes the directory or the marks of a system that has no generation left, and with `made` the
    /// target directory that the install made.
    fn close(&self, context: &SystemContext<'_>, made: bool) -> Result<()>;

    /// Removes what schroot left of the ended session `id`.
    fn clean_session(&self, context: &SystemContext<'_>, id: &str) -> Result<()>;

    /// The path of a generation: a directory or a device.
    fn location(&self, system: &SystemName, number: u64) -> PathBuf;

    /// The keys of schroot.conf(5) that make a chroot of a generation.
    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)>;
}
