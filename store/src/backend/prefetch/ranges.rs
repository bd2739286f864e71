//! Sets of bytes of one object.

use std::iter;
use std::ops::Range;

/// Sorted ranges that neither touch nor are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Whether every byte of `range` is in the set.
    pub(super) fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .0
                .iter()
                .any(|have| have.start <= range.start && range.end <= have.end)
    }

    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Those that overlap or touch the new one become part of it.
        let first = self.0.partition_point(|have| have.end < range.start);
        let behind = self.0.partition_point(|have| have.start <= range.end);
        let start = self
            .0
            .get(first)
            .map_or(range.start, |have| have.start.min(range.start));
        let last = behind.checked_sub(1).and_then(|last| self.0.get(last));
        let end = last.map_or(range.end, |have| have.end.max(range.end));
        if first < behind {
            self.0.splice(first..behind, iter::once(start..end));
        } else {
            self.0.insert(first, range);
        }
    }

    /// Where the last range ends.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let cut = |have: &Range<u64>| {
            let before = have.start..have.end.min(range.start);
            let after = have.start.max(range.end)..have.end;
            [before, after]
        };
        self.0 = self
            .0
            .iter()
            .flat_map(cut)
            .filter(|part| !part.is_empty())
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_set_of_numbers() {
        // Every sequence of three operations on ranges within ten bytes, against a bitmap.
        let ranges: Vec<Range<u64>> = (0..6).flat_map(|a| (a..=6).map(move |b| a..b)).collect();
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    let mut set = Ranges::default();
                    let mut bits = [false; 8];
                    for (range, value) in [(a, true), (b, true), (c, false), (a, true)] {
                        if value {
                            set.add(range.clone());
                        } else {
                            set.remove(range);
                        }
                        range.clone().for_each(|at| bits[at as usize] = value);
                    }
                    for range in &ranges {
                        let all = range.clone().all(|at| bits[at as usize]);
                        assert_eq!(set.contains(range), all, "{a:?} {b:?} {c:?} {range:?}");
                    }
                }
            }
        }
    }
}
