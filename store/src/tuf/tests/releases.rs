//! Releases, renewed signatures, and writers that are killed or at work at once.

use super::*;
use crate::digest::ImageId;
use crate::keys::Signer;

#[test]
fn releases_are_counted_by_name() {
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    store.written();
    let (a1, a2, b1) = (
        manifest("a", "one"),
        manifest("a", "two"),
        manifest("b", "one"),
    );
    let first = env.release(&a1, &keys, time()).unwrap();
    assert_eq!((first.seq, first.new, first.image), (1, true, a1.image));
    assert_eq!(
        store.written(),
        [
            first.target_path.as_str(),
            "env/dev/log/1.json",
            "env/dev/metadata/2.targets.json",
            "env/dev/metadata/2.snapshot.json",
            "env/dev/metadata/timestamp.json",
        ]
    );
    assert_eq!(store.files.borrow()[&first.target_path], a1.to_json());
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
        &store.json("env/dev/metadata/5.targets.json")["signed"]["targets"]["a/2.json"]["custom"];
    let expected = serde_json::json!({
        "image": a2.image.to_string(), "env": "dev", "arch": "amd64",
        "seq": 2, "min_seq": 1, "size": 2048, "revoked": [],
    });
    assert_eq!(*custom, expected);
}

#[test]
fn releasing_the_newest_again_writes_nothing() {
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    let first = env.release(&image, &keys, time()).unwrap();
    store.written();
    let again = env.release(&image, &keys, days_later(4)).unwrap();
    assert_eq!(
        again,
        Release {
            new: false,
            ..first
        }
    );
    assert_eq!(store.written(), [""; 0]);

    // The same image, started in another way, is news to a node.
    let changed = Manifest {
        builder: "imgbuild 0.2.0".into(),
        ..image
    };
    assert_eq!(env.release(&changed, &keys, time()).unwrap().seq, 2);
}

#[test]
fn signatures_are_renewed_when_they_are_due() {
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let image = manifest("a", "one");
    env.release(&image, &keys, time()).unwrap();
    store.written();

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
    assert_eq!(store.written(), ["env/dev/metadata/timestamp.json"]);
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
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let mut seq = env
        .release(&manifest("a", "zero"), &keys, time())
        .unwrap()
        .seq;
    for fuse in 0..5 {
        let next = manifest("a", &format!("{fuse}"));
        let before = env.releases().unwrap();
        store.fuse.set(Some(fuse));
        let e = env.release(&next, &keys, days_later(1)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Store, "after {fuse} writes");
        store.fuse.set(None);
        // Whoever opens it sees the old release and nothing of the new one.
        env = Environment::open(&store, &dev()).unwrap();
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
    let (store, keys) = (Memory::default(), keys());
    let mut one = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let mut two = Environment::open(&store, &dev()).unwrap();
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
        Environment::open(&store, &dev())
            .unwrap()
            .releases()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_is_revoked_does_not_come_back() {
    let (store, keys) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let (bad, good) = (manifest("a", "bad"), manifest("a", "good"));
    env.release(&bad, &keys, time()).unwrap();
    env.release(&good, &keys, time()).unwrap();
    let online: [&dyn Signer; 1] = [&*keys.online];
    let mut revoke = |image: &ImageId, min_seq| {
        let mut proposal = env.draft_revocation(image, "a hole", min_seq, time())?;
        env.sign(&mut proposal, &[&*keys.targets])?;
        assert!(env.publish(&proposal, &online, time())?);
        // Once more changes nothing.
        assert!(!env.publish(&proposal, &online, time())?);
        Ok::<_, Error>(())
    };
    assert_eq!(
        revoke(&good.image, Some(3)).unwrap_err().kind(),
        ErrorKind::Range
    );
    revoke(&bad.image, Some(2)).unwrap();
    assert_eq!(
        revoke(&bad.image, None).unwrap_err().kind(),
        ErrorKind::Exists
    );
    let other = manifest("b", "other").image;
    assert_eq!(revoke(&other, None).unwrap_err().kind(), ErrorKind::Missing);
    revoke(&good.image, None).unwrap();
    // Neither the old one nor the newest one, and the next one takes the list over.
    // The same bytes under another name are the same bytes.
    for image in [&bad, &good, &manifest("b", "bad")] {
        let e = env.release(image, &keys, time()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Untrusted, "{e}");
    }
    let next = env.release(&manifest("a", "next"), &keys, time()).unwrap();
    assert_eq!(next.custom.revoked, [bad.image, good.image]);
    assert_eq!(next.custom.min_seq, 2);
    let log = env.log(9).unwrap();
    let acts: Vec<_> = log.iter().map(|entry| (entry.act, entry.seq)).collect();
    assert_eq!(
        acts,
        [
            (Action::Release, 3),
            (Action::Revoke, 2),
            (Action::Revoke, 1),
            (Action::Release, 2),
            (Action::Release, 1)
        ]
    );
}

/// Two of two, one file, two people.
#[test]
fn a_change_is_passed_from_hand_to_hand() {
    let store = Memory::default();
    let pairs: Vec<_> = (0..4).map(|_| KeyPair::generate().unwrap()).collect();
    let [ann, bob, eve, online] = [0, 1, 2, 3].map(|n| &pairs[n] as &dyn Signer);
    let two = KeySet {
        keys: vec![ann.public(), bob.public()],
        threshold: 2,
    };
    let draft = RootDraft {
        root: two.clone(),
        targets: two,
        online: KeySet {
            keys: vec![online.public()],
            threshold: 1,
        },
        lifetimes: Lifetimes::default(),
        policy: None,
    };
    let mut proposal = Environment::draft_init(&dev(), &draft, time()).unwrap();
    let e = Environment::sign_init(&mut proposal, &[eve]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::WrongKey);
    assert!(e.hint().unwrap().contains(&bob.public().hex()), "{e}");
    let mut copy = proposal.clone();
    assert!(
        !Environment::sign_init(&mut proposal, &[ann])
            .unwrap()
            .complete()
    );
    let e = Environment::publish_root(&store, None, &proposal, &[online], time())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Threshold);
    assert_eq!(store.written(), [""; 0]);
    // Signed apart, put together.
    Environment::sign_init(&mut copy, &[bob]).unwrap();
    proposal.merge(&copy).unwrap();
    let read = Proposal::from_json(&proposal.to_json().unwrap()).unwrap();
    let (mut env, new) = Environment::publish_root(&store, None, &read, &[online], time()).unwrap();
    assert!(new && env.has_published(&proposal).unwrap());
    let again = Environment::publish_root(&store, None, &read, &[online], time()).unwrap();
    assert!(!again.1);
    let known = env.checkpoint(time());

    // The online key and one root key go; killed after each write, and finished.
    let next = KeyPair::generate().unwrap();
    let change = RootChange {
        add: vec![
            (Some(KeyGroup::Online), next.public()),
            (Some(KeyGroup::Targets), eve.public()),
        ],
        remove: vec![
            (Some(KeyGroup::Online), online.public().id()),
            (Some(KeyGroup::Targets), bob.public().id()),
        ],
        ..RootChange::default()
    };
    let mut proposal = env.draft_root(&change, time()).unwrap();
    let review = env.sign(&mut proposal, &[ann, bob]).unwrap();
    assert!(
        !review.complete(),
        "the targets are signed by bob, who no longer counts"
    );
    let review = env.sign(&mut proposal, &[eve]).unwrap();
    assert!(review.complete(), "{:?}", review.needs);
    assert!(!env.has_published(&proposal).unwrap());
    let files = store.files.borrow().clone();
    for fuse in 0.. {
        *store.files.borrow_mut() = files.clone();
        store.fuse.set(Some(fuse));
        let done = Environment::publish_root(&store, Some(&known), &proposal, &[&next], time());
        store.fuse.set(None);
        env = match done {
            Ok((env, _)) => env,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Store, "{e}");
                let done =
                    Environment::publish_root(&store, Some(&known), &proposal, &[&next], time());
                done.unwrap().0
            }
        };
        assert_eq!(env.role_keys().unwrap()[0].1, 2);
        assert_eq!(env.fingerprint(), known.fingerprint);
        assert!(env.has_published(&proposal).unwrap() && env.has_published(&read).unwrap());
        if fuse == 4 {
            break;
        }
    }
    // What was proposed before is of no use any more.
    let e = env.review(&proposal).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Stale);
    assert!(env.refresh(&next, days_later(6)).unwrap().timestamp);
}

/// What a proposal says about itself is not believed.
#[test]
fn a_proposal_that_contradicts_itself() {
    let (store, keys) = (Memory::default(), keys());
    let env = Environment::init(&store, &dev(), &keys, time()).unwrap();
    let drafted = env.draft_release(&manifest("a", "one"), &ReleaseOrigin::default(), time());
    let (proposal, _) = drafted.unwrap().unwrap();
    env.review(&proposal).unwrap();
    let text = String::from_utf8(proposal.to_json().unwrap()).unwrap();
    for (from, to) in [
        ("\"seq\": 1,", "\"seq\": 2,"),
        ("\"environment\": \"dev\"", "\"environment\": \"prod\""),
        ("bookworm", "bullseye"),
        ("\"length\": 1,", "\"length\": 2,"),
        ("release", "revoke"),
        ("\"version\": 2", "\"version\": 3"),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        let bent = Proposal::from_json(text.replacen(from, to, 1).as_bytes()).unwrap();
        assert!(env.review(&bent).is_err(), "{from} became {to}");
    }
}
