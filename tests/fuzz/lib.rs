//! Fuzz targets, one for each format that a stranger's bytes are parsed as.
//!
//! A target is a function that takes any bytes and panics when a promise of the
//! format's page does not hold: not only that nothing panics, but that what is
//! accepted is written again as the same bytes, that an independent reading of the
//! grammar comes to the same verdict, and that memory follows from the input's
//! length and not from a number in it.
//!
//! Most bytes fail at a checksum. So a target looks at its input twice: as it is,
//! and with the checksums put right, as an attacker would.
//!
//! Two engines drive them. `cargo test -p fuzz` changes real values for some
//! seconds with [`mutate`], without feedback, the same way each time; it also runs
//! what was once found. `tests/fuzz/run SECONDS` is libFuzzer with coverage, on
//! stable Rust, for as long as one likes.

// A panic in here is a finding.
#![allow(clippy::missing_panics_doc)]

mod delta;
mod index;
mod json;
mod layout;
mod manifest;
mod memory;
pub mod mutate;
mod oracle;
pub mod seeds;
mod small;
mod tar;
mod toml;
mod tree;
pub mod waves;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, for the command line.
    pub name: &'static str,
    /// The promises.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 13] = [
    target("tar", tar::run, seeds::tars),
    target("tree", tree::run, seeds::choices),
    target("layout", layout::run, seeds::layouts),
    target("index", index::run, seeds::indexes),
    target("delta", delta::run, seeds::deltas),
    target("manifest", manifest::run, seeds::manifests),
    target("json", json::run, seeds::documents),
    target("hint", small::hint, seeds::hints),
    target("log", small::log, seeds::logs),
    target("receipt", small::receipt, seeds::receipts),
    target("key", small::key, seeds::keys),
    target("toml", toml::run, seeds::tomls),
    target("waves", waves::run, seeds::waves),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }
}
