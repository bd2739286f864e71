//! The files of an archive of zip, such as the `all.zip` that OSV publishes for each ecosystem.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::interrupt;

/// No file in an archive is larger, unpacked.
const MAX_ENTRY: u64 = 64 << 20;

/// No archive is larger, unpacked.
const MAX_ALL: u64 = 16 << 30;

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
    let damaged = |why: String| {
        Error::usage(format!("{name} cannot be used"))
            .detail(format!("the archive is damaged: {why}"))
            .hint("fetch it again, or leave it out")
    };
    let opened = ZipArchive::new(Cursor::new(bytes));
    let mut archive = opened.map_err(|e| damaged(e.to_string()))?;
    let mut all = 0u64;
    for number in 0..archive.len() {
        interrupt::check()?;
        let entry = archive.by_index(number);
        let entry = entry.map_err(|e| damaged(format!("entry {}: {e}", number + 1)))?;
        let shown = entry
            .name()
            .map_err(|e| damaged(format!("entry {}: {e}", number + 1)))?;
        let shown = shown.escape_debug().to_string();
        if shown.rsplit_once('.').is_none_or(|(_, end)| end != "json") {
            continue;
        }
        let mut text = Vec::new();
        // What it says of its size is not believed; its checksum is compared at the end.
        let read = entry.take(MAX_ENTRY + 1).read_to_end(&mut text);
        read.map_err(|e| damaged(format!("{shown}: {e}")))?;
        all += text.len() as u64;
        if text.len() as u64 > MAX_ENTRY || all > MAX_ALL {
            return Err(damaged(format!("{shown} is too large")));
        }
        take(&shown, &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// An archive of these files, every other one deflated.
    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (number, (name, text)) in files.iter().enumerate() {
            let method = match number % 2 {
                0 => zip::CompressionMethod::Deflated,
                _ => zip::CompressionMethod::Stored,
            };
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(*name, options).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
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
