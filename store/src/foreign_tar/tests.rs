//! Archives of every dialect, and hostile ones.

use std::io::Write as _;

use super::*;
use std::io::Read;

use crate::canonical_tar::{Change, Entry, Kind};

/// A header with a correct checksum.
fn header(name: &str, flag: u8, size: u64, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    old.linkflag = [flag];
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(5);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A member with content.
fn member(name: &str, flag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, flag, content.len() as u64, "");
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    member(name, b'0', content.as_bytes())
}

fn link(name: &str, flag: u8, target: &str) -> Vec<u8> {
    header(name, flag, 0, target)
}

fn pax(flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        writeln!(body, "{len} {key}={value}").unwrap();
    }
    member("pax", flag, &body)
}

fn local(records: &[(&str, &str)]) -> Vec<u8> {
    pax(b'x', records)
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

fn spool() -> File {
    tempfile::tempfile().unwrap()
}

/// Reads an archive both ways, which must be the same.
fn read(parts: &[Vec<u8>]) -> Result<ForeignTar> {
    let bytes = parts.concat();
    let streamed = ForeignTar::read(TarInput::Stream(&mut &bytes[..]), spool(), None);
    let mut plain = spool();
    plain.write_all(&bytes).unwrap();
    std::io::Seek::rewind(&mut plain).unwrap();
    let placed = ForeignTar::read(TarInput::File(plain), spool(), None);
    match (&streamed, &placed) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one.changes, other.changes);
            assert_eq!(contents(one), contents(other));
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        _ => panic!("{streamed:?}\n{placed:?}"),
    }
    streamed
}

/// Every entry with its content.
fn contents(foreign: &ForeignTar) -> Vec<(Entry, Vec<u8>)> {
    let each = foreign.entries.iter().map(|listed| {
        let mut bytes = Vec::new();
        if let Kind::File { size } = listed.entry.kind {
            let extents = foreign.extents(&listed);
            Content::new(&foreign.content, &extents, size)
                .take(size)
                .read_to_end(&mut bytes)
                .unwrap();
        }
        (listed.entry, bytes)
    });
    each.collect()
}

/// Paths, kinds and contents in short.
fn shown(foreign: &ForeignTar) -> Vec<String> {
    let each = contents(foreign).into_iter().map(|(entry, bytes)| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        match &entry.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File { .. } => format!("{path}={}", String::from_utf8_lossy(&bytes)),
            Kind::Symlink { target } => format!("{path}->{}", String::from_utf8_lossy(target)),
            Kind::Hardlink { target } => format!("{path}=>{}", String::from_utf8_lossy(target)),
        }
    });
    each.collect()
}

fn refused(parts: &[Vec<u8>], words: &str) {
    let error = read(parts).expect_err(words);
    assert_eq!(error.kind(), ErrorKind::NotCanonical, "{error}");
    assert!(error.to_string().contains(words), "{words:?}: {error}");
}

#[test]
fn order_prefixes_and_missing_directories() {
    let foreign = read(&[
        file("./usr/bin/b", "2"),
        file("/etc/x//y", "1"),
        header("usr", b'5', 0, ""),
        file("a", ""),
        end(),
    ])
    .unwrap();
    assert_eq!(
        shown(&foreign),
        [
            "/",
            "a=",
            "etc/",
            "etc/x/",
            "etc/x/y=1",
            "usr/",
            "usr/bin/",
            "usr/bin/b=2"
        ]
    );
    let changes = foreign.changes();
    // The root, etc, etc/x and usr/bin.
    assert_eq!(changes.count(Change::MissingDirectory), 4);
    assert_eq!(changes.count(Change::AbsoluteName), 1);
    assert_eq!(changes.count(Change::Duplicate), 0);
}

#[test]
fn the_last_of_two_counts_and_links_keep_theirs() {
    let foreign = read(&[
        file("a", "old"),
        link("b", b'1', "a"),
        file("a", "new"),
        link("c", b'1', "./a"),
        end(),
    ])
    .unwrap();
    assert_eq!(shown(&foreign), ["/", "a=new", "b=old", "c=>a"]);
    assert_eq!(foreign.changes().count(Change::Duplicate), 1);
    // A file takes the place of an empty directory, a symlink that of a file.
    let foreign = read(&[
        header("d/", b'5', 0, ""),
        file("d", "file"),
        file("e", "x"),
        link("e", b'2', "/anywhere/../else"),
        end(),
    ])
    .unwrap();
    assert_eq!(shown(&foreign), ["/", "d=file", "e->/anywhere/../else"]);
}

#[test]
fn hard_links_to_later_entries_and_to_symlinks() {
    let foreign = read(&[
        link("a", b'1', "b"),
        link("b", b'1', "z/c"),
        file("z/c", "content"),
        link("s", b'2', "c"),
        link("t", b'1', "s"),
        end(),
    ])
    .unwrap();
    assert_eq!(
        shown(&foreign),
        ["/", "a=content", "b=>a", "s->c", "t->c", "z/", "z/c=>a"]
    );
}

#[test]
fn what_no_image_has_is_left_out_and_counted() {
    let foreign = read(&[
        link("dev/null", b'3', ""),
        link("dev/sda", b'4', ""),
        link("run/fifo", b'6', ""),
        link("dev/zero", b'1', "dev/null"),
        member("label", b'V', b""),
        local(&[
            ("SCHILY.xattr.security.selinux", "label"),
            ("RHT.security.selinux", "label"),
            ("SCHILY.xattr.user.odd%3D", "x"),
            ("SCHILY.acl.access", "user::rw-"),
            ("SCHILY.xattr.user.good", "y"),
            ("LIBARCHIVE.xattr.user.goo%64", "eQ=="),
            ("LIBARCHIVE.xattr.user.other", "aGk"),
            ("mtime", "7.5"),
        ]),
        file("f", ""),
        local(&[("mtime", "-7.5")]),
        file("g", ""),
        end(),
        vec![1; 700],
    ])
    .unwrap();
    assert_eq!(shown(&foreign), ["/", "dev/", "f=", "g=", "run/"]);
    let counts: Vec<_> = foreign
        .changes()
        .iter()
        .map(|(c, f)| (c, f.count))
        .collect();
    assert_eq!(
        counts,
        [
            (Change::Device, 3),
            (Change::Fifo, 1),
            (Change::MissingDirectory, 3),
            (Change::Xattr, 3),
            (Change::Acl, 1),
            (Change::SubSecond, 2),
            (Change::Before1970, 1),
            (Change::NotContent, 2),
        ]
    );
    let file = foreign.entries.iter().nth(2).unwrap().entry;
    assert_eq!(file.mtime, 7);
    let xattrs: Vec<_> = file.xattrs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    assert_eq!(
        xattrs,
        [(&b"user.good"[..], &b"y"[..]), (b"user.other", b"hi")]
    );
}

#[test]
fn old_and_global_headers() {
    // v7: no magic, a directory by its slash.
    let mut old = tar::Header::new_old();
    old.as_old_mut().name[..2].copy_from_slice(b"d/");
    old.set_size(0);
    old.set_cksum();
    let foreign = read(&[
        old.as_bytes().to_vec(),
        pax(b'g', &[("comment", "x"), ("uid", "70000"), ("mtime", "9")]),
        file("d/a", "1"),
        local(&[("uid", "4294967295"), ("path", "d/b"), ("mtime", "")]),
        file("other", "2"),
        end(),
    ])
    .unwrap();
    assert_eq!(shown(&foreign), ["/", "d/", "d/a=1", "d/b=2"]);
    let owners: Vec<_> = foreign
        .entries
        .iter()
        .map(|listed| (listed.entry.uid, listed.entry.mtime))
        .collect();
    assert_eq!(owners, [(0, 0), (0, 0), (70000, 9), (u32::MAX, 5)]);
}

#[test]
fn sparse_files_in_each_form() {
    let expected = format!("{}abc{}", "\0".repeat(10), "\0".repeat(5));
    let size = ("GNU.sparse.size", "18");
    let zero = local(&[
        size,
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.offset", "10"),
        ("GNU.sparse.numbytes", "3"),
    ]);
    let one = local(&[size, ("GNU.sparse.map", "10,3"), ("GNU.sparse.name", "s")]);
    let two = local(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.realsize", "18"),
    ]);
    let mut mapped = b"1\n10\n3\n".to_vec();
    mapped.resize(512, 0);
    mapped.extend_from_slice(b"abc");
    for parts in [
        [zero, file("s", "abc"), end()],
        [one, file("GNUSparseFile.0/s", "abc"), end()],
        [two, member("GNUSparseFile.0/s", b'0', &mapped), end()],
    ] {
        let foreign = read(&parts).unwrap();
        assert_eq!(shown(&foreign), ["/".to_owned(), format!("s={expected}")]);
    }
    for (map, words) in [
        ("10,4", "map"),
        ("16,3", "map"),
        ("10", "map"),
        ("10,x", "map"),
        ("12,1,10,2", "map"),
        ("18446744073709551615,3", "map"),
    ] {
        let hostile = local(&[size, ("GNU.sparse.map", map)]);
        refused(&[hostile, file("s", "abc"), end()], words);
    }
}

#[test]
fn hostile_names_and_links() {
    for (parts, words) in [
        (vec![file("../x", "")], "../x: the path contains `..`"),
        (vec![file("a/../x", "")], "a/../x: the path contains `..`"),
        (
            vec![link("h", b'1', "../x")],
            "h: the hard link's target is outside",
        ),
        (vec![link("h", b'1', "")], "h: the hard link's target"),
        (
            vec![link("h", b'1', "x")],
            "h: the hard link's target is not in the archive",
        ),
        (
            vec![link("h", b'1', "h")],
            "h: the hard link leads to itself",
        ),
        (
            vec![link("h", b'1', "i"), link("i", b'1', "h")],
            "the hard link leads to itself",
        ),
        (
            vec![header("d", b'5', 0, ""), link("h", b'1', "d")],
            "h: it is a hard link to a directory",
        ),
        (
            vec![link("h", b'1', "d"), header("d", b'5', 0, "")],
            "h: it is a hard link to a directory",
        ),
        (
            vec![link("l", b'2', "/etc"), file("l/passwd", "")],
            "l/passwd: it is below something that is not a directory",
        ),
        (
            vec![link("h", b'1', "x"), file("h/f", ""), file("x", "")],
            "h/f: it is below something",
        ),
        (
            vec![file("f", ""), file("f/g", "")],
            "f/g: it is below something",
        ),
        (
            vec![file("d/f", ""), link("d", b'2', "/etc")],
            "d: it takes the place of a directory that is not empty",
        ),
        (vec![link("s", b'2', "")], "s: the link has no target"),
        (vec![link(".", b'2', "/etc")], "the root is not a directory"),
        (vec![file("", "")], "it has no name"),
        (
            vec![local(&[("path", "a\0b")]), file("x", "")],
            "a name contains NUL",
        ),
        (
            vec![local(&[("linkpath", "a\0b")]), link("x", b'2', "y")],
            "x: a name contains NUL",
        ),
        (
            vec![local(&[("path", &"s".repeat(256))]), file("x", "")],
            "a name is too long",
        ),
        (
            vec![local(&[("path", &"s/".repeat(2050))]), file("x", "")],
            "too long",
        ),
        (
            vec![local(&[("path", &"s/".repeat(300))]), file("x", "")],
            "nested too deeply",
        ),
    ] {
        refused(&[parts.concat(), end()], words);
    }
}

#[test]
fn what_two_readers_may_understand_in_two_ways() {
    let long = |name: &str| member("././@LongLink", b'L', name.as_bytes());
    for (parts, words) in [
        (
            vec![long("one"), local(&[("path", "two")]), file("x", "")],
            "two different names",
        ),
        (
            vec![local(&[("size", "2")]), file("x", "abc")],
            "x: its PAX header and its header state two sizes",
        ),
        (
            vec![local(&[("size", "-1")]), file("x", "abc")],
            "its size is not a number",
        ),
        (
            vec![header("h", b'1', 512, "x")],
            "h: it is not a file and has content",
        ),
        (
            vec![header("d", b'5', 512, "")],
            "d: it is not a file and has content",
        ),
        (
            vec![pax(b'g', &[("path", "x")]), file("x", "")],
            "for the whole archive",
        ),
        (
            vec![pax(b'g', &[("size", "1")]), file("x", "")],
            "for the whole archive",
        ),
        (
            vec![member("x", b'x', b"9 a=b\n"), file("x", "")],
            "PAX header is malformed",
        ),
        (
            vec![header("x", b'x', 9 << 20, "")],
            "a PAX header is too long",
        ),
        (vec![header("x", b'L', 9 << 20, "")], "a name is too long"),
        (vec![long("x")], "followed by nothing"),
        (vec![member("x", b'M', b"")], "another volume"),
        (vec![member("x", b'Q', b"")], "x: its type `Q` is unknown"),
        (
            vec![local(&[("uid", "4294967296")]), file("x", "")],
            "owner is out of range",
        ),
        (
            vec![local(&[("mtime", "soon")]), file("x", "")],
            "its time is not a number",
        ),
    ] {
        refused(&[parts.concat(), end()], words);
    }
    // The long name of GNU and of PAX may say the same.
    let name = "n".repeat(150);
    let foreign = read(&[
        long(&name),
        local(&[("path", &name)]),
        file("n", "1"),
        end(),
    ])
    .unwrap();
    assert_eq!(shown(&foreign), ["/".to_owned(), format!("{name}=1")]);
}

#[test]
fn damage_and_early_ends() {
    refused(&[b"not a tar at all".to_vec()], "the archive is cut short");
    refused(&[vec![b'x'; 2048]], "this is not a tar");
    refused(&[], "it has no end");
    refused(&[file("a", "")], "it has no end");
    let whole = [file("a", &"x".repeat(1000)), end()].concat();
    for len in [100, 512, 600, 1500, 1535] {
        refused(&[whole[..len].to_vec()], "cut short");
    }
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    refused(&[file("b", ""), flipped], "checksum is wrong");
    refused(&[header("a", b'0', 1 << 40, ""), end()], "cut short");
    refused(
        &[local(&[("size", "18446744073709551615")]), file("x", "")],
        "cut short",
    );
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_noticed() {
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    plain.write_all(&[file("a", "1"), end()].concat()).unwrap();
    let opened = File::open(plain.path()).unwrap();
    let foreign = ForeignTar::read(TarInput::File(opened), spool(), None).unwrap();
    foreign.unchanged().unwrap();
    plain.write_all(b"more").unwrap();
    assert_eq!(foreign.unchanged().unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn what_headers_declare_is_bounded() {
    let refusal = |parts: Vec<Vec<u8>>| read(&parts).unwrap_err().to_string();
    // Headers for the whole archive, all at once or one after the other.
    let value = "x".repeat(40 << 10);
    let one = |name: &str| pax(b'g', &[(name, &value)]);
    let many = vec![one("SCHILY.xattr.user.a"), one("SCHILY.xattr.user.b")];
    let said = refusal([many, vec![file("x", ""), end()]].concat());
    assert!(said.contains("state too much"), "{said}");
    // What takes the place of an earlier value is no more than that.
    let same = vec![one("comment"); 20];
    assert_eq!(
        shown(&read(&[same, vec![file("x", ""), end()]].concat()).unwrap()),
        ["/", "x="]
    );
    // Each member its own attributes.
    let value = "x".repeat(6 << 20);
    let each = |number: usize| {
        let attribute = local(&[("SCHILY.xattr.user.a", &value)]);
        [attribute, file(&format!("f{number}"), "")].concat()
    };
    let said = refusal((0..44).map(each).chain([end()]).collect());
    assert!(said.contains("more than 256 MiB"), "{said}");
    // A file that is one hole.
    let hole = |name: &str, size: &str| {
        let map = [("GNU.sparse.size", size), ("GNU.sparse.map", "0,0")];
        [local(&map), file(name, "")].concat()
    };
    let said = refusal(vec![hole("x", "9223372036854775807"), end()]);
    assert!(said.contains("more than 256 GiB"), "{said}");
    let most = (100_u64 << 30).to_string();
    let said = refusal(vec![
        hole("x", &most),
        hole("y", &most),
        hole("z", &most),
        end(),
    ]);
    assert!(
        said.contains('z') && said.contains("more than 256 GiB"),
        "{said}"
    );
    let found = ForeignTar::read(
        TarInput::Stream(&mut &[hole("x", &most), end()].concat()[..]),
        spool(),
        None,
    );
    assert_eq!(
        found.unwrap().entries.iter().last().unwrap().entry.size(),
        100 << 30
    );
}
