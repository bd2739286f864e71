//! HOSTILE.md, environment metadata: who signed, and for what (1 to 5, 16).

use std::fmt::Write as _;

use serde_json::{Value, json};
use store::keys::{KeyPair, Signer};

use super::forge::{Forge, ROLES, STRAIGHT, key_json, noon, signature};
use super::node::{Node, bent, both, kept};
use crate::trust::tuf::{Client, ErrorKind};

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
    let message = store::json::canonical(&file["signed"]).unwrap();
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
