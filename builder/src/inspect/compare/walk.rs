//! Both layouts side by side, in the order of the canonical tar.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use store::Manifest;
use store::canonical_tar::{self, Entry, Kind as Is};
use store::chunk::{self, ChunkRef};

use super::report::{
    Change, FileChange, FileType, Kind, Looks, Privilege, PrivilegeChange, Report, Totals,
};
use super::{MOST_FILES, Reading, content, owners::Inventory, unreadable};
use crate::error::Result;

type Item = (Entry, Vec<ChunkRef>);

/// What the walk has seen besides the changes themselves.
#[derive(Default)]
pub(super) struct Walked {
    /// Which files of the first image say who owns what.
    pub(super) old: Inventory,
    /// Which files of the second image say who owns what.
    pub(super) new: Inventory,
    /// Changed files short enough to look into: the path, and the content in both
    /// images.
    pub(super) texts: Vec<(String, [Option<ChunkRef>; 2])>,
}

/// Reads both layouts; notes what differs in `report`.
pub(super) fn walk(
    (from, one): Reading<'_>,
    (to, other): Reading<'_>,
    report: &mut Report,
) -> Result<Walked> {
    let mut walk = Walk {
        epochs: (from.epoch, to.epoch),
        report,
        walked: Walked::default(),
    };
    let wrong = |manifest: &Manifest, error: store::Error| unreadable(manifest, &error);
    let mut olds = one.entries().map_err(|e| wrong(from, e))?;
    let mut news = other.entries().map_err(|e| wrong(to, e))?;
    let mut next_old = || olds.next().transpose().map_err(|e| wrong(from, e));
    let mut next_new = || news.next().transpose().map_err(|e| wrong(to, e));
    let (mut old, mut new) = (next_old()?, next_new()?);
    loop {
        let order = match (&old, &new) {
            (Some(old), Some(new)) => old.0.order(&new.0),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let left = match order {
            Ordering::Greater => None,
            _ => std::mem::replace(&mut old, next_old()?),
        };
        let right = match order {
            Ordering::Less => None,
            _ => std::mem::replace(&mut new, next_new()?),
        };
        if let Some((entry, chunks)) = &left {
            walk.report.totals.content.old += entry.size();
            walk.walked.old.look(entry, chunks);
        }
        if let Some((entry, chunks)) = &right {
            walk.report.totals.content.new += entry.size();
            walk.walked.new.look(entry, chunks);
        }
        match (left, right) {
            (Some(left), Some(right)) => {
                let kinds = kinds(&left, &right, (from, one), (to, other))?;
                walk.both(&left, &right, kinds);
            }
            (left, right) => walk.single(left.as_ref(), right.as_ref()),
        }
    }
    let walked = walk.walked;
    join(report);
    Ok(walked)
}

/// Sorts the changes by path and makes one of two where a directory took the
/// place of a file or the other way round: those stand at different places in
/// their tars (`a` before `a-b`, `a/` after it), so the walk saw one go and the
/// other come.
fn join(report: &mut Report) {
    report.files.sort_by(|a, b| a.path.cmp(&b.path));
    let totals = &mut report.totals;
    report.files.dedup_by(|second, first| {
        if second.path != first.path {
            return false;
        }
        first.old = first.old.take().or(second.old.take());
        first.new = first.new.take().or(second.new.take());
        first.change = Change::Changed;
        first.kinds = vec![Kind::Type];
        if let (Some(old), Some(new)) = (&first.old, &first.new) {
            let differ = [
                (old.mode != new.mode, Kind::Mode),
                ((old.uid, old.gid) != (new.uid, new.gid), Kind::Owner),
                (old.mtime != new.mtime, Kind::Mtime),
                (old.xattrs != new.xattrs, Kind::Xattr),
            ];
            let more = differ.into_iter().filter(|(differ, _)| *differ);
            first.kinds.extend(more.map(|(_, kind)| kind));
        }
        totals.added -= 1;
        totals.removed -= 1;
        totals.changed += 1;
        true
    });
}

struct Walk<'r> {
    epochs: (u64, u64),
    report: &'r mut Report,
    walked: Walked,
}

impl Walk<'_> {
    fn both(&mut self, left: &Item, right: &Item, kinds: Vec<Kind>) {
        let (old, new) = (&left.0, &right.0);
        self.privilege(Some(old), Some(new));
        let totals = &mut self.report.totals;
        if kinds.is_empty() {
            totals.same += 1;
        } else if kinds == [Kind::Mtime] && (old.mtime, new.mtime) == self.epochs {
            totals.retimed += 1;
        } else {
            totals.changed += 1;
            let content = kinds.contains(&Kind::Content);
            let change = FileChange {
                path: canonical_tar::display(&new.path),
                change: Change::Changed,
                kinds,
                owner: None,
                old: Some(Looks::of(old)),
                new: Some(Looks::of(new)),
                text: None,
            };
            let path = change.path.clone();
            if self.name(change) && content && old.size().max(new.size()) <= chunk::MAX as u64 {
                let chunks = [left.1.first().copied(), right.1.first().copied()];
                self.walked.texts.push((path, chunks));
            }
        }
    }

    fn single(&mut self, left: Option<&Item>, right: Option<&Item>) {
        let (old, new) = (left.map(|item| &item.0), right.map(|item| &item.0));
        let Some(entry) = old.or(new) else { return };
        self.privilege(old, new);
        let Totals { added, removed, .. } = &mut self.report.totals;
        let change = if old.is_some() {
            *removed += 1;
            Change::Removed
        } else {
            *added += 1;
            Change::Added
        };
        self.name(FileChange {
            path: canonical_tar::display(&entry.path),
            change,
            kinds: Vec::new(),
            owner: None,
            old: old.map(Looks::of),
            new: new.map(Looks::of),
            text: None,
        });
    }

    /// Adds a change to the report, if there is room.
    fn name(&mut self, change: FileChange) -> bool {
        let room = self.report.files.len() < MOST_FILES;
        if room {
            self.report.files.push(change);
        } else {
            self.report.totals.unnamed += 1;
        }
        room
    }

    fn privilege(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        let (was, is) = (old.and_then(Privilege::of), new.and_then(Privilege::of));
        let Some(entry) = new.or(old).filter(|_| was != is) else {
            return;
        };
        if self.report.privileged.len() < MOST_FILES {
            self.report.privileged.push(PrivilegeChange {
                path: canonical_tar::display(&entry.path),
                old: was,
                new: is,
            });
        }
    }
}

/// In what two entries of one path differ, sorted.
fn kinds(left: &Item, right: &Item, one: Reading<'_>, other: Reading<'_>) -> Result<Vec<Kind>> {
    let (old, new) = (&left.0, &right.0);
    let mut kinds = Vec::new();
    let mut differ = |differ: bool, kind| {
        if differ {
            kinds.push(kind);
        }
    };
    match (&old.kind, &new.kind) {
        (Is::Directory, Is::Directory) => {}
        (Is::File { size: was }, Is::File { size: is }) => {
            let same = content::same(&left.1, &right.1, one, other)?;
            differ(!same, Kind::Content);
            differ(was != is, Kind::Size);
        }
        (Is::Symlink { target: was }, Is::Symlink { target: is })
        | (Is::Hardlink { target: was }, Is::Hardlink { target: is }) => {
            differ(was != is, Kind::LinkTarget);
        }
        _ => differ(true, Kind::Type),
    }
    // Every link has the same mode, whatever was there before.
    let link = |entry: &Entry| matches!(entry.kind, Is::Symlink { .. });
    differ(old.mode != new.mode && link(old) == link(new), Kind::Mode);
    differ((old.uid, old.gid) != (new.uid, new.gid), Kind::Owner);
    differ(old.mtime != new.mtime, Kind::Mtime);
    differ(old.xattrs != new.xattrs, Kind::Xattr);
    kinds.sort_unstable();
    Ok(kinds)
}

impl Looks {
    fn of(entry: &Entry) -> Self {
        let (kind, target) = match &entry.kind {
            Is::Directory => (FileType::Directory, None),
            Is::File { .. } => (FileType::File, None),
            Is::Symlink { target } => (FileType::Symlink, Some(target)),
            Is::Hardlink { target } => (FileType::Hardlink, Some(target)),
        };
        Self {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            size: entry.size(),
            target: target.map(|target| canonical_tar::display(target)),
            xattrs: xattrs(entry),
        }
    }
}

impl Privilege {
    /// The privilege of an entry, if it has any.
    fn of(entry: &Entry) -> Option<Self> {
        let special = matches!(entry.kind, Is::File { .. }) && entry.mode & 0o6000 != 0;
        (special || !entry.xattrs.is_empty()).then(|| Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: xattrs(entry),
        })
    }
}

fn xattrs(entry: &Entry) -> BTreeMap<String, String> {
    let found = store::manifest::XattrEntry::all_of(entry);
    found.map(|xattr| (xattr.name, xattr.value_hex)).collect()
}
