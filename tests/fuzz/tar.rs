//! The canonical tar: what is read is exactly what the writer would have written,
//! it is an image by the page's rules, and another tar reader sees the same.

use std::io::Read;

use store::canonical_tar::{self, Entry, ErrorKind, Kind, Reader};

use crate::{memory, oracle};

const BLOCK: usize = 512;

/// A PAX body may have a megabyte, and is read into a buffer of that size.
const FIXED: usize = 3 << 20;

pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    let mut mended = bytes.to_vec();
    mend(&mut mended);
    check(&mended);
    mended.truncate(mended.len() / BLOCK * BLOCK);
    mended.extend([0; 2 * BLOCK]);
    check(&mended);
}

/// Puts the checksum of everything that looks like a header right.
pub(crate) fn mend(bytes: &mut [u8]) {
    let mut from = 257;
    while let Some(found) = bytes.get(from..).and_then(|rest| {
        rest.windows(8)
            .position(|magic| magic == b"ustar\x0000" || magic == b"ustar  \0")
    }) {
        let start = from + found - 257;
        if let Some(block) = bytes.get_mut(start..start + BLOCK) {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        from = start + 257 + 8;
    }
}

/// The entries with their content, or why not.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, canonical_tar::Error> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let whole = reader.content().read_to_end(&mut content).is_ok();
        if !whole {
            let error = reader.next_entry().expect_err("content that ends early");
            return Err(error);
        }
        assert_eq!(content.len() as u64, entry.size());
        entries.push((entry, content));
    }
    assert_eq!(reader.entries(), entries.len() as u64);
    assert!(
        matches!(reader.next_entry(), Ok(None)),
        "the end stays the end"
    );
    Ok(entries)
}

fn check(bytes: &[u8]) {
    let entries = match memory::bounded(bytes, FIXED, 40, read) {
        Ok(entries) => entries,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Io, "a slice cannot fail");
            let offset = error.offset().expect("what is read has an offset");
            assert!(offset <= bytes.len() as u64);
            return;
        }
    };
    let mut again = Vec::new();
    for (entry, content) in &entries {
        again.extend(canonical_tar::encode(entry).expect("what was read can be written"));
        again.extend(content);
        again.resize(again.len().next_multiple_of(BLOCK), 0);
    }
    again.extend([0; 2 * BLOCK]);
    assert!(again == bytes, "two tars for one tree");

    let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    assert!(entries.iter().all(oracle::entry), "{entries:?}");
    assert!(oracle::tree(&entries), "{entries:?}");
    others(bytes, &entries);
}

/// What the tar crate sees. It takes a newline for the end of a PAX value, so it
/// is not asked about those.
fn others(bytes: &[u8], entries: &[Entry]) {
    let line = |bytes: &[u8]| bytes.contains(&b'\n');
    let odd = entries.iter().any(|entry| {
        let target = match &entry.kind {
            Kind::Symlink { target } | Kind::Hardlink { target } => line(target),
            _ => false,
        };
        target || line(&entry.path) || entry.xattrs.values().any(|value| line(value))
    });
    if odd {
        return;
    }
    let mut archive = tar::Archive::new(bytes);
    let mut seen = archive.entries().expect("a tar");
    for entry in entries {
        let mut other = seen.next().expect("as many").expect("an entry");
        assert_eq!(*other.path_bytes(), *oracle::spelled(entry));
        assert_eq!(other.size(), entry.size());
        let header = other.header();
        assert_eq!(header.mode().unwrap(), entry.mode);
        assert_eq!(header.mtime().unwrap(), entry.mtime);
        let target = match &entry.kind {
            Kind::Symlink { target } => Some(target.clone()),
            Kind::Hardlink { target } => Some([b"./", &target[..]].concat()),
            _ => None,
        };
        assert_eq!(other.link_name_bytes().map(|name| name.to_vec()), target);
        let records = other
            .pax_extensions()
            .expect("records")
            .into_iter()
            .flatten();
        let attributes = records.filter(|record| {
            let key = record.as_ref().expect("a record").key_bytes();
            key.starts_with(b"SCHILY.xattr.")
        });
        assert_eq!(attributes.count(), entry.xattrs.len());
    }
    assert!(seen.next().is_none());
}
