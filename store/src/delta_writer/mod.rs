//! The writer of deltas. [`create`] reads like this:
//!
//! ```text
//! survey FROM -> walk TO -> frames -> read their content -> align, patch, zstd -> file
//!                                                           (all cores)
//! ```
//!
//! Every arrow after the walk is a short queue, so memory depends on TO not at all, and on FROM by
//! the digests of its chunks.

mod align;
mod plan;
mod similar;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use self::align::Relative;
use self::plan::{Job, Planner};
use self::similar::SimilarFiles;
use crate::backend::{ObjectWriter, WritableBackend};
use crate::canonical_tar::Kind;
use crate::chunk::ChunkRef;
use crate::delta::{CHUNKS_MAX, DeltaInfo, Group, MAGIC, SCHEMA, Table, patch};
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::Manifest;
use crate::store::{Store, manifest_key};

/// Frames that wait for a compressor or for the writer: each is up to 16 MiB.
const QUEUE: usize = 1;

/// Frames that are read before an earlier one is written: one may take much longer than the next.
const AHEAD: usize = 32;

/// Of patches of programs, 12 takes a hundredth less in twice the time and much more memory, 17
/// a fourteenth less in five times of that time.
const LEVEL: i32 = 9;

/// How far the making is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of content that were compressed.
    pub done: u64,
    /// Bytes of content that there are.
    pub total: u64,
    /// Bytes that were written for them.
    pub written: u64,
}

/// A delta that was made, not placed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedDelta {
    /// Its description.
    pub pair: DeltaInfo,
    /// Bytes that its frames decode to.
    pub fresh: u64,
    /// How many frames it has.
    pub frames: usize,
}

/// Writes the delta that leads from one image to another into `draft`.
///
/// Both images are read chunk by chunk, each verified.
pub fn create(
    from: &Image,
    to: &Image,
    draft: &mut dyn ObjectWriter,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<CreatedDelta> {
    let (kin, had) = survey(from)?;
    let cost = to.cost(&had)?;
    let layout = from.layout_chunks().to_vec();
    let mut planner = Planner::new(had);
    let mut out = Out {
        draft,
        hasher: blake3::Hasher::new(),
        progress: Progress {
            total: cost.fresh,
            ..Progress::default()
        },
        report: progress,
        groups: Vec::new(),
        chunks: 0,
    };
    out.write(&MAGIC)?;
    let frames = mpsc::sync_channel(QUEUE);
    let jobs = mpsc::sync_channel(QUEUE);
    let (started, written) = mpsc::sync_channel(AHEAD);
    thread::scope(|scope| {
        let queue = std::sync::Arc::new(Mutex::new(jobs.1));
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (queue, frames) = (std::sync::Arc::clone(&queue), frames.0.clone());
            scope.spawn(move || compress(&queue, &frames));
        }
        // Only the compressors hold these now.
        drop((queue, frames.0));
        let reader = scope.spawn(move || -> Result<()> {
            let mut reader = Reader {
                from,
                to,
                started,
                jobs: jobs.0,
                number: 0,
            };
            let mut layouts = SimilarFiles::default();
            layouts.add(0, b"", &layout);
            for job in planner.entry(0, to.layout_chunks(), layouts.of(b"", 0)) {
                reader.send(&job)?;
            }
            for (item, number) in to.entries()?.zip(1_u32..) {
                let (entry, chunks) = item?;
                if !planner.lacks(&chunks) {
                    continue;
                }
                let relative = kin.of(&entry.path, entry.size());
                for job in planner.entry(number, &chunks, relative) {
                    reader.send(&job)?;
                }
            }
            planner.finish().map_or(Ok(()), |job| reader.send(&job))
        });
        let wrote = out.write_all(&frames.1, &written);
        // Nobody waits for frames any more: the compressors and the reader end.
        drop((frames.1, written));
        let died = |_| Error::new(ErrorKind::Io, "a thread that reads images has died");
        let read = reader.join().map_err(died)?;
        // A reader that found nobody listening has the lesser error.
        wrote.and(read)
    })?;
    let table = Table {
        from: *from.id(),
        to: *to.id(),
        groups: std::mem::take(&mut out.groups),
    };
    let frames = table.groups.len();
    let table = table
        .encode()
        .map_err(|error| Error::io("compress", "a table", error))?;
    out.write(&table)?;
    let fresh = out.progress.done;
    let pair = DeltaInfo {
        schema: SCHEMA,
        from: *from.id(),
        to: *to.id(),
        delta: out.hasher.finalize().into(),
        size: out.progress.written,
        table: table.len() as u32,
        packs: cost.missing,
        whole: cost.whole,
    };
    Ok(CreatedDelta {
        pair,
        fresh,
        frames,
    })
}

/// Makes the delta between two images of a store and puts it there, in place of what
/// an earlier call made.
///
/// Neither image is collected meanwhile. The delta is there before its description,
/// so that whoever finds one finds the other.
pub fn publish(
    store: &Store,
    place: &dyn WritableBackend,
    from: &Manifest,
    to: &Manifest,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<CreatedDelta> {
    let images = [manifest_key(&from.image), manifest_key(&to.image)];
    for (there, manifest) in place.hold(&images)?.iter().zip([from, to]) {
        if !there {
            let what = format_args!("the image {}", manifest.image);
            return Err(Error::missing(what, place.describe()));
        }
    }
    let mut draft = place.create()?;
    let (from, to) = (store.image(from)?, store.image(to)?);
    let made = create(&from, &to, &mut *draft, progress)?;
    let (key, delta) = (DeltaInfo::key(from.id(), to.id()), made.pair.delta_key());
    place.hold(&[key.clone(), delta.clone()])?;
    draft.finish(&delta)?;
    place.sync()?;
    place.put(&key, &made.pair.to_json())?;
    Ok(made)
}

/// The files of FROM, and all chunks that it has.
fn survey(from: &Image) -> Result<(SimilarFiles, HashSet<Blake3>)> {
    let (mut kin, mut had) = (SimilarFiles::default(), HashSet::new());
    had.extend(from.layout_chunks().iter().map(|chunk| *chunk.digest()));
    for (item, number) in from.entries()?.zip(1_u32..) {
        let (entry, chunks) = item?;
        if matches!(entry.kind, Kind::File { .. }) && !chunks.is_empty() {
            kin.add(number, &entry.path, &chunks);
            had.extend(chunks.iter().map(|chunk| *chunk.digest()));
        }
    }
    Ok((kin, had))
}

/// A frame's content, read.
struct Content {
    number: u64,
    group: Group,
    prior: Vec<u8>,
    fresh: Vec<u8>,
    /// The length of each run of `fresh`, and where in `prior` its relative is.
    parts: Vec<(usize, Range<usize>)>,
}

/// Reads what frames are made of.
struct Reader<'a> {
    from: &'a Image,
    to: &'a Image,
    /// Takes one for each frame, and has room for those that are not written yet.
    started: SyncSender<()>,
    jobs: SyncSender<Content>,
    number: u64,
}

impl Reader<'_> {
    fn send(&mut self, job: &Job) -> Result<()> {
        let lost = || Error::new(ErrorKind::Io, "the threads that compress have ended");
        self.started.send(()).map_err(|_| lost())?;
        let read = |image: &Image, runs: &[(_, Vec<ChunkRef>)]| -> Result<Vec<u8>> {
            let mut content = Vec::new();
            for chunk in runs.iter().flat_map(|(_, chunks)| chunks) {
                content.extend_from_slice(&image.fetch(chunk)?);
            }
            Ok(content)
        };
        let lengths = job.fresh.iter().map(|(_, chunks)| {
            let lengths = chunks.iter().map(|chunk| chunk.len() as usize);
            lengths.sum()
        });
        let content = Content {
            number: self.number,
            parts: lengths.zip(job.relatives.iter().cloned()).collect(),
            prior: read(self.from, &job.prior)?,
            fresh: read(self.to, &job.fresh)?,
            group: Group {
                stored: 0,
                prior: job.prior.iter().map(|(run, _)| *run).collect(),
                fresh: job.fresh.iter().map(|(run, _)| *run).collect(),
            },
        };
        self.number += 1;
        self.jobs.send(content).map_err(|_| lost())
    }
}

/// A frame, compressed.
struct Frame {
    number: u64,
    group: Group,
    fresh: u64,
    stored: Result<Vec<u8>>,
}

fn compress(jobs: &Mutex<Receiver<Content>>, frames: &SyncSender<Frame>) {
    loop {
        // A let of its own, so that the lock is not held while compressing.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let stored = frame(&job);
        let frame = Frame {
            number: job.number,
            group: job.group,
            fresh: job.fresh.len() as u64,
            stored,
        };
        if frames.send(frame).is_err() {
            return;
        }
    }
}

/// A patch as one zstd frame with its content's size in its header and no checksum: every
/// chunk has a better one.
fn frame(content: &Content) -> Result<Vec<u8>> {
    let Content {
        prior,
        fresh,
        parts,
        ..
    } = content;
    let (mut ops, mut rest) = (Vec::new(), &fresh[..]);
    // Several parts of a file often have the same one.
    let mut last: Option<(&Range<usize>, Relative<'_>)> = None;
    for (len, place) in parts {
        let (part, behind) = rest.split_at(*len);
        let relative = match last.take() {
            Some((of, relative)) if of.start <= place.start && place.end <= of.end => {
                (of, relative)
            }
            _ => (place, Relative::new(prior, place.clone())),
        };
        relative.1.align(part, &mut ops);
        last = Some(relative);
        rest = behind;
    }
    let encoded = patch::encode(&ops, prior, fresh);
    let mut stored = zstd::bulk::compress(&encoded, LEVEL)
        .map_err(|error| Error::io("compress", "a patch", error))?;
    // It may wait for frames before it.
    stored.shrink_to_fit();
    Ok(stored)
}

/// Writes frames in the order of their numbers.
struct Out<'a> {
    draft: &'a mut dyn ObjectWriter,
    hasher: blake3::Hasher,
    progress: Progress,
    report: &'a (dyn Fn(Progress) + Sync),
    groups: Vec<Group>,
    /// How many chunks all groups have.
    chunks: u64,
}

impl Out<'_> {
    /// `written` gives back the room of each frame.
    fn write_all(&mut self, frames: &Receiver<Frame>, written: &Receiver<()>) -> Result<()> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        for frame in frames {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                let stored = frame.stored?;
                self.chunks += frame.group.chunks();
                if self.chunks > CHUNKS_MAX {
                    let what = format!("they differ in more than {CHUNKS_MAX} chunks");
                    return Err(Error::new(ErrorKind::Invalid, what));
                }
                self.write(&stored)?;
                self.groups.push(Group {
                    stored: stored.len() as u32,
                    ..frame.group
                });
                self.progress.done += frame.fresh;
                (self.report)(self.progress);
                // Its reader may have ended.
                let _ = written.recv();
                next += 1;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.progress.written += bytes.len() as u64;
        self.draft.write(bytes)
    }
}
