//! Compressing frames and writing them into packs.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use super::frames::RawFrame;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::pack::{self, Encoder, Index, MAGIC, PACK_CHUNKS, PACK_MAX};
use crate::writable::{Draft, Writable};

/// A pack that would grow beyond this is finished and the next one begun.
const TARGET: u64 = PACK_MAX / 2;

/// Bytes after which a pack is flushed. The disk then works while the processors
/// do, and the end of a publication does not wait for all of it at once.
const FLUSH: u64 = 16 << 20;

/// A frame as it will lie in a pack.
pub(super) struct Compressed {
    number: u64,
    chunks: Vec<ChunkRef>,
    stored: Result<Vec<u8>>,
}

/// Compresses frames until there are no more, or nobody wants them.
pub(super) fn compress(frames: &Mutex<Receiver<RawFrame>>, compressed: &SyncSender<Compressed>) {
    let mut encoder = None;
    loop {
        // A let of its own, so that the lock is not held while compressing.
        let frame = frames.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(RawFrame {
            number,
            chunks,
            bytes,
        }) = frame
        else {
            return;
        };
        let stored = match &mut encoder {
            Some(encoder) => Encoder::encode(encoder, &bytes),
            None => Encoder::new().and_then(|new| encoder.insert(new).encode(&bytes)),
        };
        let stored = stored.map_err(|error| Error::io("compress", "a frame", error));
        if compressed
            .send(Compressed {
                number,
                chunks,
                stored,
            })
            .is_err()
        {
            return;
        }
    }
}

/// Writes packs as drafts, and at last into the store.
pub(super) struct PackWriter<'a> {
    place: &'a dyn Writable,
    open: Option<OpenPack<'a>>,
    done: Vec<(Box<dyn Draft + 'a>, Index)>,
}

/// A pack that is being written.
struct OpenPack<'a> {
    file: Box<dyn Draft + 'a>,
    hasher: blake3::Hasher,
    index: Index,
    unflushed: u64,
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(place: &'a dyn Writable) -> Self {
        Self {
            place,
            open: None,
            done: Vec::new(),
        }
    }

    /// Writes frames, in the order of their numbers, until there are no more.
    pub(super) fn write_all(&mut self, frames: &Receiver<Compressed>) -> Result<()> {
        // As many as there are compressors can be early.
        let mut early = BTreeMap::new();
        let mut next = 0;
        for frame in frames {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                self.write(&frame.stored?, &frame.chunks)?;
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
            none => none.insert(OpenPack::new(self.place)?),
        };
        open.append(stored)?;
        open.index.add(stored.len(), chunks);
        Ok(())
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
    pub(super) fn commit(self) -> Result<(Vec<Blake3>, u64)> {
        let (mut packs, mut indexes, mut written) = (Vec::new(), Vec::new(), 0);
        // Held before they are there: a collector may know the same packs as dead
        // ones of before.
        let names = self.done.iter().map(|(_, index)| *index.pack());
        self.place.hold(&pack::keys(names))?;
        for (file, index) in self.done {
            written += index.pack_size();
            file.place(&pack::pack_key(index.pack()))?;
            packs.push(*index.pack());
            indexes.push((pack::index_key(index.pack()), index.encode()));
        }
        self.place.settle()?;
        for (key, bytes) in indexes {
            let mut file = self.place.draft()?;
            file.write(&bytes)?;
            file.place(&key)?;
            written += bytes.len() as u64;
        }
        self.place.settle()?;
        Ok((packs, written))
    }
}

impl<'a> OpenPack<'a> {
    fn new(place: &'a dyn Writable) -> Result<Self> {
        let (hasher, index) = (blake3::Hasher::new(), Index::unnamed());
        let mut open = Self {
            file: place.draft()?,
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
