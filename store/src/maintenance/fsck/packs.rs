//! Packs: their bytes against their names, their frames against their indexes.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::references::PackReferences;
use super::report::{Damage, Meter, Report};
use crate::backend::ListableBackend;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::image::DecodedFrames;
use crate::pack::{self, Decoder};
use crate::parallel;

/// Bytes that are read at once.
const PIECE: u64 = 4 << 20;

/// Frames that a thread decodes before it takes others.
const RUN: usize = 8;

/// What is known of the chunks.
pub(super) struct State {
    /// The packs that hold wrong chunks, by number, and which those are.
    bad: BTreeMap<usize, Vec<bool>>,
    /// Wrong chunks of which there is no right copy.
    lost: HashSet<ChunkRef>,
    /// Frames that were decoded, all their chunks verified.
    pub(super) witness: Arc<DecodedFrames>,
}

impl State {
    pub(super) fn new(_: &PackReferences) -> Self {
        Self {
            bad: BTreeMap::new(),
            lost: HashSet::new(),
            witness: Arc::new(Mutex::new(HashSet::new())),
        }
    }

    /// Whether a chunk cannot be had.
    pub(super) fn is_lost(&self, references: &PackReferences, chunk: &ChunkRef) -> bool {
        self.lost.contains(chunk) || references.places(chunk).next().is_none()
    }

    /// Whether a pack holds wrong chunks.
    pub(super) fn is_bad(&self, number: usize) -> bool {
        self.bad.contains_key(&number)
    }

    /// Whether there is a chunk that cannot be had although a pack should have it.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The wrong chunks by pack.
    pub(super) fn into_bad(self, references: &PackReferences) -> BTreeMap<Blake3, Vec<bool>> {
        let name = |(number, bad): (usize, Vec<bool>)| (references.packs[number].name, bad);
        self.bad.into_iter().map(name).collect()
    }

    fn add(&mut self, references: &PackReferences, number: usize, bad: Vec<bool>) {
        self.bad.insert(number, bad);
        let is_bad = |(pack, chunk): (usize, usize)| {
            let bad = self.bad.get(&pack);
            bad.is_some_and(|bad| bad[chunk])
        };
        let chunks = references.index(number).chunks();
        let bad = chunks
            .iter()
            .zip(&self.bad[&number])
            .filter(|(_, bad)| **bad);
        let lost = bad.filter(|(chunk, _)| references.places(chunk).all(is_bad));
        let lost: Vec<ChunkRef> = lost.map(|(chunk, _)| *chunk).collect();
        self.lost.extend(lost);
    }
}

/// Hashes every pack, and looks into those whose digest is not their name.
pub(super) fn raw(
    references: &PackReferences,
    backend: &dyn ListableBackend,
    meter: &Meter<'_>,
    state: &mut State,
    report: &mut Report,
) -> Result<()> {
    let numbers: Vec<usize> = (0..references.packs.len()).collect();
    let found = parallel::each(&numbers, backend.is_remote(), |number| {
        let pack = &references.packs[*number];
        let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
        while offset < pack.file.size {
            let len = (pack.file.size - offset).min(PIECE);
            hasher.update(&backend.get_range(&pack.file.key, offset, len)?);
            offset += len;
            meter.add(len);
        }
        let digest = Blake3::from(hasher.finalize());
        if digest == pack.name {
            return Ok(());
        }
        let why = format!("its digest is {digest}");
        Err(Error::corrupt(&pack.file.key, why))
    });
    for (number, found) in found.into_iter().enumerate() {
        // Also a disk that cannot read a part of it.
        if let Err(error) = found {
            examine(references, backend, number, &error, state, report)?;
        }
    }
    Ok(())
}

/// Decodes the frames that nobody decoded yet.
pub(super) fn frames(
    references: &PackReferences,
    backend: &dyn ListableBackend,
    state: &mut State,
    report: &mut Report,
) -> Result<()> {
    let numbers = (0..references.packs.len()).filter(|number| !state.is_bad(*number));
    // In runs, so that one large pack keeps all cores busy.
    let runs: Vec<(usize, Range<usize>)> = numbers
        .flat_map(|number| {
            let frames = references.index(number).frames().len();
            let begins = (0..frames).step_by(RUN);
            begins.map(move |begin| (number, begin..frames.min(begin + RUN)))
        })
        .collect();
    let witness = Arc::clone(&state.witness);
    let found = parallel::each(&runs, backend.is_remote(), |(number, run)| {
        let index = references.index(*number);
        let mut decoder = decoder()?;
        for frame_number in run.clone() {
            let frame = &index.frames()[frame_number];
            let id = (*index.pack(), frame_number as u32);
            let seen = witness
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&id);
            if seen {
                continue;
            }
            let key = pack::pack_key(index.pack());
            let stored = backend.get_range(&key, frame.offset, frame.stored.into())?;
            let content = decoder
                .decode(&stored, index.chunks_of(frame))
                .map_err(|fault| Error::corrupt(&key, fault))?;
            decoder.reuse(content);
        }
        Ok(())
    });
    for ((number, _), found) in runs.into_iter().zip(found) {
        if let Err(error) = found
            && !state.is_bad(number)
        {
            examine(references, backend, number, &error, state, report)?;
        }
    }
    Ok(())
}

fn decoder() -> Result<Decoder> {
    Decoder::new().map_err(|error| Error::io("prepare", "zstd", error))
}

/// Finds the chunks of a pack that are wrong.
fn examine(
    references: &PackReferences,
    backend: &dyn ListableBackend,
    number: usize,
    error: &Error,
    state: &mut State,
    report: &mut Report,
) -> Result<()> {
    let index = references.index(number);
    let mut decoder = decoder()?;
    let mut bad = Vec::with_capacity(index.chunks().len());
    for frame in index.frames() {
        let chunks = index.chunks_of(frame);
        let key = pack::pack_key(index.pack());
        let stored = backend
            .get_range(&key, frame.offset, frame.stored.into())
            .ok();
        let bytes = stored.and_then(|stored| decoder.decode_unchecked(&stored, chunks).ok());
        let Some(bytes) = bytes else {
            bad.extend(chunks.iter().map(|_| true));
            continue;
        };
        let mut rest = &bytes[..];
        for chunk in chunks {
            let (content, behind) = rest.split_at(chunk.len() as usize);
            bad.push(!chunk.names(content));
            rest = behind;
        }
    }
    let wrong = bad.iter().filter(|bad| **bad).count();
    report.damage.push(Damage {
        key: references.packs[number].file.key.clone(),
        why: format!("{error}; {wrong} of its {} chunks are wrong", bad.len()),
    });
    state.add(references, number, bad);
    Ok(())
}
