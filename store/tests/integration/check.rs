//! What a check finds, what it says, and what is moved aside.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use store::maintenance::{self, Depth, Report};
use store::{LocalReader, Sha256, Store, Verified, WritableStore};

use crate::support::*;

#[expect(clippy::unnecessary_wraps, reason = "it stands for one that can fail")]
fn no_inputs(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

/// What a machine finds that knows nothing, which is what one finds that verified
/// everything before.
fn check(root: &Path, quick: bool) -> Report {
    let backend = LocalReader::open(root).unwrap();
    let store = Store::open(Box::new(backend.clone())).unwrap();
    let check = |depth| maintenance::fsck(&store, &backend, depth, &no_inputs, &|_| {}).unwrap();
    let report = check(depth(quick));
    if !quick {
        let verified = verified(root);
        for anew in [false, true] {
            let verified = Some(&verified);
            let again = check(Depth::Whole { verified, anew });
            let [one, other] = [&report, &again].map(|report| format!("{report:?}"));
            assert_eq!(one, other, "anew: {anew}");
        }
    }
    report
}

/// What is known of the store in a directory, beside it.
fn verified(root: &Path) -> Verified {
    Verified::open(&root.with_file_name("cache"))
}

fn open(root: &Path) -> WritableStore {
    let store = WritableStore::open_or_create(root).unwrap();
    store.trusting(verified(root))
}

fn quarantine(report: &Report, root: &Path) -> maintenance::Quarantined {
    let store = WritableStore::open_or_create(root).unwrap();
    maintenance::quarantine(report, store.backend()).unwrap()
}

fn keys(report: &Report) -> Vec<String> {
    report.damage.iter().map(|d| d.key.clone()).collect()
}

/// Two images in packs of their own, some content shared; the store is closed, and this machine has
/// checked all of it.
fn two() -> (tempfile::TempDir, PathBuf, [store::Manifest; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
    example(&tree);
    let first = publish(&open(&root), &tree);
    for number in 0..8_u8 {
        // In frames of its own: a damaged frame takes its neighbours with it.
        fs::write(tree.join(format!("own{number}")), noise(number, 3_000_000)).unwrap();
    }
    let second = publish(&open(&root), &tree);
    assert!(check(&root, false).is_clean());
    (dir, root, [first, second])
}

fn largest(root: &Path, extension: &str) -> PathBuf {
    let mut found = files(&root.join("packs"));
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort_by_key(|path| path.metadata().unwrap().len());
    found.pop().unwrap()
}

#[test]
fn a_whole_store_is_clean() {
    let (_dir, root, _) = two();
    for quick in [false, true] {
        let report = check(&root, quick);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.images, report.packs.count), (2, 2));
        assert!(report.strays.is_empty());
    }
}

/// A pack that was verified is not read again until somebody changes it, in whatever way.
#[test]
fn publishing_trusts_what_was_verified_and_is_as_it_was() {
    let (dir, root, [first, _]) = two();
    let tree = dir.path().join("tree");
    let again = || open(&root).publish_tree(&tree, EPOCH, &|_| {});
    again().unwrap();
    let pack = largest(&root, "pack");
    let meta = fs::metadata(&pack).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let in_place = |bytes: &[u8]| {
        let file = File::options().write(true).open(&pack).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_modified(meta.modified().unwrap()).unwrap();
    };
    in_place(&bytes);
    let error = again().unwrap_err();
    assert_eq!(error.kind(), store::ErrorKind::Corrupt, "{error}");
    assert!(check(&root, false).damage.len() == 1);
    // As it was, at another time: read once more, and known from then on.
    bytes[middle] ^= 1;
    in_place(&bytes);
    again().unwrap();
    check(&root, false);
    assert!(check(&root, false).is_clean());
    // A machine that knows nothing publishes the same.
    let stranger = WritableStore::open_or_create(&root).unwrap();
    assert_eq!(publish(&stranger, &tree).image, again().unwrap().image);
    assert_ne!(again().unwrap().image, first.image);
}

#[test]
fn a_flipped_byte_hurts_whom_it_reaches_and_the_rest_is_saved() {
    let (_dir, root, [first, second]) = two();
    let pack = largest(&root, "pack");
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    assert!(check(&root, true).is_clean(), "no content is read");

    let report = check(&root, false);
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(report.damage[0].key.starts_with("packs/"));
    assert_eq!(report.affected.len(), 1, "{report:?}");
    let hurt = &report.affected[0];
    assert_eq!((hurt.image, hurt.whole), (second.image, false));
    assert!(
        !hurt.entries.is_empty() && hurt.entries.len() < 8,
        "{hurt:?}"
    );
    assert!(
        hurt.entries.iter().all(|entry| entry.starts_with("own")),
        "{hurt:?}"
    );

    let moved = quarantine(&report, &root);
    assert_eq!(moved.moved.len(), 2);
    assert!(moved.written > 10_000_000, "{moved:?}");
    let key = &report.damage[0].key;
    assert_eq!(fs::read(root.join("quarantine").join(key)).unwrap(), bytes);
    let after = check(&root, false);
    assert!(after.damage.is_empty(), "{after:?}");
    assert_eq!(after.affected.len(), 1);
    assert_eq!(after.affected[0].entries, hurt.entries);
    let store = WritableStore::open_or_create(&root).unwrap();
    check_everything(store.store(), &first).unwrap();
    drop(store);
    // Publishing the same tree again mends it.
    let tree = root.parent().unwrap().join("tree");
    let again = publish(&WritableStore::open_or_create(&root).unwrap(), &tree);
    assert_eq!(again, second);
    assert!(check(&root, false).is_clean());
}

#[test]
fn every_kind_of_object_is_checked() {
    let (dir, root, [first, _]) = two();
    let store = WritableStore::open_or_create(&root).unwrap();
    let (input, _) = store.inputs().insert(&mut &b"a package"[..], None).unwrap();
    let steps = [("one".to_owned(), "said\n".to_owned())];
    let log = store::BuildLog::new("example".into(), steps.into_iter());
    store.put_log(&first.image, &log).unwrap();
    maintenance::pin(store.backend(), &first.image, "").unwrap();
    drop(store);
    assert!(check(&root, false).is_clean());
    let hex = first.image.hex();
    for (key, quick) in [
        (format!("images/{hex}.json"), true),
        (format!("hints/{hex}.json"), true),
        (format!("logs/{hex}.json.zst"), true),
        (format!("inputs/sha256/{}", input.hex()), false),
    ] {
        let path = root.join(&key);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[1] ^= 1;
        fs::write(&path, &bad).unwrap();
        let report = check(&root, false);
        assert_eq!(keys(&report), std::slice::from_ref(&key), "{report:?}");
        assert_eq!(check(&root, true).is_clean(), !quick, "{key}");
        let moved = quarantine(&report, &root);
        assert_eq!(moved.moved, std::slice::from_ref(&key));
        assert!(!path.exists() && root.join("quarantine").join(&key).exists());
        assert!(check(&root, true).damage.is_empty());
        fs::write(&path, &good).unwrap();
    }
    let pin = format!("pins/{hex}.json");
    fs::write(root.join(&pin), b"{}").unwrap();
    assert_eq!(keys(&check(&root, true)), [pin]);
    drop(dir);
}

#[test]
fn a_missing_pack_or_index_hurts() {
    for extension in ["pack", "index"] {
        let (_dir, root, [_, second]) = two();
        fs::remove_file(largest(&root, extension)).unwrap();
        for quick in [true, false] {
            let report = check(&root, quick);
            assert_eq!(report.affected.len(), 1, "{report:?}");
            assert_eq!(report.affected[0].image, second.image);
            assert_eq!(report.strays.len(), 1);
        }
    }
    for extension in ["pack", "index"] {
        let (_dir, root, [_, second]) = two();
        let path = largest(&root, extension);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let report = check(&root, true);
        assert_eq!(
            (report.damage.len(), report.affected.len()),
            (1, 1),
            "{report:?}"
        );
        assert_eq!(report.affected[0].image, second.image);
        quarantine(&report, &root);
        assert!(check(&root, true).damage.is_empty());
    }
}

#[test]
fn an_index_that_lies_is_found_although_every_digest_is_right() {
    let (_dir, root, [_, second]) = two();
    // An index with a correct checksum whose second chunk is another.
    let path = largest(&root, "index");
    let mut bytes = fs::read(&path).unwrap();
    let body = bytes.len() - 32;
    let chunk = 8 + 32 + 4 + 8;
    bytes[chunk + 3] ^= 1;
    let check_sum = blake3::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(check_sum.as_bytes());
    fs::write(&path, &bytes).unwrap();
    let report = check(&root, false);
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(report.damage[0].why.contains("1 of its"), "{report:?}");
    assert_eq!(report.affected.len(), 1, "{report:?}");
    assert_eq!(report.affected[0].image, second.image);
}

#[test]
fn a_copy_elsewhere_is_as_good() {
    let (dir, root, [first, _]) = two();
    // The first image's pack, and one with the same chunks from another store.
    let (other, tree) = (dir.path().join("other"), dir.path().join("more"));
    example(&tree);
    fs::write(tree.join("first"), noise(7, 1000)).unwrap();
    publish(&WritableStore::open_or_create(&other).unwrap(), &tree);
    for path in files(&other.join("packs")) {
        fs::copy(&path, root.join("packs").join(path.file_name().unwrap())).unwrap();
    }
    let store = WritableStore::open_or_create(&root).unwrap();
    let hint = root.join(format!("hints/{}.json", first.image.hex()));
    let hint = fs::read_to_string(hint).unwrap();
    let hex = &hint[hint.find("blake3:").unwrap() + 7..][..64];
    let pack = root.join(format!("packs/{hex}.pack"));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[20] ^= 1;
    fs::write(&pack, bytes).unwrap();
    drop(store);
    let report = check(&root, false);
    assert_eq!(report.damage.len(), 1);
    // Only what the other tree has not (the layout, if anything) can be lost.
    for hurt in &report.affected {
        assert!(hurt.entries.is_empty(), "{hurt:?}");
    }
}

#[test]
fn a_check_and_a_collector_exclude_each_other() {
    let (_dir, root, _) = two();
    let store = WritableStore::open_or_create(&root).unwrap();
    let held = store.backend().try_lock("gc").unwrap().unwrap();
    let error = maintenance::fsck(
        store.store(),
        store.backend(),
        Depth::Quick,
        &no_inputs,
        &|_| {},
    )
    .unwrap_err();
    assert_eq!(error.kind(), store::ErrorKind::Busy);
    drop(held);
    assert!(check(&root, true).is_clean());
}
