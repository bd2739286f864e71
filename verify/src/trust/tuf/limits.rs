//! How much is taken from a repository before anything is known about it.

/// A root lists keys: 512 KiB are some two thousand of them.
pub(super) const ROOT_LIMIT: u64 = 512 * 1024;
/// A timestamp is one line about one file, and is fetched before anything is
/// known about it.
pub(super) const TIMESTAMP_LIMIT: u64 = 16 * 1024;
/// A snapshot has a line per targets file.
pub(super) const SNAPSHOT_LIMIT: u64 = 2 * 1024 * 1024;
/// Targets has some 600 bytes per release: room for eight thousand.
pub(super) const TARGETS_LIMIT: u64 = 5 * 1024 * 1024;
/// More new roots than this in one run are not a rotation but an attack. (Tests
/// sign every one of them, and make do with fewer.)
pub(super) const MOST_ROOTS: u64 = if cfg!(test) { 16 } else { 1024 };
