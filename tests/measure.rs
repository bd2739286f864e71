//! Pieces that the benchmarks share.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command to its end, with nothing left to write by those before it.
pub fn timed(command: &mut Command) -> Duration {
    rustix::fs::sync();
    let started = Instant::now();
    let out = command.stdin(Stdio::null()).output();
    let taken = started.elapsed();
    let out = out.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    taken
}

/// The recipe without its source of security updates.
pub fn without_security(recipe: &str) -> String {
    let sections = recipe.split("\n\n");
    let kept = sections.filter(|s| !(s.contains("[[source]]") && s.contains("security")));
    kept.collect::<Vec<_>>().join("\n\n")
}

/// Bytes as MB.
#[allow(clippy::cast_precision_loss)] // of a figure for people
pub fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
