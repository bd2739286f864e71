//! Which runs become a frame, and what each frame is made from.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::ops::Range;

use super::similar::File;
use crate::chunk::ChunkRef;
use crate::delta::Run;
use crate::delta::{FRESH_MAX, PRIOR_MAX};
use crate::digest::Blake3;
use crate::pack::FRAME_CHUNKS;

/// A frame is finished once it makes this many bytes.
const FRESH: u64 = FRESH_MAX as u64;

/// A relative up to this size is taken whole.
const WHOLE: u64 = 2 << 20;

/// What is taken of a larger one on both sides of where the content should be.
const MARGIN: u64 = 512 << 10;

/// A long run is cut into pieces of about this size.
const PIECE: u64 = 2 << 20;

/// A frame that is to be made.
#[derive(Default)]
pub(super) struct Job {
    pub(super) prior: Vec<(Run, Vec<ChunkRef>)>,
    pub(super) fresh: Vec<(Run, Vec<ChunkRef>)>,
    /// For each run of `fresh`, the part of the content of `prior` that has all of its relative,
    /// and perhaps more.
    pub(super) relatives: Vec<Range<usize>>,
    prior_size: u64,
    fresh_size: u64,
    fresh_chunks: usize,
    /// Bytes of relatives that are looked through, each as often as it changes.
    searched: usize,
    /// Where in the content of `prior` chunks begin.
    known: HashMap<Blake3, u64>,
}

/// Collects runs until they are a frame.
pub(super) struct Planner {
    /// Chunks that FROM has, or an earlier frame makes.
    had: HashSet<Blake3>,
    open: Job,
}

impl Planner {
    pub(super) fn new(had: HashSet<Blake3>) -> Self {
        Self {
            had,
            open: Job::default(),
        }
    }

    /// Whether FROM lacks any of these chunks and no frame makes it yet.
    pub(super) fn lacks(&self, chunks: &[ChunkRef]) -> bool {
        chunks
            .iter()
            .any(|chunk| !self.had.contains(chunk.digest()))
    }

    /// Takes in what FROM lacks of an entry of TO, and hands out finished frames.
    pub(super) fn entry(
        &mut self,
        entry: u32,
        chunks: &[ChunkRef],
        relative: Option<&File>,
    ) -> Vec<Job> {
        let mut jobs = Vec::new();
        let related = relative.map(|file| Related::new(file, chunks));
        let mut at = 0;
        while at < chunks.len() {
            if self.had.contains(chunks[at].digest()) {
                at += 1;
                continue;
            }
            let (start, mut size) = (at, 0);
            while at < chunks.len() && size < PIECE && self.had.insert(*chunks[at].digest()) {
                size += u64::from(chunks[at].len());
                at += 1;
            }
            let prior = related.as_ref().map(|related| related.near(start, at));
            let fits = self.open.fits(size, at - start, prior.as_ref());
            if !fits {
                jobs.push(mem::take(&mut self.open));
            }
            self.open
                .add(entry, start, &chunks[start..at], prior.as_ref());
        }
        jobs
    }

    /// What is collected.
    pub(super) fn finish(&mut self) -> Option<Job> {
        let job = mem::take(&mut self.open);
        (!job.fresh.is_empty()).then_some(job)
    }
}

/// A stretch of a relative.
struct Stretch<'a> {
    file: &'a File,
    first: usize,
    end: usize,
    size: u64,
}

impl Job {
    fn fits(&self, size: u64, chunks: usize, prior: Option<&Stretch<'_>>) -> bool {
        let prior = prior.map_or(0, |prior| prior.size);
        self.fresh.is_empty()
            || (self.fresh_size + size <= FRESH
                && self.prior_size + prior <= PRIOR_MAX as u64
                && self.fresh_chunks + chunks <= FRAME_CHUNKS
                && self.prior.len() < FRAME_CHUNKS / 2
                && self.searched <= 2 * PRIOR_MAX)
    }

    fn add(&mut self, entry: u32, first: usize, chunks: &[ChunkRef], prior: Option<&Stretch<'_>>) {
        let relative = prior.map_or(0..0, |prior| self.relative(prior));
        if self.relatives.last() != Some(&relative) {
            self.searched += relative.len();
        }
        self.relatives.push(relative);
        self.fresh_size += chunks.iter().map(|c| u64::from(c.len())).sum::<u64>();
        self.fresh_chunks += chunks.len();
        let run = run(entry, first, first + chunks.len());
        self.fresh.push((run, chunks.to_vec()));
    }

    /// Where a stretch is in the content of `prior`. A relative of several runs or files is
    /// there once.
    fn relative(&mut self, stretch: &Stretch<'_>) -> Range<usize> {
        let (mut low, mut high) = (u64::MAX, 0);
        let mut at = stretch.first;
        while at < stretch.end {
            let start = at;
            while at < stretch.end {
                let chunk = &stretch.file.chunks[at];
                let place = self.known.get(chunk.digest()).copied();
                let begins = place.unwrap_or(self.prior_size);
                low = low.min(begins);
                high = high.max(begins + u64::from(chunk.len()));
                if place.is_some() {
                    break;
                }
                self.known.insert(*chunk.digest(), self.prior_size);
                self.prior_size += u64::from(chunk.len());
                at += 1;
            }
            if at > start {
                let run = run(stretch.file.entry, start, at);
                let chunks = stretch.file.chunks[start..at].to_vec();
                self.prior.push((run, chunks));
            }
            at += 1;
        }
        low.min(high) as usize..high as usize
    }
}

fn run(entry: u32, first: usize, end: usize) -> Run {
    Run {
        entry,
        first: first as u32,
        count: (end - first) as u32,
    }
}

/// A file and its relative, with the chunks that they have in common.
struct Related<'a> {
    file: &'a File,
    /// For each chunk of the file, which chunk of the relative it is.
    common: Vec<Option<usize>>,
    /// Where each chunk of the file begins, and where the last one ends.
    starts: Vec<u64>,
}

impl<'a> Related<'a> {
    fn new(file: &'a File, chunks: &[ChunkRef]) -> Self {
        let places: HashMap<&Blake3, usize> = file
            .chunks
            .iter()
            .enumerate()
            .map(|(number, chunk)| (chunk.digest(), number))
            .collect();
        let common = chunks
            .iter()
            .map(|chunk| places.get(chunk.digest()).copied());
        let mut starts = vec![0];
        for chunk in chunks {
            starts.push(starts[starts.len() - 1] + u64::from(chunk.len()));
        }
        Self {
            file,
            common: common.collect(),
            starts,
        }
    }

    /// The stretch of the relative that chunks `start..end` most likely come from:
    /// all of a small one; of a large one what lies between the nearest common
    /// chunks, or where the same share of the file is.
    fn near(&self, start: usize, end: usize) -> Stretch<'a> {
        let chunks = &self.file.chunks;
        if self.file.size <= WHOLE {
            return Stretch {
                file: self.file,
                first: 0,
                end: chunks.len(),
                size: self.file.size,
            };
        }
        let common = |at: usize| self.common[at].map(|there| (at, there));
        let before = (0..start).rev().find_map(common);
        let after = (end..self.common.len()).find_map(common);
        let offset =
            |chunk: usize| -> u64 { chunks[..chunk].iter().map(|c| u64::from(c.len())).sum() };
        let (from, to) = (self.starts[start], self.starts[end]);
        let whole = self.starts[self.starts.len() - 1].max(1);
        let scale =
            |at: u64| (u128::from(at) * u128::from(self.file.size) / u128::from(whole)) as u64;
        let (low, high) = match (before, after) {
            (Some((_, before)), Some((_, after))) if before < after => (
                offset(before),
                offset(after) + u64::from(chunks[after].len()),
            ),
            // As far from what is common as in the file itself.
            (Some((at, before)), _) => {
                let place = offset(before) + (from - self.starts[at]);
                (place.saturating_sub(MARGIN), place + (to - from) + MARGIN)
            }
            (None, Some((at, after))) => {
                let place = offset(after).saturating_sub(self.starts[at] - from);
                (place.saturating_sub(MARGIN), place + (to - from) + MARGIN)
            }
            (None, None) => (scale(from).saturating_sub(MARGIN), scale(to) + MARGIN),
        };
        // A gap much longer than what is looked for: its middle, by share.
        let most = 2 * (to - from) + 4 * MARGIN;
        let (low, high) = if high - low > most {
            let middle = scale(u64::midpoint(from, to)).clamp(low + most / 2, high - most / 2);
            (middle - most / 2, middle + most / 2)
        } else {
            (low, high)
        };
        let (mut first, mut end, mut at, mut size) = (chunks.len(), chunks.len(), 0, 0);
        for (number, chunk) in chunks.iter().enumerate() {
            let next = at + u64::from(chunk.len());
            if next > low && at < high {
                first = first.min(number);
                end = number + 1;
                size += u64::from(chunk.len());
            }
            at = next;
        }
        Stretch {
            file: self.file,
            first,
            end: end.max(first),
            size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::similar::SimilarFiles;
    use super::*;

    /// Chunks of 200 KiB, each named by a number.
    fn chunks(numbers: impl IntoIterator<Item = u32>) -> Vec<ChunkRef> {
        let one = |number: u32| {
            let digest = Blake3::of(&number.to_le_bytes());
            ChunkRef::new(digest, 200 << 10).unwrap()
        };
        numbers.into_iter().map(one).collect()
    }

    /// Which chunks of a file of a hundred a stretch has, for chunks `start..end` of another.
    fn near(of: &[ChunkRef], start: usize, end: usize) -> Range<usize> {
        let mut files = SimilarFiles::default();
        files.add(1, b"file", &chunks(0..100));
        let file = files.of(b"file", 1).unwrap();
        let stretch = Related::new(file, of).near(start, end);
        stretch.first..stretch.end
    }

    #[test]
    fn a_stretch_is_where_the_content_should_be() {
        let with = |common: &[u32]| {
            let one = |n: u32| if common.contains(&n) { n } else { n + 1000 };
            chunks((0..100).map(one))
        };
        for (common, what) in [
            (&[][..], "by its share of the file"),
            (&[0], "behind what is common, however far"),
            (&[99], "before what is common"),
            (&[49, 52], "between"),
        ] {
            let found = near(&with(common), 50, 52);
            let wide = 45..57;
            assert!(
                found.contains(&50) && found.contains(&51),
                "{what}: {found:?}"
            );
            assert!(
                wide.start <= found.start && found.end <= wide.end,
                "{what}: {found:?}"
            );
        }
        // Behind the end of a file that was shorter: nothing.
        let longer = chunks((0..100).chain(2000..2100));
        assert!(near(&longer, 150, 152).is_empty());
    }

    #[test]
    fn a_relative_is_there_once() {
        let mut files = SimilarFiles::default();
        files.add(1, b"one", &chunks([1, 2, 1]));
        files.add(2, b"two", &chunks([3, 1, 4]));
        let mut job = Job::default();
        let mut relative = |path: &[u8]| {
            let file = files.of(path, 1).unwrap();
            let stretch = Stretch {
                file,
                first: 0,
                end: 3,
                size: file.size,
            };
            let found = job.relative(&stretch);
            (found.start >> 10)..(found.end >> 10)
        };
        assert_eq!(relative(b"one"), 0..400);
        assert_eq!(relative(b"two"), 0..800);
        assert_eq!(relative(b"one"), 0..400);
        let kept = job.prior.iter().flat_map(|(_, chunks)| chunks.clone());
        assert_eq!(kept.collect::<Vec<_>>(), chunks([1, 2, 3, 4]));
        assert_eq!(job.prior_size, 800 << 10);
    }
}
