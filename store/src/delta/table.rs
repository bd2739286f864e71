//! The table at the end of a delta: which chunks its frames make, from which.

use std::io::Read;

#[cfg(feature = "write")]
use super::number::{put, put_signed};
use super::number::{take, take_signed};
use super::{FRESH_MAX, MAGIC, patch};
use crate::digest::{Blake3, ImageId};
use crate::pack::FRAME_CHUNKS;

/// The most bytes that a table decodes to: enough for [`CHUNKS_MAX`] runs.
const ROWS_MAX: u64 = 16 << 20;

/// The most chunks that all runs of a delta have together: whoever reads it keeps them in memory.
pub(crate) const CHUNKS_MAX: u64 = 1 << 20;

/// The most frames in a delta.
const GROUPS_MAX: usize = 1 << 16;

/// The most runs in a frame.
const RUNS_MAX: usize = FRAME_CHUNKS;

/// The longest frame: a patch that zstd could not make smaller.
const FRAME_STORED_MAX: usize = {
    let longest = patch::longest(FRESH_MAX);
    longest + longest / 256 + 1024
};

/// Chunks that follow each other in one entry of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    /// Number of the entry, from 1 in the layout's order; 0 is the layout itself.
    pub(crate) entry: u32,
    /// Its first chunk.
    pub(crate) first: u32,
    /// How many, at least one.
    pub(crate) count: u32,
}

/// A frame: what it makes, and from what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its bytes in the delta.
    pub(crate) stored: u32,
    /// Runs of FROM that it is made from.
    pub(crate) prior: Vec<Run>,
    /// Runs of TO that it decodes to.
    pub(crate) fresh: Vec<Run>,
}

impl Group {
    /// How many chunks its runs have.
    pub(crate) fn chunks(&self) -> u64 {
        let runs = self.prior.iter().chain(&self.fresh);
        runs.map(|run| u64::from(run.count)).sum()
    }
}

/// All frames of a delta, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) from: ImageId,
    pub(crate) to: ImageId,
    pub(crate) groups: Vec<Group>,
}

impl Table {
    /// Reads a table, strictly; `frames` is how many bytes all frames have.
    pub(crate) fn parse(stored: &[u8], frames: u64) -> Result<Self, &'static str> {
        let (stored, check) = stored
            .split_last_chunk::<32>()
            .ok_or("its table is too short")?;
        if Blake3::of(stored) != Blake3::new(*check) {
            return Err("its table is damaged");
        }
        let mut raw = Vec::new();
        zstd::Decoder::new(stored)
            .and_then(|decoder| decoder.take(ROWS_MAX + 1).read_to_end(&mut raw))
            .map_err(|_| "its table does not decompress")?;
        if raw.len() as u64 > ROWS_MAX {
            return Err("its table is too long");
        }
        let table = Self::from_rows(&raw)?;
        let total: u64 = table.groups.iter().map(|g| u64::from(g.stored)).sum();
        if MAGIC.len() as u64 + total != frames {
            return Err("its frames are not as long as its table says");
        }
        Ok(table)
    }

    /// Reads what the table decompresses to.
    pub(crate) fn from_rows(rows: &[u8]) -> Result<Self, &'static str> {
        let mut input = rows;
        let table = read(&mut input).ok_or("its table is malformed")?;
        if input.is_empty() {
            Ok(table)
        } else {
            Err("there is something behind its table")
        }
    }

    /// The bytes of the table.
    #[cfg(feature = "write")]
    pub(crate) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut stored = zstd::bulk::compress(&self.to_rows(), 19)?;
        let check = Blake3::of(&stored);
        stored.extend_from_slice(check.bytes());
        Ok(stored)
    }

    /// The rows of the table, before they are compressed.
    #[cfg(feature = "write")]
    pub(crate) fn to_rows(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend_from_slice(self.from.bytes());
        raw.extend_from_slice(self.to.bytes());
        put(&mut raw, self.groups.len() as u32);
        for group in &self.groups {
            put(&mut raw, group.stored);
            for runs in [&group.prior, &group.fresh] {
                put(&mut raw, runs.len() as u32);
                let mut before = 0;
                for run in runs {
                    // Most runs follow the one before them.
                    put_signed(&mut raw, run.entry.wrapping_sub(before).cast_signed());
                    put(&mut raw, run.first);
                    put(&mut raw, run.count);
                    before = run.entry;
                }
            }
        }
        raw
    }
}

fn read(input: &mut &[u8]) -> Option<Table> {
    let from = digest(input)?;
    let to = digest(input)?;
    let count = take(input)? as usize;
    if count > GROUPS_MAX {
        return None;
    }
    // Grown as it is read: a count is only a claim.
    let (mut groups, mut chunks) = (Vec::new(), 0);
    for _ in 0..count {
        let stored = take(input)?;
        if stored == 0 || stored as usize > FRAME_STORED_MAX {
            return None;
        }
        let prior = runs(input)?;
        let fresh = runs(input)?;
        let group = Group {
            stored,
            prior,
            fresh,
        };
        chunks += group.chunks();
        if group.fresh.is_empty() || chunks > CHUNKS_MAX {
            return None;
        }
        groups.push(group);
    }
    Some(Table { from, to, groups })
}

fn runs(input: &mut &[u8]) -> Option<Vec<Run>> {
    let count = take(input)? as usize;
    if count > RUNS_MAX {
        return None;
    }
    let (mut runs, mut before, mut chunks) = (Vec::new(), 0_u32, 0_usize);
    for _ in 0..count {
        let entry = before.checked_add_signed(take_signed(input)?)?;
        let (first, count) = (take(input)?, take(input)?);
        first.checked_add(count)?;
        chunks += count as usize;
        if count == 0 || chunks > FRAME_CHUNKS {
            return None;
        }
        runs.push(Run {
            entry,
            first,
            count,
        });
        before = entry;
    }
    Some(runs)
}

fn digest(input: &mut &[u8]) -> Option<Blake3> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(Blake3::new(*bytes))
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    fn sample() -> Table {
        let run = |entry, first, count| Run {
            entry,
            first,
            count,
        };
        Table {
            from: Blake3::of(b"from"),
            to: Blake3::of(b"to"),
            groups: vec![
                Group {
                    stored: 10,
                    prior: vec![run(0, 3, 4)],
                    fresh: vec![run(0, 2, 1)],
                },
                Group {
                    stored: 300,
                    prior: vec![run(70_000, 0, 1), run(3, 200, 9)],
                    fresh: vec![run(9, 0, 1), run(10, 0, 128)],
                },
            ],
        }
    }

    #[test]
    fn a_table_comes_back() {
        let table = sample();
        assert_eq!(Table::parse(&table.encode().unwrap(), 318), Ok(table));
    }

    #[test]
    fn what_is_refused() {
        let good = sample().encode().unwrap();
        assert!(Table::parse(&good, 317).unwrap_err().contains("as long as"));
        assert!(Table::parse(&good[..20], 318).is_err());
        let mut flipped = good.clone();
        flipped[7] ^= 1;
        assert!(Table::parse(&flipped, 318).unwrap_err().contains("damaged"));
        let broken = |change: fn(&mut Table)| {
            let mut table = sample();
            change(&mut table);
            let frames = 8 + table
                .groups
                .iter()
                .map(|g| u64::from(g.stored))
                .sum::<u64>();
            Table::parse(&table.encode().unwrap(), frames).unwrap_err()
        };
        for change in [
            (|t| t.groups[0].stored = 0) as fn(&mut Table),
            |t| t.groups[0].stored = u32::MAX,
            |t| t.groups[1].fresh.clear(),
            |t| t.groups[1].fresh[0].count = 0,
            |t| t.groups[1].prior[0].count = 8193,
            |t| t.groups[1].prior[0].first = u32::MAX,
        ] {
            assert_eq!(broken(change), "its table is malformed");
        }
        // As many chunks as a reader keeps, and one more.
        let most = CHUNKS_MAX as usize / FRAME_CHUNKS;
        let group = |count| Group {
            stored: 1,
            prior: vec![],
            fresh: vec![Run {
                entry: 1,
                first: 0,
                count,
            }],
        };
        let mut table = Table {
            groups: vec![group(FRAME_CHUNKS as u32); most],
            ..sample()
        };
        assert_eq!(Table::from_rows(&table.to_rows()), Ok(table.clone()));
        table.groups.push(group(1));
        let refused = Table::from_rows(&table.to_rows());
        assert_eq!(refused, Err("its table is malformed"));
        // A bomb: a table that says nothing, at length.
        let zeros = vec![0; ROWS_MAX as usize + 2];
        let mut bomb = zstd::bulk::compress(&zeros, 1).unwrap();
        let check = Blake3::of(&bomb);
        bomb.extend_from_slice(check.bytes());
        assert_eq!(Table::parse(&bomb, 8).unwrap_err(), "its table is too long");
    }
}
