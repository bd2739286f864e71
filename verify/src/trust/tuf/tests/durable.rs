//! Kills, damage (HOSTILE.md 14), and two processes at once.

use std::fs;

use super::forge::{Forge, STRAIGHT, noon};
use super::node::Node;
use crate::error::Kind;
use crate::trust::tuf::{Client, ErrorKind};

/// Kills a refresh after each of its writes in turn. Whatever it left, the next
/// one succeeds, and what had been trusted before is still a floor.
#[test]
fn a_refresh_that_is_killed_anywhere() {
    type Step = fn(&mut Forge);
    let steps: [Step; 3] = [
        |forge| forge.publish(STRAIGHT),
        |forge| {
            forge.rotate("timestamp");
            forge.rotate("targets");
            forge.root(STRAIGHT);
            forge.publish(STRAIGHT);
        },
        |forge| {
            let old = forge.rotate("root");
            forge.root_signed_by(&old, STRAIGHT);
        },
    ];
    for step in steps {
        let mut forge = Forge::new();
        // What an attacker replays: the first version of everything.
        let first = forge.files.clone();
        forge.publish(STRAIGHT);
        let before = forge.files.clone();
        step(&mut forge);
        for fuse in 0.. {
            let mut node = Node::following(&Forge {
                files: before.clone(),
                ..Forge::new()
            });
            node.client().state().fuse.set(Some(fuse));
            let outcome = node.refresh(&forge.files);
            node.restart();
            match outcome {
                Ok(()) if fuse == 0 => panic!("the refresh wrote nothing"),
                Ok(()) => break,
                Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "{e}"),
            }
            // No window in which what is older is taken, while the old root
            // still counts.
            if node.version("root.json") == 1 {
                let e = node.refresh(&first).expect_err("older metadata was taken");
                assert_eq!(e.kind(), ErrorKind::Rollback, "after {fuse} writes: {e}");
            }
            node.refresh(&forge.files)
                .unwrap_or_else(|e| panic!("after {fuse} writes: {e}"));
            node.restart();
            node.refresh(&forge.files).unwrap();
        }
    }
}

/// 14
#[test]
fn damaged_state_is_refused_until_a_person_resets_it() {
    let mut forge = Forge::new();
    forge.publish(STRAIGHT);
    for file in [
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
        "floor",
        "environment",
    ] {
        let damages: [&dyn Fn(Vec<u8>) -> Vec<u8>; 4] = [
            &|_| Vec::new(),
            &|bytes| bytes[..bytes.len() / 2].to_vec(),
            &|mut bytes| {
                bytes[0] ^= 0x80;
                bytes
            },
            &|_| vec![b'x'; 6 << 20],
        ];
        for (n, damage) in damages.iter().enumerate() {
            let mut node = Node::following(&forge);
            let path = node.directory().join(file);
            fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
            node.client = None;
            let before = node.state();
            // The same environment, the same files: it is the state that is wrong.
            let result = Client::open(&node.directory())
                .and_then(|mut client| client.refresh(&forge.files, noon()).map(|()| client));
            let result = result.map(|client| client.env().to_string());
            if file == "environment" && n == 1 {
                // Half of a name can be a name: then it is that of no signature.
                assert!(result.is_err());
                continue;
            }
            let e = result.expect_err(file);
            assert_eq!(e.kind(), ErrorKind::CorruptState, "{file}, damage {n}: {e}");
            assert_eq!(e.class(), Kind::Refused);
            assert!(
                e.to_string().contains(file) && e.hint().unwrap().contains("--reset"),
                "{e}"
            );
            assert!(node.state() == before);

            Client::reset(&node.directory()).unwrap();
            let e = Client::open(&node.directory()).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::NotInitialised);
            let root = forge.file("1.root.json");
            let mut client =
                Client::init(&node.directory(), root, &"dev".parse().unwrap()).unwrap();
            client.refresh(&forge.files, noon()).unwrap();
        }
    }
}

/// 14: a file that is whole, but not the newest any more, or gone.
#[test]
fn state_from_a_backup_is_damage_too() {
    let mut forge = Forge::new();
    for file in ["root.json", "timestamp.json"] {
        let mut node = Node::following(&forge);
        let path = node.directory().join(file);
        let old = fs::read(&path).unwrap();
        forge.root(STRAIGHT);
        forge.publish(STRAIGHT);
        node.refresh(&forge.files).unwrap();
        node.restart();
        fs::write(&path, old).unwrap();
        node.refuses(&forge.files, ErrorKind::CorruptState);
    }
    for file in ["timestamp.json", "floor", "environment"] {
        let mut node = Node::following(&forge);
        fs::remove_file(node.directory().join(file)).unwrap();
        node.client = None;
        let opened = Client::open(&node.directory());
        let e = opened
            .and_then(|mut c| c.refresh(&forge.files, noon()))
            .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::CorruptState, "{file}: {e}");
    }
}

/// Copies that only save a download are fetched anew.
#[test]
fn lost_copies_are_fetched_again() {
    let mut forge = Forge::new();
    forge.publish(STRAIGHT);
    let mut node = Node::following(&forge);
    let before = node.state();
    for file in ["snapshot.json", "targets.json"] {
        fs::remove_file(node.directory().join(file)).unwrap();
        node.refresh(&forge.files).unwrap();
        fs::write(
            node.directory().join(file),
            forge.file(&format!("1.{file}")),
        )
        .unwrap();
        node.refresh(&forge.files).unwrap();
        assert!(node.state() == before);
    }
}

#[test]
fn unchanged_metadata_is_not_fetched_again() {
    let forge = Forge::new();
    let mut node = Node::following(&forge);
    let mut files = forge.files.clone();
    files.0.retain(|key, _| key.ends_with("timestamp.json"));
    node.refresh(&files).unwrap();
}

#[test]
fn one_process_at_a_time() {
    let forge = Forge::new();
    let node = Node::following(&forge);
    let e = Client::open(&node.directory()).err().unwrap();
    assert_eq!((e.kind(), e.class().exit_code()), (ErrorKind::Busy, 75));
    // Only looking is always possible.
    assert_eq!(
        Client::last_refresh(&node.directory()).unwrap(),
        Some(noon())
    );
    assert_eq!(
        Client::last_refresh(&node.directory().join("none")).unwrap(),
        None
    );
}

#[test]
fn init_is_repeatable_and_overwrites_nothing() {
    let forge = Forge::new();
    let mut node = Node::following(&forge);
    node.client = None;
    let before = node.state();
    let dev = "dev".parse().unwrap();
    drop(Client::init(&node.directory(), forge.file("1.root.json"), &dev).unwrap());
    assert!(node.state() == before);
    let other = Forge::new();
    let e = Client::init(&node.directory(), other.file("1.root.json"), &dev)
        .err()
        .unwrap();
    assert_eq!(
        (e.kind(), e.class()),
        (ErrorKind::AlreadyInitialised, Kind::Failed)
    );
    assert!(node.state() == before);

    let empty = tempfile::tempdir().unwrap();
    let e = Client::open(&empty.path().join("none")).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::NotInitialised);
}
