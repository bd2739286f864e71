//! What must stay as it is, and what a library may change.
//!
//! Three more golden tests stand beside what they pin: the cut points of files in
//! `src/cut.rs`, the canonical tar in `src/canon/tests`, and a store byte by byte in
//! the page of the formats.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use store::{Blake3, WritableStore};

use crate::support::*;

/// A tree with a bit of everything: one file that is cut, one that is not, links.
fn tree(root: &Path) {
    let mut noise = vec![0; 600_000];
    blake3::Hasher::new_derive_key("imgbuild golden tree")
        .finalize_xof()
        .fill(&mut noise);
    let text = "the same line again\n".repeat(5000);
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tool"), &noise).unwrap();
    fs::write(root.join("usr/text"), text).unwrap();
    fs::write(root.join("usr/empty"), b"").unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool2")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    for path in [
        "usr/bin/tool",
        "usr/bin/tool2",
        "usr/text",
        "usr/empty",
        "bin",
        "usr/bin",
        "usr",
        "",
    ] {
        let path = root.join(path);
        lchown(&path, Some(0), Some(0)).unwrap();
        if path.is_symlink() {
            let times = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                last_modification: rustix::fs::Timespec {
                    tv_sec: 1_600_000_000,
                    tv_nsec: 0,
                },
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
            continue;
        }
        let mode = if path.is_dir() || path.ends_with("tool") {
            0o755
        } else {
            0o644
        };
        let mode = if path.ends_with("tool2") { 0o755 } else { mode };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

fn published() -> (tempfile::TempDir, WritableStore, store::Manifest) {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    tree(&root);
    let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
    let manifest = publish(&store, &root);
    (dir, store, manifest)
}

/// If this fails, images have other names than they had, or new versions of images
/// share nothing with old ones. Neither may happen within version 1 of the formats.
#[test]
fn what_never_changes() {
    let (_dir, _store, manifest) = published();
    let chunks: Vec<_> = manifest
        .layout
        .chunks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        [
            manifest.image.hex(),
            manifest.sha256.hex(),
            manifest.layout.digest.hex(),
            Blake3::of(chunks.join(" ").as_bytes()).hex(),
            Blake3::of(&manifest.to_json()).hex(),
        ],
        [
            "eb62af143864de1121c726a39f11ee42ec1ee09ead86a3658fa366af45e6354a",
            "94af7dc1cf2d5cb9583a8daea10951571fab1d985a9f150b7ed2ff545e1f4666",
            "13a576f540c847eff8318fb93455f6a21599ae5910c30a339673537c0e42f3fe",
            "e7b3c84e69d74994a901192fe63b6c330b76c46f242c4520cc8e48df6462fd9c",
            "fa308dd8fa33a11c1a964eeeaf036dfa8bc74c5f8b14326a8f690063554f26ff",
        ]
    );
    assert_eq!(
        (manifest.size, manifest.entries, manifest.layout.size),
        (705_536, 8, 5344)
    );
}

/// The one test that pins what zstd writes. If it fails after an upgrade of the zstd
/// crate, and no other test does: old packs are read as before and new ones are
/// shared as before, because chunks are named by their content; only the bytes of
/// new packs differ. Measure that they did not grow (`size` below, and the benchmark
/// of the store), put the new values here, and say in the commit which version of
/// zstd they are of. If other tests fail as well, do not upgrade.
#[test]
fn what_an_upgrade_of_zstd_may_change() {
    let (dir, _store, _manifest) = published();
    let folder = dir.path().join("store/packs");
    let mut found: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    let objects: Vec<_> = found
        .iter()
        .map(|path| {
            let bytes = fs::read(path).unwrap();
            let kind = path.extension().unwrap().to_str().unwrap().to_owned();
            (kind, bytes.len(), Blake3::of(&bytes).hex())
        })
        .collect();
    let expected = [
        (
            "index",
            344,
            "fa3b5d6cb6ea9ad5b2a060b2b146776c88c1e227768744bc87b5f872820a6a15",
        ),
        (
            "pack",
            600_812,
            "b4069f5923c43f13a9eec653c19e0837a00d4a278904d81877576d67cf5586ab",
        ),
    ];
    assert_eq!(
        objects,
        expected.map(|(kind, size, hex)| (kind.to_owned(), size, hex.to_owned()))
    );
}

/// The receipts of nodes of one version are read by the imgbuild of another.
#[test]
fn a_receipt_is_these_bytes() {
    use store::keys::KeyFile;
    use store::receipt::{Event, Installed, Operation, Outcome, Receipt, System};

    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("key.pem");
    // RFC 8032, 7.1, the first one.
    let seed = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    fs::write(&pem, seed).unwrap();
    fs::set_permissions(&pem, Permissions::from_mode(0o600)).unwrap();
    let key = KeyFile::at(pem).load().unwrap();
    let time = "2026-11-23T04:00:00.5Z".parse().unwrap();
    let (node, group) = ("web07".parse().unwrap(), "eu".parse().unwrap());
    let mut receipt = Receipt::new(node, group, "0.1.0", time);
    receipt.counter = 1;
    receipt.environment = Some("prod".parse().unwrap());
    receipt.event = Event {
        operation: Operation::BuildSchroot,
        system: Some("Web".into()),
        result: Outcome::WentBack,
        reason: Some("\u{1b}[31m \"500\"".into()),
    };
    receipt.systems = vec![System {
        system: "Web".into(),
        image_name: "web".parse().unwrap(),
        active: Installed {
            generation: 1,
            environment: "prod".parse().unwrap(),
            seq: 6,
            image: Blake3::of(b"tar"),
        },
        runs: None,
        previous: None,
        revoked: false,
        verified: None,
        free_bytes: Some(7),
        last: None,
    }];
    let bytes = receipt.sign(&key).unwrap().to_json();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(
        (Blake3::of(&bytes).hex().as_str(), bytes.len()),
        (
            "7866198884f931d1cf240b77afb1ff0c88e32c168f2430826e7f1c8218df05c7",
            1024
        ),
        "{text}"
    );
}
