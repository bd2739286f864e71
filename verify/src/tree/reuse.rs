//! What the previous generation has already.
//!
//! The signed layout of the previous image says which chunk is at which place of which file. A chunk
//! of the new image that is among them is read from the tree on this node instead of from the store,
//! and compared with its digest: a file that somebody changed in the meantime is no source, and its
//! chunks come from the store after all. Where the file system can share blocks, a file that is the
//! same as a whole is shared instead of written.
//!
//! What a delta builds on is read from the same tree, and believed as little.

use std::collections::HashMap;
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

/// The most chunks that are remembered, about 80 bytes each: larger images fetch the rest.
const MOST: usize = 1 << 19;

/// The tree of the previous generation and what is where in it.
pub struct PreviousTree {
    tree: OpenTree,
    paths: Arc<Vec<Box<[u8]>>>,
    places: Arc<ChunkIndex>,
    open: Option<(u32, Option<Arc<File>>)>,
    /// Whether files of this tree can share their blocks with files of the new one.
    shares: bool,
}

/// The chunks that should be there: the number of the file and the offset of each.
pub type ChunkIndex = HashMap<Blake3, (u32, u64)>;

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
        let (mut paths, mut places) = (Vec::new(), ChunkIndex::new());
        for item in signed {
            let (entry, chunks) = item?;
            if places.len() + chunks.len() > MOST {
                break;
            }
            if !matches!(entry.kind, Kind::File { .. }) || chunks.is_empty() {
                continue;
            }
            let path = paths.len() as u32;
            paths.push(entry.path.into_boxed_slice());
            let mut offset = 0;
            for chunk in chunks {
                places.entry(*chunk.digest()).or_insert((path, offset));
                offset += u64::from(chunk.len());
            }
        }
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
        let source = sources.find_map(|path| openat::open_file(&self.tree.root, path).ok());
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
        let (path, offset) = *self.places.get(chunk.digest())?;
        let file = match &self.open {
            Some((open, file)) if *open == path => file.clone(),
            _ => {
                let opened = openat::open_file(&self.tree.root, &self.paths[path as usize]);
                let file = opened.ok().map(|fd| Arc::new(File::from(fd)));
                self.open.insert((path, file)).1.clone()
            }
        }?;
        buffer.resize(chunk.len() as usize, 0);
        file.read_exact_at(buffer, offset).ok()?;
        chunk.names(buffer).then_some(ChunkSource { file, offset })
    }
}

/// The base of a delta in the previous generation: its layout as it was signed, its content as
/// it is on this node.
pub struct DeltaBase {
    root: OwnedFd,
    paths: Arc<Vec<Box<[u8]>>>,
    places: Arc<ChunkIndex>,
    image: Image,
}

impl store::delta::PreviousImage for DeltaBase {
    fn chunks(&self, each: &mut dyn FnMut(&[ChunkRef])) -> store::Result<()> {
        store::delta::PreviousImage::chunks(&self.image, each)
    }

    fn fetch(&self, chunk: &ChunkRef) -> store::Result<Option<Vec<u8>>> {
        let Some(&(path, offset)) = self.places.get(chunk.digest()) else {
            // The layout is in no file.
            let layout = self.image.layout_chunks().contains(chunk);
            return layout.then(|| self.image.fetch_layout(chunk)).transpose();
        };
        let read = || {
            let opened = openat::open_file(&self.root, &self.paths[path as usize]).ok()?;
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
            assert!(previous.chunks().contains_key(chunk(gone).digest()));
            assert!(previous.read(&chunk(gone), &mut buffer).is_none());
        }
        assert!(!previous.chunks().contains_key(chunk(b"six").digest()));
    }
}
