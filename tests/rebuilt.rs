//! Statements of somebody who rebuilt an image, without half a minute of rebuilding.

use std::path::Path;

use store::keys::KeyFile;
use store::{WritableStore, attest};

/// Puts beside an image what `imgbuild rebuild --attest` says of one that comes to the same bytes,
/// signed with a key that has no passphrase.
#[track_caller]
pub fn attest_rebuilt(store: &Path, image: &str, key: &Path) {
    let store = WritableStore::open_or_create(store).expect("it is a store");
    let image = image.parse().expect("an image's digest");
    let manifest = store.store().manifest(&image).expect("it has the image");
    let said = serde_json::json!({ "image": image, "varied": true });
    let mut said = attest::statement(attest::Kind::Rebuild, &manifest, said).expect("it is whole");
    let key = KeyFile::at(key.to_owned()).load().expect("it is a key");
    said.sign(&key).expect("it can sign");
    attest::put(store.backend(), &manifest, &said).expect("the store takes it");
}
