//! The rows of deltas' tables: one spelling for one table, within the page's limits.

use crate::memory;

pub(crate) fn run(bytes: &[u8]) {
    if let Some((frames, again)) = memory::bounded(bytes, 4096, 64, store::fuzz::delta) {
        assert!(again == bytes, "two spellings of one table");
        assert!(frames <= 1 << 16);
        // A frame takes at least its length, no prefix, and one run.
        assert!(64 + frames * 6 <= bytes.len());
    }
    if let Some(again) = store::fuzz::pair(bytes) {
        assert_eq!(store::fuzz::pair(&again).as_ref(), Some(&again));
    }
}
