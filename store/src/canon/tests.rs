//! The profile against tars that are not in it, and against other readers.

use std::collections::BTreeMap;
use std::io::Read;

use proptest::prelude::*;

use super::header::{checksum, field};
use super::*;
use crate::digest::{Blake3, Sha256};

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if matches!(kind, Kind::Symlink { .. }) {
        0o777
    } else {
        0o755
    };
    Entry {
        path: path.into(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    }
}

fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory)
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size })
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(
        path,
        Kind::Symlink {
            target: target.into(),
        },
    )
}

fn hardlink(path: &str, target: &str) -> Entry {
    entry(
        path,
        Kind::Hardlink {
            target: target.into(),
        },
    )
}

/// A tar of entries whose content is all `x`, without regard for the rules.
fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        tar.extend(encode(entry).unwrap());
        tar.resize(tar.len() + entry.size() as usize, b'x');
        tar.resize(tar.len() + padding(entry.size()), 0);
    }
    tar.extend(END);
    tar
}

/// Reads to the end.
fn read(tar: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut reader = Reader::new(tar);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

#[track_caller]
fn refused(tar: &[u8], kind: ErrorKind) {
    match read(tar) {
        Ok(entries) => panic!("accepted as {entries:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
    }
}

/// The root, and `header` behind it, with its checksum corrected.
fn with_header(mut header: Vec<u8>) -> Vec<u8> {
    for block in header.chunks_exact_mut(BLOCK) {
        let mut copy = [0; BLOCK];
        copy.copy_from_slice(block);
        if block[field::MAGIC.start..].starts_with(b"ustar") {
            let sum = format!("{:06o}\0 ", checksum(&copy));
            block[field::CHECKSUM].copy_from_slice(sum.as_bytes());
        }
    }
    [encode(&directory("")).unwrap(), header, END.to_vec()].concat()
}

/// A file's header with some bytes replaced.
fn edited(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = encode(&file("name", 0)).unwrap();
    header[at..at + bytes.len()].copy_from_slice(bytes);
    with_header(header)
}

/// An empty file's header behind a PAX header with this body.
fn with_pax(body: &str, inner: &Entry) -> Vec<u8> {
    let mut pax = encode(&file("name", body.len() as u64)).unwrap();
    pax[field::NAME].fill(0);
    pax[..14].copy_from_slice(b"././@PaxHeader");
    pax[field::MODE].copy_from_slice(b"0000644\0");
    pax[field::TYPE] = b'x';
    pax.extend(body.as_bytes());
    pax.resize(pax.len().next_multiple_of(BLOCK), 0);
    pax.extend(encode(inner).unwrap());
    with_header(pax)
}

/// A PAX record with its length.
fn pax_record(record: &str) -> String {
    let rest = record.len() + 2;
    let digits = if rest + 2 < 100 {
        1 + usize::from(rest > 8)
    } else {
        3
    };
    format!("{} {record}\n", rest + digits)
}

/// If this fails, images get other digests than they had.
#[test]
fn golden_tar() {
    let mut tool = file("usr/bin/tool", 3);
    tool.mode = 0o4755;
    tool.mtime = 1_700_000_000;
    tool.xattrs
        .insert(b"security.capability".to_vec(), vec![1, 0, 0, 2]);
    tool.xattrs.insert(b"user.note".to_vec(), b"a=b\n".to_vec());
    let mut link = hardlink("usr/bin/tool2", "usr/bin/tool");
    (link.mode, link.mtime) = (tool.mode, tool.mtime);
    let mut big = file(&format!("usr/{}", "n".repeat(250)), 0);
    (big.uid, big.gid) = (3_000_000, 3_000_000);
    let long = format!("{}/file", ["directory"; 12].join("/"));
    let mut entries = vec![directory(""), symlink("bin", "usr/bin")];
    entries.extend(
        long.match_indices('/')
            .map(|(end, _)| directory(&long[..end])),
    );
    entries.push(file(&long, 513));
    entries.extend([directory("usr"), directory("usr/bin"), tool, link, big]);
    let tar = tar(&entries);
    assert_eq!(read(&tar).unwrap(), entries);
    assert_eq!(
        (tar.len(), Blake3::of(&tar).hex(), Sha256::of(&tar).hex()),
        (
            14_848,
            "77cac26d985e563866b91180afd3e7808e9336f1d8ef3c29c45c840e7bb33785".to_owned(),
            "e3568b1bcce0a9b8ae58000da7e486ad7b2f4635bde4448bfef96779ca78ba3e".to_owned(),
        ),
    );
}

#[test]
fn case_34_names_that_leave_the_tree() {
    for (name, kind) in [
        (&b"../etc/passwd\0"[..], ErrorKind::DotSegment),
        (b"./../etc/passwd\0", ErrorKind::DotSegment),
        (b"./a/../../b\0", ErrorKind::DotSegment),
        (b"/etc/passwd\0", ErrorKind::AbsolutePath),
        (b".//etc/passwd\0", ErrorKind::AbsolutePath),
        (b"././b\0", ErrorKind::DotSegment),
        (b"etc\0", ErrorKind::Spelling),
        (b"./a/\0", ErrorKind::EmptySegment),
        (b"./a//b\0", ErrorKind::EmptySegment),
    ] {
        refused(&edited(0, name), kind);
    }
}

#[test]
fn case_35_writing_through_a_symlink() {
    let root = directory("");
    refused(
        &tar(&[root.clone(), symlink("a", "/etc"), file("a/passwd", 1)]),
        ErrorKind::ParentNotDirectory,
    );
    // Chained: the second link is itself below the first.
    refused(
        &tar(&[
            root.clone(),
            symlink("a", "."),
            symlink("a/b", "../.."),
            file("a/b/c", 1),
        ]),
        ErrorKind::ParentNotDirectory,
    );
    refused(
        &tar(&[root.clone(), file("a", 1), file("a/b", 1)]),
        ErrorKind::ParentNotDirectory,
    );
    refused(&tar(&[root, file("a/b", 1)]), ErrorKind::MissingParent);
}

#[test]
fn case_36_hard_links_to_elsewhere() {
    let root = directory("");
    let link = |target: &[u8]| {
        let mut header = encode(&hardlink("name", "other")).unwrap();
        header[field::LINK].fill(0);
        header[field::LINK.start..][..target.len()].copy_from_slice(target);
        with_header(header)
    };
    refused(&link(b"/etc/shadow"), ErrorKind::HardlinkOutside);
    refused(&link(b"../shadow"), ErrorKind::HardlinkOutside);
    refused(&link(b"./a/../../shadow"), ErrorKind::HardlinkOutside);
    refused(&link(b".//etc/shadow"), ErrorKind::HardlinkOutside);
    refused(&link(b"other"), ErrorKind::Spelling);
    refused(&link(b""), ErrorKind::Spelling);
    refused(
        &tar(&[root.clone(), hardlink("b", "a")]),
        ErrorKind::HardlinkMissing,
    );
    // Also not to what comes later, nor to itself.
    refused(
        &tar(&[root.clone(), hardlink("b", "c"), file("c", 1)]),
        ErrorKind::HardlinkMissing,
    );
    refused(
        &tar(&[root.clone(), hardlink("b", "b")]),
        ErrorKind::HardlinkMissing,
    );
    for target in [symlink("a", "/etc/shadow"), directory("a")] {
        refused(
            &tar(&[root.clone(), target, hardlink("b", "a")]),
            ErrorKind::HardlinkTarget,
        );
    }
    // A further link names the first path, so there is one way to say it.
    let chain = [root, file("a", 1), hardlink("b", "a"), hardlink("c", "b")];
    refused(&tar(&chain), ErrorKind::HardlinkTarget);
}

#[test]
fn case_37_and_40_one_name_twice() {
    let root = directory("");
    for pair in [
        [symlink("a", "/etc"), directory("a")],
        [directory("a"), file("a", 1)],
        [file("a", 1), directory("a")],
        [file("a", 1), file("a", 1)],
    ] {
        let [first, second] = pair;
        refused(&tar(&[root.clone(), first, second]), ErrorKind::Duplicate);
    }
    let apart = [
        root.clone(),
        symlink("a", "/etc"),
        file("b", 1),
        directory("a"),
    ];
    refused(&tar(&apart), ErrorKind::Duplicate);
    refused(&tar(&[root.clone(), root.clone()]), ErrorKind::Duplicate);
    refused(
        &tar(&[root.clone(), file("b", 1), file("a", 1)]),
        ErrorKind::Unsorted,
    );
    refused(&tar(&[file("a", 1)]), ErrorKind::MissingRoot);
    refused(&tar(&[]), ErrorKind::MissingRoot);
}

#[test]
fn case_38_two_sizes() {
    refused(
        &with_pax(&pax_record("size=1"), &file("name", 3)),
        ErrorKind::SizeConflict,
    );
    refused(
        &with_pax(&pax_record("size=3"), &file("name", 3)),
        ErrorKind::SizeConflict,
    );
    // One size, in the place that is only for sizes beyond eight gigabytes.
    refused(
        &with_pax(&pax_record("size=3"), &file("name", 0)),
        ErrorKind::NotCanonical,
    );
    refused(
        &with_pax(&pax_record("size=-1"), &file("name", 0)),
        ErrorKind::MalformedPax,
    );
    refused(
        &with_pax(&pax_record("size=99999999999999999999"), &file("name", 0)),
        ErrorKind::Range,
    );
    refused(
        &with_pax(&pax_record("size=9999999999999999999"), &file("name", 0)),
        ErrorKind::Range,
    );
    // Only files have a size.
    let mut folder = encode(&directory("name")).unwrap();
    folder[field::SIZE].copy_from_slice(b"00000000001\0");
    refused(&with_header(folder), ErrorKind::NotCanonical);
}

#[test]
fn case_39_extensions() {
    for (flag, kind) in [
        (b'g', ErrorKind::GlobalPax),
        (b'L', ErrorKind::GnuExtension),
        (b'K', ErrorKind::GnuExtension),
        (b'D', ErrorKind::GnuExtension),
        (b'S', ErrorKind::Sparse),
        (b'7', ErrorKind::UnknownType),
        (b'\0', ErrorKind::UnknownType),
        (b'A', ErrorKind::UnknownType),
        (b'X', ErrorKind::UnknownType),
    ] {
        refused(&edited(field::TYPE, &[flag]), kind);
    }
    for field in [
        field::MODE,
        field::UID,
        field::GID,
        field::SIZE,
        field::MTIME,
    ] {
        refused(&edited(field.start, &[0x80]), ErrorKind::Base256);
        refused(&edited(field.start, &[0xff]), ErrorKind::Base256);
        refused(&edited(field.start, b"9"), ErrorKind::BadNumber);
        refused(&edited(field.start, b"-"), ErrorKind::BadNumber);
        refused(&edited(field.start, b" "), ErrorKind::NotCanonical);
    }
    for (body, kind) in [
        ("", ErrorKind::MalformedPax),
        ("8 path=x\n", ErrorKind::MalformedPax),
        ("99 path=x\n", ErrorKind::MalformedPax),
        ("11 path=x\nz", ErrorKind::MalformedPax),
        ("9 pathx1\n", ErrorKind::MalformedPax),
        ("013 path=./x\n", ErrorKind::NotCanonical),
    ] {
        refused(&with_pax(body, &file("name", 0)), kind);
    }
    for (record, kind) in [
        ("mtime=1700000000.123456789", ErrorKind::UnknownPax),
        ("uname=root", ErrorKind::UnknownPax),
        ("GNU.sparse.major=1", ErrorKind::Sparse),
        ("GNU.sparse.size=9", ErrorKind::Sparse),
        ("path=./x", ErrorKind::NotCanonical),
        ("path=../x", ErrorKind::DotSegment),
        ("path=/x", ErrorKind::AbsolutePath),
        ("path=./x\0", ErrorKind::Nul),
        ("path=", ErrorKind::Spelling),
        ("uid=42", ErrorKind::NotCanonical),
        ("uid=4294967296", ErrorKind::Range),
        ("uid=+42", ErrorKind::MalformedPax),
        ("=x", ErrorKind::MalformedPax),
        ("SCHILY.xattr.=x", ErrorKind::Xattr),
        ("SCHILY.xattr.user.a%b=x", ErrorKind::Xattr),
        ("SCHILY.acl.access=user::rw-", ErrorKind::UnknownPax),
    ] {
        refused(&with_pax(&pax_record(record), &file("name", 0)), kind);
    }
    // A PAX header has its entry right behind it.
    let pax = with_pax("12 path=./x\n", &file("name", 0));
    let alone = [&pax[..3 * BLOCK], &END].concat();
    refused(&alone, ErrorKind::PaxPlacement);
    let twice = [&pax[..3 * BLOCK], &pax[BLOCK..]].concat();
    refused(&twice, ErrorKind::PaxPlacement);
}

#[test]
fn case_39_a_long_pax_header_is_not_read() {
    let mut pax = with_pax("12 path=./x\n", &file("name", 0));
    pax[BLOCK..][field::SIZE].copy_from_slice(b"77777777777\0");
    let mut header = [0; BLOCK];
    header.copy_from_slice(&pax[BLOCK..2 * BLOCK]);
    let sum = format!("{:06o}\0 ", checksum(&header));
    pax[BLOCK..][field::CHECKSUM].copy_from_slice(sum.as_bytes());
    refused(&pax, ErrorKind::PaxPlacement);
}

#[test]
fn case_41_devices() {
    for flag in [b'3', b'4', b'6'] {
        refused(&edited(field::TYPE, &[flag]), ErrorKind::Device);
    }
}

#[test]
fn case_43_another_owner_through_a_hard_link() {
    let good = [directory(""), file("a", 1), hardlink("b", "a")];
    read(&tar(&good)).unwrap();
    let change: [fn(&mut Entry); 4] = [
        |link| link.uid = 1,
        |link| link.gid = 1,
        |link| link.mode = 0o4755,
        |link| link.mtime = 1,
    ];
    for change in change {
        let mut entries = good.clone();
        change(&mut entries[2]);
        refused(&tar(&entries), ErrorKind::HardlinkOwner);
    }
    let mut link = good[2].clone();
    link.xattrs.insert(b"user.x".to_vec(), Vec::new());
    assert_eq!(encode(&link).unwrap_err().kind(), ErrorKind::Xattr);
}

#[test]
fn case_44_names_and_numbers_out_of_range() {
    let refused =
        |entry: Entry, kind| assert_eq!(encode(&entry).unwrap_err().kind(), kind, "{entry:?}");
    refused(file("a\0b", 0), ErrorKind::Nul);
    refused(file(&"n".repeat(256), 0), ErrorKind::TooLong);
    refused(
        file(&vec!["n".repeat(200); 30].join("/"), 0),
        ErrorKind::TooLong,
    );
    refused(
        file(&vec!["d"; MAX_DEPTH + 1].join("/"), 0),
        ErrorKind::TooDeep,
    );
    refused(symlink("l", ""), ErrorKind::EmptyTarget);
    refused(symlink("l", "a\0"), ErrorKind::Nul);
    refused(symlink("l", &"t".repeat(MAX_PATH + 1)), ErrorKind::TooLong);
    refused(file("huge", u64::MAX), ErrorKind::Range);
    refused(
        Entry {
            mode: 0o10_000,
            ..file("a", 0)
        },
        ErrorKind::Range,
    );
    refused(
        Entry {
            mode: 0o755,
            ..symlink("l", "t")
        },
        ErrorKind::Range,
    );
    refused(
        Entry {
            mtime: 1 << 33,
            ..file("a", 0)
        },
        ErrorKind::Range,
    );
    for name in ["", "user.a=b", "user.a%b", "user.\n", "user.ä"] {
        let mut odd = file("a", 0);
        odd.xattrs.insert(name.into(), Vec::new());
        refused(odd, ErrorKind::Xattr);
    }
}

#[test]
fn case_44_too_many_entries() {
    let mut rules = HeaderReader::default();
    rules.admit(&directory("")).unwrap();
    for number in 1..MAX_ENTRIES {
        rules.admit(&file(&format!("{number:08}"), 0)).unwrap();
    }
    let error = rules.admit(&file("a", 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyEntries);
}

#[test]
fn case_45_missing_end_and_trailing_data() {
    let good = tar(&[directory(""), file("a", 700)]);
    assert_eq!(read(&good).unwrap().len(), 2);
    for len in 0..good.len() {
        refused(&good[..len], ErrorKind::MissingEnd);
    }
    for extra in [&[0][..], &[1], &[0; 512], &END] {
        refused(&[&good, extra].concat(), ErrorKind::TrailingData);
    }
    let mut lone = good.clone();
    let last = lone.len() - 1;
    lone[last] = 1;
    refused(&lone, ErrorKind::MissingEnd);
}

#[test]
fn padding_magic_and_checksum() {
    let good = tar(&[directory(""), file("a", 700)]);
    let mut padded = good.clone();
    padded[2 * BLOCK + 700] = 1;
    refused(&padded, ErrorKind::Padding);
    let mut summed = good.clone();
    summed[BLOCK + field::CHECKSUM.start + 1] ^= 1;
    refused(&summed, ErrorKind::Checksum);
    refused(
        &edited(field::MAGIC.start, b"ustar  \0"),
        ErrorKind::NotUstar,
    );
    refused(&edited(265, b"root"), ErrorKind::NotCanonical);
    refused(
        &edited(field::DEVICE[0].start, b"0000001"),
        ErrorKind::NotCanonical,
    );
    refused(&edited(508, b"x"), ErrorKind::NotCanonical);
    // A name cut short by NUL hides what is behind it from some readers.
    refused(&edited(0, b"./name\0hidden"), ErrorKind::NotCanonical);
    // Every flipped bit of a header is noticed: most by the checksum.
    for position in 0..BLOCK {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[BLOCK + position] ^= 1 << bit;
            assert!(read(&flipped).is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn a_name_has_one_place() {
    // Up to 100 bytes in the name field, then split, then PAX.
    for (path, blocks, prefix) in [
        ("n".repeat(98), 1, 0),
        (format!("{}/{}", "p".repeat(60), "n".repeat(90)), 1, 62),
        (
            format!("{}/{}/{}", "p".repeat(60), "q".repeat(40), "n".repeat(50)),
            1,
            62,
        ),
        ("n".repeat(99), 1, 1),
        ("n".repeat(101), 3, 0),
        (
            format!("{}/{}/{}", "p".repeat(100), "p".repeat(100), "n".repeat(90)),
            3,
            0,
        ),
    ] {
        let header = encode(&file(&path, 0)).unwrap();
        assert_eq!(header.len(), blocks * BLOCK, "{path}");
        let last = &header[header.len() - BLOCK..];
        let found = last[field::PREFIX].iter().position(|byte| *byte == 0);
        assert_eq!(found, Some(prefix), "{path}");
    }
}

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
        "(user|security)\\.[a-z:]{1,20}".prop_map(String::into_bytes),
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

#[test]
fn content_is_read_or_skipped() {
    let tar = tar(&[directory(""), file("a", 700), file("b", 3)]);
    let mut reader = Reader::new(&tar[..]);
    reader.next_entry().unwrap();
    reader.next_entry().unwrap();
    let mut some = [0; 10];
    reader.content().read_exact(&mut some).unwrap();
    reader.next_entry().unwrap();
    let mut all = Vec::new();
    reader.content().read_to_end(&mut all).unwrap();
    assert_eq!(all, b"xxx");
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.entries(), 3);
}
