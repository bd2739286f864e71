//! Stores that are damaged, and manifests that lie.

use std::fs;

use store::{ErrorKind, Manifest, WritableStore};

use crate::support::*;

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let example = Example::new();
    let read = example.read();
    for path in files(example.root()) {
        let name = path.strip_prefix(example.root()).unwrap().to_owned();
        // A catalogue only repeats what the folders say; inventories are for checks.
        let nothing = ["tmp", "locks", "catalogue.json", "inventory"];
        if nothing.iter().any(|nothing| name.starts_with(nothing)) {
            continue;
        }
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 150).max(1);
        for position in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[position] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            let noticed = check_everything(&read, &example.manifest);
            assert!(noticed.is_err(), "byte {position} of {}", name.display());
        }
        fs::write(&path, &good).unwrap();
    }
    check_everything(&read, &example.manifest).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    for extension in ["pack", "index"] {
        let example = Example::new();
        assert!(example.read().has_image_objects(&example.manifest).unwrap());
        fs::remove_file(example.object(extension)).unwrap();
        assert!(!example.read().has_image_objects(&example.manifest).unwrap());
        let error = example.read().verify_image(&example.manifest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error:?}");
        // What the store lost is written again.
        publish(&example.store, &example.tree());
        example.read().verify_image(&example.manifest).unwrap();
        assert!(example.read().has_image_objects(&example.manifest).unwrap());
    }
}

#[test]
fn a_truncated_pack_is_written_again() {
    let example = Example::new();
    let pack = example.object("pack");
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!example.read().has_image_objects(&example.manifest).unwrap());
    let error = example.read().verify_image(&example.manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    publish(&example.store, &example.tree());
    example.read().verify_image(&example.manifest).unwrap();
}

#[test]
fn a_chunk_that_two_packs_have_survives_one() {
    // Two stores with the same image in different packs, put together.
    let example = Example::new();
    let pack = example.object("pack");
    let more = example.dir.path().join("more");
    let other = WritableStore::open_or_create(example.dir.path().join("other")).unwrap();
    crate::support::example(&more);
    fs::write(more.join("first"), noise(7, 1000)).unwrap();
    publish(&other, &more);
    publish(&other, &example.tree());
    for path in files(&other.directory().unwrap().join("packs")) {
        let name = path.file_name().unwrap();
        fs::copy(&path, example.root().join("packs").join(name)).unwrap();
    }
    let good = fs::read(&pack).unwrap();
    for at in (0..good.len()).step_by(good.len() / 20) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&pack, bad).unwrap();
        example.read().verify_image(&example.manifest).unwrap();
    }
    fs::remove_file(&pack).unwrap();
    example.read().verify_image(&example.manifest).unwrap();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let items: Vec<_> = image.entries().unwrap().map(Result::unwrap).collect();
    for chunk in items.iter().flat_map(|(_, chunks)| chunks) {
        image.fetch(chunk).unwrap();
    }
}

#[test]
fn foreign_files_in_a_store_do_no_harm() {
    let example = Example::new();
    let root = example.root();
    for name in [
        "packs/README",
        "packs/0.index",
        "images/x.json",
        "hints/x",
        "packs/.index",
    ] {
        fs::write(root.join(name), b"something else").unwrap();
    }
    fs::write(
        root.join(format!("packs/{}.index", "0".repeat(64))),
        b"something else",
    )
    .unwrap();
    example.read().verify_image(&example.manifest).unwrap();
    assert_eq!(example.read().images().unwrap().len(), 1);
    publish(&example.store, &example.tree());
}

#[test]
fn a_layout_of_another_image() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let other = publish(&example.store, &example.tree());
    let mixed = Manifest {
        layout: other.layout,
        ..example.manifest.clone()
    };
    let error = example.read().verify_image(&mixed).unwrap_err();
    assert!(
        error.to_string().contains("its layout expands to"),
        "{error}"
    );
    let mut tar = Vec::new();
    assert!(
        example
            .read()
            .image(&mixed)
            .unwrap()
            .copy_tar(&mut tar)
            .is_err()
    );
}

#[test]
fn a_manifest_that_lies() {
    let example = Example::new();
    let lie = |change: fn(&mut Manifest)| {
        let mut manifest = example.manifest.clone();
        change(&mut manifest);
        example
            .read()
            .verify_image(&manifest)
            .unwrap_err()
            .to_string()
    };
    assert!(lie(|m| m.sha256 = store::Sha256::of(b"")).ends_with("its sha256 is not the image's"));
    assert!(lie(|m| m.size += 512).ends_with("its size is not the image's"));
    assert!(lie(|m| m.entries += 1).ends_with("its number of entries is not the image's"));
    assert!(lie(|m| m.setuid.clear()).ends_with("its list of setuid files is not the image's"));
    assert!(
        lie(|m| m.xattrs.clear()).ends_with("its list of extended attributes is not the image's")
    );
    let mut other = example.manifest.clone();
    other.suite = "trixie".into();
    let error = example.store.put_manifest(&other).unwrap_err();
    assert!(
        error.to_string().ends_with("has another manifest already"),
        "{error}"
    );
    example.store.put_manifest(&example.manifest).unwrap();
}
