//! What the page of the canonical tar allows, written once more: slowly, without
//! any code of the reader, straight from the sentences of the page.

use store::canonical_tar::{Entry, Kind};

/// Whether the profile can say this entry at all.
pub(crate) fn entry(entry: &Entry) -> bool {
    let link = match &entry.kind {
        Kind::Symlink { target } => {
            (1..=4095).contains(&target.len()) && !target.contains(&0) && entry.mode == 0o777
        }
        Kind::Hardlink { target } => path(target) && !target.is_empty() && entry.xattrs.is_empty(),
        Kind::File { size } => i64::try_from(*size).is_ok(),
        Kind::Directory => true,
    };
    let rooted = !entry.path.is_empty() || entry.kind == Kind::Directory;
    link && rooted
        && path(&entry.path)
        && entry.mode <= 0o7777
        && entry.uid != u32::MAX
        && entry.gid != u32::MAX
        && entry.mtime < 8_u64.pow(11)
        && entry.xattrs.keys().all(|name| attribute(name))
}

/// Whether these entries, in this order, are an image.
pub(crate) fn tree(entries: &[Entry]) -> bool {
    let root = |entry: &Entry| entry.path.is_empty() && entry.kind == Kind::Directory;
    if !entries.first().is_some_and(root) {
        return false;
    }
    (1..entries.len()).all(|at| {
        let (before, this) = (&entries[..at], &entries[at]);
        let parent = match this.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &this.path[..slash],
            None => b"",
        };
        spelled(&before[at - 1]) < spelled(this)
            && before.iter().all(|earlier| earlier.path != this.path)
            && before
                .iter()
                .any(|earlier| earlier.path == parent && earlier.kind == Kind::Directory)
            && match &this.kind {
                Kind::Hardlink { target } => before.iter().any(|first| linked(first, target, this)),
                _ => true,
            }
    })
}

fn linked(first: &Entry, target: &[u8], link: &Entry) -> bool {
    first.path == target
        && matches!(first.kind, Kind::File { .. })
        && (first.mode, first.uid, first.gid, first.mtime)
            == (link.mode, link.uid, link.gid, link.mtime)
}

/// The name as it stands in the tar.
pub(crate) fn spelled(entry: &Entry) -> Vec<u8> {
    let slash: &[u8] = match entry.kind {
        Kind::Directory if !entry.path.is_empty() => b"/",
        _ => b"",
    };
    [b"./", &entry.path[..], slash].concat()
}

/// Whether this is the root's path, which is empty, or one below it.
fn path(path: &[u8]) -> bool {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let plain = |segment: &&[u8]| {
        (1..=255).contains(&segment.len())
            && !segment.contains(&0)
            && *segment != b"."
            && *segment != b".."
    };
    path.is_empty() || (path.len() <= 4095 && segments.len() <= 256 && segments.iter().all(plain))
}

fn attribute(name: &[u8]) -> bool {
    let kernel: [&[u8]; 11] = [
        b"trusted.overlay.",
        b"user.overlay.",
        b"security.selinux",
        b"security.ima",
        b"security.evm",
        b"trusted.SGI_ACL_",
        b"system.nfs4_",
        b"system.cifs_",
        b"system.ntfs_",
        b"system.richacl",
        b"btrfs.",
    ];
    (1..=255).contains(&name.len())
        && name.iter().all(|byte| (b'!'..=b'~').contains(byte))
        && !name.contains(&b'=')
        && !name.contains(&b'%')
        && !kernel.iter().any(|prefix| name.starts_with(prefix))
}
