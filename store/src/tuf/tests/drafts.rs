//! Drafts that were written by hand: what they say is shown, or they are refused.

use serde_json::json;

use super::*;
use crate::digest::Sha256;
use crate::keys::Signer;

/// What somebody makes of a draft.
pub(super) type Forge = fn(&mut Value);

/// The list of releases of a draft.
pub(super) fn list(draft: &mut Value) -> &mut Value {
    &mut draft["targets"]["signed"]
}

pub(super) fn custom<'d>(draft: &'d mut Value, path: &str) -> &'d mut Value {
    &mut list(draft)["targets"][path]["custom"]
}

/// Replaces the log of a draft, and its end in the list of releases.
pub(super) fn relog(draft: &mut Value, edit: impl FnOnce(&mut Value)) {
    let text = draft["log"][0].as_str().unwrap().to_owned();
    let mut entry: Value = serde_json::from_str(&text).unwrap();
    edit(&mut entry);
    let entry: LogEntry = serde_json::from_value(entry).unwrap();
    let text = serde_json::to_string_pretty(&entry).unwrap() + "\n";
    list(draft)["x-imgbuild-log"]["sha256"] = json!(Sha256::of(text.as_bytes()));
    draft["log"][0] = json!(text);
}

fn root(draft: &mut Value) -> &mut Value {
    &mut draft["root"]["signed"]
}

fn first_key(draft: &mut Value) -> (String, Value) {
    let keys = root(draft)["keys"].as_object().unwrap();
    let (id, key) = keys.iter().next().unwrap();
    (id.clone(), key.clone())
}

pub(super) fn unlog(draft: &mut Value) {
    let text = draft["log"][0].as_str().unwrap();
    let entry: Value = serde_json::from_str(text).unwrap();
    let length = entry["number"].as_u64().unwrap() - 1;
    list(draft)["x-imgbuild-log"] = json!({ "length": length, "sha256": entry["previous"] });
    draft["log"] = json!([]);
}

pub(super) fn refuses(env: &Environment<'_>, draft: &Proposal, cases: &[(&str, Forge)]) {
    env.review(draft).unwrap();
    for (why, forge) in cases {
        let mut value = serde_json::to_value(draft).unwrap();
        forge(&mut value);
        let forged = Proposal::from_json(value.to_string().as_bytes()).unwrap();
        assert_ne!(forged, *draft, "{why}");
        let e = env.review(&forged).expect_err(why);
        assert_eq!(e.kind(), ErrorKind::Untrusted, "{e}");
        assert!(e.to_string().contains(why), "{why}: {e}");
    }
}

fn team() -> (Memory, RoleKeys) {
    let (store, ours) = (Memory::default(), keys());
    let mut env = Environment::init(&store, &dev(), &ours, time()).unwrap();
    for content in ["one", "two"] {
        env.release(&manifest("a", content), &ours, time()).unwrap();
    }
    let revoked = manifest("a", "one").image;
    let draft = env.draft_revocation(&revoked, "a hole", Some(1), time());
    let mut draft = draft.unwrap();
    env.sign(&mut draft, &[&*ours.targets]).unwrap();
    env.publish(&draft, &[&*ours.online], time()).unwrap();
    (store, ours)
}

#[test]
fn a_release_and_its_log_tell_one_story() {
    let (store, _) = team();
    let env = Environment::open(&store, &dev()).unwrap();
    let draft = env.draft_release(&manifest("a", "three"), &ReleaseOrigin::default(), time());
    let (draft, _) = draft.unwrap().unwrap();
    refuses(
        &env,
        &draft,
        &[
            ("log says nothing of a 3", unlog),
            ("its log has \"release\" of b 3", |draft| {
                relog(draft, |entry| entry["name"] = json!("b"));
            }),
            ("of a 3, and its list of releases does not", |draft| {
                let other = manifest("a", "one").image;
                relog(draft, |entry| entry["image"] = json!(other));
            }),
            ("its log has \"promote\"", |draft| {
                relog(draft, |entry| entry["act"] = json!("promote"));
            }),
            ("its log has \"revoke\"", |draft| {
                relog(draft, |entry| entry["act"] = json!("revoke"));
            }),
            ("its list of releases does not", |draft| {
                relog(draft, |entry| entry["min_seq"] = json!(3));
            }),
            ("an entry of its log is longer", |draft| {
                let text = draft["log"][0].as_str().unwrap().to_owned() + " ";
                list(draft)["x-imgbuild-log"]["sha256"] = json!(Sha256::of(text.as_bytes()));
                draft["log"][0] = json!(text);
            }),
            ("an entry of its log is longer", |draft| {
                relog(draft, |entry| entry["reason"] = json!("x".repeat(2000)));
            }),
            ("its log has \"min-seq\"", |draft| {
                relog(draft, |entry| {
                    entry["act"] = json!("min-seq");
                    entry["min_seq"] = json!(1);
                });
            }),
            ("manifest of a/3.json is longer", |draft| {
                let text = draft["manifests"]["a/3.json"].as_str().unwrap().to_owned() + "\n";
                let target = &mut list(draft)["targets"]["a/3.json"];
                target["length"] = json!(text.len());
                target["hashes"]["sha256"] = json!(Sha256::of(text.as_bytes()).hex());
                draft["manifests"]["a/3.json"] = json!(text);
            }),
            ("could not run release 3 of a", |draft| {
                custom(draft, "a/3.json")["min_seq"] = json!(9);
            }),
            ("another spec_version in its targets", |draft| {
                list(draft)["spec_version"] = json!("9.9");
            }),
            ("log says nothing of a", |draft| {
                custom(draft, "a/3.json")["min_seq"] = json!(2);
            }),
            ("log says nothing of a blake3:", |draft| {
                let image = manifest("a", "two").image;
                let revoked = custom(draft, "a/3.json")["revoked"].as_array_mut();
                revoked.unwrap().push(json!(image));
            }),
            ("would not be revoked any more", |draft| {
                custom(draft, "a/3.json")["revoked"] = json!([]);
            }),
            ("is another image or manifest in it", |draft| {
                let image = manifest("a", "one").image;
                custom(draft, "a/2.json")["image"] = json!(image);
            }),
            ("is another image or manifest in it", |draft| {
                custom(draft, "a/1.json")["arch"] = json!("arm64");
            }),
            ("a/1.json changes, and release 2", |draft| {
                let image = manifest("a", "two").image;
                custom(draft, "a/1.json")["revoked"] = json!([image]);
            }),
            ("are of different images", |draft| {
                custom(draft, "a/3.json")["size"] = json!(1);
            }),
            ("fields that this version does not know", |draft| {
                custom(draft, "a/3.json")["also"] = json!(1);
            }),
            ("a/1.json would be released no more", |draft| {
                let targets = list(draft)["targets"].as_object_mut();
                targets.unwrap().remove("a/1.json");
            }),
            ("is no release", |draft| {
                let one = list(draft)["targets"]["a/1.json"].clone();
                list(draft)["targets"]["other"] = one;
            }),
            ("release 4 of a follows 2", |draft| {
                let targets = list(draft)["targets"].as_object_mut().unwrap();
                let mut one = targets.remove("a/3.json").unwrap();
                one["custom"]["seq"] = json!(4);
                targets.insert("a/4.json".into(), one);
                let text = draft["manifests"].as_object_mut().unwrap();
                let manifest = text.remove("a/3.json").unwrap();
                text.insert("a/4.json".into(), manifest);
                relog(draft, |entry| entry["seq"] = json!(4));
            }),
            ("a field \"delegations\" in its targets", |draft| {
                list(draft)["delegations"] = json!({ "keys": {}, "roles": [] });
            }),
            ("fields in its targets that", |draft| {
                list(draft)["targets"]["a/1.json"]["also"] = json!(1);
            }),
        ],
    );
    let mut value = serde_json::to_value(&draft).unwrap();
    relog(&mut value, |entry| {
        entry["time"] = json!("2001-01-01T00:00:00Z");
    });
    let dated = Proposal::from_json(value.to_string().as_bytes()).unwrap();
    let warnings = env.review(&dated).unwrap().warnings;
    assert!(warnings[0].contains("drafted at 2001"), "{warnings:?}");
    assert_eq!(env.review(&draft).unwrap().warnings, [""; 0]);
}

#[test]
fn a_revocation_is_in_the_log() {
    let (store, _) = team();
    let env = Environment::open(&store, &dev()).unwrap();
    let two = manifest("a", "two").image;
    let draft = env.draft_revocation(&two, "a hole", None, time()).unwrap();
    let shown = env.review(&draft).unwrap().changes;
    let said = format!("a 2, its newest release: {two} must not run any more");
    assert!(shown.contains(&said), "{shown:?}");
    refuses(
        &env,
        &draft,
        &[
            ("log says nothing of a blake3:", unlog),
            ("its log has \"revoke\" of a 1", |draft| {
                relog(draft, |entry| entry["seq"] = json!(1));
            }),
        ],
    );
}

#[test]
fn a_root_says_what_is_shown() {
    let (store, _) = team();
    let env = Environment::open(&store, &dev()).unwrap();
    let draft = env.draft_root(&RootChange::default(), time()).unwrap();
    refuses(
        &env,
        &draft,
        &[
            ("a field \"x-hidden\" in its root", |draft| {
                root(draft)["x-hidden"] = json!(1);
            }),
            ("without consistent snapshots", |draft| {
                root(draft)["consistent_snapshot"] = json!(false);
            }),
            ("another spec_version in its root", |draft| {
                root(draft)["spec_version"] = json!("2.0.0");
            }),
            ("a key ", |draft| {
                let key = KeyPair::generate().unwrap().public();
                let (_, mut other) = first_key(draft);
                other["keyval"]["public"] = json!(key.hex());
                root(draft)["keys"][key.id()] = other;
            }),
            ("a role \"mirrors\" in its root", |draft| {
                root(draft)["roles"]["mirrors"] = root(draft)["roles"]["targets"].clone();
            }),
            ("targets lists a key twice", |draft| {
                let ids = root(draft)["roles"]["targets"]["keyids"]
                    .as_array_mut()
                    .unwrap();
                ids.push(ids[0].clone());
            }),
            ("under another id", |draft| {
                let (_, key) = first_key(draft);
                root(draft)["keys"]["f".repeat(64)] = key;
            }),
            ("a key ", |draft| {
                let (id, _) = first_key(draft);
                root(draft)["keys"][id]["also"] = json!(1);
            }),
            ("fields of the role targets", |draft| {
                root(draft)["roles"]["targets"]["also"] = json!(1);
            }),
        ],
    );
}

/// Of what lies in a file, only good signatures are published: readers refuse others.
#[test]
fn signatures_that_do_not_count_are_left_out() {
    let (store, ours) = team();
    let env = Environment::open(&store, &dev()).unwrap();
    let mut draft = env.draft_root(&RootChange::default(), time()).unwrap();
    let root = ours.root.as_deref().unwrap();
    env.sign(&mut draft, &[root]).unwrap();
    let mut value = serde_json::to_value(&draft).unwrap();
    let signatures = value["root"]["signatures"].as_array_mut().unwrap();
    for (keyid, sig) in [
        (root.public().id(), "00".repeat(64)),
        (root.public().id(), "none".into()),
        (ours.targets.public().id(), "11".repeat(64)),
    ] {
        signatures.insert(0, json!({ "keyid": keyid, "sig": sig }));
    }
    let carried = Proposal::from_json(value.to_string().as_bytes()).unwrap();
    assert!(env.review(&carried).unwrap().complete());
    Environment::publish_root(
        &store,
        Some(&env.checkpoint(time())),
        &carried,
        &[&*ours.online],
        time(),
    )
    .unwrap();
    let published = store.json("env/dev/metadata/2.root.json");
    assert_eq!(published["signatures"].as_array().unwrap().len(), 1);
    // A bad one of a copy does not keep a good one out.
    let mut bad = serde_json::to_value(&draft).unwrap();
    bad["root"]["signatures"][0]["sig"] = json!("00".repeat(64));
    let mut merged = Proposal::from_json(bad.to_string().as_bytes()).unwrap();
    merged.merge(&draft).unwrap();
    assert!(env.review(&merged).unwrap().complete());
}

/// A lifetime that became shorter holds for the timestamp as well, if that was not signed before.
#[test]
fn a_shorter_lifetime_that_was_interrupted_is_finished() {
    let (store, ours) = team();
    let env = Environment::open(&store, &dev()).unwrap();
    let change = RootChange {
        lifetimes: Some(Lifetimes {
            timestamp: 3,
            ..Lifetimes::default()
        }),
        ..RootChange::default()
    };
    let mut draft = env.draft_root(&change, time()).unwrap();
    env.sign(&mut draft, &[ours.root.as_deref().unwrap()])
        .unwrap();
    let known = env.checkpoint(time());
    let publish =
        || Environment::publish_root(&store, Some(&known), &draft, &[&*ours.online], time());
    store.fuse.set(Some(2));
    assert_eq!(publish().err().unwrap().kind(), ErrorKind::Store);
    store.fuse.set(None);
    assert!(
        store
            .files
            .borrow()
            .contains_key("env/dev/metadata/2.root.json")
    );
    let (env, new) = publish().unwrap();
    assert!(new && env.check_clock(time()).is_ok());
    assert!(!publish().unwrap().1);
}

/// A version of the root is published once, whoever signed another one of it.
#[test]
fn another_root_of_a_version_is_not_published() {
    let (store, ours) = team();
    let online: &dyn Signer = &*ours.online;
    let root = ours.root.as_deref().unwrap();
    let env = Environment::open(&store, &dev()).unwrap();
    let draft = |lifetime: u32| {
        let lifetimes = Lifetimes {
            root: lifetime,
            ..Lifetimes::default()
        };
        let change = RootChange {
            lifetimes: Some(lifetimes),
            ..RootChange::default()
        };
        let mut draft = env.draft_root(&change, time()).unwrap();
        env.sign(&mut draft, &[root]).unwrap();
        draft
    };
    let (one, two) = (draft(100), draft(200));
    Environment::publish_root(
        &store,
        Some(&env.checkpoint(time())),
        &one,
        &[online],
        time(),
    )
    .unwrap();
    let in_force = store.files.borrow().clone();
    let refused = |draft: &Proposal| {
        for e in [
            Environment::review_publication(&store, draft, time()).err(),
            Environment::publish_root(
                &store,
                Some(&env.checkpoint(time())),
                draft,
                &[online],
                time(),
            )
            .err(),
        ] {
            assert_eq!(e.unwrap().kind(), ErrorKind::Stale);
        }
    };
    refused(&two);
    assert_eq!(*store.files.borrow(), in_force);
    let now = Environment::open(&store, &dev()).unwrap();
    assert!(now.is_overtaken(&two).unwrap());
    let mut third = now.draft_root(&RootChange::default(), time()).unwrap();
    now.sign(&mut third, &[root]).unwrap();
    assert!(!now.is_overtaken(&third).unwrap());
    Environment::publish_root(
        &store,
        Some(&env.checkpoint(time())),
        &third,
        &[online],
        time(),
    )
    .unwrap();
    let in_force = store.files.borrow().clone();
    refused(&two);
    assert!(
        Environment::review_publication(&store, &one, time())
            .unwrap()
            .is_none()
    );
    assert_eq!(*store.files.borrow(), in_force);
}
