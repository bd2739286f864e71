//! From what a reader will need to the requests that bring it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::backend::ObjectRange;

/// The longest run that is asked for at once. Long enough that the time between
/// two requests does not matter, short enough that several are under way.
const LONGEST: u64 = 16 << 20;

/// Bytes that nobody wants are fetched as well if they are fewer than this: a
/// request of their own would take longer.
const GAP: u64 = 128 << 10;

/// Bytes of one object that are asked for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoalescedRange {
    pub(super) key: String,
    pub(super) range: Range<u64>,
}

/// The runs that hold what is wanted, in the order in which it is.
pub(super) fn coalesce(wanted: Vec<ObjectRange>) -> Vec<CoalescedRange> {
    let mut objects: BTreeMap<String, Vec<(Range<u64>, usize)>> = BTreeMap::new();
    for (order, ObjectRange { key, range }) in wanted.into_iter().enumerate() {
        if !range.is_empty() {
            objects.entry(key).or_default().push((range, order));
        }
    }
    let mut runs: Vec<(usize, CoalescedRange)> = Vec::new();
    for (key, mut ranges) in objects {
        ranges.sort_unstable_by_key(|(range, _)| (range.start, range.end));
        let mut open: Option<(usize, Range<u64>)> = None;
        for (range, order) in ranges {
            match &mut open {
                Some((first, run))
                    if range.start <= run.end.saturating_add(GAP)
                        && range.end.max(run.end) - run.start <= LONGEST =>
                {
                    run.end = run.end.max(range.end);
                    *first = order.min(*first);
                }
                other => {
                    let done = other.replace((order, range));
                    runs.extend(done.map(|(first, range)| (first, run(&key, range))));
                }
            }
        }
        runs.extend(open.map(|(first, range)| (first, run(&key, range))));
    }
    runs.sort_by_key(|(first, _)| *first);
    runs.into_iter().map(|(_, run)| run).collect()
}

fn run(key: &str, range: Range<u64>) -> CoalescedRange {
    CoalescedRange {
        key: key.to_owned(),
        range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(wanted: &[(&str, Range<u64>)]) -> Vec<(String, Range<u64>)> {
        let wanted = wanted.iter().map(|(key, range)| ObjectRange {
            key: (*key).to_owned(),
            range: range.clone(),
        });
        let runs = coalesce(wanted.collect()).into_iter();
        runs.map(|run| (run.key, run.range)).collect()
    }

    #[test]
    fn neighbours_are_one_request_and_the_first_needed_comes_first() {
        let found = planned(&[
            ("b", 0..10),
            ("a", 100..200),
            ("b", 10..20),
            ("a", 0..50),
            ("b", 1 << 20..(1 << 20) + 5),
            ("c", 0..0),
        ]);
        let expected = [
            ("b".to_owned(), 0..20),
            ("a".to_owned(), 0..200),
            ("b".to_owned(), 1 << 20..(1 << 20) + 5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn no_run_is_too_long() {
        let frames: Vec<_> = (0..100u64).map(|n| ("p", n << 20..(n + 1) << 20)).collect();
        let found = planned(&frames);
        assert_eq!(found.len(), 7);
        assert!(found.iter().all(|(_, run)| run.end - run.start <= LONGEST));
        assert_eq!(found.last().unwrap().1.end, 100 << 20);
        // What is longer in one piece stays in one piece: somebody needs it so.
        assert_eq!(planned(&[("p", 0..LONGEST + 1)]).len(), 1);
    }
}
