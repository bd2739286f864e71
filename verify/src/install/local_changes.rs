//! Was a generation changed in place since it was installed?
//!
//! Operators do that: `schroot -c source:SYSTEM`, a security update, `imgnode reload`. It is theirs
//! to do, and `imgnode verify` says exactly what differs. But nobody should go back to such a
//! generation, or lose what was changed in it to the next one, without hearing of it. So each command
//! that leaves or enters a generation looks, in the cheapest way that tells: no content is read, and
//! a path counts as changed when its inode was, after the finished tree had been compared with what
//! was signed. The kernel sets that time, `st_ctime` of inode(7), and no program can set it back.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::AtomicBool;

use store::canon::Kind;

use crate::error::Result;
use crate::event::Event;
use crate::node::Node;
use crate::state::record::{Generation, SystemRecord};
use crate::storage::{Desk, Tree};
use crate::tree::compare;
use crate::tree::walk::Walk;

/// Paths that a note names.
const NAMED: usize = 3;

/// What was changed in place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    /// The first few paths.
    named: Vec<String>,
    count: usize,
}

/// Says that a generation was changed in place, if it was. `so` is what that means for the operator.
/// Ctrl-C does not end it: it is on the way back from a handover as well.
pub(crate) fn tell(node: &Node<'_>, record: &SystemRecord, number: u64, so: &str) {
    let Some(generation) = record.generation(number) else {
        return;
    };
    let found = match look(node, record, generation) {
        Ok(None) => return,
        Ok(Some(changed)) => format!("was changed in place ({changed})"),
        Err(error) => format!("cannot be looked at for changes ({error})"),
    };
    let system = &record.system;
    node.observer.event(Event::Note(&format!(
        "generation {number} of {system} {found}; {so}. \
         See imgnode verify {system} --generation {number}"
    )));
}

/// Lets a session see what was changed in its generation, and says so. An overlay goes on with the
/// files that it knows by name, and no program can make it forget one; the kernel forgets all names
/// that nobody uses, when it is told to (`drop_caches` of proc(5)). What the app has open stays.
pub(crate) fn show(node: &Node<'_>, record: &SystemRecord, number: u64) {
    let keys = record.target.keeper().chroot(&record.system, number);
    let (true, Some(generation)) = (
        keys.iter().any(|(key, _)| *key == "union-type"),
        record.generation(number),
    ) else {
        return;
    };
    let Ok(Some(changed)) = look(node, record, generation) else {
        return;
    };
    let what = match fs::write("/proc/sys/vm/drop_caches", "2") {
        Ok(()) => "what the app keeps open it sees as it was".to_owned(),
        Err(error) => format!("the app may not see that, for the kernel keeps its names ({error})"),
    };
    let system = &record.system;
    node.observer.event(Event::Note(&format!(
        "generation {number} of {system} was changed in place ({changed}); \
         {what} until it is stopped and started"
    )));
}

fn look(node: &Node<'_>, record: &SystemRecord, generation: &Generation) -> Result<Option<String>> {
    let desk = Desk::of(node, &record.system);
    let keeper = record.target.keeper();
    if !keeper.exists(&desk, generation.number)? {
        return Ok(None);
    }
    let tree = keeper.open(&desk, generation.number)?;
    let Some(settled) = generation.settled else {
        // An older imgnode did not write down when it was done.
        let never = AtomicBool::new(false);
        let same = compare::digest(tree.reopen()?, &never)? == generation.image;
        return Ok((!same).then(|| "it is not the image any more".to_owned()));
    };
    let changed = since(&tree, settled)?;
    Ok((changed.count > 0).then(|| changed.to_string()))
}

/// What was changed in a tree after this second.
fn since(tree: &Tree, settled: u64) -> Result<Changed> {
    let (mut changed, mut directories) = (Vec::new(), Vec::new());
    let mut walk = Walk::new(tree.reopen()?);
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
    let named = changed.iter().take(NAMED);
    Ok(Changed {
        named: named.map(|path| compare::shown(path)).collect(),
        count: changed.len(),
    })
}

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.named.join(", "))?;
        match self.count.saturating_sub(self.named.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
