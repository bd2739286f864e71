//! Stores and images, read.

use std::fs;

use store::{Backend, ErrorKind, LocalReader, Result, Store, WritableStore};

use crate::support::*;

#[test]
fn an_image_is_found_by_what_people_type() {
    let example = Example::new();
    let image = example.manifest.image;
    let read = example.read();
    assert_eq!(read.manifest(&image).unwrap(), example.manifest);
    for text in [
        image.to_string(),
        image.hex(),
        image.hex()[..8].to_owned(),
        "example".into(),
    ] {
        assert_eq!(read.resolve(&text).unwrap(), image, "{text}");
    }
    for (text, kind) in [
        (image.hex()[..7].to_owned(), ErrorKind::Missing),
        ("other".into(), ErrorKind::Missing),
        ("blake3:00000000".into(), ErrorKind::Missing),
        ("No/Name".into(), ErrorKind::Invalid),
    ] {
        assert_eq!(read.resolve(&text).unwrap_err().kind(), kind, "{text}");
    }
    let listed = read.images().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].image, listed[0].name.as_str()),
        (image, "example")
    );
    assert!(listed[0].published > 0);
}

#[test]
fn a_name_means_its_newest_image() {
    let example = Example::new();
    // The clock of a hint counts seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let second = publish(&example.store, &example.tree());
    assert_ne!(second.image, example.manifest.image);
    assert_eq!(example.read().resolve("example").unwrap(), second.image);
    assert!(
        example
            .read()
            .resolve(&example.manifest.image.hex()[..8])
            .is_ok()
    );
}

#[test]
fn a_further_version_costs_its_differences() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let published = example
        .store
        .publish_tree(&example.tree(), EPOCH, &|_| {})
        .unwrap();
    // The file, and the part of the layout that it is in.
    assert!(published.chunks_new <= 3, "{published:?}");
    assert!(published.written < 8000, "{published:?}");
    assert_eq!(published.packs.len(), 2);
    let manifest = manifest(&published);
    example.store.put_manifest(&manifest).unwrap();
    example.read().verify_image(&manifest).unwrap();
    example.read().verify_image(&example.manifest).unwrap();
}

#[test]
fn entries_and_chunks_one_by_one() {
    let example = Example::new();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let mut count = 0;
    for item in image.entries().unwrap() {
        let (entry, chunks) = item.unwrap();
        count += 1;
        let path = example
            .tree()
            .join(String::from_utf8(entry.path.clone()).unwrap());
        let content: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| image.fetch(chunk).unwrap())
            .collect();
        if let store::canonical_tar::Kind::File { .. } = entry.kind {
            assert_eq!(content, fs::read(path).unwrap());
        } else {
            assert!(content.is_empty());
        }
    }
    assert_eq!(count, example.manifest.entries);
}

#[test]
fn replay_gives_the_content_that_is_wanted() {
    let example = Example::new();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let (mut entries, mut content) = (0, Vec::new());
    image
        .replay(&mut |entry| entry.path == b"hello", &mut |part| {
            match part {
                store::ReplayEvent::Entry(..) => entries += 1,
                store::ReplayEvent::Content(bytes) => content.extend_from_slice(bytes),
                store::ReplayEvent::Known(chunk) => panic!("nobody has {chunk}"),
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(entries, example.manifest.entries);
    assert_eq!(content, b"hello\n");
    let stop = || store::Error::new(ErrorKind::Invalid, "enough");
    let error = image
        .replay(&mut |_| true, &mut |_| Err(stop()))
        .unwrap_err();
    assert_eq!(error.to_string(), "enough");
}

#[test]
fn replay_leaves_out_the_chunks_that_are_had() {
    let example = Example::new();
    let read = example.read();
    let image = read.image(&example.manifest).unwrap();
    let chunks: Vec<_> = image
        .entries()
        .unwrap()
        .flat_map(|item| item.unwrap().1)
        .collect();
    let had = |chunk: &store::chunk::ChunkRef| chunk.digest().bytes()[0].is_multiple_of(2);
    let (mut came, mut content) = (Vec::new(), 0);
    image
        .replay_without(&had, &mut |part| {
            match part {
                store::ReplayEvent::Entry(..) => {}
                store::ReplayEvent::Content(bytes) => content += bytes.len(),
                store::ReplayEvent::Known(chunk) => came.push(chunk),
            }
            Ok(())
        })
        .unwrap();
    let (wanted, other): (Vec<_>, Vec<_>) = chunks.into_iter().partition(had);
    assert!(!wanted.is_empty() && !other.is_empty());
    assert_eq!(came, wanted);
    let sizes = other.iter().map(|chunk| chunk.len() as usize);
    assert_eq!(content, sizes.sum::<usize>());
}

/// A directory behind a static web server: no listing.
struct Static(LocalReader);

impl Backend for Static {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.0.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.0.get_range(key, offset, len)
    }

    fn list(&self, _: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        "a static server".into()
    }
}

#[test]
fn a_static_server_is_enough() {
    let example = Example::new();
    fs::write(example.tree().join("hello"), b"other").unwrap();
    let second = publish(&example.store, &example.tree());
    let backend = LocalReader::open(example.root()).unwrap();
    let read = Store::open(Box::new(Static(backend))).unwrap();
    for manifest in [&example.manifest, &second] {
        assert_eq!(read.manifest(&manifest.image).unwrap(), *manifest);
        read.verify_image(manifest).unwrap();
        assert_eq!(
            read.resolve(&manifest.image.to_string()).unwrap(),
            manifest.image
        );
    }
    assert_eq!(read.images().unwrap(), example.read().images().unwrap());
    fs::remove_file(example.root().join("catalogue.json")).unwrap();
    let error = read.images().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error:?}");
    // Without the hint, only a store that lists finds the packs.
    fs::remove_dir_all(example.root().join("hints")).unwrap();
    assert_eq!(
        read.verify_image(&second).unwrap_err().kind(),
        ErrorKind::Missing
    );
    example.read().verify_image(&second).unwrap();
}

/// A colleague with another umask publishes into a store that a web server reads.
#[test]
fn a_umask_hides_no_part_of_a_store_that_others_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
    example(&tree);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for (mode, file, folder) in [
        (0o755, 0o644, 0o755),
        (0o750, 0o640, 0o750),
        (0o700, 0o600, 0o700),
    ] {
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        let store = WritableStore::open_or_create(&root).unwrap();
        publish(&store, &tree);
        drop(store);
        for path in files(&root) {
            let key = path.strip_prefix(&root).unwrap();
            if key.starts_with("tmp") || key.starts_with("locks") {
                continue;
            }
            let mode_of = |path: &std::path::Path| path.metadata().unwrap().permissions().mode();
            assert_eq!(mode_of(&path) & 0o777, file, "{}", key.display());
            assert_eq!(
                mode_of(path.parent().unwrap()) & 0o777,
                folder,
                "{}",
                key.display()
            );
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
