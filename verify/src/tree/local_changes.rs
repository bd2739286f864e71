//! Was a tree changed in place since it was finished?
//!
//! Operators do that: `schroot -c source:SYSTEM`, a security update, `imgnode reload`. It is theirs
//! to do, and `imgnode verify` says exactly what differs. But nobody should go back to such a
//! generation, or lose what was changed in it to the next one, without hearing of it. So each command
//! that leaves or enters a generation looks, in the cheapest way that tells: no content is read, and
//! a path counts as changed when its inode was, after the finished tree had been compared with what
//! was signed. The kernel sets that time, `st_ctime` of inode(7), and no program can set it back.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicBool;

use store::ImageId;
use store::canonical_tar::Kind;

use super::compare::{digest, shown};
use super::open::OpenTree;
use super::walk::TreeWalk;
use crate::error::Result;

/// Paths that a message names.
const NAMED: usize = 3;

/// What was changed in place; shown as the words of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalChanges {
    /// Some paths.
    Paths {
        /// The first few of them, absolute in the image.
        named: Vec<String>,
        /// How many there are in all.
        count: usize,
    },
    /// The digest differs; which paths it is was not asked.
    NotTheImage,
}

/// What was changed in a tree after it was finished at `settled`, in seconds since 1970. Where that
/// is unknown the whole tree is hashed. `None` when nothing was changed.
pub fn local_changes(
    tree: &OpenTree,
    image: &ImageId,
    settled: Option<u64>,
) -> Result<Option<LocalChanges>> {
    let Some(settled) = settled else {
        // An older imgnode did not write down when it was done.
        let never = AtomicBool::new(false);
        let same = digest(tree.reopen()?, &never)? == *image;
        return Ok((!same).then_some(LocalChanges::NotTheImage));
    };
    let paths = changed_since(tree, settled)?;
    if paths.is_empty() {
        return Ok(None);
    }
    let named = paths.iter().take(NAMED);
    Ok(Some(LocalChanges::Paths {
        named: named.map(|path| shown(path)).collect(),
        count: paths.len(),
    }))
}

/// The paths that were changed in a tree after this second.
fn changed_since(tree: &OpenTree, settled: u64) -> Result<Vec<Vec<u8>>> {
    let (mut changed, mut directories) = (Vec::new(), Vec::new());
    let mut walk = TreeWalk::new(tree.reopen()?);
    while let Some(found) = walk.step()? {
        if found.changed <= settled {
            continue;
        }
        match found.what {
            Ok(entry) if entry.kind == Kind::Directory => directories.push(found.path),
            _ => changed.push(found.path),
        }
    }
    // A directory changes with what is in it; it counts where that is gone.
    let parent = |path: &[u8]| {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        path[..end].to_vec()
    };
    let all = changed.iter().chain(&directories);
    let parents: HashSet<Vec<u8>> = all.map(|path| parent(path)).collect();
    directories.retain(|path| !parents.contains(path));
    changed.extend(directories);
    Ok(changed)
}

impl fmt::Display for LocalChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, count) = match self {
            Self::Paths { named, count } => (named, *count),
            Self::NotTheImage => return f.write_str("it is not the image any more"),
        };
        f.write_str(&named.join(", "))?;
        match count.saturating_sub(named.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
