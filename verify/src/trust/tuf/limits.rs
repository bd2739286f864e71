//! How much is taken from a repository before anything is known about it.

/// The longest root, in bytes: 512 KiB are some two thousand keys.
pub(super) const ROOT_LIMIT: u64 = 512 * 1024;
/// The longest timestamp, in bytes: one line about one file.
pub(super) const TIMESTAMP_LIMIT: u64 = 16 * 1024;
/// The longest snapshot, in bytes: it has a line per targets file.
pub(super) const SNAPSHOT_LIMIT: u64 = 2 * 1024 * 1024;
/// The longest targets, in bytes: with some 600 per release there is room for eight thousand.
pub(super) const TARGETS_LIMIT: u64 = 5 * 1024 * 1024;
/// The most new roots in one run: more are not a rotation but an attack. (Tests
/// sign every one of them, and make do with fewer.)
pub(super) const MOST_ROOTS: u64 = if cfg!(test) { 16 } else { 1024 };
