//! Moving frames, and gathering them in packs.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use super::destination::DestinationIndex;
use super::pipe;
use super::walk::announce;
use crate::backend::Backend;
use crate::backend::WritableBackend;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::image::ChunkLocation;
use crate::pack::{Decoder, OpenPack, PACK_CHUNKS, PACK_MAX};

/// A pack of gathered frames that would grow beyond this is finished.
const TARGET: u64 = PACK_MAX / 2;

/// No pack is finished for its age while it is smaller: slow lines would leave
/// thousands of packs.
const SMALLEST: u64 = 4 << 20;

/// Frames that are fetched and decoded at once from a store that is far; from one
/// that is near, as many as there are processors.
const LANES: usize = 4;

/// How frames are moved.
pub(super) struct Moving<'a> {
    pub(super) from: &'a dyn Backend,
    pub(super) backend: &'a dyn WritableBackend,
    pub(super) checkpoint: Duration,
}

/// Packs that a copy wrote.
#[derive(Default)]
pub(super) struct Moved {
    pub(super) packs: Vec<Blake3>,
    /// Bytes of packs and indexes.
    pub(super) written: u64,
}

impl Moving<'_> {
    /// Moves frames, which are sorted by pack, and adds the new packs to `known`.
    /// Every chunk of a frame is verified before the frame is written. `each` hears of
    /// the bytes that have come.
    pub(super) fn run(
        &self,
        frames: &[ChunkLocation],
        known: &mut DestinationIndex,
        each: &mut dyn FnMut(u64),
    ) -> Result<Moved> {
        let mut moved = Moved::default();
        if frames.is_empty() {
            return Ok(moved);
        }
        let mut counts: HashMap<Blake3, usize> = HashMap::new();
        for location in frames {
            *counts.entry(location.frame_id().0).or_default() += 1;
        }
        let whole = |location: &ChunkLocation| {
            location
                .index()
                .is_some_and(|index| counts.get(index.pack()) == Some(&index.frames().len()))
        };
        announce(self.from, frames);
        let mut gathered = Gathered {
            backend: self.backend,
            open: None,
            moved: &mut moved,
            known,
        };
        let lanes = if self.from.is_remote() {
            LANES
        } else {
            thread::available_parallelism().map_or(1, usize::from)
        };
        let tool = || Decoder::new().map_err(|error| Error::io("prepare", "zstd", error));
        let fetch =
            |decoder: &mut Decoder, location: &ChunkLocation| location.fetch(self.from, decoder);
        let mut order = frames.iter();
        let mut last: Option<Blake3> = None;
        let finished = pipe::ordered(frames, lanes, tool, fetch, |stored| {
            let Some(location) = order.next() else {
                return Ok(());
            };
            let pack = location.frame_id().0;
            // A whole pack stays by itself, and so stays the same.
            if last.is_some_and(|last| last != pack) && (whole(location) || gathered.is_whole()) {
                gathered.finish()?;
            }
            last = Some(pack);
            gathered.add(&stored, location, whole(location), self.checkpoint)?;
            each(stored.len() as u64);
            Ok(())
        });
        // What came before a failure need not come again.
        let kept = gathered.finish();
        finished.and(kept)?;
        Ok(moved)
    }
}

/// The pack that frames are gathered in.
struct Gathered<'a, 'b> {
    backend: &'a dyn WritableBackend,
    open: Option<Open<'a>>,
    moved: &'b mut Moved,
    known: &'b mut DestinationIndex,
}

struct Open<'a> {
    pack: OpenPack<'a>,
    chunks: HashSet<ChunkRef>,
    since: Instant,
    /// Whether it is going to be the same pack as at the source.
    whole: bool,
}

impl Gathered<'_, '_> {
    fn is_whole(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.whole)
    }

    fn add(
        &mut self,
        stored: &[u8],
        location: &ChunkLocation,
        whole: bool,
        age: Duration,
    ) -> Result<()> {
        let chunks = location.chunks();
        let full = self.open.as_ref().is_some_and(|open| {
            let index = open.pack.index();
            let most = if whole { PACK_MAX } else { TARGET };
            index.pack_size() + stored.len() as u64 > most
                || index.chunks().len() + chunks.len() > PACK_CHUNKS
                || chunks.iter().any(|chunk| open.chunks.contains(chunk))
        });
        if full {
            self.finish()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open {
                pack: OpenPack::new(self.backend)?,
                chunks: HashSet::new(),
                since: Instant::now(),
                whole,
            }),
        };
        open.pack.add(stored, chunks)?;
        open.chunks.extend(chunks);
        if open.since.elapsed() >= age && open.pack.index().pack_size() >= SMALLEST.min(TARGET) {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            let (index, written) = open.pack.commit(self.backend)?;
            self.moved.packs.push(*index.pack());
            self.moved.written += written;
            self.known.add(vec![index]);
        }
        Ok(())
    }
}
