//! What holds for every entry, and for every sequence of bytes.

use proptest::prelude::*;

use super::*;

/// Entries of any shape that can stand alone behind the root.
fn any_entry() -> impl Strategy<Value = Entry> {
    let byte =
        prop_oneof![4 => b'a'..=b'c', 1 => (1_u8..=255).prop_filter("not a slash", |b| *b != b'/')];
    let segment = prop_oneof![
        4 => prop::collection::vec(byte.clone(), 1..12),
        1 => prop::collection::vec(byte, 90..255),
    ]
    .prop_filter("not dots", |segment| !matches!(&segment[..], b"." | b".."));
    let kind = prop_oneof![
        Just(Kind::Directory),
        prop_oneof![
            0_u64..2000,
            Just(0o777_7777_7777),
            Just(1 << 33),
            Just(i64::MAX as u64)
        ]
        .prop_map(|size| Kind::File { size }),
        prop::collection::vec(1_u8..=255, 1..300).prop_map(|target| Kind::Symlink { target }),
    ];
    let id = prop_oneof![Just(0), Just(0o777_7777), Just(0o1000_0000), any::<u32>()];
    let xattrs = prop::collection::btree_map(
        "(user|security)\\.[a-z:]{1,20}"
            .prop_map(String::into_bytes)
            .prop_filter("a host's own", |name| !is_host_xattr(name)),
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    (
        segment,
        kind,
        0_u32..=0o7777,
        id.clone(),
        id,
        0..=0o777_7777_7777_u64,
        xattrs,
    )
        .prop_map(|(path, kind, mode, uid, gid, mtime, xattrs)| {
            let mode = if matches!(kind, Kind::Symlink { .. }) {
                0o777
            } else {
                mode
            };
            Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            }
        })
}

proptest! {
    #[test]
    fn headers_are_reversible(entry in any_entry()) {
        let bytes = encode(&entry).unwrap();
        let root = encode(&directory("")).unwrap();
        let tar = [root, bytes.clone()].concat();
        let mut reader = Reader::new(&tar[..]);
        reader.next_entry().unwrap();
        prop_assert_eq!(reader.next_entry().unwrap(), Some(entry));
        prop_assert_eq!(reader.header(), &bytes[..]);
    }

    #[test]
    fn other_readers_agree(mut entry in any_entry()) {
        // The tar crate takes a newline in a PAX value for the record's end.
        entry.xattrs.retain(|_, value| !value.contains(&b'\n'));
        if let Kind::Symlink { target } = &mut entry.kind {
            target.retain(|byte| *byte != b'\n');
            target.push(b'x');
        }
        entry.path.retain(|byte| *byte != b'\n');
        prop_assume!(!entry.path.is_empty());
        let bytes = [encode(&entry).unwrap(), END.to_vec()].concat();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entries = archive.entries().unwrap();
        let other = entries.next().unwrap().unwrap();
        let name = path::spell(&entry.path, entry.kind == Kind::Directory);
        prop_assert_eq!(&*other.path_bytes(), &name[..]);
        prop_assert_eq!(other.size(), entry.size());
        prop_assert_eq!(other.header().mode().unwrap(), entry.mode);
        prop_assert_eq!(other.header().mtime().unwrap(), entry.mtime);
        if let Kind::Symlink { target } = &entry.kind {
            prop_assert_eq!(&*other.link_name_bytes().unwrap(), &target[..]);
        }
    }

    /// Whatever is read is what the writer writes: no two tars mean one tree.
    #[test]
    fn what_is_accepted_is_canonical(
        flips in prop::collection::vec((0_usize..3 * BLOCK, any::<u8>()), 0..4),
        entry in any_entry(),
    ) {
        let mut bytes = with_header(encode(&entry).unwrap());
        for (at, value) in flips {
            bytes[at] = value;
        }
        let mut reader = Reader::new(&bytes[..]);
        let mut offset = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            let header = encode(&entry).unwrap();
            prop_assert_eq!(&bytes[offset..offset + header.len()], &header[..]);
            if entry.size() > 0 {
                break;
            }
            offset += header.len();
        }
    }

    #[test]
    fn no_input_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        prop_assert!(read(&bytes).is_err());
    }
}
