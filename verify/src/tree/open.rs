//! An open tree of a generation.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Context, Result};

/// A tree that is open, and with it whatever has to stay mounted for it.
#[derive(Debug)]
pub struct OpenTree {
    /// Its root directory, open for reading.
    pub root: OwnedFd,
    /// The mount that the root is in, when it is ours alone.
    mount: Option<OwnedFd>,
}

impl OpenTree {
    /// A tree that needs no mount.
    pub fn plain(root: OwnedFd) -> Self {
        Self { root, mount: None }
    }

    /// The tree at the root of a mount that nobody else sees.
    pub fn mounted(mount: OwnedFd) -> Result<Self> {
        Ok(Self {
            root: open_again(&mount)?,
            mount: Some(mount),
        })
    }

    /// The root opened once more.
    pub fn reopen(&self) -> Result<OwnedFd> {
        open_again(&self.root)
    }

    /// Closes the tree; what was mounted for it is unmounted when this returns.
    pub fn close(self) {
        drop(self.root);
        drop(self.mount);
    }
}

/// The directory behind `root`, open for reading.
fn open_again(root: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(root, ".", flags, Mode::empty()).context(|| "cannot open the root of a tree")
}
