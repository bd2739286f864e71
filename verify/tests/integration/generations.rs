//! The real `imgnode` and several generations of one system: upgrade, switch, rollback, gc.

use std::fs;
use std::process::Command;

use crate::support::Farm;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn version(farm: &Farm, generation: u64) -> String {
    let file = format!("images/{}/{generation}/etc/version", farm.system);
    fs::read_to_string(farm.path(&file)).unwrap()
}

#[test]
fn upgrade_switch_rollback_and_gc() {
    let farm = Farm::new("steps");
    let system = farm.system.clone();
    farm.install();
    let said = json(&farm.ok(&["upgrade", &system, "--json"]));
    assert_eq!(
        (&said["changed"], &said["generation"]),
        (&false.into(), &1.into())
    );

    farm.release(2);
    let said = json(&farm.ok(&["upgrade", &system, "--json"]));
    assert_eq!(
        (&said["changed"], &said["generation"]),
        (&true.into(), &2.into())
    );
    // One small file is other; the 38 MB beside it were here.
    let bytes = |key: &str| said[key].as_u64().unwrap();
    assert!(bytes("reused_bytes") > 38_000_000, "{said}");
    assert!(
        bytes("written_bytes") - bytes("reused_bytes") < 100,
        "{said}"
    );
    assert_eq!(
        (version(&farm, 1), version(&farm, 2)),
        ("1".into(), "2".into())
    );
    farm.ok(&["verify", &system]);

    let said = json(&farm.ok(&["rollback", &system, "--json"]));
    assert_eq!(
        (&said["generation"], &said["previous"]),
        (&1.into(), &2.into())
    );
    let status = farm.status();
    assert_eq!(status["systems"][0]["registered"], true);
    farm.ok(&["verify", &system]);
    // Forward again: what is here is not written a second time.
    let said = json(&farm.ok(&["upgrade", &system, "--json"]));
    assert_eq!(
        (&said["generation"], &said["written_bytes"]),
        (&2.into(), &0.into())
    );

    farm.release(3);
    farm.ok(&["upgrade", &system]);
    farm.release(4);
    farm.ok(&["upgrade", &system]);
    farm.ok(&["switch", &system, "2"]);
    let said = farm.fails(&["switch", &system, "9"], 2);
    assert!(said.contains("its generations: 1, 2, 3, 4"), "{said}");
    // 2 is active and 4 the previous one; of the others the newest stays.
    let said = json(&farm.ok(&["gc", &system, "--keep", "1", "--json"]));
    assert_eq!(said["systems"][0]["removed"], json("[1]"));
    let said = json(&farm.ok(&["gc", "--json"]));
    assert_eq!(said["systems"][0]["removed"], json("[3]"));
    assert_eq!(said["systems"][0]["kept"], json("[2, 4]"));
    assert!(!farm.path(&format!("images/{system}/3")).exists());
    farm.ok(&["rollback", &system]);
    assert_eq!(farm.status()["systems"][0]["generation"], 4);
    assert_eq!(
        fs::read_dir(farm.path("state/manifests")).unwrap().count(),
        2
    );
    farm.close();
}

#[test]
fn gc_leaves_what_a_session_uses() {
    let farm = Farm::new("held");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    for release in 2..=3 {
        farm.release(release);
        farm.ok(&["upgrade", &system]);
    }
    // Somebody else has a session of generation 2.
    farm.ok(&["switch", &system, "2"]);
    let by_hand = format!("{system}-by-hand");
    let schroot = |words: &[&str]| {
        let ended = std::process::Command::new("schroot").args(words).status();
        assert!(ended.unwrap().success(), "schroot {words:?}");
    };
    schroot(&["-b", "-n", &by_hand, "-c", &system]);
    farm.ok(&["switch", &system, "3"]);
    farm.release(4);
    farm.ok(&["upgrade", &system]);
    let said = json(&farm.ok(&["gc", &system, "--json"]));
    assert_eq!(said["systems"][0]["removed"], json("[]"), "{said}");
    let status = farm.status();
    let generations = &status["systems"][0]["generations"];
    assert_eq!(generations[1]["sessions"][0], by_hand.as_str(), "{status}");
    assert_eq!(generations[2]["state"], "previous");

    farm.ok(&["stop", &system]);
    assert!(farm.fails(&["uninstall", &system], 75).contains(&by_hand));
    schroot(&["-e", "-c", &by_hand]);
    let said = json(&farm.ok(&["gc", &system, "--json"]));
    assert_eq!(said["systems"][0]["removed"], json("[2, 1]"));
    farm.close();
}

#[test]
fn what_changed_on_the_node_is_not_carried_over() {
    let farm = Farm::new("changed");
    let system = farm.system.clone();
    farm.install();
    let tree = farm.path("images").join(&system).join("1");
    let whole = fs::read(tree.join("data/007")).unwrap();
    let mut other = whole.clone();
    other[5000] ^= 1;
    fs::write(tree.join("data/007"), &other).unwrap();
    fs::remove_file(tree.join("data/008")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", tree.join("data/008")).unwrap();
    fs::write(tree.join("data/extra"), b"x").unwrap();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    farm.ok(&["verify", &system]);
    let tree = farm.path("images").join(&system).join("2");
    assert_eq!(fs::read(tree.join("data/007")).unwrap(), whole);
    assert!(!tree.join("data/extra").exists());
    farm.close();
}

#[test]
fn going_back_works_without_the_environment_but_not_to_another_one() {
    let farm = Farm::new("alone");
    let system = farm.system.clone();
    farm.install();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    fs::rename(farm.path("store"), farm.path("away")).unwrap();
    let output = farm.run(&["rollback", &system]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("its last word counts"), "{said}");
    assert_eq!(farm.status()["systems"][0]["generation"], 1);

    let path = farm.path(&format!("state/systems/{system}.json"));
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace("\"dev\"", "\"test\"")).unwrap();
    let said = farm.fails(&["rollback", &system], 3);
    assert!(said.contains("it was released by test"), "{said}");
    fs::rename(farm.path("away"), farm.path("store")).unwrap();
    let said = farm.fails(&["rollback", &system], 3);
    assert!(said.contains("this node follows dev"), "{said}");
    farm.close();
}

#[test]
fn nothing_goes_back_to_what_was_revoked() {
    let farm = Farm::new("revoked");
    let system = farm.system.clone();
    farm.install();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    farm.revoke(1, "CVE-2026-12345");
    let refused = |why: &str| {
        let said = farm.fails(&["rollback", &system], 3);
        assert!(
            said.contains("revoked") && said.contains("dev"),
            "{why}: {said}"
        );
        let said = farm.fails(&["switch", &system, "1"], 3);
        assert!(said.contains("revoked"), "{why}: {said}");
        assert_eq!(farm.status()["systems"][0]["generation"], 2, "{why}");
    };
    refused("the environment says so");
    // What was heard once is known without the environment.
    fs::rename(farm.path("store"), farm.path("away")).unwrap();
    refused("the environment said so");
    fs::rename(farm.path("away"), farm.path("store")).unwrap();
    let generations = farm.status()["systems"][0]["generations"].clone();
    assert!(
        generations[0]["barred"]
            .as_str()
            .unwrap()
            .contains("revoked"),
        "{generations}"
    );
    farm.ok(&["verify", &system]);

    // The active one is not taken away from under its app; nobody can install it anew.
    farm.ok(&["start", &system]);
    farm.revoke(2, "CVE-2026-54321");
    farm.ok(&["reload", &system]);
    let other = format!("{system}-b");
    let target = farm.target();
    let said = farm.fails(&["install", "web", "--as", &other, "--target", &target], 3);
    assert!(said.contains("revoked"), "{said}");
    let said = farm.fails(&["upgrade", &system], 3);
    assert!(said.contains("revoked"), "{said}");
    // But it is not started again, neither by hand nor as a service.
    let status = farm.ok(&["status"]);
    assert!(status.contains("barred     release 2 of web"), "{status}");
    assert_eq!(farm.status()["systems"][0]["session"]["state"], "running");
    farm.ok(&["stop", &system]);
    for word in ["start", "run"] {
        let said = farm.fails(&[word, &system], 3);
        assert!(said.contains("CVE") || said.contains("revoked"), "{said}");
        assert!(said.contains("hint: imgnode upgrade"), "{said}");
    }
    assert!(farm.status()["systems"][0]["session"].is_null());
    fs::write(farm.path("tree/etc/mended"), "3").unwrap();
    farm.release(3);
    farm.ok(&["upgrade", &system]);
    assert_eq!(farm.status()["systems"][0]["generation"], 3);
    let said = farm.fails(&["rollback", &system], 3);
    assert!(said.contains("revoked"), "{said}");
    farm.ok(&["start", &system]);
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn going_back_works_when_the_metadata_ran_out() {
    let farm = Farm::new("stale");
    let system = farm.system.clone();
    farm.install();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    // A year later nobody has renewed it.
    let later = |words: &[&str]| {
        let command = farm.command(words);
        let mut later = Command::new("faketime");
        later.args(["-f", "+400d"]).arg(command.get_program());
        later.args(command.get_args());
        let set = command.get_envs();
        later.envs(set.filter_map(|(name, value)| Some((name, value?))));
        later.output().unwrap()
    };
    let output = later(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("ran out"), "{said}");
    let output = later(&["rollback", &system]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("its last word counts") && said.contains("ran out"),
        "{said}"
    );
    assert_eq!(farm.status()["systems"][0]["generation"], 1);
    farm.close();
}

#[test]
fn going_back_works_whatever_the_store_answers() {
    let farm = Farm::new("nonsense");
    let system = farm.system.clone();
    farm.install();
    let timestamp = farm.path("store/env/dev/metadata/timestamp.json");
    let older = fs::read(&timestamp).unwrap();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    let good = fs::read(&timestamp).unwrap();
    for bad in [&b"<html><body>Please log in"[..], b"", &older] {
        fs::write(&timestamp, bad).unwrap();
        let output = farm.run(&["rollback", &system]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("its last word counts"), "{said}");
        assert_eq!(farm.status()["systems"][0]["generation"], 1);
        farm.ok(&["switch", &system, "2"]);
        assert_eq!(farm.status()["systems"][0]["generation"], 2);
    }
    fs::write(&timestamp, &good).unwrap();
    farm.ok(&["rollback", &system]);
    farm.close();
}

#[test]
fn what_rollback_goes_to_is_kept() {
    let farm = Farm::new("fallback");
    let system = farm.system.clone();
    farm.install();
    for release in [2, 3] {
        farm.release(release);
        farm.ok(&["upgrade", &system]);
    }
    farm.revoke(2, "CVE-2026-12345");
    farm.ok(&["upgrade", &system]);
    farm.ok(&["gc", "--keep", "0"]);
    let left: Vec<u64> = farm.status()["systems"][0]["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["generation"].as_u64().unwrap())
        .collect();
    assert_eq!(left, [1, 3]);
    farm.ok(&["rollback", &system]);
    assert_eq!(farm.status()["systems"][0]["generation"], 1);
    farm.close();
}
