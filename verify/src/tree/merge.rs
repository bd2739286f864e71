//! Two sorted walks side by side: a tree on disk and the signed entries of an image.

use std::cmp::Ordering;
use std::iter::Fuse;
use std::os::fd::OwnedFd;

use store::canon::{self, Entry, Kind};
use store::chunk::ChunkRef;

use super::walk::{TreeEntry, TreeWalk};
use crate::error::Result;

/// An entry as it was signed, with the chunks of its content.
pub type SignedEntry = store::Result<(Entry, Vec<ChunkRef>)>;

/// When an entry on disk and a signed one are the same step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// When they have one path, even if one is a directory and the other not.
    Path,
    /// When they have one path, and both are directories or neither is.
    PathAndKind,
}

/// One step of both walks.
pub(super) enum Step {
    /// Only the tree has this path.
    OnDisk(TreeEntry),
    /// Only the image has this path.
    Signed(Entry),
    /// Both have it.
    Both(TreeEntry, Entry, Vec<ChunkRef>),
}

/// A merge of both walks, in canonical order.
pub(super) struct Merge<I: Iterator> {
    walk: TreeWalk,
    signed: Fuse<I>,
    matching: Match,
    on_disk: Option<TreeEntry>,
    wanted: Option<(Entry, Vec<ChunkRef>)>,
}

impl<I: Iterator<Item = SignedEntry>> Merge<I> {
    /// A merge of the tree at `root` with signed entries.
    pub(super) fn new(root: OwnedFd, signed: I, matching: Match) -> Self {
        Self {
            walk: TreeWalk::new(root),
            signed: signed.fuse(),
            matching,
            on_disk: None,
            wanted: None,
        }
    }

    /// The next step; `None` at the end of both.
    pub(super) fn step(&mut self) -> Result<Option<Step>> {
        if self.on_disk.is_none() {
            self.on_disk = self.walk.step()?;
        }
        if self.wanted.is_none() {
            self.wanted = self.signed.next().transpose()?;
        }
        Ok(match (self.on_disk.take(), self.wanted.take()) {
            (None, None) => None,
            (Some(found), None) => Some(Step::OnDisk(found)),
            (None, Some((entry, _))) => Some(Step::Signed(entry)),
            (Some(found), Some(wanted)) => Some(match self.order(&found, &wanted.0) {
                Ordering::Less => {
                    self.wanted = Some(wanted);
                    Step::OnDisk(found)
                }
                Ordering::Greater => {
                    self.on_disk = Some(found);
                    Step::Signed(wanted.0)
                }
                Ordering::Equal => Step::Both(found, wanted.0, wanted.1),
            }),
        })
    }

    fn order(&self, found: &TreeEntry, wanted: &Entry) -> Ordering {
        if self.matching == Match::Path && found.path == wanted.path {
            return Ordering::Equal;
        }
        canon::order(
            (&found.path, found.is_directory()),
            (&wanted.path, wanted.kind == Kind::Directory),
        )
    }
}
