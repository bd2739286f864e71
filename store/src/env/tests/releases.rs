//! Releases, renewed signatures, and writers that are killed or at work at once.

use super::*;

#[test]
fn releases_are_counted_by_name() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    shelf.written();
    let (a1, a2, b1) = (
        manifest("a", "one"),
        manifest("a", "two"),
        manifest("b", "one"),
    );
    let first = env.release(&a1, &keys, time()).unwrap();
    assert_eq!((first.seq, first.new, first.image), (1, true, a1.image));
    assert_eq!(
        shelf.written(),
        [
            first.target_path.as_str(),
            "env/dev/log/1.json",
            "env/dev/metadata/2.targets.json",
            "env/dev/metadata/2.snapshot.json",
            "env/dev/metadata/timestamp.json",
        ]
    );
    assert_eq!(shelf.files.borrow()[&first.target_path], a1.to_json());
    assert_eq!(env.release(&a2, &keys, time()).unwrap().seq, 2);
    assert_eq!(env.release(&b1, &keys, time()).unwrap().seq, 1);
    // Going back to an earlier image is a release like any other.
    assert_eq!(env.release(&a1, &keys, time()).unwrap().seq, 3);

    let listed: Vec<_> = env
        .releases()
        .unwrap()
        .into_iter()
        .map(|r| (r.name.to_string(), r.seq, r.image))
        .collect();
    let expected = [
        ("a", 1, a1.image),
        ("a", 2, a2.image),
        ("a", 3, a1.image),
        ("b", 1, b1.image),
    ];
    assert_eq!(
        listed,
        expected.map(|(name, seq, image)| (name.to_owned(), seq, image))
    );

    let custom =
        &shelf.json("env/dev/metadata/5.targets.json")["signed"]["targets"]["a/2.json"]["custom"];
    let expected = serde_json::json!({
        "image": a2.image.to_string(), "env": "dev", "arch": "amd64",
        "seq": 2, "min_seq": 1, "size": 2048, "revoked": [],
    });
    assert_eq!(*custom, expected);
}

#[test]
fn releasing_the_newest_again_writes_nothing() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    let first = env.release(&image, &keys, time()).unwrap();
    shelf.written();
    let again = env.release(&image, &keys, days_later(4)).unwrap();
    assert_eq!(
        again,
        Release {
            new: false,
            ..first
        }
    );
    assert_eq!(shelf.written(), [""; 0]);

    // The same image, started in another way, is news to a node.
    let changed = Manifest {
        builder: "imgbuild 0.2.0".into(),
        ..image
    };
    assert_eq!(env.release(&changed, &keys, time()).unwrap().seq, 2);
}

#[test]
fn signatures_are_renewed_when_they_are_due() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    env.release(&image, &keys, time()).unwrap();
    shelf.written();

    let online = &*keys.online;
    assert_eq!(
        env.refresh(online, days_later(4)).unwrap(),
        Renewed::default()
    );
    let timestamp = Renewed {
        timestamp: true,
        ..Renewed::default()
    };
    assert_eq!(env.refresh(online, days_later(5)).unwrap(), timestamp);
    assert_eq!(shelf.written(), ["env/dev/metadata/timestamp.json"]);
    let both = Renewed {
        snapshot: true,
        timestamp: true,
        ..Renewed::default()
    };
    assert_eq!(env.refresh(online, days_later(12)).unwrap(), both);
    // Long after everything ran out, whoever has the keys can bring it back.
    let all = Renewed {
        root: true,
        targets: true,
        snapshot: true,
        timestamp: true,
    };
    assert_eq!(env.refresh_all(&keys, days_later(500)).unwrap(), all);
    assert!(env.expiries().iter().all(|(_, end)| *end > days_later(500)));
    assert_eq!(env.releases().unwrap().len(), 1);
    // And without the root key, all but the root.
    let RoleKeys {
        targets, online, ..
    } = keys;
    let keys = RoleKeys {
        root: None,
        targets,
        online,
    };
    let most = Renewed { root: false, ..all };
    assert_eq!(env.refresh_all(&keys, days_later(1000)).unwrap(), most);
}

#[test]
fn a_release_that_was_killed_changes_nothing_and_can_be_repeated() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let mut seq = env
        .release(&manifest("a", "zero"), &keys, time())
        .unwrap()
        .seq;
    for fuse in 0..5 {
        let next = manifest("a", &format!("{fuse}"));
        let before = env.releases().unwrap();
        shelf.fuse.set(Some(fuse));
        let e = env.release(&next, &keys, time()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Store, "after {fuse} writes");
        shelf.fuse.set(None);
        // Whoever opens it sees the old release and nothing of the new one.
        env = Environment::open(&shelf, &dev()).unwrap();
        assert_eq!(env.releases().unwrap(), before, "after {fuse} writes");
        // Another image comes first: the leftovers are overwritten.
        if fuse % 2 == 1 {
            env.release(&manifest("a", "other"), &keys, days_later(1))
                .unwrap();
            seq += 1;
        }
        seq += 1;
        let release = env.release(&next, &keys, days_later(1)).unwrap();
        assert_eq!((release.seq, release.new), (seq, true));
    }
}

#[test]
fn two_writers_do_not_overwrite_each_other() {
    let (shelf, keys) = (Memory::default(), keys());
    let mut one = Environment::init(&shelf, &dev(), &keys, time()).unwrap();
    let mut two = Environment::open(&shelf, &dev()).unwrap();
    assert_eq!(
        one.release(&manifest("a", "one"), &keys, time())
            .unwrap()
            .seq,
        1
    );
    assert_eq!(
        two.release(&manifest("a", "two"), &keys, time())
            .unwrap()
            .seq,
        2
    );
    assert_eq!(
        Environment::open(&shelf, &dev())
            .unwrap()
            .releases()
            .unwrap()
            .len(),
        2
    );
}
