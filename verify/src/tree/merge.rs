//! Two sorted walks side by side: a tree on disk and the signed entries of an image.

use std::cmp::Ordering;
use std::iter::Fuse;
use std::os::fd::OwnedFd;

use store::canonical_tar::{self, Entry, Kind};
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
        canonical_tar::order(
            (&found.path, found.is_directory()),
            (&wanted.path, wanted.kind == Kind::Directory),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn signed(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: std::collections::BTreeMap::new(),
        }
    }

    /// The steps in words: the path, and on which side it is.
    fn steps(matching: Match) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        // On disk `b` is a directory, in the image a file; `a` and `c` are on one side only.
        fs::create_dir_all(directory.path().join("b")).unwrap();
        fs::write(directory.path().join("a"), b"").unwrap();
        let image = [
            signed("", Kind::Directory),
            signed("b", Kind::File { size: 0 }),
            signed("c", Kind::File { size: 0 }),
        ];
        let root = fs::File::open(directory.path()).unwrap().into();
        let mut merge = Merge::new(
            root,
            image.map(|entry| Ok((entry, vec![]))).into_iter(),
            matching,
        );
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        std::iter::from_fn(|| merge.step().unwrap())
            .map(|step| match step {
                Step::OnDisk(found) => text(&found.path) + " on disk",
                Step::Signed(entry) => text(&entry.path) + " signed",
                Step::Both(_, entry, _) => text(&entry.path) + " both",
            })
            .collect()
    }

    #[test]
    fn both_walks_meet_where_they_are_told_to() {
        assert_eq!(
            steps(Match::Path),
            [" both", "a on disk", "b both", "c signed"]
        );
        assert_eq!(
            steps(Match::PathAndKind),
            [" both", "a on disk", "b signed", "b on disk", "c signed"]
        );
    }
}
