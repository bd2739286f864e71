//! The cache of a reader: what it keeps of a store on a network.
//!
//! A version of an image shares most of its layout with the one before, and most of the
//! packs that it is in. Whoever follows an image from version to version keeps the
//! chunks of the layout and the indexes, and asks the store for what is new.
//!
//! It may lose what it wants to, and nothing of it is believed: chunks are compared
//! with their digests, indexes are parsed and must be those of their packs.

use std::sync::Arc;

use crate::backend::Backend;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::pack::Index;

/// A place for small objects that never change, by name: digits, letters and a dot.
pub trait Cache: Send + Sync {
    /// The bytes kept under a name. They may be wrong: the caller compares them with their digest.
    fn get(&self, name: &str) -> Option<Vec<u8>>;

    /// Stores bytes under a name, if it can.
    fn put(&self, name: &str, bytes: &[u8]);

    /// Length of what [`get`](Self::get) would return, in bytes.
    fn size(&self, name: &str) -> Option<u64>;
}

/// A backend, and the cache that keeps what its reader needs again.
#[derive(Clone)]
pub(crate) struct CachedBackend {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) cache: Option<Arc<dyn Cache>>,
}

impl CachedBackend {
    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn cache(&self) -> Option<&dyn Cache> {
        self.cache.as_deref()
    }
}

fn chunk_name(chunk: &ChunkRef) -> String {
    format!("{}.chunk", chunk.digest().hex())
}

fn index_name(pack: &Blake3) -> String {
    format!("{}.index", pack.hex())
}

impl dyn Cache + '_ {
    pub(crate) fn chunk(&self, chunk: &ChunkRef) -> Option<Vec<u8>> {
        let bytes = self.get(&chunk_name(chunk))?;
        chunk.names(&bytes).then_some(bytes)
    }

    pub(crate) fn keep_chunk(&self, chunk: &ChunkRef, bytes: &[u8]) {
        self.put(&chunk_name(chunk), bytes);
    }

    /// Whether it should have a chunk.
    pub(crate) fn has_chunk(&self, chunk: &ChunkRef) -> bool {
        self.size(&chunk_name(chunk)) == Some(chunk.len().into())
    }

    pub(crate) fn index(&self, pack: &Blake3) -> Option<Index> {
        let index = Index::parse(&self.get(&index_name(pack))?).ok()?;
        (index.pack() == pack).then_some(index)
    }

    pub(crate) fn keep_index(&self, pack: &Blake3, bytes: &[u8]) {
        self.put(&index_name(pack), bytes);
    }

    /// The bytes of a pack's index, if it should have that.
    pub(crate) fn index_size(&self, pack: &Blake3) -> Option<u64> {
        self.size(&index_name(pack))
    }
}
