//! HOSTILE.md 1 to 19 as directories: one per attack, made by a generator, and run
//! against from the files alone.
//!
//! ```text
//! NAME/case.json    what is attacked, and what must come of it
//! NAME/root.json    the root that the node was given
//! NAME/before/      the store as the node saw it first
//! NAME/after/       the store as the attacker serves it
//! NAME/damage/      files that are put into the node's state in between
//! ```
//!
//! They are made anew for each run, with new keys, in a directory that goes; with
//! `IMGBUILD_FIXTURES=DIR` they stay there, for other clients to be tried on. The
//! other tests of this folder try many variants of each attack; here is one of each,
//! and what it is, to be looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::backend::LocalReader;
use store::keys::KeyPair;

use super::forge::{Files, Forge, STRAIGHT, days, key_json, noon, pin};
use super::node::{bent, kept};
use crate::trust::tuf::{Client, limits};

/// What must come of an attack.
#[derive(Serialize, Deserialize)]
struct Case {
    /// The number in HOSTILE.md.
    hostile: u32,
    about: String,
    /// The kind of the refusal; none where the node goes on.
    refused: Option<String>,
    /// Files of the state that may move: those that were good.
    moved: Vec<String>,
    /// The node's clock.
    now: Timestamp,
}

/// One attack, before it is written down.
struct Attack {
    name: &'static str,
    case: Case,
    root: Vec<u8>,
    before: Files,
    after: Files,
    damage: BTreeMap<String, Vec<u8>>,
}

/// All files that a whole refresh moves.
const ALL: [&str; 4] = ["floor", "snapshot.json", "targets.json", "timestamp.json"];

fn attack(
    name: &'static str,
    about: &str,
    refused: Option<&str>,
    moved: &[&str],
    make: impl FnOnce(&mut Forge),
) -> Attack {
    let mut forge = Forge::new();
    forge.publish(STRAIGHT);
    let (root, before) = (forge.file("1.root.json").to_vec(), forge.files.clone());
    make(&mut forge);
    Attack {
        name,
        case: Case {
            hostile: name[..2].parse().unwrap(),
            about: about.into(),
            refused: refused.map(str::to_owned),
            moved: moved.iter().map(|file| (*file).to_owned()).collect(),
            now: noon(),
        },
        root,
        before,
        after: forge.files,
        damage: BTreeMap::new(),
    }
}

fn at(mut attack: Attack, now: Timestamp) -> Attack {
    attack.case.now = now;
    attack
}

fn attacks() -> Vec<Attack> {
    let text = |forge: &Forge, file: &str| String::from_utf8(forge.file(file).to_vec()).unwrap();
    let mut all = vec![
        attack(
            "01-unsigned",
            "a timestamp without signatures",
            Some("Signatures"),
            &[],
            |f| {
                f.keys.insert("timestamp", Vec::new());
                f.publish(STRAIGHT);
            },
        ),
        attack(
            "01-wrongly-signed",
            "targets by a stranger's key",
            Some("Signatures"),
            kept("targets"),
            |f| {
                f.keys.insert("targets", vec![KeyPair::generate().unwrap()]);
                f.publish(STRAIGHT);
            },
        ),
        attack(
            "02-one-key-two-ids",
            "one key twice towards a threshold",
            Some("DuplicateKey"),
            &[],
            |f| {
                let key = key_json(&f.keys["timestamp"][0]);
                bent(f, "root", &|root| {
                    root["keys"]["made-up"] = key.clone();
                    let role = &mut root["roles"]["timestamp"];
                    role["keyids"]
                        .as_array_mut()
                        .unwrap()
                        .push(json!("made-up"));
                    role["threshold"] = json!(2);
                });
            },
        ),
        attack(
            "03-threshold-0",
            "a role that asks for no signature",
            Some("ZeroThreshold"),
            &[],
            |f| {
                bent(f, "root", &|root| {
                    root["roles"]["targets"]["threshold"] = json!(0);
                });
            },
        ),
        attack(
            "04-skipped-root",
            "root 3 under the name of root 2",
            Some("RootVersion"),
            &[],
            |f| {
                bent(f, "root", &|root| root["version"] = json!(3));
            },
        ),
        attack(
            "05-root-of-another",
            "a root of prod",
            Some("Environment"),
            &[],
            |f| {
                f.env = "prod".into();
                f.root(STRAIGHT);
            },
        ),
        attack(
            "05-targets-of-another",
            "targets of prod",
            Some("Environment"),
            kept("targets"),
            |f| {
                f.env = "prod".into();
                f.publish(STRAIGHT);
            },
        ),
        attack(
            "06-expired",
            "a timestamp that has run out",
            Some("Expired"),
            &[],
            |f| {
                bent(f, "timestamp", &|signed| {
                    signed["expires"] = json!("2030-01-01T11:59:59Z");
                });
            },
        ),
        attack(
            "07-timestamp-back",
            "an older timestamp",
            Some("Rollback"),
            &[],
            |f| {
                f.versions.insert("timestamp", 0);
                let pinned = pin(2, f.file("2.snapshot.json"));
                f.publish_timestamp(&pinned, STRAIGHT);
            },
        ),
        attack(
            "07-snapshot-back",
            "an older snapshot",
            Some("Rollback"),
            &[],
            |f| {
                let pinned = pin(1, f.file("1.snapshot.json"));
                f.publish_timestamp(&pinned, STRAIGHT);
            },
        ),
        attack(
            "07-targets-back",
            "older targets",
            Some("Rollback"),
            &["timestamp.json"],
            |f| {
                let pinned = pin(1, f.file("1.targets.json"));
                f.publish_snapshot(&pinned, STRAIGHT);
            },
        ),
        attack(
            "07-root-back",
            "root 1 once more as root 2",
            Some("RootVersion"),
            &[],
            |f| {
                let first = f.file("1.root.json").to_vec();
                f.put("2.root.json", first);
            },
        ),
        attack(
            "08-equal-timestamp",
            "other bytes under the same version",
            None,
            &[],
            |f| {
                f.versions.insert("timestamp", 1);
                let pinned = pin(2, f.file("2.snapshot.json"));
                f.publish_timestamp(&pinned, &|_, signed| signed["x-other"] = json!("bytes"));
            },
        ),
        attack(
            "09-rollback-twice",
            "a rollback behind a good timestamp",
            Some("Rollback"),
            &["timestamp.json"],
            |f| {
                let pinned = pin(1, f.file("1.targets.json"));
                f.publish_snapshot(&pinned, STRAIGHT);
                f.publish_snapshot(&pinned, STRAIGHT);
            },
        ),
        attack(
            "11-other-snapshot",
            "a snapshot with another hash",
            Some("Mismatch"),
            &["timestamp.json"],
            |f| {
                f.publish(STRAIGHT);
                let text = text(f, "3.snapshot.json").replacen("\"version\":3", "\"version\":4", 1);
                f.put("3.snapshot.json", text.into_bytes());
            },
        ),
        attack(
            "11-other-targets",
            "targets with another hash",
            Some("Mismatch"),
            kept("targets"),
            |f| {
                f.publish(STRAIGHT);
                let text = text(f, "3.targets.json").replacen("\"version\":3", "\"version\":4", 1);
                f.put("3.targets.json", text.into_bytes());
            },
        ),
        attack(
            "12-oversized",
            "a timestamp of 16 KiB and a byte",
            Some("TooLarge"),
            &[],
            |f| {
                f.put("timestamp.json", vec![b' '; (16 << 10) + 1]);
            },
        ),
        attack(
            "12-endless-roots",
            "one root more than is followed",
            Some("TooManyRoots"),
            &[],
            |f| {
                for _ in 0..=limits::MOST_ROOTS {
                    f.root(STRAIGHT);
                }
            },
        ),
        attack(
            "13-wrong-type",
            "a signed timestamp that says it is a snapshot",
            Some("Malformed"),
            &[],
            |f| {
                bent(f, "timestamp", &|signed| {
                    signed["_type"] = json!("snapshot");
                });
            },
        ),
        attack(
            "13-duplicate-key",
            "one JSON key twice",
            Some("Malformed"),
            &[],
            |f| {
                f.publish(STRAIGHT);
                let text = text(f, "timestamp.json").replacen(
                    "\"version\"",
                    "\"version\":1,\"version\"",
                    1,
                );
                f.put("timestamp.json", text.into_bytes());
            },
        ),
        attack(
            "13-float",
            "a version with a fraction",
            Some("Malformed"),
            &[],
            |f| {
                f.publish(STRAIGHT);
                let text =
                    text(f, "timestamp.json").replacen("\"version\":3", "\"version\":3.0", 1);
                f.put("timestamp.json", text.into_bytes());
            },
        ),
        attack(
            "13-nesting",
            "JSON without end",
            Some("Malformed"),
            &[],
            |f| {
                f.put(
                    "timestamp.json",
                    [&[b'['; 8000][..], &[b']'; 8000]].concat(),
                );
            },
        ),
        attack(
            "13-other-alphabets",
            "text beyond ASCII is no reason to refuse",
            None,
            &ALL,
            |f| {
                f.publish(&|_, signed| signed["x-ü"] = json!("пример 🦀"));
            },
        ),
        attack(
            "15-names",
            "targets and roles that would leave the environment",
            None,
            &ALL,
            |f| {
                for name in ["../../../etc/1.json", "/etc/passwd", "a/../b/1.json"] {
                    f.targets.insert(
                        name.into(),
                        json!({ "length": 1, "hashes": { "sha256": "00" } }),
                    );
                }
                bent(f, "targets", &|signed| {
                    signed["delegations"] = json!({ "keys": {}, "roles": [{
                    "name": "../../root", "keyids": [], "threshold": 1,
                    "terminating": true, "paths": ["*"],
                }] });
                });
            },
        ),
        attack(
            "16-short-key",
            "a key of 31 bytes",
            Some("BadKey"),
            &[],
            |f| bad_key(f, &"ab".repeat(31)),
        ),
        attack(
            "16-small-order",
            "a key that anybody signs with",
            Some("BadKey"),
            &[],
            |f| {
                bad_key(f, &format!("01{}", "00".repeat(31)));
            },
        ),
        at(
            attack(
                "17-clock-1970",
                "a clock at the beginning of time",
                Some("Clock"),
                &[],
                |_| {},
            ),
            Timestamp::UNIX_EPOCH,
        ),
        at(
            attack("18-clock-step", "half a second back", None, &[], |_| {}),
            noon() - SignedDuration::from_millis(500),
        ),
        at(
            attack(
                "19-clock-ahead",
                "a clock that is years ahead",
                Some("Expired"),
                &[],
                |_| {},
            ),
            noon() + days(1000),
        ),
    ];
    // 10: the node has followed a stolen key far ahead; new keys bring it back.
    let mut recovery = attack(
        "10-fast-forward",
        "versions near their end, then new keys",
        None,
        &[],
        |_| {},
    );
    let mut forge = Forge::new();
    recovery.root = forge.file("1.root.json").to_vec();
    forge.publish(&|role, signed| {
        if role == "timestamp" {
            signed["version"] = json!(1_000_000_u64);
        }
    });
    recovery.before = forge.files.clone();
    forge.rotate("timestamp");
    forge.root(STRAIGHT);
    forge.publish(STRAIGHT);
    recovery.after = forge.files;
    recovery.case.moved = ALL
        .iter()
        .chain(&["root.json"])
        .map(|f| (*f).to_owned())
        .collect();
    all.push(recovery);
    // 14: the state itself.
    for (name, file) in [
        ("14-damaged-root", "root.json"),
        ("14-damaged-floor", "floor"),
    ] {
        let mut damaged = attack(
            name,
            "a file of the state is cut",
            Some("CorruptState"),
            &[],
            |_| {},
        );
        damaged.damage.insert(file.into(), b"{\"half\":".to_vec());
        all.push(damaged);
    }
    all
}

fn bad_key(forge: &mut Forge, public: &str) {
    bent(forge, "root", &|root: &mut Value| {
        root["keys"]["bad"] = json!({
            "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public },
        });
        root["roles"]["timestamp"]["keyids"] = json!(["bad"]);
    });
}

/// Writes an attack down.
fn generate(attack: &Attack, directory: &Path) {
    let put = |path: String, bytes: &[u8]| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(
        "case.json".into(),
        &serde_json::to_vec_pretty(&attack.case).unwrap(),
    );
    put("root.json".into(), &attack.root);
    for (folder, files) in [("before", &attack.before), ("after", &attack.after)] {
        for (key, bytes) in &files.0 {
            put(format!("{folder}/{key}"), bytes);
        }
    }
    for (file, bytes) in &attack.damage {
        put(format!("damage/{file}"), bytes);
    }
}

fn state(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.filter(|(name, _)| name != "lock").collect()
}

/// Lets a node meet an attack, twice, the second time as a new process.
fn meet(directory: &Path) {
    let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
    let case: Case =
        serde_json::from_slice(&fs::read(directory.join("case.json")).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let trust = scratch.path().join("trust");
    let root = fs::read(directory.join("root.json")).unwrap();
    let serve = |folder: &str| LocalReader::open(directory.join(folder)).unwrap();
    let mut client = Client::init(&trust, &root, &"dev".parse().unwrap()).unwrap();
    client.refresh(&serve("before"), noon()).unwrap();
    drop(client);
    if let Ok(damage) = fs::read_dir(directory.join("damage")) {
        for file in damage.map(Result::unwrap) {
            fs::copy(file.path(), trust.join(file.file_name())).unwrap();
        }
    }
    let before = state(&trust);
    for round in 1..=2 {
        let refresh =
            Client::open(&trust).and_then(|mut client| client.refresh(&serve("after"), case.now));
        let kind = refresh.as_ref().err().map(|e| format!("{:?}", e.kind()));
        assert_eq!(kind, case.refused, "{name}, round {round}: {refresh:?}");
        let after = state(&trust);
        let mut moved: Vec<_> = after
            .iter()
            .filter(|(file, bytes)| before.get(*file) != Some(*bytes))
            .map(|(file, _)| file.clone())
            .collect();
        moved.extend(
            before
                .keys()
                .filter(|file| !after.contains_key(*file))
                .cloned(),
        );
        let mut expected = case.moved.clone();
        moved.sort();
        expected.sort();
        assert_eq!(moved, expected, "{name}, round {round}: these files moved");
    }
}

#[test]
fn every_attack_is_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let place = match std::env::var_os("IMGBUILD_FIXTURES") {
        Some(place) => place.into(),
        None => scratch.path().to_owned(),
    };
    let attacks = attacks();
    for attack in &attacks {
        let directory = place.join(attack.name);
        generate(attack, &directory);
        meet(&directory);
    }
    let numbers: std::collections::BTreeSet<_> =
        attacks.iter().map(|attack| attack.case.hostile).collect();
    assert!(numbers.into_iter().eq(1..=19), "one of each number");
}
