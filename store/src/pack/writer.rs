//! Compressing frames and writing them into packs.
//!
//! ```text
//! producer --frames--> zstd, all cores --> one thread: packs
//! ```
//!
//! A frame that comes from another pack is passed through as it is.
//!
//! Every arrow is a short queue, so memory is bounded: whoever is ahead waits.
//! Frames are numbered, and the writer puts them in that order again, so the same
//! frames make the same packs however the threads ran.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::{Encoder, Index, MAGIC, PACK_CHUNKS, PACK_MAX};
use crate::backend::{ObjectWriter, WritableBackend};
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};
use crate::pack;

/// A pack that would grow beyond this is finished and the next one begun.
const TARGET: u64 = PACK_MAX / 2;

/// Bytes after which a pack is flushed. The disk then works while the processors
/// do, and the end of a publication does not wait for all of it at once.
const FLUSH: u64 = 16 << 20;

/// Frames that wait for a compressor, and compressed ones that wait for the pack
/// writer. Small: each is up to 4 MiB.
const QUEUE: usize = 2;

/// A frame on its way, and its place in the order of frames.
struct Job {
    number: u64,
    chunks: Vec<ChunkRef>,
    bytes: Vec<u8>,
    /// Whether the bytes are compressed already.
    done: bool,
}

/// A frame as it will lie in a pack.
struct Compressed {
    number: u64,
    chunks: Vec<ChunkRef>,
    bytes: Result<Vec<u8>>,
}

/// Takes frames on their way into packs.
pub(crate) struct Frames {
    jobs: SyncSender<Job>,
    number: u64,
}

impl Frames {
    /// Takes chunks that are one frame together, to be compressed.
    pub(crate) fn compress(&mut self, chunks: Vec<ChunkRef>, bytes: Vec<u8>) -> Result<()> {
        self.send(chunks, bytes, false)
    }

    /// Takes a frame as it lies in another pack.
    pub(crate) fn copy(&mut self, chunks: Vec<ChunkRef>, bytes: Vec<u8>) -> Result<()> {
        self.send(chunks, bytes, true)
    }

    fn send(&mut self, chunks: Vec<ChunkRef>, bytes: Vec<u8>, done: bool) -> Result<()> {
        let number = self.number;
        self.number += 1;
        let job = Job {
            number,
            chunks,
            bytes,
            done,
        };
        // Whoever could not hand over a frame does not know why; the writer does.
        let lost = |_| Error::new(ErrorKind::Io, "the threads that write packs have ended");
        self.jobs.send(job).map_err(lost)
    }
}

/// Compresses frames until there are no more, or nobody wants them.
fn compress(jobs: &Mutex<Receiver<Job>>, compressed: &SyncSender<Compressed>) {
    let mut encoder = None;
    loop {
        // A let of its own, so that the lock is not held while compressing.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            number,
            chunks,
            bytes,
            done,
        }) = job
        else {
            return;
        };
        let bytes = match &mut encoder {
            _ if done => Ok(bytes),
            Some(encoder) => Encoder::encode(encoder, &bytes),
            None => Encoder::new().and_then(|new| encoder.insert(new).encode(&bytes)),
        };
        let bytes = bytes.map_err(|error| Error::io("compress", "a frame", error));
        let frame = Compressed {
            number,
            chunks,
            bytes,
        };
        if compressed.send(frame).is_err() {
            return;
        }
    }
}

/// Writes packs as drafts, and at last into the store.
pub(crate) struct PackWriter<'a> {
    backend: &'a dyn WritableBackend,
    open: Option<OpenPack<'a>>,
    done: Vec<(Box<dyn ObjectWriter + 'a>, Index)>,
}

/// A pack that is being written.
pub(crate) struct OpenPack<'a> {
    file: Box<dyn ObjectWriter + 'a>,
    hasher: blake3::Hasher,
    index: Index,
    unflushed: u64,
}

impl<'a> PackWriter<'a> {
    pub(crate) fn new(backend: &'a dyn WritableBackend) -> Self {
        Self {
            backend,
            open: None,
            done: Vec::new(),
        }
    }

    /// Writes the frames that `produce` hands over.
    pub(crate) fn fill<T: Send>(&mut self, produce: impl FnOnce(Frames) -> Result<T>) -> Result<T> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (compressed, frames) = mpsc::sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        thread::scope(|scope| {
            for _ in 0..cores {
                let (queue, compressed) = (Arc::clone(&queue), compressed.clone());
                scope.spawn(move || compress(&queue, &compressed));
            }
            // Only the compressors hold these now: the writer ends when they do, and
            // the producer, when a full disk has ended the writer and so them.
            drop((queue, compressed));
            let writer = scope.spawn(move || self.write_all(&frames));
            let produced = produce(Frames { jobs, number: 0 });
            let died = |_| Error::new(ErrorKind::Io, "a thread that writes packs has died");
            writer.join().map_err(died)??;
            produced
        })
    }

    /// Writes frames, in the order of their numbers, until there are no more.
    fn write_all(&mut self, frames: &Receiver<Compressed>) -> Result<()> {
        // As many as there are compressors can be early.
        let mut early = BTreeMap::new();
        let mut next = 0;
        for frame in frames {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                self.write(&frame.bytes?, &frame.chunks)?;
                next += 1;
            }
        }
        self.finish_pack()
    }

    fn write(&mut self, stored: &[u8], chunks: &[ChunkRef]) -> Result<()> {
        let full = self.open.as_ref().is_some_and(|open| {
            open.index.pack_size() + stored.len() as u64 > TARGET
                || open.index.chunks().len() + chunks.len() > PACK_CHUNKS
        });
        if full {
            self.finish_pack()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(OpenPack::new(self.backend)?),
        };
        open.add(stored, chunks)
    }

    fn finish_pack(&mut self) -> Result<()> {
        if let Some(mut open) = self.open.take() {
            open.file.flush()?;
            open.index.name(open.hasher.finalize().into());
            self.done.push((open.file, open.index));
        }
        Ok(())
    }

    /// Moves the packs into the store, then their indexes: a pack without an index
    /// is invisible, an index without its pack would be a lie. Returns the packs
    /// and how many bytes there are now more.
    pub(crate) fn commit(self) -> Result<(Vec<Blake3>, u64)> {
        let (mut packs, mut indexes, mut written) = (Vec::new(), Vec::new(), 0);
        // Held before they are there: a collector may know the same packs as dead
        // ones of before.
        let names = self.done.iter().map(|(_, index)| *index.pack());
        self.backend.hold(&pack::keys(names))?;
        for (file, index) in self.done {
            written += index.pack_size();
            file.finish(&pack::pack_key(index.pack()))?;
            packs.push(*index.pack());
            indexes.push(index);
        }
        self.backend.sync()?;
        for index in indexes {
            let bytes = index.encode();
            let mut file = self.backend.create()?;
            file.write(&bytes)?;
            file.finish(&pack::index_key(index.pack()))?;
            written += bytes.len() as u64;
        }
        self.backend.sync()?;
        Ok((packs, written))
    }
}

impl<'a> OpenPack<'a> {
    /// Adds a frame as it will lie in the pack.
    pub(crate) fn add(&mut self, stored: &[u8], chunks: &[ChunkRef]) -> Result<()> {
        self.append(stored)?;
        self.index.add(stored.len(), chunks);
        Ok(())
    }

    /// What is in it so far.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Moves the pack into the store by itself, then its index, both durable.
    pub(crate) fn commit(mut self, backend: &'a dyn WritableBackend) -> Result<(Index, u64)> {
        self.file.flush()?;
        self.index.name(self.hasher.finalize().into());
        let index = self.index.clone();
        let writer = PackWriter {
            backend,
            open: None,
            done: vec![(self.file, self.index)],
        };
        let (_, written) = writer.commit()?;
        Ok((index, written))
    }

    pub(crate) fn new(backend: &'a dyn WritableBackend) -> Result<Self> {
        let (hasher, index) = (blake3::Hasher::new(), Index::unnamed());
        let mut open = Self {
            file: backend.create()?,
            hasher,
            index,
            unflushed: 0,
        };
        open.append(&MAGIC)?;
        Ok(open)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)?;
        self.hasher.update(bytes);
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH {
            self.file.flush()?;
            self.unflushed = 0;
        }
        Ok(())
    }
}
