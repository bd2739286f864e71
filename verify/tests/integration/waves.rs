//! Releases that reach nodes in waves: by the node's group and name, and not before.

use std::fs;

use store::tuf::WavePlan;
use store::tuf::waves::Step;

use crate::support::Farm;

fn plan() -> WavePlan {
    let stages = ["canary", "100%"].map(|one| one.parse().unwrap());
    WavePlan {
        stages: stages.into(),
        rule: None,
    }
}

fn seq(farm: &Farm) -> u64 {
    farm.status()["systems"][0]["seq"].as_u64().unwrap()
}

fn upgrade(farm: &Farm, words: &[&str]) -> serde_json::Value {
    let all = [&["upgrade", &farm.system, "--json"], words].concat();
    serde_json::from_str(&farm.ok(&all)).unwrap()
}

#[test]
fn a_release_reaches_a_node_with_its_stage() {
    let mut farm = Farm::new("stage");
    farm.install();
    farm.waves = Some(plan());
    farm.release(2);
    let held = upgrade(&farm, &[]);
    assert_eq!(held["changed"], false);
    let said = serde_json::json!({ "seq": 2, "stage": 1, "stages": 2, "halted": null });
    assert_eq!(held["held"], said);
    // The operator does not wait, and nobody is moved back.
    assert_eq!(upgrade(&farm, &["--ahead"])["seq"], 2);
    assert_eq!(upgrade(&farm, &[])["changed"], false);
    assert_eq!(upgrade(&farm, &["--again"])["seq"], 2);
    farm.ok(&["rollback", &farm.system]);
    assert_eq!(upgrade(&farm, &[])["changed"], true, "it was written again");
    farm.ok(&["switch", &farm.system, "1"]);
    assert_eq!(upgrade(&farm, &[])["held"]["seq"], 2);
    assert_eq!(seq(&farm), 1);

    let halt = Step::Halt {
        reason: "it burns".to_owned(),
    };
    farm.step(&halt);
    farm.ok(&["name", "--group", "canary"]);
    let held = upgrade(&farm, &["--ahead"]);
    assert_eq!(
        (&held["held"]["halted"], seq(&farm)),
        (&"it burns".into(), 1)
    );
    farm.step(&Step::Resume);
    assert_eq!(upgrade(&farm, &[])["seq"], 2);
    farm.step(&halt);
    assert_eq!(upgrade(&farm, &[])["changed"], false);
    assert_eq!(seq(&farm), 2);
    farm.close();
}

#[test]
fn a_node_that_no_release_reaches_is_told_so() {
    let mut farm = Farm::new("fresh");
    farm.waves = Some(plan());
    farm.release(2);
    // The first release is for all of them.
    farm.install();
    assert_eq!(seq(&farm), 1);
    farm.ok(&["uninstall", &farm.system]);
    farm.revoke(1, "hole");
    let said = farm.install_fails(3);
    assert!(
        said.contains("release 2 of web is at stage 1 of 2 (group canary)"),
        "{said}"
    );
    assert_eq!(farm.status()["systems"], serde_json::json!([]));
    let words = farm.install_words();
    let mut words: Vec<_> = words.iter().map(String::as_str).collect();
    words.push("--ahead");
    farm.ok(&words);
    assert_eq!(seq(&farm), 2);
    farm.close();
}

#[test]
fn names_are_kept_with_receipts_and_without() {
    let farm = Farm::new("names");
    let called = |words: &[&str]| {
        let said = farm.ok(&[&["name", "--json"], words].concat());
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        (said["node"].clone(), said["group"].clone())
    };
    let machine = called(&[]);
    assert_eq!(machine.1, serde_json::Value::Null);
    assert_eq!(called(&["--group", "canary"]), (machine.0, "canary".into()));
    assert_eq!(
        called(&["--name", "web07"]),
        ("web07".into(), "canary".into())
    );
    farm.fails(&["name", "--group", "A b"], 2);
    let to = farm.str("receipts");
    fs::create_dir(to).unwrap();
    farm.ok(&["receipts", "set", to]);
    let line = farm.ok(&["receipts", "key"]);
    assert!(line.starts_with("web07 canary "), "{line}");
    assert_eq!(called(&["--group", "eu"]), ("web07".into(), "eu".into()));
    let line = farm.ok(&["receipts", "key"]);
    assert!(line.starts_with("web07 eu "), "{line}");
    farm.ok(&["receipts", "off"]);
    assert_eq!(called(&[]), ("web07".into(), "eu".into()));
    // Followed from elsewhere, and named on the way.
    let (root, store) = (farm.str("root.json"), farm.str("store"));
    let init = ["init", "--env", "dev", "--repo", store, "--root", root];
    farm.ok(&[&init[..], &["--name", "web08"]].concat());
    let status = farm.status();
    assert_eq!(
        (&status["node"], &status["group"]),
        (&"web08".into(), &"eu".into())
    );
    assert!(
        farm.ok(&["status"])
            .contains("node        web08 in the group eu")
    );
}
