//! Which file of FROM a file of TO resembles.
//!
//! Names tell: the same path; the same path but for the digits of versions in it;
//! the same base name, in the place most like it. That is where the old text of a
//! file is to be found in nearly all cases, and it costs no reading.

use std::collections::HashMap;

use crate::canonical_tar::display;
use crate::chunk::ChunkRef;

/// Candidates of one name that are compared.
const CANDIDATES: usize = 512;

/// A file of FROM.
pub(super) struct File {
    /// Number of its entry, from 1; 0 is the layout.
    pub(super) entry: u32,
    path: Box<[u8]>,
    pub(super) size: u64,
    pub(super) chunks: Box<[ChunkRef]>,
}

/// The files of FROM, by name.
#[derive(Default)]
pub(super) struct SimilarFiles {
    files: Vec<File>,
    by_path: HashMap<Box<[u8]>, u32>,
    by_plain_path: HashMap<Vec<u8>, Vec<u32>>,
    by_plain_name: HashMap<Vec<u8>, Vec<u32>>,
}

impl SimilarFiles {
    /// Adds a file with content.
    pub(super) fn add(&mut self, entry: u32, path: &[u8], chunks: &[ChunkRef]) {
        let number = self.files.len() as u32;
        let plain = plain(path);
        let name = base(&plain).to_vec();
        self.by_path.insert(path.into(), number);
        self.by_plain_name.entry(name).or_default().push(number);
        self.by_plain_path.entry(plain).or_default().push(number);
        self.files.push(File {
            entry,
            path: path.into(),
            size: chunks.iter().map(|chunk| u64::from(chunk.len())).sum(),
            chunks: chunks.into(),
        });
    }

    /// The file of FROM that this one of TO resembles most, by its name.
    pub(super) fn of(&self, path: &[u8], size: u64) -> Option<&File> {
        if let Some(&same) = self.by_path.get(path) {
            return Some(&self.files[same as usize]);
        }
        let plain = plain(path);
        let alike = self
            .by_plain_path
            .get(&plain)
            .or_else(|| self.by_plain_name.get(base(&plain)))?;
        let nearest = alike.iter().take(CANDIDATES).max_by_key(|&&number| {
            let file = &self.files[number as usize];
            let common = common(&file.path, path);
            (common, std::cmp::Reverse(file.size.abs_diff(size)))
        });
        nearest.map(|&number| &self.files[number as usize])
    }
}

/// The path with every version number in it replaced by one character.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        if !byte.is_ascii_digit() {
            plain.push(byte);
            rest = behind;
            continue;
        }
        // Dots and the like belong to a version where a digit follows.
        let mut len = 1;
        loop {
            match (rest.get(len), rest.get(len + 1)) {
                (Some(next), _) if next.is_ascii_digit() => len += 1,
                (Some(b'.' | b'-' | b'+' | b'~'), Some(next)) if next.is_ascii_digit() => len += 2,
                _ => break,
            }
        }
        plain.push(b'#');
        rest = &rest[len..];
    }
    plain
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// How many bytes two paths have in common at their beginning and end.
fn common(one: &[u8], other: &[u8]) -> usize {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let start = one.iter().zip(other).take_while(same).count();
    let end = one.iter().rev().zip(other.iter().rev()).take_while(same);
    start + end.count()
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&display(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_one_character() {
        for (path, expected) in [
            ("usr/lib/libssl.so.1.1", "usr/lib/libssl.so.#"),
            ("boot/vmlinuz-5.10.0-28-amd64", "boot/vmlinuz-#-amd#"),
            ("a/x.2.py", "a/x.#.py"),
            ("a/1.", "a/#."),
            ("plain", "plain"),
        ] {
            let found = String::from_utf8(plain(path.as_bytes())).unwrap();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_nearest_relative() {
        let chunk = |content: &[u8]| [ChunkRef::of(content)];
        let mut kin = SimilarFiles::default();
        kin.add(1, b"lib/modules/5.10.1/net/x.ko", &chunk(b"one"));
        kin.add(2, b"lib/modules/5.10.1/sound/x.ko", &chunk(b"two"));
        kin.add(3, b"opt/README", &chunk(b"three"));
        let of = |path: &str| kin.of(path.as_bytes(), 3).map(|file| file.entry);
        assert_eq!(of("opt/README"), Some(3));
        assert_eq!(of("lib/modules/5.10.2/sound/x.ko"), Some(2));
        assert_eq!(of("srv/deep/README"), Some(3));
        assert_eq!(of("srv/other"), None);
    }
}
