//! One suite over every kind of place that a store is read from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::*;
use servers::nginx::Nginx;
use store::{Backend, ClientOptions, ErrorKind, ImageId, ReplayEvent, Sha256, Store, StoreUrl};

/// A kind of place, over the same directory of a store.
struct Kind {
    name: &'static str,
    lists: bool,
    open: Box<dyn Fn() -> Box<dyn Backend>>,
    // Serves for as long as it lives.
    _server: Option<Nginx>,
}

/// A store of two versions, and every kind of place that serves it.
fn everywhere(test: impl Fn(&Kind, &Example, &store::Manifest)) {
    let example = Example::new();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(example.dir.path(), open).unwrap();
    for file in 0..9 {
        fs::write(
            example.tree().join(format!("more{file}")),
            noise(file, 400_000),
        )
        .unwrap();
    }
    let second = publish(&example.store, &example.tree());
    let input = Sha256::of(b"an input");
    let inputs = example.store.inputs();
    inputs.insert(&mut &b"an input"[..], Some(&input)).unwrap();

    let root = example.root().to_owned();
    let web = |name, settings| {
        let server = Nginx::serve(&root, settings);
        let place: StoreUrl = server.url().parse().unwrap();
        Kind {
            name,
            lists: false,
            open: Box::new(move || place.open(&ClientOptions::default()).unwrap()),
            _server: Some(server),
        }
    };
    let directory = StoreUrl::Directory(root.clone());
    let kinds = [
        Kind {
            name: "directory",
            lists: true,
            open: Box::new(move || directory.open(&ClientOptions::default()).unwrap()),
            _server: None,
        },
        web("nginx", ""),
        web("nginx without ranges", "max_ranges 0;"),
        web(
            "nginx in pieces",
            "chunked_transfer_encoding on; sendfile off; output_buffers 1 512;",
        ),
    ];
    for kind in &kinds {
        test(kind, &example, &second);
    }
}

#[test]
fn objects_and_ranges() {
    everywhere(|kind, example, _| {
        let backend = (kind.open)();
        let name = kind.name;
        fs::write(example.root().join("packs/ten"), b"0123456789").unwrap();
        fs::write(example.root().join("packs/none"), b"").unwrap();
        assert_eq!(
            backend.get("packs/ten", 10).unwrap().unwrap(),
            b"0123456789",
            "{name}"
        );
        assert_eq!(
            backend.get("packs/none", 0).unwrap().unwrap(),
            b"",
            "{name}"
        );
        assert_eq!(backend.get("packs/missing", 9).unwrap(), None, "{name}");
        let error = backend.get("packs/ten", 9).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
        assert_eq!(
            backend.get_range("packs/ten", 2, 3).unwrap(),
            b"234",
            "{name}"
        );
        assert_eq!(
            backend.get_range("packs/ten", 0, 10).unwrap(),
            b"0123456789",
            "{name}"
        );
        for (offset, len) in [(0, 11), (10, 1), (9, 2), (500, 1)] {
            let error = backend.get_range("packs/ten", offset, len).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{name} {offset}+{len}: {error:?}"
            );
            assert!(error.to_string().contains("10 bytes"), "{name}: {error}");
        }
        let error = backend.get_range("packs/missing", 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{name}: {error:?}");
        for key in [
            "../x",
            "/etc/passwd",
            "packs//ten",
            "packs/%2e%2e/x",
            "a?b",
            "",
        ] {
            let error = backend.get(key, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name} {key}");
            let error = backend.get_range(key, 0, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name} {key}");
        }
        let listed = backend.list("images/").unwrap();
        assert_eq!(
            listed.map(|keys| keys.len()),
            kind.lists.then_some(2),
            "{name}"
        );
    });
}

#[test]
fn images_are_found_and_every_byte_is_right() {
    everywhere(|kind, example, second| {
        let (name, first) = (kind.name, &example.manifest);
        let store = Store::open((kind.open)()).unwrap();
        let mut images: Vec<ImageId> = store
            .images()
            .unwrap()
            .iter()
            .map(|listed| listed.image)
            .collect();
        images.sort();
        let mut expected = vec![first.image, second.image];
        expected.sort();
        assert_eq!(images, expected, "{name}");
        for manifest in [first, second] {
            assert_eq!(
                store.manifest(&manifest.image).unwrap(),
                *manifest,
                "{name}"
            );
            let prefix = &manifest.image.hex()[..12];
            assert_eq!(store.resolve(prefix).unwrap(), manifest.image, "{name}");
            assert!(store.has_image_objects(manifest).unwrap(), "{name}");
            store.verify_image(manifest).unwrap();
            store.verify_objects(manifest).unwrap();
            let mut tar = Vec::new();
            store.image(manifest).unwrap().copy_tar(&mut tar).unwrap();
            assert_eq!(tar, tar_of(&example.store, manifest), "{name}");
        }
        let missing = store.resolve("missing").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Missing, "{name}");
        let none = Sha256::of(b"no input");
        assert_eq!(store.input(&none, 99).unwrap(), None, "{name}");
        let input = store.input(&Sha256::of(b"an input"), 99).unwrap();
        assert_eq!(input.unwrap(), b"an input", "{name}");
    });
}

#[test]
fn parts_of_an_image_and_many_readers() {
    everywhere(|kind, example, second| {
        let store = Store::open((kind.open)()).unwrap();
        let image = store.image(second).unwrap();
        let content = AtomicUsize::new(0);
        thread::scope(|scope| {
            for reader in 0..6 {
                let (image, content, name) = (&image, &content, kind.name);
                scope.spawn(move || {
                    let wanted = format!("more{reader}");
                    let mut bytes = Vec::new();
                    let read =
                        image.replay(&mut |entry| entry.path == wanted.as_bytes(), &mut |part| {
                            if let ReplayEvent::Content(part) = part {
                                bytes.extend_from_slice(part);
                            }
                            Ok(())
                        });
                    read.unwrap();
                    assert_eq!(bytes, noise(reader, 400_000), "{name}");
                    content.fetch_add(bytes.len(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(content.into_inner(), 6 * 400_000);
        for item in image.entries().unwrap() {
            let (entry, chunks) = item.unwrap();
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(image.fetch(chunk).unwrap());
            }
            assert_eq!(bytes.len() as u64, entry.size(), "{}", kind.name);
        }
        // Nothing of it was left behind by name.
        assert!(example.root().join("packs").is_dir());
    });
}

#[test]
fn a_pull_takes_few_requests_and_no_byte_twice() {
    let example = Example::new();
    fs::set_permissions(example.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in 0..40 {
        fs::write(
            example.tree().join(format!("big{file}")),
            noise(file, 900_000),
        )
        .unwrap();
    }
    let first = publish(&example.store, &example.tree());
    fs::write(example.tree().join("big7"), noise(99, 900_000)).unwrap();
    let second = publish(&example.store, &example.tree());
    let size = |manifest: &store::Manifest| manifest.size;
    for (settings, ranges) in [("", true), ("max_ranges 0;", false)] {
        let server = Nginx::serve(example.root(), settings);
        let place: StoreUrl = server.url().parse().unwrap();
        let store = Store::open(place.open(&ClientOptions::default()).unwrap()).unwrap();
        for (manifest, most) in [(&first, 12), (&second, 12)] {
            let before = server.log().len();
            let mut tar = Vec::new();
            store.image(manifest).unwrap().copy_tar(&mut tar).unwrap();
            assert_eq!(tar.len() as u64, size(manifest));
            let requests = server.log().len() - before;
            assert!(requests <= most, "{:#?}", &server.log()[before..]);
        }
        let traffic = store.backend().traffic().unwrap();
        assert_eq!(
            traffic.requests,
            server.log().len() as u64,
            "{:#?}",
            server.log()
        );
        assert_eq!(traffic.repeated, 0);
        let packs = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "pack");
        let stored: u64 = files(example.root())
            .iter()
            .filter(|path| packs(path))
            .map(|path| path.metadata().unwrap().len())
            .sum();
        let fetched: u64 = server
            .log()
            .iter()
            .filter(|line| line.contains(".pack 20"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        // Without ranges, answers that are not wanted are broken off early.
        let most = if ranges { stored } else { stored + (8 << 20) };
        assert!(
            fetched <= most,
            "{fetched} of {stored}: {:#?}",
            server.log()
        );
    }
}

#[test]
fn a_place_without_a_catalogue_says_what_to_do() {
    let example = Example::new();
    fs::set_permissions(example.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = Nginx::serve(example.root(), "");
    let place: StoreUrl = server.url().parse().unwrap();
    let store = Store::open(place.open(&ClientOptions::default()).unwrap()).unwrap();
    assert_eq!(store.resolve("example").unwrap(), example.manifest.image);
    fs::remove_file(example.root().join("catalogue.json")).unwrap();
    let error = store.resolve("example").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert!(error.hint().unwrap().contains("ENV/NAME"), "{error:?}");
    assert!(store.manifest(&example.manifest.image).is_ok());
    let whole = example.manifest.image.hex();
    assert_eq!(store.resolve(&whole).unwrap(), example.manifest.image);
    example.store.renew_catalogue().unwrap();
    assert_eq!(store.resolve("example").unwrap(), example.manifest.image);
    // A web server that has something else.
    fs::remove_file(example.root().join("imgbuild-store")).unwrap();
    let opened = Store::open(place.open(&ClientOptions::default()).unwrap());
    assert_eq!(opened.err().unwrap().kind(), ErrorKind::Foreign);
}
