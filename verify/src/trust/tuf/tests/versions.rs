//! HOSTILE.md, environment metadata: time and versions (6 to 10).

use serde_json::{Value, json};

use super::forge::{Forge, ROLES, STRAIGHT, days, noon, pin};
use super::node::{Node, bent, both, kept};
use crate::trust::tuf::ErrorKind;

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
