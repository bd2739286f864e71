//! The profile against tars that are not in it, and against other readers.

mod hostile;
mod properties;

use std::collections::BTreeMap;
use std::io::Read;

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
