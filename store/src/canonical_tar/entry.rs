//! One entry of a tree, as the profile sees it.

use std::collections::BTreeMap;

/// Attributes that a kernel puts on files by itself. They say how a tree was
/// mounted, kept or labelled on some machine, not what an image is.
const HOST_XATTRS: [&[u8]; 11] = [
    b"trusted.overlay.",
    b"user.overlay.",
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    // XFS lists its ACLs a second time; other file systems have their own forms of them.
    b"trusted.SGI_ACL_",
    b"system.nfs4_",
    b"system.cifs_",
    b"system.ntfs_",
    b"system.richacl",
    b"btrfs.",
];

/// Whether an extended attribute is a kernel's own and so not in any image: a scan
/// leaves it out, a reader refuses it. A node's kernel would take it for its own
/// word, and join another directory to this one or hide a file.
pub fn is_host_xattr(name: &[u8]) -> bool {
    HOST_XATTRS.iter().any(|prefix| name.starts_with(prefix))
}

/// What an entry is. Nothing else can be in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file; its content follows the header.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, untouched.
        target: Vec<u8>,
    },
    /// A further name of an earlier file.
    Hardlink {
        /// The path of that file's first entry, spelled as [`Entry::path`] is.
        target: Vec<u8>,
    },
}

/// One entry of a canonical tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path from the root: `etc/passwd`, or nothing for the root itself.
    /// Never a leading, trailing or doubled slash, never `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits. Always 0777 for a symlink.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Seconds since 1970, at most the image's epoch.
    pub mtime: u64,
    /// Extended attributes by name. A further hard link has none: they belong to
    /// the first path.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// [`Entry::order`] of two paths, each with whether it is a directory's.
pub fn order(one: (&[u8], bool), other: (&[u8], bool)) -> std::cmp::Ordering {
    fn spelled((path, directory): (&[u8], bool)) -> impl Iterator<Item = &u8> {
        // The root is `./`, before everything.
        let slash: &[u8] = if directory && !path.is_empty() {
            b"/"
        } else {
            b""
        };
        path.iter().chain(slash)
    }
    spelled(one).cmp(spelled(other))
}

impl Entry {
    /// The order of the canonical tar: that of the names as they stand in it, a
    /// directory's with its final slash. So all that is below a directory follows
    /// it at once, and a reader that sets a directory's time when it leaves the
    /// directory, as GNU tar does, sets it last.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        order(
            (&self.path, self.kind == Kind::Directory),
            (&other.path, other.kind == Kind::Directory),
        )
    }

    /// Bytes of content that follow the header.
    pub const fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } => size,
            _ => 0,
        }
    }
}
