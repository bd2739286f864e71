//! Files of a stored image, by path.

use std::collections::BTreeMap;

use store::Image;
use store::canonical_tar::Kind;
use store::chunk::ChunkRef;

/// No file that is read here is larger.
const MAX_FILE: u64 = 64 << 20;

/// Symbolic links that are followed on one way, as many as Linux does.
const MAX_LINKS: usize = 40;

/// The files of an image by path. Links lead where they lead inside of it.
pub(crate) struct ImageFiles<'i> {
    image: &'i Image,
    entries: BTreeMap<Vec<u8>, What>,
}

enum What {
    Directory,
    File(Vec<ChunkRef>),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
}

impl<'i> ImageFiles<'i> {
    /// Reads the paths of all entries.
    pub(crate) fn list(image: &'i Image) -> store::Result<Self> {
        let mut entries = BTreeMap::new();
        for item in image.entries()? {
            let (entry, chunks) = item?;
            let what = match entry.kind {
                Kind::Directory => What::Directory,
                Kind::File { .. } => What::File(chunks),
                Kind::Symlink { target } => What::Symlink(target),
                Kind::Hardlink { target } => What::Hardlink(target),
            };
            entries.insert(entry.path, what);
        }
        Ok(Self { image, entries })
    }

    /// The path that a path leads to, inside the image, whatever links say.
    fn resolve(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut todo: Vec<Vec<u8>> = segments(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(segment) = todo.pop() {
            if segment == b".." {
                let slash = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(slash);
                continue;
            }
            let parent = at.len();
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(&segment);
            if let What::Symlink(target) = self.entries.get(&at)? {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.truncate(if target.first() == Some(&b'/') {
                    0
                } else {
                    parent
                });
                todo.extend(segments(target));
            }
        }
        Some(at)
    }

    /// The chunks of the file that a path leads to.
    fn file(&self, path: &str) -> Option<&[ChunkRef]> {
        let path = self.resolve(path.as_bytes())?;
        match self.entries.get(&path)? {
            What::File(chunks) => Some(chunks),
            What::Hardlink(target) => match self.entries.get(target)? {
                What::File(chunks) => Some(chunks),
                _ => None,
            },
            _ => None,
        }
    }

    /// A file's text; `None` when there is none, or one that is too long.
    pub(crate) fn text(&self, path: &str) -> store::Result<Option<String>> {
        let Some(chunks) = self.file(path) else {
            return Ok(None);
        };
        if chunks
            .iter()
            .map(|chunk| u64::from(chunk.len()))
            .sum::<u64>()
            > MAX_FILE
        {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for chunk in chunks {
            bytes.extend(self.image.fetch(chunk)?);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The first piece of a file.
    pub(crate) fn beginning(&self, path: &str) -> store::Result<Option<Vec<u8>>> {
        let first = self.file(path).and_then(<[ChunkRef]>::first);
        first.map(|chunk| self.image.fetch(chunk)).transpose()
    }

    /// Whether there is an entry with exactly this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path.as_bytes())
    }

    /// The paths of all entries that are UTF-8, sorted.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.entries.keys();
        paths.filter_map(|path| std::str::from_utf8(path).ok())
    }

    /// os-release(5).
    pub(crate) fn os_release(&self) -> store::Result<Option<String>> {
        match self.text("etc/os-release")? {
            Some(text) => Ok(Some(text)),
            None => self.text("usr/lib/os-release"),
        }
    }
}

/// The segments of a path, the last one first.
fn segments(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// A field of os-release(5); `None` when it is missing or empty.
pub(crate) fn os_release_field(release: &str, name: &str) -> Option<String> {
    let mut lines = release.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}
