//! Finding how content is best made from earlier content that it resembles.
//!
//! ```text
//! prior  ....AAAAxAAAA....BBBB....     a seed of twelve equal bytes gives a place,
//! fresh  ..AAAAyAAAA..BBBB..           which holds until another one fits better;
//!                                      what lies between two places goes to the one
//!                                      with which more of its bytes agree, or is new
//! ```

use std::ops::Range;

use crate::delta::patch::Op;

/// Bytes that must be equal for a place to be looked at.
const SEED: usize = 12;

/// Bytes that are compared to see which of two places fits better.
const AHEAD: usize = 512;

/// By how many equal bytes another place must be better, and the least that is copied: an
/// operation takes up to seven bytes.
const BETTER: usize = 8;

/// A stretch is not grown any further once so many more of its last bytes differ than agree.
const HOPELESS: i64 = 400;

/// Content up to this size has a seed at each byte, longer content at every other one.
const DENSE: usize = 1 << 20;

/// How far a place may take from what was found for the one before it.
const BACK: usize = 4 << 10;

/// Bytes without a better place after which every other one is tried, then every third and so
/// on: content that is like nothing costs little.
const PATIENCE: usize = 256;

/// A part of earlier content, from which new content is made.
pub(super) struct Relative<'a> {
    prior: &'a [u8],
    /// Where the part is in the earlier content.
    start: usize,
    seeds: Seeds,
}

impl<'a> Relative<'a> {
    pub(super) fn new(prior: &'a [u8], part: Range<usize>) -> Self {
        let start = part.start;
        let prior = &prior[part];
        let seeds = Seeds::of(prior);
        Self {
            prior,
            start,
            seeds,
        }
    }

    /// Adds how `fresh` is made from it.
    pub(super) fn align(&self, fresh: &[u8], ops: &mut Vec<Op>) {
        let Self {
            prior,
            start,
            seeds,
        } = self;
        let mut here = Place { fresh: 0, prior: 0 };
        let (mut scan, mut found) = (0, 0);
        loop {
            let next = seeds.better(prior, fresh, here, &mut scan);
            let end = next.map_or(fresh.len(), |next| next.fresh);
            let between = &fresh[here.fresh..end];
            let mut forward = agreeing(between.iter().zip(&prior[here.prior..]));
            let mut back = next.map_or(0, |next| {
                // Not more often than a few times over the same bytes.
                let reach = between.iter().rev().take(end - found + BACK);
                agreeing(reach.zip(prior[..next.prior].iter().rev()))
            });
            if let Some(next) = next
                && let Some(both) = (forward + back).checked_sub(between.len())
            {
                let ours = split(
                    &between[between.len() - back..forward],
                    &prior[here.prior + forward - both..],
                    &prior[next.prior - back..],
                );
                forward -= both - ours;
                back -= ours;
            }
            if forward < BETTER {
                forward = 0;
            }
            let op = Op {
                copy: start + here.prior..start + here.prior + forward,
                insert: between.len() - forward - back,
            };
            match ops.last_mut() {
                Some(Op { insert, .. }) if op.copy.is_empty() => *insert += op.insert,
                _ if op.copy.len() + op.insert > 0 => ops.push(op),
                _ => {}
            }
            let Some(next) = next else { return };
            found = next.fresh;
            here = Place {
                fresh: next.fresh - back,
                prior: next.prior - back,
            };
        }
    }
}

/// A byte of the new content, and the one of the earlier content that it is made from.
#[derive(Clone, Copy)]
struct Place {
    fresh: usize,
    prior: usize,
}

/// [`SEED`] bytes.
#[derive(Clone, Copy)]
struct Seed(u64, u32);

impl Seed {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let (first, rest) = bytes.get(at..)?.split_first_chunk()?;
        let rest = rest.first_chunk()?;
        Some(Self(u64::from_le_bytes(*first), u32::from_le_bytes(*rest)))
    }

    /// Whether all bytes are the same one: such places are everywhere, and their bytes cost
    /// nothing.
    fn is_run(self) -> bool {
        self.0 == self.0.rotate_left(8) && self.1 == self.0 as u32
    }
}

/// Where sequences of bytes are in the earlier content.
struct Seeds {
    places: Vec<u32>,
    bits: u32,
}

impl Seeds {
    const NONE: u32 = u32::MAX;

    fn of(prior: &[u8]) -> Self {
        let bits = prior
            .len()
            .clamp(1 << 10, 1 << 22)
            .next_power_of_two()
            .ilog2();
        let mut seeds = Self {
            places: vec![Self::NONE; 1 << bits],
            bits,
        };
        let step = if prior.len() > DENSE { 2 } else { 1 };
        for at in (0..prior.len()).step_by(step) {
            let Some(seed) = Seed::at(prior, at) else {
                break;
            };
            let slot = seeds.slot(seed);
            let place = &mut seeds.places[slot];
            // The first one of many: what repeats itself goes on from there.
            if *place == Self::NONE && !seed.is_run() {
                *place = at as u32;
            }
        }
        seeds
    }

    fn find(&self, seed: Seed) -> Option<usize> {
        let place = self.places[self.slot(seed)];
        (place != Self::NONE && !seed.is_run()).then_some(place as usize)
    }

    fn slot(&self, seed: Seed) -> usize {
        let mixed = seed.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(seed.1)
                .wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
                .rotate_left(23);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits)) as usize
    }

    /// The next place, from `scan` on, that fits better than going on from `here`; `scan` is
    /// behind what is known to be equal then.
    fn better(&self, prior: &[u8], fresh: &[u8], here: Place, scan: &mut usize) -> Option<Place> {
        let mut missed = 0;
        while let Some(seed) = Seed::at(fresh, *scan) {
            let rest = &fresh[*scan..];
            let on = prior
                .get(here.prior + (*scan - here.fresh)..)
                .unwrap_or(&[]);
            let same = equal(on, rest);
            if same >= SEED {
                *scan += same;
                missed = 0;
                continue;
            }
            if let Some(found) = self.find(seed) {
                let other = &prior[found..];
                let ahead = &rest[..rest.len().min(AHEAD)];
                let equal_there = equal(other, ahead);
                let agree = ahead[..equal_there].iter().zip(on).filter(|(a, b)| a == b);
                if equal_there >= SEED && equal_there > agree.count() + BETTER {
                    let place = Place {
                        fresh: *scan,
                        prior: found,
                    };
                    *scan += equal(other, rest);
                    return Some(place);
                }
            }
            // Odd, as seeds may be at even places alone.
            *scan += (1 + missed / PATIENCE) | 1;
            missed += 1;
        }
        *scan = fresh.len();
        None
    }
}

/// How many bytes two slices begin with that are the same.
fn equal(one: &[u8], other: &[u8]) -> usize {
    // Words of eight bytes first.
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let start = 8 * words.take_while(|(a, b)| a == b).count();
    let rest = one[start..].iter().zip(&other[start..]);
    start + rest.take_while(|(a, b)| a == b).count()
}

/// How many of these pairs are best taken: where the lead of those that agree is greatest.
fn agreeing<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    let (mut score, mut best, mut taken) = (0_i64, 0_i64, 0);
    for ((one, other), number) in pairs.zip(1..) {
        score += if one == other { 1 } else { -1 };
        if score > best {
            (best, taken) = (score, number);
        } else if score + HOPELESS < best {
            break;
        }
    }
    taken
}

/// How many of the first bytes of `contended` are better made from `one`; the others are made
/// from `other`.
fn split(contended: &[u8], one: &[u8], other: &[u8]) -> usize {
    let (mut score, mut best, mut taken) = (0_i64, 0_i64, 0);
    for (((byte, one), other), number) in contended.iter().zip(one).zip(other).zip(1..) {
        score += i64::from(byte == one) - i64::from(byte == other);
        if score > best {
            (best, taken) = (score, number);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::patch;
    use proptest::prelude::*;

    /// Bytes without a pattern.
    fn noise(seed: &str, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_derive_key(seed)
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn ops(prior: &[u8], fresh: &[u8]) -> Vec<Op> {
        let mut ops = Vec::new();
        Relative::new(prior, 0..prior.len()).align(fresh, &mut ops);
        let patch = patch::encode(&ops, prior, fresh);
        assert!(patch.len() <= patch::longest(fresh.len()));
        assert!(patch::apply(&patch, prior, |size| size == fresh.len()).unwrap() == fresh);
        ops
    }

    #[test]
    fn what_moves_and_differs_here_and_there_is_copied() {
        let prior = noise("prior", 100_000);
        let mut fresh = [&prior[60_000..], b"inserted between", &prior[..50_000]].concat();
        for at in (25..fresh.len()).step_by(50) {
            fresh[at] ^= 1;
        }
        let ops = ops(&prior, &fresh);
        assert_eq!(ops.len(), 2, "{ops:?}");
        assert!(ops[0].copy.start == 60_000 && ops[1].copy == (0..50_000));
        let inserted: usize = ops.iter().map(|op| op.insert).sum();
        assert!((10..20).contains(&inserted), "{inserted}");
    }

    #[test]
    fn without_a_like_all_is_new() {
        let new = |insert| vec![Op { copy: 0..0, insert }];
        assert_eq!(ops(b"", &noise("fresh", 5000)), new(5000));
        assert_eq!(ops(&noise("prior", 5000), &noise("fresh", 5000)), new(5000));
        assert_eq!(ops(b"short", b"other"), new(5));
        assert_eq!(ops(b"prior", b""), vec![]);
    }

    #[test]
    fn each_part_has_its_own_relative() {
        let (one, two) = (noise("one", 3000), noise("two", 3000));
        let prior = [&one[..], &two, &one].concat();
        let mut ops = Vec::new();
        Relative::new(&prior, 6000..9000).align(&one, &mut ops);
        Relative::new(&prior, 0..0).align(b"new", &mut ops);
        Relative::new(&prior, 3000..6000).align(&two[1000..], &mut ops);
        let op = |copy, insert| Op { copy, insert };
        assert_eq!(ops, [op(6000..9000, 3), op(4000..6000, 0)]);
    }

    /// Content that resembles itself in many places takes no longer.
    #[test]
    fn runs_of_one_byte() {
        let prior = [vec![0; 3 << 20], noise("prior", 5000), vec![7; 1 << 20]].concat();
        let fresh = [vec![7; 1 << 20], noise("prior", 5000), vec![0; 3 << 20]].concat();
        let ops = ops(&prior, &fresh);
        assert!(ops.len() < 5, "{ops:?}");
    }

    proptest! {
        #[test]
        fn any_two(prior: Vec<u8>, fresh: Vec<u8>, edits in prop::collection::vec(any::<(usize, usize, u8)>(), 0..8)) {
            ops(&prior, &fresh);
            // The same again and again, with edits: seeds, overlaps, ends.
            let prior = prior.repeat(5);
            let mut edited = prior.clone();
            for (from, to, byte) in edits.into_iter().filter(|_| !prior.is_empty()) {
                let (from, to) = (from % edited.len(), to % edited.len());
                edited.rotate_left(from);
                edited[to] = byte;
                edited.insert(from, byte);
            }
            ops(&prior, &edited);
        }
    }
}
