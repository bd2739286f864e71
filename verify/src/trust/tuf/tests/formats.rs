//! HOSTILE.md, environment metadata: bytes, sizes and names (11 to 15).

use serde_json::{Value, json};
use store::keys::KeyPair;

use super::forge::{Forge, ROLES, STRAIGHT, noon, sign};
use super::node::{bent, both, kept};
use crate::trust::tuf::{Client, ErrorKind};

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
    for _ in 0..crate::trust::tuf::limits::MOST_ROOTS {
        forge.root(STRAIGHT);
    }
    let longest = forge.files.clone();
    forge.root(STRAIGHT);
    node.refuses(&forge.files, ErrorKind::TooManyRoots);
    node.refresh(&longest).unwrap();
    assert_eq!(
        node.version("root.json"),
        1 + crate::trust::tuf::limits::MOST_ROOTS
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
    for (file, expected) in [
        ("2.targets.json", (ErrorKind::Incomplete, 75)),
        ("2.snapshot.json", (ErrorKind::Incomplete, 75)),
        ("timestamp.json", (ErrorKind::Missing, 1)),
    ] {
        let (mut forge, mut node) = both();
        forge.publish(STRAIGHT);
        forge.files.0.remove(&Forge::path(file));
        let e = node.refresh(&forge.files).unwrap_err();
        assert_eq!((e.kind(), e.class().exit_code()), expected, "{e}");
        assert!(e.to_string().contains(file), "{e}");
    }
}
