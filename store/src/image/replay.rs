//! Reading an image in order, with frames decoded ahead.
//!
//! One thread, the caller's, walks the layout and hands out what it finds. Before
//! it waits for anything it looks ahead: it queues the coming entries and chunks,
//! and gives each frame that they need to the workers, once. So the workers decode
//! what will be needed next while the caller consumes what is needed now.
//!
//! Memory is bounded by counting the decoded frames that are alive: queued chunks
//! keep theirs, and a few recent ones are kept because neighbours in a tree are
//! neighbours in packs. There are always fewer recent frames than may live, so a
//! queue that has run empty can always be filled again.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::locate::ChunkLocation;
use super::{Image, Items, ReplayEvent};
use crate::canonical_tar::Entry;
use crate::chunk::ChunkRef;
use crate::digest::Blake3;
use crate::error::{Error, ErrorKind, Result};
use crate::layout;
use crate::pack::Decoder;

/// Decoded frames that may be alive at once, 4 MiB each.
const FRAMES: usize = 6;

/// Frames that stay alive although nothing in the queue needs them.
const RECENT: usize = 3;

/// Entries and chunks that are queued at most.
const QUEUE: usize = 2048;

/// Bytes of headers and references that are queued at most, but for one entry: a
/// header may have a megabyte of attributes.
const WEIGHT: usize = 4 << 20;

/// More workers than this would only fill [`FRAMES`] sooner.
const WORKERS: usize = 4;

impl Image {
    /// Replays the image in order: each entry, and the content of those that
    /// `want` asks for. Frames are decoded ahead on all cores, every chunk is
    /// verified, and memory stays below 64 MiB. An error of `each` ends it. When the
    /// store is remote, all of `want` is asked before the first `each`.
    pub fn replay(
        &self,
        want: &mut dyn FnMut(&Entry) -> bool,
        each: &mut dyn FnMut(ReplayEvent<'_>) -> Result<()>,
    ) -> Result<()> {
        let none = |_: &ChunkRef| false;
        if !self.source.backend().is_remote() {
            return replay(self, want, &none, each);
        }
        let mut wanted = self.announce(want, &none)?.into_iter();
        replay(
            self,
            &mut |_| wanted.next().unwrap_or_default(),
            &none,
            each,
        )
    }

    /// Replays the image without the chunks that `have` names:
    /// they are neither fetched nor decoded, and come as [`ReplayEvent::Known`].
    pub fn replay_without(
        &self,
        have: &dyn Fn(&ChunkRef) -> bool,
        each: &mut dyn FnMut(ReplayEvent<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.source.backend().is_remote() {
            self.announce(&mut |_| true, have)?;
        }
        replay(self, &mut |_| true, have, each)
    }

    /// Tells the backend which frames will be needed, and returns which entries are
    /// wanted. The layout is read once more for that, which costs no request.
    fn announce(
        &self,
        want: &mut dyn FnMut(&Entry) -> bool,
        have: &dyn Fn(&ChunkRef) -> bool,
    ) -> Result<Vec<bool>> {
        let (mut entries, mut frames) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for item in self.entries()? {
            let (entry, chunks) = item?;
            let wanted = want(&entry);
            entries.push(wanted);
            for chunk in chunks.iter().filter(|chunk| wanted && !have(chunk)) {
                let location = self.find(chunk)?;
                if seen.insert(location.frame_id()) {
                    frames.push(location.wanted());
                }
            }
        }
        self.source.backend().prefetch(frames);
        Ok(entries)
    }
}

fn replay(
    image: &Image,
    want: &mut dyn FnMut(&Entry) -> bool,
    have: &dyn Fn(&ChunkRef) -> bool,
    each: &mut dyn FnMut(ReplayEvent<'_>) -> Result<()>,
) -> Result<()> {
    let (jobs, queue) = mpsc::channel();
    let queue = Mutex::new(queue);
    let spares = Spares::default();
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(WORKERS);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(image, &queue, &spares));
        }
        // Dropped at the end of this closure, which ends the workers.
        let mut ahead = Ahead::new(image, jobs, Arc::clone(&spares));
        loop {
            ahead.fill(want, have)?;
            match ahead.queue.pop_front() {
                Some(Queued::Entry(item)) => {
                    ahead.weight -= weight(&item);
                    each(ReplayEvent::Entry(&item.entry, &item.header))?;
                }
                Some(Queued::Content(frame, range, chunk)) => match frame.bytes() {
                    Ok(bytes) => each(ReplayEvent::Content(&bytes[range]))?,
                    Err(error) => {
                        each(ReplayEvent::Content(&image.fetch_elsewhere(&chunk, error)?))?;
                    }
                },
                Some(Queued::Had(chunk)) => each(ReplayEvent::Known(chunk))?,
                None => return Ok(()),
            }
        }
    })
}

/// Decodes frames until there are no more.
fn work(image: &Image, queue: &Mutex<Receiver<Job>>, spares: &Spares) {
    let mut decoder = None;
    loop {
        // A let of its own, so that the lock is not held while decoding.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { location, result }) = job else {
            return;
        };
        let spare = spares
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        let decode = |decoder: &mut Decoder| {
            decoder.reuse(spare);
            image.decode(&location, decoder)
        };
        let frame = match &mut decoder {
            Some(decoder) => decode(decoder),
            None => Decoder::new()
                .map_err(|error| Error::io("prepare", "zstd", error))
                .and_then(|new| decode(decoder.insert(new))),
        };
        // Whoever asked may have given up because of an earlier error.
        let _ = result.send(frame);
    }
}

/// A frame to decode.
struct Job {
    location: ChunkLocation,
    result: Sender<Result<Vec<u8>>>,
}

/// Buffers of frames that nobody needs any more.
type Spares = Arc<Mutex<Vec<Vec<u8>>>>;

/// A frame that a worker decodes or has decoded.
struct Frame {
    spares: Spares,
    incoming: Receiver<Result<Vec<u8>>>,
    /// `None` when it could not be decoded.
    bytes: OnceCell<Option<Vec<u8>>>,
}

impl Frame {
    /// Waits for the frame.
    fn bytes(&self) -> Result<&[u8]> {
        if self.bytes.get().is_none() {
            let lost = |_| {
                Err(Error::new(
                    ErrorKind::Io,
                    "a thread that decodes frames has died",
                ))
            };
            let (bytes, error) = match self.incoming.recv().unwrap_or_else(lost) {
                Ok(bytes) => (Some(bytes), None),
                Err(error) => (None, Some(error)),
            };
            // The cell was seen to be empty, so this stores the result.
            let _ = self.bytes.set(bytes);
            if let Some(error) = error {
                return Err(error);
            }
        }
        let bytes = self.bytes.get().and_then(Option::as_deref);
        bytes.ok_or_else(|| Error::corrupt("a frame", "it could not be decoded before"))
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(Some(bytes)) = self.bytes.take() {
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            if spares.len() < FRAMES {
                spares.push(bytes);
            }
        }
    }
}

enum Queued {
    Entry(Box<layout::Item>),
    Content(Rc<Frame>, Range<usize>, ChunkRef),
    Had(ChunkRef),
}

/// What an entry in the queue takes, about: attributes are in it twice.
fn weight(item: &layout::Item) -> usize {
    2 * item.header.len() + size_of_val(&item.chunks[..])
}

/// What was looked at ahead of the caller.
struct Ahead<'a> {
    image: &'a Image,
    items: Items<'a>,
    /// Chunks of the entry that was looked at last, still to be queued.
    chunks: VecDeque<ChunkRef>,
    queue: VecDeque<Queued>,
    weight: usize,
    jobs: Sender<Job>,
    frames: HashMap<(Blake3, u32), Weak<Frame>>,
    recent: VecDeque<Rc<Frame>>,
    spares: Spares,
    ended: bool,
}

impl<'a> Ahead<'a> {
    fn new(image: &'a Image, jobs: Sender<Job>, spares: Spares) -> Self {
        Self {
            image,
            items: Items::new(image),
            chunks: VecDeque::new(),
            queue: VecDeque::new(),
            weight: 0,
            jobs,
            frames: HashMap::new(),
            recent: VecDeque::new(),
            spares,
            ended: false,
        }
    }

    /// Looks ahead until the queue is full, or the frames are, or all is queued.
    fn fill(
        &mut self,
        want: &mut dyn FnMut(&Entry) -> bool,
        have: &dyn Fn(&ChunkRef) -> bool,
    ) -> Result<()> {
        while self.queue.len() < QUEUE && self.weight < WEIGHT {
            if let Some(&chunk) = self.chunks.front() {
                if have(&chunk) {
                    self.queue.push_back(Queued::Had(chunk));
                    self.chunks.pop_front();
                    continue;
                }
                let location = self.image.find(&chunk)?;
                let Some(frame) = self.frame(&location) else {
                    return Ok(());
                };
                self.queue
                    .push_back(Queued::Content(frame, location.range, chunk));
                self.chunks.pop_front();
            } else if self.ended {
                return Ok(());
            } else if let Some(mut item) = self.items.next()? {
                if want(&item.entry) {
                    self.chunks = std::mem::take(&mut item.chunks).into();
                }
                self.weight += weight(&item);
                self.queue.push_back(Queued::Entry(Box::new(item)));
            } else {
                self.ended = true;
            }
        }
        Ok(())
    }

    /// The frame at `location`: the living one, or a new one that workers now decode,
    /// or `None` while too many live.
    fn frame(&mut self, location: &ChunkLocation) -> Option<Rc<Frame>> {
        let id = location.frame_id();
        if let Some(frame) = self.frames.get(&id).and_then(Weak::upgrade) {
            self.keep(&frame);
            return Some(frame);
        }
        self.frames.retain(|_, frame| frame.strong_count() > 0);
        if self.frames.len() >= FRAMES {
            return None;
        }
        let (result, incoming) = mpsc::channel();
        let frame = Rc::new(Frame {
            spares: Arc::clone(&self.spares),
            incoming,
            bytes: OnceCell::new(),
        });
        self.frames.insert(id, Rc::downgrade(&frame));
        // The workers live as long as this sender does.
        let _ = self.jobs.send(Job {
            location: location.clone(),
            result,
        });
        self.keep(&frame);
        Some(frame)
    }

    /// Makes a frame the most recent one.
    fn keep(&mut self, frame: &Rc<Frame>) {
        self.recent.retain(|other| !Rc::ptr_eq(frame, other));
        self.recent.push_back(Rc::clone(frame));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}
