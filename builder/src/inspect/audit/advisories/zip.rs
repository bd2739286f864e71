//! The files of an archive of zip, such as the `all.zip` that OSV publishes for each ecosystem
//! (APPNOTE.TXT 6.3.10). Only what such archives use is read: stored and deflated files.

use std::io::Read;

use crate::error::{Error, Result};
use crate::interrupt;

/// No file in an archive is larger, unpacked.
const MAX_ENTRY: u64 = 64 << 20;

/// No archive is larger, unpacked.
const MAX_ALL: u64 = 16 << 30;

/// An end without a comment, and the longest comment.
const END: usize = 22;
const MAX_COMMENT: usize = 0xffff;

const CENTRAL: usize = 46;
const LOCAL: usize = 30;

/// Whether these bytes begin an archive.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// Hands each file whose name ends with `.json` to `take`.
pub(super) fn files(
    name: &str,
    bytes: &[u8],
    take: &mut dyn FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    let damaged = |why: &str| {
        Error::usage(format!("{name} cannot be used"))
            .detail(format!("the archive is damaged: {why}"))
            .hint("fetch it again, or leave it out")
    };
    let (mut at, count) = directory(bytes).ok_or_else(|| damaged("it has no directory"))?;
    let mut all = 0u64;
    for number in 1..=count {
        interrupt::check()?;
        let entry = Entry::at(bytes, at);
        let entry = entry.ok_or_else(|| damaged(&format!("entry {number} is cut off")))?;
        at = entry.next;
        let shown = entry.name.escape_debug().to_string();
        let is_json = entry
            .name
            .rsplit_once('.')
            .is_some_and(|(_, end)| end == "json");
        if !is_json {
            continue;
        }
        let mut text = Vec::new();
        let packed = entry.packed(bytes);
        let packed = packed.ok_or_else(|| damaged(&format!("{shown} is cut off")))?;
        let read = match entry.method {
            0 => packed.take(MAX_ENTRY + 1).read_to_end(&mut text),
            8 => {
                let decoder = flate2::read::DeflateDecoder::new(packed);
                decoder.take(MAX_ENTRY + 1).read_to_end(&mut text)
            }
            other => return Err(damaged(&format!("{shown} has the compression {other}"))),
        };
        read.map_err(|e| damaged(&format!("{shown}: {e}")))?;
        let size = text.len() as u64;
        all += size;
        if size > MAX_ENTRY || all > MAX_ALL {
            return Err(damaged(&format!("{shown} is too large")));
        }
        let mut crc = flate2::Crc::new();
        crc.update(&text);
        if crc.sum() != entry.crc {
            return Err(damaged(&format!("{shown} is not what it was")));
        }
        take(&shown, &text)?;
    }
    Ok(())
}

/// Where the directory begins, and how many entries it has.
fn directory(bytes: &[u8]) -> Option<(usize, u64)> {
    let from = bytes.len().saturating_sub(END + MAX_COMMENT);
    let mut starts = (from..=bytes.len().checked_sub(END)?).rev();
    let end = starts.find(|at| bytes[*at..].starts_with(b"PK\x05\x06"))?;
    let (count, offset) = (
        u64::from(u16_at(bytes, end + 10)?),
        u32_at(bytes, end + 16)?,
    );
    if count < 0xffff && offset < u32::MAX {
        return Some((usize::try_from(offset).ok()?, count));
    }
    // More than 65,535 files: a locator stands before the end, and leads to the larger one.
    let locator = end.checked_sub(20)?;
    if !bytes[locator..].starts_with(b"PK\x06\x07") {
        return Some((usize::try_from(offset).ok()?, count));
    }
    let large = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    if !bytes.get(large..)?.starts_with(b"PK\x06\x06") {
        return None;
    }
    let (count, offset) = (u64_at(bytes, large + 32)?, u64_at(bytes, large + 48)?);
    Some((usize::try_from(offset).ok()?, count))
}

struct Entry {
    name: String,
    method: u16,
    crc: u32,
    size: usize,
    local: usize,
    next: usize,
}

impl Entry {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        if !bytes.get(at..)?.starts_with(b"PK\x01\x02") {
            return None;
        }
        let length = |offset: usize| Some(usize::from(u16_at(bytes, at + offset)?));
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let start = at + CENTRAL;
        let text = bytes.get(start..start + name)?;
        Some(Self {
            name: String::from_utf8_lossy(text).into_owned(),
            method: u16_at(bytes, at + 10)?,
            crc: u32_at(bytes, at + 16)?,
            size: usize::try_from(u32_at(bytes, at + 20)?).ok()?,
            local: usize::try_from(u32_at(bytes, at + 42)?).ok()?,
            next: start + name + extra + comment,
        })
    }

    fn packed<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let local = self.local;
        if !bytes.get(local..)?.starts_with(b"PK\x03\x04") {
            return None;
        }
        let length = |offset: usize| Some(usize::from(u16_at(bytes, local + offset)?));
        let start = local + LOCAL + length(26)? + length(28)?;
        bytes.get(start..start.checked_add(self.size)?)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(found.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(found.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let found = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(found.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An archive of these files, every other one deflated.
    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (number, (name, text)) in files.iter().enumerate() {
            let mut crc = flate2::Crc::new();
            crc.update(text.as_bytes());
            let method = if number % 2 == 0 { 8u16 } else { 0 };
            let packed = if method == 8 {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap()
            } else {
                text.as_bytes().to_vec()
            };
            let mut common = vec![20, 0, 0, 0];
            common.extend(method.to_le_bytes());
            common.extend([0; 4]);
            common.extend(crc.sum().to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((text.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0; 2]);
            directory.extend(b"PK\x01\x02\x14\0");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend((bytes.len() as u32).to_le_bytes());
            directory.extend(name.as_bytes());
            bytes.extend(b"PK\x03\x04");
            bytes.extend(common);
            bytes.extend(name.as_bytes());
            bytes.extend(packed);
        }
        let (start, count) = (bytes.len() as u32, (files.len() as u16).to_le_bytes());
        let size = (directory.len() as u32).to_le_bytes();
        bytes.extend(directory);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([count, count].concat());
        bytes.extend(size);
        bytes.extend(start.to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        files("a.zip", bytes, &mut |name, text| {
            found.push((name.to_owned(), String::from_utf8(text.to_vec()).unwrap()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let long = "a line\n".repeat(1000);
        let whole = archive(&[
            ("a.json", &long),
            ("b.json", "b"),
            ("c.txt", "no"),
            ("d.json", ""),
        ]);
        assert!(is(&whole));
        let found = read(&whole).unwrap();
        let names: Vec<_> = found.iter().map(|f| f.0.as_str()).collect();
        assert_eq!(names, ["a.json", "b.json", "d.json"]);
        assert_eq!(
            (found[0].1.as_str(), found[1].1.as_str()),
            (long.as_str(), "b")
        );
        assert_eq!(read(&archive(&[])).unwrap(), []);
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let whole = archive(&[("a.json", "{}"), ("b.json", "[1, 2]")]);
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            // No panic; and no other text than was put in.
            for (_, text) in read(&bytes).unwrap_or_default() {
                assert!(["{}", "[1, 2]"].contains(&text.as_str()), "{at}: {text}");
            }
        }
    }
}
