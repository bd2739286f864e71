//! Where content is cut into chunks.
//!
//! The cut follows the content (`FastCDC`), so that a byte inserted near the front
//! of a file moves the cuts behind it along instead of changing every chunk. Two
//! stores share chunks only if they cut alike: the crate's version is pinned and
//! its cuts are written down in a test. Readers never cut, so another cut would
//! cost space and break nothing.

use fastcdc::v2020::FastCDC;

use crate::chunk;

/// Least, average and greatest size of the chunks of some kind of content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    min: usize,
    average: usize,
    max: usize,
}

/// Files. The least size keeps references few, the greatest keeps what a small
/// change costs low.
pub(crate) const CONTENT: Sizes = Sizes {
    min: chunk::MIN,
    average: 64 << 10,
    max: chunk::MAX,
};

/// Layouts. A changed file changes its header and references in the layout, so
/// its chunks are smaller: some 30 entries each.
pub(crate) const LAYOUT: Sizes = Sizes {
    min: 4 << 10,
    average: 16 << 10,
    max: 64 << 10,
};

impl Sizes {
    /// The length of the chunk that `bytes` begin with, which must not be empty.
    /// `None` if that depends on bytes which are not there yet; with `last`, there
    /// are no more.
    pub(crate) fn cut(self, bytes: &[u8], last: bool) -> Option<usize> {
        if bytes.len() < self.max && !last {
            return None;
        }
        let window = &bytes[..bytes.len().min(self.max)];
        let (_, end) = FastCDC::new(window, self.min, self.average, self.max).cut(0, window.len());
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Blake3;

    /// Bytes without a pattern, the same on every machine.
    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_derive_key("imgbuild chunking test")
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn cuts(sizes: Sizes, mut bytes: &[u8]) -> Vec<usize> {
        let mut cuts = Vec::new();
        while !bytes.is_empty() {
            let cut = sizes.cut(bytes, true).unwrap();
            cuts.push(cut);
            bytes = &bytes[cut..];
        }
        cuts
    }

    /// If this fails, new chunks no longer match those in existing stores.
    #[test]
    fn golden_cuts() {
        let noise = noise(1 << 20);
        assert_eq!(
            Blake3::of(&noise).hex(),
            "b5e50def3899d490836976e0e202226a6c1c0b706f191822d04e2a84e096de9d"
        );
        assert_eq!(
            cuts(CONTENT, &noise),
            [
                87914, 62788, 86409, 83944, 262_144, 132_229, 66457, 153_451, 113_240
            ]
        );
        assert_eq!(
            cuts(LAYOUT, &noise[..1 << 17]),
            [23532, 19747, 7056, 23264, 14315, 17994, 20494, 4670]
        );
        assert_eq!(cuts(CONTENT, &vec![0; 600_000]), [262_144, 262_144, 75_712]);
    }

    #[test]
    fn sizes_stay_in_range() {
        for cut in cuts(CONTENT, &noise(4 << 20)).iter().rev().skip(1) {
            assert!((CONTENT.min..=CONTENT.max).contains(cut), "{cut}");
        }
    }

    #[test]
    fn what_follows_does_not_matter() {
        let noise = noise(2 << 20);
        let mut rest = &noise[..];
        while rest.len() >= CONTENT.max {
            let cut = CONTENT.cut(rest, false).unwrap();
            assert_eq!(CONTENT.cut(&rest[..CONTENT.max], false), Some(cut));
            assert_eq!(CONTENT.cut(rest, true), Some(cut));
            rest = &rest[cut..];
        }
        assert_eq!(CONTENT.cut(rest, false), None);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let before = noise(2 << 20);
        let after = [&before[..1000], b"inserted", &before[1000..]].concat();
        let chunks = |bytes: &[u8]| {
            let mut rest = bytes;
            let digest = |cut| {
                let (chunk, behind) = rest.split_at(cut);
                rest = behind;
                Blake3::of(chunk)
            };
            cuts(CONTENT, bytes)
                .into_iter()
                .map(digest)
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(chunks(&after).difference(&chunks(&before)).count() <= 2);
    }
}
