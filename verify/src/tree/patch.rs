//! Turning the copy of one generation into the next.
//!
//! Where a target can begin with a snapshot, the new tree is the old one until something is changed
//! in it. [`plan`] reads every byte of the copy beside the new image's signed entries and says
//! which are there already, exactly, and what has to go. [`prune`] takes that away. The extraction
//! then writes only what is not there, each file anew: a file that other names still share is never
//! written into.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, OFlags, unlinkat};
use rustix::io::Errno;
use store::canonical_tar::{self, Entry, Kind};

use super::compare::compare;
use super::merge::{Match, Merge, SignedEntry, Step};
use super::openat;
use super::walk::TreeEntry;
use crate::error::{Error, Result, check_cancelled};

/// What of a copied tree belongs to the new image, and what does not.
#[derive(Debug, Default)]
pub struct PatchPlan {
    /// For each entry of the new image, in order: whether it is there already.
    pub keep: Vec<bool>,
    /// Paths to remove, parents before what is in them; the flag is true for directories.
    pub remove: Vec<(Vec<u8>, bool)>,
}

/// Compares the copied tree at `root` with the entries of the new image.
pub fn plan(
    root: OwnedFd,
    signed: impl Iterator<Item = SignedEntry>,
    cancel: &AtomicBool,
) -> Result<PatchPlan> {
    let mut out = PatchPlan::default();
    let mut merge = Merge::new(root, signed, Match::PathAndKind);
    // Files with several names that stay: only their further names may stay too.
    let mut shared: HashSet<Vec<u8>> = HashSet::new();
    let mut buffer = vec![0; store::chunk::MAX];
    while let Some(step) = merge.step()? {
        check_cancelled(cancel)?;
        match step {
            Step::OnDisk(found) => {
                let directory = found.is_directory();
                out.remove.push((found.path, directory));
            }
            Step::Signed(_) => out.keep.push(false),
            Step::Both(mut found, entry, chunks) => {
                let keep = match &entry.kind {
                    Kind::Hardlink { target } if !shared.contains(target) => false,
                    // Its owner and time follow from the first name's.
                    Kind::Hardlink { target } => is_link_to(&found, target),
                    _ => compare(&mut found, &entry, &chunks, &mut buffer)?.is_empty(),
                };
                if keep && found.links > 1 && matches!(entry.kind, Kind::File { .. }) {
                    shared.insert(entry.path.clone());
                }
                // A directory stays where it is, whatever has to be changed about it.
                if !keep && entry.kind != Kind::Directory {
                    out.remove.push((found.path, false));
                }
                out.keep.push(keep);
            }
        }
    }
    Ok(out)
}

fn is_link_to(found: &TreeEntry, wanted: &[u8]) -> bool {
    let link = |entry: &Entry| matches!(&entry.kind, Kind::Hardlink { target } if target == wanted);
    found.what.as_ref().is_ok_and(link)
}

/// Removes what does not belong to the new image.
pub fn prune(root: &OwnedFd, plan: &PatchPlan) -> Result<()> {
    // Children come after their parents, so backwards a directory is empty when its turn comes.
    for (path, directory) in plan.remove.iter().rev() {
        let failed = |errno: Errno| {
            Error::failed(format!("cannot remove {}", canonical_tar::display(path))).source(&errno)
        };
        let Some((parent, name)) = openat::split(path) else {
            return Err(failed(Errno::INVAL));
        };
        let parent = openat::open_directory(root.as_fd(), parent, OFlags::PATH).map_err(failed)?;
        let flags = if *directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        unlinkat(parent, name, flags).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use store::chunk::ChunkRef;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// The entry of what is at a path, as if it had been signed like that.
    fn signed(root: &Path, path: &str, kind: Kind) -> (Entry, Vec<ChunkRef>) {
        let found = fs::symlink_metadata(root.join(path)).unwrap();
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            mtime: u64::try_from(found.mtime()).unwrap(),
            xattrs: BTreeMap::new(),
        };
        (entry, vec![])
    }

    fn open(root: &Path) -> OwnedFd {
        fs::File::open(root).unwrap().into()
    }

    #[test]
    fn what_was_put_into_a_copy_goes_and_nothing_outside_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, host) = (directory.path().join("tree"), directory.path().join("host"));
        for path in ["tree/a", "tree/stray/deep", "host"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        for path in ["tree/a/f", "tree/b", "tree/stray/deep/g", "host/precious"] {
            fs::write(directory.path().join(path), b"").unwrap();
        }
        let wanted = |tree: &Path| {
            vec![
                signed(tree, "", Kind::Directory),
                signed(tree, "a", Kind::Directory),
                signed(tree, "a/f", Kind::File { size: 0 }),
                signed(tree, "b", Kind::File { size: 0 }),
            ]
        };
        let image = wanted(&tree);
        // A directory of the image leads out of the tree now, a file is a directory's link.
        fs::remove_dir_all(tree.join("a")).unwrap();
        symlink("../host", tree.join("a")).unwrap();
        fs::remove_file(tree.join("b")).unwrap();
        symlink("/", tree.join("b")).unwrap();
        let patch = plan(open(&tree), image.into_iter().map(Ok), &NEVER).unwrap();
        assert_eq!(patch.keep[1..], [false, false, false]);
        prune(&open(&tree), &patch).unwrap();
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
        assert!(host.join("precious").exists());
    }

    #[test]
    fn a_second_name_stays_only_with_its_first() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path();
        fs::write(tree.join("a"), b"").unwrap();
        fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
        let link = || Kind::Hardlink {
            target: b"a".to_vec(),
        };
        let image = |mode: u32| {
            let mut first = signed(tree, "a", Kind::File { size: 0 });
            first.0.mode ^= mode;
            let root = signed(tree, "", Kind::Directory);
            [root, first, signed(tree, "b", link())].into_iter().map(Ok)
        };
        let same = plan(open(tree), image(0), &NEVER).unwrap();
        assert_eq!((same.keep, same.remove), (vec![true; 3], vec![]));
        let other = plan(open(tree), image(0o111), &NEVER).unwrap();
        assert_eq!(other.keep, [true, false, false]);
        assert_eq!(other.remove.len(), 2);
    }
}
