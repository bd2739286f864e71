//! Programs and libraries of the machine's own package index, each file with the digest that it must have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::Ran;

/// Makes a virtualenv of that name in a directory, with what a requirements file names and nothing else.
///
/// # Panics
/// When the index has not each file with one of its digests.
#[track_caller]
pub fn environment(dir: &Path, name: &str, requirements: &str) -> PathBuf {
    let environment = dir.join(name);
    let list = dir.join(format!("{name}.txt"));
    fs::write(&list, requirements).expect("the directory is ours");
    let mut make = Command::new("python3");
    Ran::of(make.args(["-m", "venv"]).arg(&environment)).expect(0);
    let mut install = Command::new(environment.join("bin/python"));
    install
        .args(["-m", "pip", "--disable-pip-version-check"])
        .args(["--no-cache-dir", "install", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--no-compile", "--require-hashes"])
        .arg("--requirement")
        .arg(&list);
    Ran::of(&mut install).expect(0);
    environment
}
