//! Manifests: what is read is what stands there, to every other JSON reader, and
//! it has one form.

use store::Manifest;

use crate::memory;

pub(crate) fn run(bytes: &[u8]) {
    // An empty JSON list costs two bytes and becomes some hundred.
    let Ok(manifest) = memory::bounded(bytes, 64 << 10, 64, Manifest::from_json) else {
        return;
    };
    let json = manifest.to_json();
    assert_eq!(Manifest::from_json(&json).expect("its own form"), manifest);
    // Nothing that stands in the document was overlooked, changed or read in one
    // of two ways: a reader that refuses all doubt sees the same value.
    let seen = store::json::parse(bytes).expect("no doubt");
    let meant = serde_json::to_value(&manifest).expect("a value");
    assert_eq!(seen, meant);
    assert_eq!(store::json::parse(&json).expect("no doubt"), meant);

    let layout: u64 = manifest
        .layout
        .chunks
        .iter()
        .map(|chunk| u64::from(chunk.len()))
        .sum();
    assert_eq!(layout, manifest.layout.size);
    assert!((1..=1 << 20).contains(&manifest.entries));
    assert!(manifest.size % 512 == 0 && manifest.size >= 512 * (manifest.entries + 2));
}
