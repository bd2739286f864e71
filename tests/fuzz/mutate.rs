//! Changes to real values, without any feedback: a generator of pseudo-random
//! numbers, and the usual ways to break a file. The same number to begin with
//! gives the same changes.

/// Makes changed values.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator that begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    /// A number below `limit`, or 0 (xorshift64*, Marsaglia and Vigna).
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        number as usize % limit.max(1)
    }

    /// One of the seeds, changed in one to eight places.
    pub fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.change_once(&mut bytes, seeds);
        }
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let len = 1 << self.below(10);
        let end = bytes.len().min(at + self.below(len));
        match self.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
            2 if !bytes.is_empty() => {
                // A digit, a letter, a separator: what texts and headers are made of.
                const TELLING: &[u8] = b"0179afz./-\"{}[]:=\n \0\xff";
                bytes[at] = TELLING[self.below(TELLING.len())];
            }
            3 => {
                let numbers = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 262_144, 262_145];
                let number = numbers[self.below(numbers.len())].to_le_bytes();
                let end = bytes.len().min(at + 4);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            6 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let until = other.len().min(from + len);
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            _ => bytes.truncate(bytes.len() - self.below(bytes.len() / 8)),
        }
    }
}
