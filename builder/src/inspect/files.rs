//! Files of a stored image, by path.

use store::Image;
use store::canonical_tar::Kind;
use store::chunk::ChunkRef;

/// No file that is read here is larger.
const MAX_FILE: u64 = 64 << 20;

/// Symbolic links that are followed on one way, as many as Linux does.
const MAX_LINKS: usize = 40;

/// The files of an image by path. Links lead where they lead inside of it.
///
/// An image may have a million of them, so nothing has an allocation of its own.
pub(crate) struct ImageFiles<'i> {
    image: &'i Image,
    /// By path.
    entries: Vec<Item>,
    /// The path of each entry, and what a link says behind it.
    texts: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

/// An entry: where its path begins in the texts, how long it is, and what has it.
struct Item {
    start: usize,
    path: u16,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Directory,
    /// The number of its first chunk, and how many it has.
    File(u32, u32),
    /// The length of its target.
    Symlink(u16),
    Hardlink(u16),
}

/// Paths and targets are shorter than 4096 bytes.
const _: () = assert!(size_of::<Item>() == 24 && store::canonical_tar::MAX_PATH < 1 << 16);

impl<'i> ImageFiles<'i> {
    /// Reads the paths of all entries.
    pub(crate) fn list(image: &'i Image) -> store::Result<Self> {
        let (mut entries, mut texts, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for item in image.entries()? {
            let (entry, chunks) = item?;
            let start = texts.len();
            texts.extend_from_slice(&entry.path);
            let what = match entry.kind {
                Kind::Directory => What::Directory,
                Kind::File { .. } => What::File(all.len() as u32, chunks.len() as u32),
                Kind::Symlink { target } => {
                    texts.extend_from_slice(&target);
                    What::Symlink(target.len() as u16)
                }
                Kind::Hardlink { target } => {
                    texts.extend_from_slice(&target);
                    What::Hardlink(target.len() as u16)
                }
            };
            all.extend(chunks);
            let path = entry.path.len() as u16;
            entries.push(Item { start, path, what });
        }
        let path = |item: &Item| &texts[item.start..][..item.path.into()];
        entries.sort_unstable_by(|a, b| path(a).cmp(path(b)));
        Ok(Self {
            image,
            entries,
            texts,
            chunks: all,
        })
    }

    fn path_of(&self, item: &Item) -> &[u8] {
        &self.texts[item.start..][..item.path.into()]
    }

    /// The entry with exactly this path.
    fn get(&self, path: &[u8]) -> Option<&Item> {
        let found = self
            .entries
            .binary_search_by(|item| self.path_of(item).cmp(path));
        Some(&self.entries[found.ok()?])
    }

    /// What a link of `len` bytes says.
    fn target(&self, item: &Item, len: u16) -> &[u8] {
        &self.texts[item.start + usize::from(item.path)..][..len.into()]
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
            let item = self.get(&at)?;
            if let What::Symlink(len) = item.what {
                let target = self.target(item, len);
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
        let mut item = self.get(&path)?;
        if let What::Hardlink(len) = item.what {
            item = self.get(self.target(item, len))?;
        }
        match item.what {
            What::File(first, count) => Some(&self.chunks[first as usize..][..count as usize]),
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
        self.get(path.as_bytes()).is_some()
    }

    /// The paths of all entries that are UTF-8, sorted.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.entries.iter().map(|item| self.path_of(item));
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
