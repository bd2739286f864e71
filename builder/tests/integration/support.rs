//! What several of these tests need.

use std::process::Output;

/// A program that has ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[seed]);
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// The manifest of a published tree, of which nothing else is known.
pub(crate) fn manifest_of(published: store::Published, epoch: u64) -> store::Manifest {
    store::Manifest {
        schema: store::manifest::SCHEMA,
        name: "small".parse().unwrap(),
        image: published.image,
        sha256: published.sha256,
        size: published.size,
        entries: published.entries,
        layout: published.layout,
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: published.setuid,
        xattrs: published.xattrs,
        recipe: store::Sha256::of(b"recipe"),
        lock: store::Sha256::of(b"lock"),
        builder: "test".into(),
        run: None,
    }
}
