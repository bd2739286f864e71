//! Who watches the log from outside, and the histories that they must not let pass.

use super::*;
use crate::keys::{PublicKey, Signer};

/// An environment with some releases, and its files.
fn released(keys: &RoleKeys, names: &[&str]) -> Memory {
    let store = Memory::default();
    let mut env = Environment::init(&store, &dev(), keys, time()).unwrap();
    for name in names {
        env.release(&manifest("a", name), keys, time()).unwrap();
    }
    store
}

fn copy(store: &Memory) -> Memory {
    let copy = Memory::default();
    copy.files.replace(store.files.borrow().clone());
    copy
}

fn release(store: &Memory, keys: &RoleKeys, name: &str) {
    let mut env = Environment::open(store, &dev()).unwrap();
    env.release(&manifest("a", name), keys, time()).unwrap();
}

fn open(store: &Memory) -> Environment<'_> {
    Environment::open(store, &dev()).unwrap()
}

/// A list of releases says nothing that its log does not.
#[test]
fn what_the_log_leaves_out_is_found() {
    let keys = keys();
    let store = released(&keys, &["one", "two"]);
    let mut env = open(&store);
    let mut revocation = env
        .draft_revocation(&manifest("a", "one").image, "hole", Some(2), time())
        .unwrap();
    env.sign(&mut revocation, &[&*keys.targets]).unwrap();
    env.publish(&revocation, &[&*keys.online], time()).unwrap();
    env.log_tells_all().unwrap();
    let (all, list) = (env.log(usize::MAX).unwrap(), &env.current.targets.signed);
    let without = |number: u64| {
        let mut some = all.clone();
        some.retain(|entry| entry.number != number);
        consistency::contradiction(list, &some).unwrap().unwrap()
    };
    assert!(without(2).contains("nothing of the release a 2,"));
    assert!(without(3).contains("nothing of the revocation of "));
    let mut unfloored = all.clone();
    unfloored[0].min_seq = None;
    let floor = consistency::contradiction(list, &unfloored)
        .unwrap()
        .unwrap();
    assert_eq!(floor, "its log tells the floor 1 of a, and the list 2");
    // Told twice, and taken back without an entry.
    let mut twice = all.clone();
    twice.push(all.iter().find(|entry| entry.number == 2).unwrap().clone());
    let told = consistency::contradiction(list, &twice).unwrap().unwrap();
    assert_eq!(told, "its log tells of the release a 2 twice");
    let honest = released(&keys, &["one", "two"]);
    let honest = open(&honest);
    let mut none = honest.current.targets.signed.clone();
    none.targets.clear();
    let log = honest.log(usize::MAX).unwrap();
    let gone = consistency::contradiction(&none, &log).unwrap().unwrap();
    assert!(gone.ends_with("and the list does not"), "{gone}");
    let mut less = list.clone();
    for target in less.targets.values_mut() {
        target.custom["revoked"] = serde_json::json!([]);
    }
    let back = consistency::contradiction(&less, &all).unwrap().unwrap();
    assert!(
        back.contains("was revoked, and the list does not"),
        "{back}"
    );
}

#[test]
fn a_history_goes_on_from_what_was_seen_or_is_refused() {
    let keys = keys();
    let store = released(&keys, &["one", "two"]);
    let seen = open(&store).checkpoint(time());
    assert_eq!(seen.length, 2);
    let all = open(&store).since(None).unwrap();
    let numbers: Vec<_> = all.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(open(&store).since(Some(&seen)).unwrap().is_empty());
    // One node is shown this, another that.
    let (honest, forked) = (copy(&store), copy(&store));
    release(&honest, &keys, "three");
    release(&forked, &keys, "evil");
    let later = open(&honest).checkpoint(days_later(1));
    for store in [&honest, &forked] {
        let new = open(store).since(Some(&seen)).unwrap();
        assert_eq!(new.len(), 1);
    }
    let e = open(&forked).since(Some(&later)).unwrap_err();
    assert!(e.to_string().contains("targets 4 was"), "{e}");
    release(&forked, &keys, "more");
    for (other, word) in [
        (&forked, "entry 3 of its log was"),
        (&store, "its targets was at"),
        (
            &released(&super::keys(), &["one", "two", "x", "y"]),
            "its first root was",
        ),
    ] {
        let e = open(other).since(Some(&later)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Untrusted, "{e}");
        assert!(e.to_string().contains(word), "{e}");
    }
    // Before anything was done there is nothing to see, which is something as well.
    let empty = released(&keys, &[]);
    let nothing = open(&empty).checkpoint(time());
    assert_eq!(nothing.length, 0);
    release(&empty, &keys, "one");
    assert_eq!(open(&empty).since(Some(&nothing)).unwrap().len(), 1);
}

#[test]
fn only_what_a_witness_signed_about_the_end_of_the_log_counts() {
    let keys = keys();
    let store = released(&keys, &["one"]);
    let (ann, bob) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let both = [ann.public(), bob.public()];
    let counts = |store: &Memory| {
        let mut odd = Vec::new();
        let found = open(store).witnesses(&both, &mut |e| odd.push(e.to_string()));
        (found.unwrap(), odd)
    };
    assert_eq!(counts(&store), (vec![], vec![]));
    let said = open(&store).checkpoint(time()).sign(&ann).unwrap();
    open(&store).put_testimony(&said).unwrap();
    assert_eq!(counts(&store).0, [ann.public()]);
    let read = Testimony::from_json(&said.to_json(), &dev()).unwrap();
    assert_eq!(
        (read.checkpoint, read.key),
        (said.checkpoint.clone(), ann.public())
    );
    // Of another environment, or by nobody.
    let prod: EnvName = "prod".parse().unwrap();
    assert!(Testimony::from_json(&said.to_json(), &prod).is_err());
    // Under the name of another key it does not count for that one.
    let place = |key: &PublicKey| paths::witness(&dev(), key);
    let mut stolen = copy(&store);
    stolen
        .files
        .get_mut()
        .insert(place(&bob.public()), said.to_json());
    let (found, odd) = counts(&stolen);
    assert_eq!(found, [ann.public()]);
    assert_eq!(odd.len(), 1, "{odd:?}");
    // What was changed is odd, and does not count.
    let mut changed = copy(&store);
    changed
        .files
        .get_mut()
        .insert(place(&ann.public()), b"{}".to_vec());
    let (found, odd) = counts(&changed);
    assert!(found.is_empty() && odd.len() == 1, "{odd:?}");
    // A further release has to be seen again.
    release(&store, &keys, "two");
    assert_eq!(counts(&store), (vec![], vec![]));
    let newer = open(&store).checkpoint(time()).sign(&ann).unwrap();
    open(&store).put_testimony(&newer).unwrap();
    let e = open(&store).put_testimony(&said).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Stale, "{e}");
    assert_eq!(counts(&store).0, [ann.public()]);
}

#[test]
fn a_check_finds_what_a_witness_saw_and_the_store_does_not_have() {
    let keys = keys();
    let store = released(&keys, &["one"]);
    let ann = KeyPair::generate().unwrap();
    let said = open(&store).checkpoint(time()).sign(&ann).unwrap();
    open(&store).put_testimony(&said).unwrap();
    let findings = |store: &Memory| {
        let names = store.files.borrow().keys().cloned().collect();
        let found = check(store, &dev(), &names);
        assert!(
            found.foreign.is_empty() && found.strays.is_empty(),
            "{found:?}"
        );
        found.damage.into_values().collect::<Vec<_>>()
    };
    assert!(findings(&store).is_empty());
    let mut forked = released(&keys, &[]);
    release(&forked, &keys, "evil");
    let place = paths::witness(&dev(), &ann.public());
    forked.files.get_mut().insert(place.clone(), said.to_json());
    let found = findings(&forked);
    assert!(
        found.len() == 1 && found[0].contains("the witness saw another log"),
        "{found:?}"
    );
    let mut other = released(&super::keys(), &["one"]);
    other.files.get_mut().insert(place.clone(), said.to_json());
    let found = findings(&other);
    assert!(
        found.len() == 1 && found[0].contains("another environment"),
        "{found:?}"
    );
    let bob = KeyPair::generate().unwrap();
    let mut swapped = copy(&store);
    let files = swapped.files.get_mut();
    files.insert(
        place,
        open(&store)
            .checkpoint(time())
            .sign(&bob)
            .unwrap()
            .to_json(),
    );
    let found = findings(&swapped);
    assert!(
        found.len() == 1 && found[0].contains("another key"),
        "{found:?}"
    );
}

#[test]
fn an_exported_history_is_read_and_checked_like_a_store() {
    let keys = keys();
    let store = released(&keys, &["one", "two"]);
    let exported = ExportedEnvironment::of(&store, &dev(), vec!["{}".into()]).unwrap();
    let json = exported.to_json().unwrap();
    let read = ExportedEnvironment::from_json(&json).unwrap();
    let there = Environment::open(&read, &dev()).unwrap();
    let (ours, theirs) = (open(&store).log(9).unwrap(), there.log(9).unwrap());
    assert_eq!(ours, theirs);
    assert_eq!(
        there.log_signers(&theirs).unwrap(),
        vec![vec![keys.targets.public()]; 2]
    );
    assert!(
        there
            .put_testimony(&there.checkpoint(time()).sign(&*keys.online).unwrap())
            .is_err()
    );
    // Every file in it is looked at.
    let text = String::from_utf8(json).unwrap();
    for (from, to) in [("\"schema\": 1", "\"schema\": 2"), ("files", "file")] {
        let other = text.replacen(from, to, 1);
        assert!(ExportedEnvironment::from_json(other.as_bytes()).is_err());
    }
    let edited = text.replacen("\\\"seq\\\": 1", "\\\"seq\\\": 2", 1);
    assert_ne!(edited, text);
    let edited = ExportedEnvironment::from_json(edited.as_bytes()).unwrap();
    let read = Environment::open(&edited, &dev()).and_then(|env| env.log(9));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Untrusted);
}
