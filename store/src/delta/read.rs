//! A delta that is read.
//!
//! Its table speaks of places, and the two layouts say which chunks are there. The
//! layout of the wanted image may itself come out of the delta, so places in it are
//! looked up first, and the others once it can be read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use zstd::zstd_safe::{self, DCtx};

use super::table::{Group, Run, Table};
use super::{DeltaInfo, FRESH_MAX, MAGIC, PRIOR_MAX, patch};
use crate::backend::{Backend, ObjectRange};
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};

/// The image that is there, as whoever has it can read it.
pub trait PreviousImage: Send + Sync {
    /// Hands out the chunks of its layout, then those of each entry in order.
    fn chunks(&self, each: &mut dyn FnMut(&[ChunkRef])) -> Result<()>;

    /// The bytes of a chunk, wherever they are; they need not be right. `None` where
    /// they are not to be had.
    fn fetch(&self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>>;
}

/// A delta, ready to be asked for chunks.
pub(crate) struct Delta {
    key: String,
    name: Blake3,
    offsets: Vec<u64>,
    groups: Vec<Group>,
    previous: Arc<dyn PreviousImage>,
    prior: Chunks,
    layout: Found,
    content: OnceLock<Found>,
}

/// The chunks of frames, one frame after the other.
struct Chunks {
    all: Vec<ChunkRef>,
    /// How many chunks this and all earlier frames have.
    ends: Vec<u32>,
}

/// Which chunks some runs are, and where each one is.
struct Found {
    fresh: Chunks,
    /// For each chunk, where it is in what its frame decodes to.
    starts: Vec<u32>,
    /// The numbers of all chunks, sorted by these.
    order: Vec<u32>,
}

impl Delta {
    /// Reads the table of a delta, and looks up what it says about FROM and about
    /// the layout of TO.
    pub(crate) fn open(
        backend: &dyn Backend,
        pair: &DeltaInfo,
        previous: Arc<dyn PreviousImage>,
        layout: &[ChunkRef],
    ) -> Result<Self> {
        let key = pair.delta_key();
        let frames = pair.size.saturating_sub(pair.table.into());
        let stored = backend.get_range(&key, frames, pair.table.into())?;
        let damaged = |why| damaged(&key, backend, why);
        let table = Table::parse(&stored, frames).map_err(damaged)?;
        if (table.from, table.to) != (pair.from, pair.to) {
            return Err(damaged("it is the delta of another pair"));
        }
        let mut offsets = Vec::with_capacity(table.groups.len());
        let mut offset = MAGIC.len() as u64;
        for group in &table.groups {
            offsets.push(offset);
            offset += u64::from(group.stored);
        }
        let mut prior = Places::new(table.groups.iter().map(|group| &group.prior[..]));
        previous.chunks(&mut |chunks| prior.entry(chunks))?;
        let prior = prior.finish(PRIOR_MAX).map_err(damaged)?;
        let mut of_layout = Places::new(table.groups.iter().map(layout_part));
        of_layout.entry(layout);
        let layout = Found::new(of_layout.finish(FRESH_MAX).map_err(damaged)?);
        Ok(Self {
            key,
            name: pair.delta,
            offsets,
            groups: table.groups,
            previous,
            prior,
            layout,
            content: OnceLock::new(),
        })
    }

    /// Looks up what the table says about the content of TO, whose entries' chunks
    /// `each` hands out in order. What it returns decides about the delta.
    pub(crate) fn resolve(
        &self,
        backend: &dyn Backend,
        layout: &[ChunkRef],
        entries: impl FnOnce(&mut dyn FnMut(&[ChunkRef])) -> Result<()>,
    ) -> Result<()> {
        let mut fresh = Places::new(self.groups.iter().map(|group| &group.fresh[..]));
        fresh.entry(layout);
        entries(&mut |chunks| fresh.entry(chunks))?;
        let fresh = fresh
            .finish(FRESH_MAX)
            .map_err(|why| damaged(&self.key, backend, why))?;
        // Only one thread opens an image.
        let _ = self.content.set(Found::new(fresh));
        Ok(())
    }

    /// The frame that makes this chunk, and where the chunk is in it.
    pub(crate) fn find(&self, chunk: &ChunkRef) -> Option<(u32, Range<usize>)> {
        self.found().find(chunk)
    }

    fn found(&self) -> &Found {
        self.content.get().unwrap_or(&self.layout)
    }

    /// Names the delta among all packs and deltas.
    pub(crate) fn name(&self) -> Blake3 {
        self.name
    }

    /// The bytes of a frame in the store.
    pub(crate) fn wanted(&self, group: u32) -> ObjectRange {
        let start = self.offsets[group as usize];
        let stored = u64::from(self.groups[group as usize].stored);
        ObjectRange {
            key: self.key.clone(),
            range: start..start + stored,
        }
    }

    /// Fetches a frame and decodes it, every chunk verified: those that it is made from
    /// as well as those that it makes.
    pub(crate) fn decode(&self, backend: &dyn Backend, group: u32) -> Result<Vec<u8>> {
        let chunks = self.prior.of(group);
        let lengths = chunks.iter().map(|chunk| chunk.len() as usize);
        let mut prior = Vec::with_capacity(lengths.sum());
        for chunk in chunks {
            let bytes = self.previous.fetch(chunk)?;
            let Some(bytes) = bytes.filter(|bytes| chunk.names(bytes)) else {
                let why = format!("{chunk}, which it builds on, is not here as it was");
                return Err(Error::corrupt(&self.key, why));
            };
            prior.extend_from_slice(&bytes);
        }
        let ObjectRange { key, range } = self.wanted(group);
        let decode = || {
            let stored = backend.get_range(&key, range.start, range.end - range.start)?;
            let fresh = self.fresh(group);
            decode(stored, &prior, &fresh).map_err(|why| damaged(&key, backend, why))
        };
        match decode() {
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    && backend.invalidate(&key, range.clone()) =>
            {
                decode()
            }
            other => other,
        }
    }

    /// The chunks that a frame makes. Before the layout is known, those of a frame
    /// that makes more than layout are not; then only its beginning counts.
    fn fresh(&self, group: u32) -> Fresh<'_> {
        Fresh {
            chunks: self.found().fresh.of(group),
            whole: self.content.get().is_some()
                || layout_part(&self.groups[group as usize]).len()
                    == self.groups[group as usize].fresh.len(),
        }
    }
}

/// What a frame makes, as far as it is known.
struct Fresh<'a> {
    chunks: &'a [ChunkRef],
    whole: bool,
}

/// The runs of a frame that are in the layout; they come first.
fn layout_part(group: &Group) -> &[Run] {
    let count = group.fresh.iter().take_while(|run| run.entry == 0).count();
    &group.fresh[..count]
}

fn damaged(key: &str, backend: &dyn Backend, why: &str) -> Error {
    Error::corrupt(format_args!("{key} in {}", backend.describe()), why)
}

/// Decodes a frame. What it announces is compared before it is decompressed, and what the
/// patch says before anything is made.
fn decode(stored: Vec<u8>, prior: &[u8], fresh: &Fresh<'_>) -> Result<Vec<u8>, &'static str> {
    let lengths = fresh.chunks.iter().map(|chunk| chunk.len() as usize);
    let known: usize = lengths.sum();
    let longest = patch::longest(if fresh.whole { known } else { FRESH_MAX });
    let announced = zstd_safe::get_frame_content_size(&stored)
        .ok()
        .flatten()
        .filter(|&size| size <= longest as u64)
        .ok_or("a frame does not announce its size, or too large a one")?;
    if zstd_safe::find_frame_compressed_size(&stored) != Ok(stored.len()) {
        return Err("a frame does not end where it should");
    }
    let mut patch = Vec::with_capacity(announced as usize);
    DCtx::create()
        .decompress(&mut patch, &stored)
        .map_err(|_| "a frame does not decompress")?;
    drop(stored);
    let bytes = patch::apply(&patch, prior, |size| {
        size <= FRESH_MAX && (size == known || (!fresh.whole && size > known))
    })?;
    let mut rest = &bytes[..];
    for chunk in fresh.chunks {
        let (content, behind) = rest
            .split_at_checked(chunk.len() as usize)
            .ok_or("a frame is shorter than its chunks")?;
        if !chunk.names(content) {
            return Err("a frame does not hold the chunks that it should");
        }
        rest = behind;
    }
    Ok(bytes)
}

/// Looks up places while an image's chunks pass by.
struct Places {
    /// Run, and the number of its first chunk among all; sorted, the next one last.
    left: Vec<(Run, u32)>,
    found: Vec<Option<ChunkRef>>,
    /// How many chunks this and all earlier frames have.
    ends: Vec<u32>,
    entry: u32,
    wrong: bool,
}

impl Places {
    /// Of runs that the table's limits hold for.
    fn new<'a>(frames: impl Iterator<Item = &'a [Run]>) -> Self {
        let (mut left, mut ends, mut count) = (Vec::new(), Vec::new(), 0);
        for runs in frames {
            for run in runs {
                left.push((*run, count));
                count += run.count;
            }
            ends.push(count);
        }
        left.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            left,
            found: vec![None; count as usize],
            ends,
            entry: 0,
            wrong: false,
        }
    }

    /// The chunks of the next entry.
    fn entry(&mut self, chunks: &[ChunkRef]) {
        while let Some((run, number)) = self.left.pop_if(|left| left.0.entry == self.entry) {
            let (first, number) = (run.first as usize, number as usize);
            match chunks.get(first..first + run.count as usize) {
                Some(chunks) => {
                    let places = &mut self.found[number..number + chunks.len()];
                    for (place, chunk) in places.iter_mut().zip(chunks) {
                        *place = Some(*chunk);
                    }
                }
                None => self.wrong = true,
            }
        }
        self.entry += 1;
    }

    /// The chunks of each frame.
    fn finish(self, most: usize) -> Result<Chunks, &'static str> {
        let all: Option<Vec<ChunkRef>> = self.found.into_iter().collect();
        let all = all.filter(|_| !self.wrong && self.left.is_empty());
        let chunks = Chunks {
            all: all.ok_or("its table names chunks that its images have not")?,
            ends: self.ends,
        };
        let size = |chunks: &[ChunkRef]| chunks.iter().map(|c| u64::from(c.len())).sum::<u64>();
        if chunks.frames().any(|chunks| size(chunks) > most as u64) {
            return Err("one of its frames is too large");
        }
        Ok(chunks)
    }
}

impl Chunks {
    /// Those of one frame.
    fn of(&self, frame: u32) -> &[ChunkRef] {
        let frame = frame as usize;
        let start = frame.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start as usize..self.ends[frame] as usize]
    }

    fn frames(&self) -> impl Iterator<Item = &[ChunkRef]> {
        (0..self.ends.len() as u32).map(|frame| self.of(frame))
    }
}

impl Found {
    fn new(fresh: Chunks) -> Self {
        let mut starts = Vec::with_capacity(fresh.all.len());
        for chunks in fresh.frames() {
            let mut start = 0;
            for chunk in chunks {
                starts.push(start);
                start += chunk.len();
            }
        }
        let mut order: Vec<u32> = (0..fresh.all.len() as u32).collect();
        order.sort_by_key(|number| fresh.all[*number as usize]);
        Self {
            fresh,
            starts,
            order,
        }
    }

    /// The frame that makes a chunk, and where the chunk is in it.
    fn find(&self, chunk: &ChunkRef) -> Option<(u32, Range<usize>)> {
        let all = &self.fresh.all;
        let at = self.order.partition_point(|n| all[*n as usize] < *chunk);
        let number = *self.order.get(at)?;
        (all[number as usize] == *chunk).then(|| {
            let frame = self.fresh.ends.partition_point(|end| *end <= number);
            let start = self.starts[number as usize] as usize;
            (frame as u32, start..start + chunk.len() as usize)
        })
    }
}
