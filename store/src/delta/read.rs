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
use crate::pack::FRAME_CHUNKS;

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
    prior: Vec<Vec<ChunkRef>>,
    layout: Found,
    content: OnceLock<Found>,
}

/// Which chunks some runs are, and where each one is.
struct Found {
    /// The chunks of each frame, in order.
    fresh: Vec<Vec<ChunkRef>>,
    /// Chunk, frame, and where in what the frame decodes to; sorted.
    order: Vec<(ChunkRef, u32, u32)>,
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
        let found = self.found();
        let at = found.order.partition_point(|(other, ..)| other < chunk);
        let (other, group, start) = found.order.get(at)?;
        (other == chunk).then(|| (*group, *start as usize..(start + chunk.len()) as usize))
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
        let lengths = self.prior[group as usize]
            .iter()
            .map(|chunk| chunk.len() as usize);
        let mut prior = Vec::with_capacity(lengths.sum());
        for chunk in &self.prior[group as usize] {
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
            chunks: &self.found().fresh[group as usize],
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
    /// Run, frame and number in the frame; sorted, the next one last.
    left: Vec<(Run, u32, u32)>,
    /// The runs of each frame, found so far.
    found: Vec<Vec<Option<Vec<ChunkRef>>>>,
    entry: u32,
    wrong: bool,
}

impl Places {
    fn new<'a>(frames: impl Iterator<Item = &'a [Run]>) -> Self {
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for (frame, runs) in frames.enumerate() {
            let numbered = runs.iter().enumerate();
            left.extend(numbered.map(|(number, run)| (*run, frame as u32, number as u32)));
            found.push(vec![None; runs.len()]);
        }
        left.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            left,
            found,
            entry: 0,
            wrong: false,
        }
    }

    /// The chunks of the next entry.
    fn entry(&mut self, chunks: &[ChunkRef]) {
        while let Some((run, frame, number)) = self.left.pop_if(|left| left.0.entry == self.entry) {
            let first = run.first as usize;
            match chunks.get(first..first + run.count as usize) {
                Some(chunks) => {
                    self.found[frame as usize][number as usize] = Some(chunks.to_vec());
                }
                None => self.wrong = true,
            }
        }
        self.entry += 1;
    }

    /// The chunks of each frame.
    fn finish(self, most: usize) -> Result<Vec<Vec<ChunkRef>>, &'static str> {
        if self.wrong || !self.left.is_empty() {
            return Err("its table names chunks that its images have not");
        }
        let mut frames = Vec::with_capacity(self.found.len());
        for runs in self.found {
            let chunks: Vec<ChunkRef> = runs.into_iter().flatten().flatten().collect();
            let size: u64 = chunks.iter().map(|chunk| u64::from(chunk.len())).sum();
            if size > most as u64 || chunks.len() > FRAME_CHUNKS {
                return Err("one of its frames is too large");
            }
            frames.push(chunks);
        }
        Ok(frames)
    }
}

impl Found {
    fn new(fresh: Vec<Vec<ChunkRef>>) -> Self {
        let mut order = Vec::new();
        for (frame, chunks) in fresh.iter().enumerate() {
            let mut start = 0;
            for chunk in chunks {
                order.push((*chunk, frame as u32, start));
                start += chunk.len();
            }
        }
        order.sort_unstable();
        Self { fresh, order }
    }
}
