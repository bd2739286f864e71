//! HOSTILE.md, environment metadata: 1 to 16.

use std::fmt::Write as _;

use serde_json::{Value, json};
use store::key::{KeyPair, Signer};

use super::forge::{Forge, ROLES, STRAIGHT, days, key_json, noon, pin, sign, signature};
use super::node::Node;
use crate::tuf::{Client, ErrorKind};

/// A forge with release 1 of everything, and a node that follows it.
fn both() -> (Forge, Node) {
    let forge = Forge::new();
    let node = Node::following(&forge);
    (forge, node)
}

/// Publishes the next version of `role`, bent. Root alone if it is root.
fn bent(forge: &mut Forge, role: &str, bend: &dyn Fn(&mut Value)) {
    let only = |file: &str, signed: &mut Value| {
        if file == role {
            bend(signed);
        }
    };
    if role == "root" {
        forge.root(&only);
    } else {
        forge.publish(&only);
    }
}

/// What the state keeps of a refused refresh: the files before the bad one are
/// good, and stay.
fn kept(role: &str) -> &'static [&'static str] {
    match role {
        "snapshot" => &["timestamp.json"],
        "targets" => &["timestamp.json", "snapshot.json", "floor"],
        _ => &[],
    }
}

#[test]
fn honest_metadata_is_followed() {
    let (mut forge, mut node) = both();
    for round in 2..5 {
        forge.root(STRAIGHT);
        forge.publish(STRAIGHT);
        node.refresh(&forge.files).unwrap();
        for file in [
            "root.json",
            "timestamp.json",
            "snapshot.json",
            "targets.json",
        ] {
            assert_eq!(node.version(file), round, "{file}");
        }
        node.restart();
    }
}

/// 1
#[test]
fn unsigned_or_signed_by_somebody_else() {
    for role in ROLES {
        for unsigned in [true, false] {
            let (mut forge, mut node) = both();
            let stranger = [KeyPair::generate().unwrap()];
            let before = forge.rotate(role);
            if unsigned {
                forge.keys.insert(role, Vec::new());
            } else {
                // In root the stranger's key is listed, but the old one never
                // signed for that.
                forge.keys.insert(role, stranger.into());
            }
            if role == "root" {
                forge.root(STRAIGHT);
            } else {
                forge.publish(STRAIGHT);
            }
            drop(before);
            node.refuses_at(&forge.files, noon(), ErrorKind::Signatures, kept(role));
        }
    }
}

/// 1: one flipped bit in the signed part or in the signature.
#[test]
fn changed_after_signing() {
    let (mut forge, mut node) = both();
    forge.publish(STRAIGHT);
    let good = String::from_utf8(forge.file("timestamp.json").to_vec()).unwrap();
    for (from, to) in [
        ("1.0.31\",\"version\":2", "1.0.31\",\"version\":9"),
        ("2030-01-08", "2039-01-08"),
    ] {
        assert!(good.contains(from), "{good}");
        forge.put("timestamp.json", good.replace(from, to).into_bytes());
        node.refuses(&forge.files, ErrorKind::Signatures);
    }
}

/// 2: CVE-2026-6966
#[test]
fn one_key_counted_twice() {
    // Under two ids: the second one is made up, ids being opaque.
    let (mut forge, mut node) = both();
    let key = key_json(&forge.keys["timestamp"][0]);
    bent(&mut forge, "root", &|root| {
        root["keys"]["made-up"] = key.clone();
        root["roles"]["timestamp"]["keyids"]
            .as_array_mut()
            .unwrap()
            .push(json!("made-up"));
        root["roles"]["timestamp"]["threshold"] = json!(2);
    });
    let e = node.refuses(&forge.files, ErrorKind::DuplicateKey);
    assert!(e.to_string().contains("2.root.json"), "{e}");

    // In another spelling.
    let (mut forge, mut node) = both();
    let mut key = key_json(&forge.keys["root"][0]);
    let upper = key["keyval"]["public"].as_str().unwrap().to_uppercase();
    key["keyval"]["public"] = json!(upper);
    bent(&mut forge, "root", &|root| {
        root["keys"]["upper"] = key.clone();
        root["roles"]["root"]["keyids"]
            .as_array_mut()
            .unwrap()
            .push(json!("upper"));
    });
    node.refuses(&forge.files, ErrorKind::DuplicateKey);

    // One id listed twice.
    let (mut forge, mut node) = both();
    bent(&mut forge, "root", &|root| {
        let ids = root["roles"]["targets"]["keyids"].as_array_mut().unwrap();
        ids.push(ids[0].clone());
    });
    node.refuses(&forge.files, ErrorKind::DuplicateKey);
}

/// 2: one signature given twice, where two are asked for.
#[test]
fn one_signature_given_twice() {
    let mut forge = Forge::new();
    forge
        .keys
        .get_mut("timestamp")
        .unwrap()
        .push(KeyPair::generate().unwrap());
    bent(&mut forge, "root", &|root| {
        root["roles"]["timestamp"]["threshold"] = json!(2);
    });
    forge.publish(STRAIGHT);
    let mut node = Node::following(&forge);

    forge.keys.get_mut("timestamp").unwrap().pop();
    forge.publish(STRAIGHT);
    let e = node.refuses(&forge.files, ErrorKind::Signatures);
    assert!(e.to_string().contains("1 of 2"), "{e}");

    let mut file: Value = serde_json::from_slice(forge.file("timestamp.json")).unwrap();
    let once = file["signatures"][0].clone();
    file["signatures"].as_array_mut().unwrap().push(once);
    forge.put("timestamp.json", file.to_string().into_bytes());
    node.refuses(&forge.files, ErrorKind::Signatures);
}

/// 3: CVE-2026-23992
#[test]
fn no_signature_asked_for() {
    for role in ROLES {
        let (mut forge, mut node) = both();
        bent(&mut forge, "root", &|root| {
            root["roles"][role]["threshold"] = json!(0);
        });
        node.refuses(&forge.files, ErrorKind::ZeroThreshold);
    }
}

/// 4: CVE-2025-2885
#[test]
fn a_root_version_is_skipped_or_repeated() {
    for version in [1, 3, 1_000_000] {
        let (mut forge, mut node) = both();
        bent(&mut forge, "root", &|root| root["version"] = json!(version));
        node.refuses(&forge.files, ErrorKind::RootVersion);
    }
}

/// 5
#[test]
fn metadata_of_another_environment() {
    for role in ["root", "targets"] {
        let (mut forge, mut node) = both();
        forge.env = "prod".into();
        bent(&mut forge, role, &|_| {});
        let e = node.refuses_at(&forge.files, noon(), ErrorKind::Environment, kept(role));
        assert!(
            e.to_string().contains("\"prod\"") && e.to_string().contains("dev"),
            "{e}"
        );

        let (mut forge, mut node) = both();
        bent(&mut forge, role, &|signed| {
            signed
                .as_object_mut()
                .unwrap()
                .remove("x-imgbuild-environment");
        });
        node.refuses_at(&forge.files, noon(), ErrorKind::Environment, kept(role));
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Forge::new().file("1.root.json").to_vec();
    let state = dir.path().join("trust");
    let e = Client::init(&state, &root, &"prod".parse().unwrap())
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Environment);
    assert!(!state.exists());
}

/// 6: refused while it has run out, and still a floor.
#[test]
fn metadata_that_has_run_out() {
    for role in ROLES {
        let (mut forge, mut node) = both();
        bent(&mut forge, role, &|signed| {
            signed["expires"] = json!("2030-01-01T12:00:00Z");
        });
        // The chain of roots goes on through roots that have run out.
        let kept = if role == "root" {
            &["root.json"]
        } else {
            kept(role)
        };
        let e = node.refuses_at(&forge.files, noon(), ErrorKind::Expired, kept);
        let text = e.to_string();
        assert!(
            text.contains("2030-01-01T12:00:00Z") && text.contains(role),
            "{text}"
        );
        forge.root(STRAIGHT);
        forge.publish(STRAIGHT);
        node.refresh(&forge.files).unwrap();
    }

    let (mut forge, mut node) = both();
    let old = forge.files.clone();
    forge.publish(STRAIGHT);
    node.refresh(&forge.files).unwrap();
    // All that is trusted has run out; what is older does not become news.
    let later = noon() + days(30);
    let mut replayed = Forge {
        files: old,
        ..forge
    };
    for role in ["timestamp", "snapshot", "targets"] {
        replayed.versions.insert(role, 0);
    }
    replayed.publish(&|_, signed| signed["expires"] = json!("2031-01-01T00:00:00Z"));
    let e = node.refuses_at(&replayed.files, later, ErrorKind::Rollback, &[]);
    assert!(
        e.to_string()
            .contains("version 1, and version 2 was trusted"),
        "{e}"
    );
}

/// 7
#[test]
fn older_metadata() {
    let (mut forge, _) = both();
    forge.publish(STRAIGHT);
    forge.publish(STRAIGHT);
    let targets = |forge: &Forge, n: u64| pin(n, forge.file(&format!("{n}.targets.json")));
    let snapshot = |forge: &Forge, n: u64| pin(n, forge.file(&format!("{n}.snapshot.json")));

    // The timestamp itself.
    let mut node = Node::following(&forge);
    let current = forge.file("timestamp.json").to_vec();
    forge.versions.insert("timestamp", 1);
    let pinned = snapshot(&forge, 3);
    forge.publish_timestamp(&pinned, STRAIGHT);
    let e = node.refuses(&forge.files, ErrorKind::Rollback);
    assert!(
        e.to_string()
            .contains("timestamp.json has version 2, and version 3"),
        "{e}"
    );
    forge.put("timestamp.json", current);

    // The snapshot, by a new timestamp.
    forge.versions.insert("timestamp", 3);
    let pinned = snapshot(&forge, 2);
    forge.publish_timestamp(&pinned, STRAIGHT);
    node.refuses(&forge.files, ErrorKind::Rollback);

    // Targets, by a new snapshot, and targets no longer listed at all.
    let pinned = targets(&forge, 2);
    forge.publish_snapshot(&pinned, STRAIGHT);
    node.refuses_at(
        &forge.files,
        noon(),
        ErrorKind::Rollback,
        &["timestamp.json"],
    );
    let pinned = targets(&forge, 3);
    forge.publish_snapshot(&pinned, &|role, signed| {
        if role == "snapshot" {
            signed["meta"] = json!({});
        }
    });
    node.refuses_at(
        &forge.files,
        noon(),
        ErrorKind::Rollback,
        &["timestamp.json"],
    );

    // Versions that their files do not have.
    forge.publish(&|role, signed| {
        if role == "snapshot" {
            signed["meta"]["targets.json"]["version"] = json!(100);
        }
    });
    let bytes = forge.file("4.targets.json").to_vec();
    forge.put("100.targets.json", bytes);
    let kept = &["timestamp.json", "snapshot.json", "floor"];
    node.refuses_at(&forge.files, noon(), ErrorKind::Mismatch, kept);
}

/// 8
#[test]
fn an_equal_timestamp_is_kept_quietly() {
    let (mut forge, mut node) = both();
    let before = node.state();
    forge.versions.insert("timestamp", 0);
    let pinned = pin(1, forge.file("1.snapshot.json"));
    forge.publish_timestamp(&pinned, &|_, signed| signed["x-other"] = json!("bytes"));
    node.refresh(&forge.files).unwrap();
    assert!(node.state() == before);
}

/// 9: CVE-2025-2888. The refusal has to come again and again, also after a
/// restart, and must not stand in the way of what is honest.
#[test]
fn a_refused_rollback_does_not_poison() {
    let (mut forge, _) = both();
    forge.publish(STRAIGHT);
    let mut node = Node::following(&forge);

    let mut evil = Forge {
        files: forge.files.clone(),
        ..forge
    };
    let old = pin(1, evil.file("1.targets.json"));
    evil.publish_snapshot(&old, STRAIGHT);
    node.refuses_at(
        &evil.files,
        noon(),
        ErrorKind::Rollback,
        &["timestamp.json"],
    );
    for _ in 0..3 {
        node.restart();
        node.refuses(&evil.files, ErrorKind::Rollback);
    }
    evil.publish(STRAIGHT);
    node.refresh(&evil.files).unwrap();
    assert_eq!(node.version("targets.json"), 3);
}

/// 10
#[test]
fn fast_forward_and_recovery_by_new_keys() {
    for (role, rotated) in [
        ("timestamp", &["timestamp"][..]),
        ("snapshot", &["snapshot"]),
        ("targets", &["snapshot", "targets"]),
    ] {
        let (mut forge, mut node) = both();
        let far = |file: &str, signed: &mut Value| {
            if file == role {
                signed["version"] = json!(1_000_000_u64);
            }
        };
        forge.publish(&|file, signed| {
            far(file, signed);
            let pinned = match file {
                "snapshot" => "targets",
                "timestamp" => "snapshot",
                _ => "",
            };
            if pinned == role {
                signed["meta"][format!("{pinned}.json")]["version"] = json!(1_000_000_u64);
            }
        });
        for kind in ["targets", "snapshot"] {
            let bytes = forge.file(&format!("2.{kind}.json")).to_vec();
            forge.put(&format!("1000000.{kind}.json"), bytes);
        }
        node.refresh(&forge.files).unwrap();
        assert_eq!(node.version(&format!("{role}.json")), 1_000_000);

        // Nothing honest can follow with the same keys.
        forge.publish(STRAIGHT);
        let e = node.refresh(&forge.files).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Rollback, "{role}: {e}");

        for role in rotated {
            forge.rotate(role);
        }
        forge.root(STRAIGHT);
        forge.publish(STRAIGHT);
        node.restart();
        node.refresh(&forge.files).unwrap();
        assert_eq!(node.version(&format!("{role}.json")), 4);
        node.restart();
        node.refresh(&forge.files).unwrap();
    }
}

/// A rotation of the root key itself is followed, signed by old and new.
#[test]
fn the_root_key_rotates() {
    let (mut forge, mut node) = both();
    let old = forge.rotate("root");
    forge.root_signed_by(&old, STRAIGHT);
    forge.root(STRAIGHT);
    node.refresh(&forge.files).unwrap();
    assert_eq!(node.version("root.json"), 3);

    // The old key signs no more, and the new one not without the old.
    let (mut forge, mut node) = both();
    forge.rotate("root");
    forge.root(STRAIGHT);
    node.refuses(&forge.files, ErrorKind::Signatures);
}

/// 11
#[test]
fn other_bytes_than_were_vouched_for() {
    for role in ["snapshot", "targets"] {
        let (mut forge, mut node) = both();
        forge.publish(STRAIGHT);
        let file = format!("2.{role}.json");
        let mut bytes = forge.file(&file).to_vec();
        *bytes.last_mut().unwrap() = b' ';
        bytes.push(b'}');
        forge.put(&file, bytes.clone());
        let kind = node.refresh(&forge.files).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::TooLarge, "one byte more than announced");
        // The same length, another byte.
        let at = bytes.len() - 2;
        bytes.remove(at);
        bytes[10] ^= 1;
        forge.put(&file, bytes.clone());
        let e = node.refresh(&forge.files).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
        bytes.pop();
        forge.put(&file, bytes);
        let e = node.refresh(&forge.files).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
        assert!(e.to_string().contains(&file), "{e}");
        assert_eq!(node.version(&format!("{role}.json")), 1);
    }
}

/// 12
#[test]
fn oversized_files() {
    let blank = |limit: u64| vec![b' '; limit as usize + 1];
    for (file, limit) in [("2.root.json", 512 << 10), ("timestamp.json", 16 << 10)] {
        let (mut forge, mut node) = both();
        forge.put(file, blank(limit));
        let e = node.refuses(&forge.files, ErrorKind::TooLarge);
        assert!(e.to_string().contains(file), "{e}");
    }
    // Announced to be huge: refused before anything is fetched.
    for (role, limit) in [("timestamp", 2_u64 << 20), ("snapshot", 5 << 20)] {
        let (mut forge, mut node) = both();
        forge.publish(&|file, signed| {
            if file == role {
                let (_, pin) = signed["meta"]
                    .as_object_mut()
                    .unwrap()
                    .iter_mut()
                    .next()
                    .unwrap();
                pin["length"] = json!(limit + 1);
            }
        });
        assert_eq!(
            node.refresh(&forge.files).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
    }
}

/// 12
#[test]
fn an_endless_chain_of_roots() {
    let (mut forge, mut node) = both();
    for _ in 0..crate::tuf::workflow::MOST_ROOTS {
        forge.root(STRAIGHT);
    }
    let longest = forge.files.clone();
    forge.root(STRAIGHT);
    node.refuses(&forge.files, ErrorKind::TooManyRoots);
    node.refresh(&longest).unwrap();
    assert_eq!(
        node.version("root.json"),
        1 + crate::tuf::workflow::MOST_ROOTS
    );
}

/// 13
#[test]
fn json_that_nobody_should_interpret() {
    let (forge, mut node) = both();
    let good = String::from_utf8(forge.file("timestamp.json").to_vec()).unwrap();
    let nested = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let bad = [
        String::new(),
        "null".into(),
        "{}".into(),
        "[]".into(),
        "{\"signed\":1,\"signatures\":[]}".into(),
        good.replace("\"version\":1}", "\"version\":1.0}"),
        good.replace("\"version\":1}", "\"version\":1e0}"),
        good.replacen("\"version\"", "\"version\":7,\"version\"", 1),
        good.replacen("\"signed\"", "\"signed\":{},\"signed\"", 1),
        good.replacen(
            "\"spec_version\"",
            &format!("\"x\":{nested},\"spec_version\""),
            1,
        ),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good[..good.len() / 2].to_owned(),
    ];
    for text in bad {
        assert_ne!(text, good);
        let mut forge = Forge {
            files: forge.files.clone(),
            ..Forge::new()
        };
        forge.put("timestamp.json", text.clone().into_bytes());
        let e = node.refuses(&forge.files, ErrorKind::Malformed);
        assert!(e.to_string().starts_with("timestamp.json"), "{e}");
    }
}

/// 13: correctly signed, and still not what it should be.
#[test]
fn signed_metadata_of_a_wrong_type() {
    let bends: [&dyn Fn(&mut Value); 6] = [
        &|signed| signed["_type"] = json!("mirrors"),
        &|signed| signed["_type"] = json!(7),
        &|signed| signed["spec_version"] = json!("2.0.0"),
        &|signed| signed["version"] = json!("2"),
        &|signed| signed["version"] = json!(-1),
        &|signed| signed["expires"] = json!("tomorrow"),
    ];
    for role in ROLES {
        for bend in bends {
            let (mut forge, mut node) = both();
            bent(&mut forge, role, bend);
            node.refuses_at(&forge.files, noon(), ErrorKind::Malformed, kept(role));
        }
    }
    // A root in place of a timestamp, signed by keys that may sign both.
    let (mut forge, mut node) = both();
    let root = forge.file("1.root.json").to_vec();
    forge.put("timestamp.json", root);
    node.refuses(&forge.files, ErrorKind::Malformed);
}

/// 13: other alphabets are no reason to refuse, nor to misread a signature.
#[test]
fn text_beyond_ascii() {
    let (mut forge, mut node) = both();
    forge.publish(&|_, signed| {
        signed["x-ö\u{1f980}\u{fffd}"] = json!({ "\u{10ffff}": "é\n\t\"\\", "\u{e000}": [] });
    });
    node.refresh(&forge.files).unwrap();
    assert_eq!(node.version("targets.json"), 2);
}

/// 15: CVE-2026-6968. Names are compared, never made into paths.
#[test]
fn names_that_would_leave_the_environment() {
    let (mut forge, mut node) = both();
    for name in [
        "../../../etc/1.json",
        "/etc/passwd",
        "a/../b/1.json",
        "a\u{0}/1.json",
        "é/1.json",
    ] {
        forge.targets.insert(
            name.into(),
            json!({ "length": 1, "hashes": { "sha256": "00" } }),
        );
    }
    forge.publish(&|role, signed| {
        if role == "targets" {
            signed["delegations"] = json!({ "keys": {}, "roles": [
                { "name": "../../root", "keyids": [], "threshold": 1, "terminating": true, "paths": ["*"] },
            ] });
        }
    });
    node.refresh(&forge.files).unwrap();
    assert_eq!(
        node.state().into_keys().collect::<Vec<_>>(),
        [
            "environment",
            "floor",
            "root.json",
            "snapshot.json",
            "targets.json",
            "timestamp.json"
        ]
    );
    let name = "etc".parse().unwrap();
    let e = node.client().release(&forge.files, &name).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoRelease);
}

/// 16
#[test]
fn keys_that_are_none() {
    let small_orders = [
        "00".repeat(32),
        format!("01{}", "00".repeat(31)),
        format!("ec{}7f", "ff".repeat(30)),
    ];
    let lengths = [
        String::new(),
        "00".repeat(31),
        "ab".repeat(33),
        "zz".repeat(32),
    ];
    for public in small_orders.into_iter().chain(lengths) {
        let (mut forge, mut node) = both();
        bent(&mut forge, "root", &|root| {
            root["keys"]["bad"] = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
            root["roles"]["timestamp"]["keyids"] = json!(["bad"]);
        });
        let e = node.refuses(&forge.files, ErrorKind::BadKey);
        assert!(e.to_string().contains("bad"), "{e}");
    }
}

/// A signature that a key of small order "makes" for every message.
#[test]
fn a_key_of_small_order_signs_nothing() {
    let (mut forge, mut node) = both();
    forge.publish(STRAIGHT);
    let mut file: Value = serde_json::from_slice(forge.file("timestamp.json")).unwrap();
    let id = forge.keys["timestamp"][0].public().id();
    for sig in [
        format!("01{}", "00".repeat(63)),
        "00".repeat(64),
        String::new(),
        "xyz".into(),
    ] {
        file["signatures"] = json!([{ "keyid": id, "sig": sig }]);
        forge.put("timestamp.json", file.to_string().into_bytes());
        node.refuses(&forge.files, ErrorKind::Signatures);
    }
    // The second encoding of a good signature: S + L.
    let message = store::env::json::canonical(&file["signed"]).unwrap();
    let good = signature(&forge.keys["timestamp"][0], &message);
    file["signatures"] = json!([{ "keyid": id, "sig": plus_order(&good) }]);
    forge.put("timestamp.json", file.to_string().into_bytes());
    node.refuses(&forge.files, ErrorKind::Signatures);
    file["signatures"] = json!([{ "keyid": id, "sig": good }]);
    forge.put("timestamp.json", file.to_string().into_bytes());
    node.refresh(&forge.files).unwrap();
}

/// Adds the order of the group to the second half of a signature.
fn plus_order(signature: &str) -> String {
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let byte = |text: &str, i: usize| u16::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
    let mut out = signature[..64].to_owned();
    let mut carry = 0;
    for i in 0..32 {
        let sum = byte(&signature[64..], i) + byte(order, i) + carry;
        let _ = write!(out, "{:02x}", sum & 0xff);
        carry = sum >> 8;
    }
    out
}

#[test]
fn a_root_file_that_vouches_for_nothing() {
    let forge = Forge::new();
    let good: Value = serde_json::from_slice(forge.file("1.root.json")).unwrap();
    let stranger = KeyPair::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = |bytes: &[u8], kind: ErrorKind| {
        let state = dir.path().join("trust");
        let e = Client::init(&state, bytes, &"dev".parse().unwrap())
            .err()
            .unwrap();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(!state.exists());
    };
    refused(b"", ErrorKind::Malformed);
    refused(&vec![b' '; 600 << 10], ErrorKind::TooLarge);
    refused(forge.file("timestamp.json"), ErrorKind::Malformed);
    refused(&sign(&good["signed"], [&stranger]), ErrorKind::Signatures);
    let mut changed = good.clone();
    changed["signed"]["expires"] = json!("2099-01-01T00:00:00Z");
    refused(changed.to_string().as_bytes(), ErrorKind::Signatures);
}

#[test]
fn what_is_missing_is_no_refusal() {
    for file in ["2.targets.json", "2.snapshot.json", "timestamp.json"] {
        let (mut forge, mut node) = both();
        forge.publish(STRAIGHT);
        forge.files.0.remove(&Forge::path(file));
        let e = node.refresh(&forge.files).unwrap_err();
        assert_eq!(
            (e.kind(), e.class().exit_code()),
            (ErrorKind::Missing, 1),
            "{e}"
        );
        assert!(e.to_string().contains(file), "{e}");
    }
}
