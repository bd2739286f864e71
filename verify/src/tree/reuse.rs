//! What the previous generation has already.
//!
//! The signed layout of the previous image says which chunk is at which place of which file. A chunk
//! of the new image that is among them is read from the tree on this node instead of from the store,
//! and compared with its digest: a file that somebody changed in the meantime is no source, and its
//! chunks come from the store after all. Where the file system can share blocks, a file that is the
//! same as a whole is shared instead of written.
//!
//! What a delta builds on is read from the same tree, and believed as little.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ioctl_ficlone, openat};
use store::Image;
use store::canonical_tar::Kind;
use store::chunk::ChunkRef;
use store::digest::Blake3;

use super::merge::SignedEntry;
use super::open::OpenTree;
use super::openat;
use crate::error::Result;

/// The most chunks that are remembered, 16 bytes each, and as much for a file's path: larger
/// images fetch the rest.
const MOST: usize = 1 << 19;

/// The tree of the previous generation and what is where in it.
pub struct PreviousTree {
    tree: OpenTree,
    paths: Arc<Paths>,
    places: Arc<ChunkIndex>,
    open: Option<(u32, Option<Arc<File>>)>,
    /// Whether files of this tree can share their blocks with files of the new one.
    shares: bool,
}

/// The chunks that should be there, by digest.
#[derive(Debug, Default)]
pub struct ChunkIndex(Vec<Place>);

/// The place of a chunk. Of its digest 6 bytes are enough to look for it, as what is found is
/// compared with the whole digest; of its offset 6 bytes are all that a file system allows.
#[derive(Debug)]
struct Place {
    digest: [u8; 6],
    offset: [u8; 6],
    /// The number of the file.
    file: u32,
}

/// Paths of files, by number: the path of each directory once, and names.
#[derive(Debug, Default)]
struct Paths {
    directories: Vec<Box<[u8]>>,
    /// The number of its directory, and where its name ends.
    files: Vec<(u32, u32)>,
    names: Vec<u8>,
}

/// The place at which a chunk was found.
#[derive(Debug)]
pub struct ChunkSource {
    /// The file that has it.
    pub file: Arc<File>,
    /// The offset of the chunk in it, in bytes.
    pub offset: u64,
}

impl PreviousTree {
    /// A source of chunks in the tree of a generation, which should hold what was signed.
    pub fn index(tree: OpenTree, signed: impl Iterator<Item = SignedEntry>) -> Result<Self> {
        let (mut paths, mut places) = (Paths::default(), Vec::new());
        for item in signed {
            let (entry, chunks) = item?;
            if places.len() + chunks.len() > MOST {
                break;
            }
            if !matches!(entry.kind, Kind::File { .. }) || chunks.is_empty() {
                continue;
            }
            let file = paths.add(&entry.path);
            let mut offset = 0;
            for chunk in chunks {
                places.push(Place::new(&chunk, file, offset));
                offset += u64::from(chunk.len());
            }
        }
        let places = ChunkIndex::new(places);
        Ok(Self {
            tree,
            paths: Arc::new(paths),
            places: Arc::new(places),
            open: None,
            shares: false,
        })
    }

    /// Finds out whether files of the previous tree can share blocks with files below `directory`.
    pub fn probe_sharing(&mut self, directory: impl AsFd) {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let probe = openat(directory, ".", flags, Mode::RUSR | Mode::WUSR);
        let mut sources = self.paths.iter();
        let source = sources.find_map(|path| openat::open_file(&self.tree.root, &path).ok());
        self.shares = match (probe, source) {
            (Ok(probe), Some(source)) => ioctl_ficlone(probe, source).is_ok(),
            _ => false,
        };
    }

    /// Whether whole files are worth sharing.
    pub fn shares(&self) -> bool {
        self.shares
    }

    /// The chunks that should be there.
    pub fn chunks(&self) -> Arc<ChunkIndex> {
        Arc::clone(&self.places)
    }

    /// The base for a delta in the same tree. `image` is what the tree should be.
    pub fn delta_base(&self, image: Image) -> Result<DeltaBase> {
        Ok(DeltaBase {
            root: self.tree.reopen()?,
            paths: Arc::clone(&self.paths),
            places: Arc::clone(&self.places),
            image,
        })
    }

    /// Reads a chunk into `buffer`; `None` when the tree does not have it any more.
    pub fn read(&mut self, chunk: &ChunkRef, buffer: &mut Vec<u8>) -> Option<ChunkSource> {
        let (path, offset) = self.places.get(chunk.digest())?;
        let file = match &self.open {
            Some((open, file)) if *open == path => file.clone(),
            _ => {
                let opened = openat::open_file(&self.tree.root, &self.paths.get(path));
                let file = opened.ok().map(|fd| Arc::new(File::from(fd)));
                self.open.insert((path, file)).1.clone()
            }
        }?;
        buffer.resize(chunk.len() as usize, 0);
        file.read_exact_at(buffer, offset).ok()?;
        chunk.names(buffer).then_some(ChunkSource { file, offset })
    }
}

impl ChunkIndex {
    fn new(mut places: Vec<Place>) -> Self {
        // Of several places of one chunk the first is taken. A stable sort would say so by itself,
        // and take as much memory again.
        places.sort_unstable_by_key(|place| (place.digest, place.file, place.offset));
        places.dedup_by_key(|place| place.digest);
        Self(places)
    }

    /// Whether a chunk should be there.
    pub fn contains(&self, digest: &Blake3) -> bool {
        self.get(digest).is_some()
    }

    /// The number of the file that should have a chunk, and the offset in it.
    fn get(&self, digest: &Blake3) -> Option<(u32, u64)> {
        let found = self
            .0
            .binary_search_by_key(&Place::prefix(digest), |place| place.digest);
        let place = &self.0[found.ok()?];
        Some((place.file, place.offset()))
    }
}

impl Place {
    fn new(chunk: &ChunkRef, file: u32, offset: u64) -> Self {
        let [_, _, offset @ ..] = offset.to_be_bytes();
        Self {
            digest: Self::prefix(chunk.digest()),
            offset,
            file,
        }
    }

    fn prefix(digest: &Blake3) -> [u8; 6] {
        let (prefix, _) = digest.bytes().split_first_chunk().expect("32 bytes");
        *prefix
    }

    fn offset(&self) -> u64 {
        self.offset
            .iter()
            .fold(0, |offset, byte| offset << 8 | u64::from(*byte))
    }
}

impl Paths {
    /// Adds a path; returns its number. Those of one directory follow each other, but for what is
    /// in its directories.
    fn add(&mut self, path: &[u8]) -> u32 {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (directory, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
        if self
            .directories
            .last()
            .is_none_or(|last| **last != *directory)
        {
            self.directories.push(directory.into());
        }
        self.names.extend_from_slice(name);
        let directory = self.directories.len() as u32 - 1;
        // At most 2^19 names of 4,096 bytes.
        self.files.push((directory, self.names.len() as u32));
        self.files.len() as u32 - 1
    }

    fn get(&self, number: u32) -> Vec<u8> {
        let number = number as usize;
        let (directory, end) = self.files[number];
        let start = number
            .checked_sub(1)
            .map_or(0, |before| self.files[before].1);
        [
            &*self.directories[directory as usize],
            &self.names[start as usize..end as usize],
        ]
        .concat()
    }

    fn iter(&self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.files.len() as u32).map(|number| self.get(number))
    }
}

/// The base of a delta in the previous generation: its layout as it was signed, its content as
/// it is on this node.
pub struct DeltaBase {
    root: OwnedFd,
    paths: Arc<Paths>,
    places: Arc<ChunkIndex>,
    image: Image,
}

impl store::delta::PreviousImage for DeltaBase {
    fn chunks(&self, each: &mut dyn FnMut(&[ChunkRef])) -> store::Result<()> {
        store::delta::PreviousImage::chunks(&self.image, each)
    }

    fn fetch(&self, chunk: &ChunkRef) -> store::Result<Option<Vec<u8>>> {
        let Some((path, offset)) = self.places.get(chunk.digest()) else {
            // The layout is in no file.
            let layout = self.image.layout_chunks().contains(chunk);
            return layout.then(|| self.image.fetch_layout(chunk)).transpose();
        };
        let read = || {
            let opened = openat::open_file(&self.root, &self.paths.get(path)).ok()?;
            let mut bytes = vec![0; chunk.len() as usize];
            File::from(opened).read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        };
        Ok(read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use store::canonical_tar::Entry;

    fn chunk(bytes: &[u8]) -> ChunkRef {
        ChunkRef::new(Blake3::of(bytes), bytes.len() as u32).unwrap()
    }

    fn signed(path: &str, chunks: &[&[u8]]) -> (Entry, Vec<ChunkRef>) {
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: Kind::File { size },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        (entry, chunks.iter().map(|bytes| chunk(bytes)).collect())
    }

    #[test]
    fn paths_are_put_together_again() {
        let mut paths = Paths::default();
        let all = ["a", "b/c", "b/d/e", "b/d/f", "b/g", "h"];
        for (number, path) in all.iter().enumerate() {
            assert_eq!(paths.add(path.as_bytes()), number as u32);
        }
        let found: Vec<_> = paths
            .iter()
            .map(|path| String::from_utf8(path).unwrap())
            .collect();
        assert_eq!(found, all);
    }

    #[test]
    fn chunks_are_found_and_what_was_changed_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), b"onetwo").unwrap();
        fs::write(directory.path().join("b"), b"thrxx").unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("c")).unwrap();
        let root = OpenTree::plain(File::open(directory.path()).unwrap().into());
        let entries = [
            signed("a", &[b"one", b"two"]),
            signed("b", &[b"three"]),
            signed("c", &[b"four"]),
            signed("d", &[b"five"]),
        ];
        let mut previous = PreviousTree::index(root, entries.into_iter().map(Ok)).unwrap();
        let mut buffer = Vec::new();
        let source = previous.read(&chunk(b"two"), &mut buffer).unwrap();
        assert_eq!((buffer.as_slice(), source.offset), (&b"two"[..], 3));
        for gone in [&b"three"[..], b"four", b"five"] {
            assert!(previous.chunks().contains(chunk(gone).digest()));
            assert!(previous.read(&chunk(gone), &mut buffer).is_none());
        }
        assert!(!previous.chunks().contains(chunk(b"six").digest()));
    }
}
