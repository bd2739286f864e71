//! Which extended attributes every node can have.
//!
//! A kernel takes back other bytes than it was given, or none at all, for attributes that
//! it interprets (acl(5), xattr(7)). An image with such a one could be signed and never be
//! installed, so it is not taken into an image in the first place.

use super::Kind;

/// The kernel's form of an ACL, version 2: `linux/posix_acl_xattr.h`.
const ACL_VERSION: [u8; 4] = [2, 0, 0, 0];
/// The number of an ACL's entry that is for nobody by name.
const NO_ID: u32 = u32::MAX;

/// The tags of an ACL's entries, in the one order that the kernel takes; named ones may repeat.
const TAGS: [u16; 6] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];

/// Whether what is installed reads back as the same attribute, on each kind of target.
pub(crate) fn is_installable(name: &[u8], value: &[u8], kind: &Kind, mode: u32) -> bool {
    let (file, directory) = (
        matches!(kind, Kind::File { .. }),
        matches!(kind, Kind::Directory),
    );
    match name {
        b"system.posix_acl_access" => (file || directory) && is_acl(value, Some(mode)),
        b"system.posix_acl_default" => directory && is_acl(value, None),
        b"security.capability" => file,
        _ if name.starts_with(b"user.") => file || directory,
        _ => name.starts_with(b"trusted.") || name.starts_with(b"security."),
    }
}

/// Whether a kernel keeps this ACL as it is. Of an access ACL that includes that it says
/// the same as the mode, and more than the mode alone could say.
fn is_acl(value: &[u8], mode: Option<u32>) -> bool {
    let Some(body) = value.strip_prefix(&ACL_VERSION) else {
        return false;
    };
    let (entries, rest) = body.as_chunks::<8>();
    if !rest.is_empty() {
        return false;
    }
    let (mut found, mut last) = ([None; 6], 0);
    for entry in entries {
        let [t0, t1, p0, p1, id @ ..] = *entry;
        let (tag, permissions) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
        let Some(at) = TAGS.iter().position(|one| *one == tag) else {
            return false;
        };
        let named = matches!(tag, 0x02 | 0x08);
        let fits = (u32::from_le_bytes(id) != NO_ID) == named && permissions <= 7;
        if !fits || at < last || (found[at].is_some() && !named) {
            return false;
        }
        last = at;
        found[at] = Some(u32::from(permissions));
    }
    let [owner, user, group, named_group, mask, other] = found;
    let (Some(owner), Some(_), Some(other)) = (owner, group, other) else {
        return false;
    };
    let named = user.is_some() || named_group.is_some();
    match (mode, mask) {
        (_, None) if named => false,
        // Nothing but the mode: the kernel keeps no ACL for that.
        (Some(_), None) => false,
        (Some(mode), Some(mask)) => mode & 0o777 == owner << 6 | mask << 3 | other,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = ACL_VERSION.to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn only_what_reads_back_as_it_was_given_is_installable() {
        let file = Kind::File { size: 1 };
        let link = Kind::Symlink {
            target: b"x".to_vec(),
        };
        let named = [
            (1, 7, NO_ID),
            (2, 6, 1000),
            (4, 5, NO_ID),
            (0x10, 7, NO_ID),
            (0x20, 0, NO_ID),
        ];
        let access = b"system.posix_acl_access";
        assert!(is_installable(access, &acl(&named), &file, 0o770));
        assert!(is_installable(
            access,
            &acl(&named),
            &Kind::Directory,
            0o2770
        ));
        // The mode says something else; a link has none; a minimal one is no more than a mode.
        assert!(!is_installable(access, &acl(&named), &file, 0o750));
        assert!(!is_installable(access, &acl(&named), &link, 0o777));
        let minimal = [(1, 7, NO_ID), (4, 5, NO_ID), (0x20, 5, NO_ID)];
        assert!(!is_installable(access, &acl(&minimal), &file, 0o755));
        assert!(!is_installable(access, b"garbage", &file, 0o755));
        let mut unsorted = named;
        unsorted.swap(1, 2);
        assert!(!is_installable(access, &acl(&unsorted), &file, 0o770));
        let default = b"system.posix_acl_default";
        assert!(is_installable(
            default,
            &acl(&minimal),
            &Kind::Directory,
            0o755
        ));
        assert!(!is_installable(default, &acl(&minimal), &file, 0o755));
        assert!(is_installable(b"user.x", b"", &file, 0o644));
        assert!(!is_installable(b"user.x", b"", &link, 0o777));
        assert!(!is_installable(b"btrfs.compression", b"zstd", &file, 0o644));
        assert!(!is_installable(b"com.example", b"", &file, 0o644));
    }
}
