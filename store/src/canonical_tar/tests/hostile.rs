//! One test for each way in which a tar can be hostile.

use super::*;

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
    for (record, size, kind) in [
        ("size=1", 3, ErrorKind::SizeConflict),
        ("size=3", 3, ErrorKind::SizeConflict),
        // One size, in the place that is only for sizes beyond eight gigabytes.
        ("size=3", 0, ErrorKind::NotCanonical),
        ("size=-1", 0, ErrorKind::MalformedPax),
        ("size=99999999999999999999", 0, ErrorKind::Range),
        ("size=9999999999999999999", 0, ErrorKind::Range),
    ] {
        refused(&with_pax(&pax_record(record), &file("name", size)), kind);
    }
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
    // Only a directory is the root: the writer does not write what is not read.
    refused(file("", 0), ErrorKind::MissingRoot);
    refused(symlink("", "t"), ErrorKind::MissingRoot);
    refused(hardlink("l", ""), ErrorKind::HardlinkTarget);
    refused(hardlink("l", "../t"), ErrorKind::HardlinkOutside);
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

/// A node would take these for what its own kernel says about the file.
#[test]
fn case_42_attributes_of_the_kernel() {
    for name in [
        "trusted.overlay.redirect",
        "user.overlay.whiteout",
        "security.selinux",
        "security.ima",
        "security.evm",
    ] {
        let record = pax_record(&format!("SCHILY.xattr.{name}=x"));
        refused(&with_pax(&record, &file("name", 0)), ErrorKind::Xattr);
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
