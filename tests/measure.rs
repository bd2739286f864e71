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
