//! A store in the hands of somebody else: what it shows is not signed for, and not installed.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::binaries::{Ran, imgnode};
use tests::fixtures;

use crate::team::{Team, says};

/// A team of one with two releases of `dev/web`, and prod, whose policy Ann approves for.
fn team() -> Team {
    let team = Team::new();
    for version in ["1.0", "2.0"] {
        team.import(&team.tree("one", version));
    }
    let ann = team.key("ann", "ann");
    let policy = format!("approvals = {{}}\n[keys]\nann = \"{ann}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    team
}

fn put_back(team: &Team, env: &str, kept: &Path) {
    let there = team.path("store/env").join(env);
    fs::remove_dir_all(&there).unwrap();
    fixtures::copy(kept, &there);
}

fn keep(team: &Team, env: &str) -> std::path::PathBuf {
    let kept = team.path(&format!("kept-{env}"));
    fixtures::copy(&team.path("store/env").join(env), &kept);
    kept
}

/// Revocations are not undone by a store that shows what it had before.
#[test]
fn an_earlier_state_is_not_signed_for() {
    let team = team();
    let kept = keep(&team, "dev");
    let revoke = ["revoke", "dev/web/1", "--in", "dev", "--reason", "hole"];
    team.run("ann", &revoke).expect(0);
    let other = ["import", "one", "--name", "other", "--arch", "amd64"];
    team.run("ann", &other).expect(0);
    let now = keep(&team, "prod");
    put_back(&team, "dev", &kept);
    let words: &[&[&str]] = &[
        &["approve", "other", "--for", "prod", "--key", "ann"],
        &["env", "witness", "dev", "--key", "ann"],
        &["env", "refresh", "dev"],
        &["promote", "dev/web/1", "--to", "prod"],
        &["approve", "dev/web/1", "--for", "prod", "--key", "ann"],
        &["import", "one", "--name", "new", "--arch", "amd64"],
    ];
    for words in words {
        let refused = team.run("ann", words).expect(3);
        says(
            &refused,
            &[
                "nothing is signed for dev",
                "its targets was at",
                "env trust dev",
            ],
        );
    }
    // Also where nothing can be remembered.
    let lock = team.path("ann/dev.seen.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    team.run("ann", words[2]).expect(3);
    fs::remove_dir(&lock).unwrap();
    assert!(same(&team.path("store/env/prod"), &now));
    // Somebody who knows that a backup is all there is says so.
    let root = fs::read(team.path("store/env/dev/metadata/1.root.json")).unwrap();
    let root = store::Sha256::of(&root).to_string();
    let trust = ["env", "trust", "dev", &root];
    let forgets = "more was seen of dev than this store has";
    says(&team.run("ann", &trust).expect(0), &[forgets]);
    let again = team.run("ann", &trust).expect(0);
    assert!(!again.stderr.contains(forgets), "{}", again.stderr);
    team.run("ann", words[2]).expect(0);
}

fn same(one: &Path, other: &Path) -> bool {
    let diff = std::process::Command::new("diff")
        .arg("-r")
        .args([one, other])
        .status()
        .unwrap();
    diff.success()
}

/// Nobody's online key signs for an environment that takes the place of the right one.
#[test]
fn another_environment_is_not_published() {
    let team = team();
    let online = fs::read_to_string(team.path("ann/prod.online.pub")).unwrap();
    fs::create_dir(team.path("eve")).unwrap();
    fs::write(team.path("eve/stolen.pub"), online).unwrap();
    let evil = |words: &[&str]| {
        let words = [words, &["--store", "evil"]].concat();
        team.run("eve", &words).expect(0)
    };
    // It cannot be opened: of a change of its root, half is published.
    evil(&["env", "init", "prod", "--plain", "-o", "first.json"]);
    let change = [
        "--add",
        "online=eve/stolen.pub",
        "--remove",
        "online=prod.online",
    ];
    let propose = ["env", "root", "propose", "prod", "-o", "change.json"];
    evil(&[&propose[..], &change].concat());
    let change: Value =
        serde_json::from_slice(&fs::read(team.path("change.json")).unwrap()).unwrap();
    let root = serde_json::to_vec_pretty(&change["root"]).unwrap();
    fs::write(team.path("evil/env/prod/metadata/2.root.json"), root).unwrap();
    let kept = keep(&team, "prod");
    put_back(&team, "prod", &team.path("evil/env/prod"));
    let vouched = fs::read(team.path("ann/prod.trust")).unwrap();
    let there = keep(&team, "dev");
    for words in [
        &["env", "root", "publish", "change.json"][..],
        &["env", "refresh", "prod"],
    ] {
        team.run("ann", words).expect(3);
    }
    let refused = team.run("ann", &["env", "root", "publish", "change.json"]);
    says(
        &refused.expect(3),
        &["this is not the environment prod that was vouched for"],
    );
    assert!(same(
        &team.path("store/env/prod"),
        &team.path("evil/env/prod")
    ));

    // One that begins anew where the right one is gone.
    fs::remove_dir_all(team.path("store/env/prod")).unwrap();
    fs::remove_dir_all(team.path("evil")).unwrap();
    evil(&[
        "env",
        "init",
        "prod",
        "--plain",
        "--online",
        "eve/stolen.pub",
        "-o",
        "new.json",
    ]);
    let refused = team
        .run("ann", &["env", "root", "publish", "new.json"])
        .expect(3);
    says(
        &refused,
        &[
            "another environment prod than the one that was vouched for",
            "--from new.json",
        ],
    );
    assert!(!team.path("store/env/prod").exists());
    assert_eq!(fs::read(team.path("ann/prod.trust")).unwrap(), vouched);
    fixtures::copy(&kept, &team.path("store/env/prod"));
    team.run("ann", &["env", "refresh", "prod"]).expect(0);
    // Unless somebody says that there are two of that name.
    let (_, root) = refused.stderr.split_once("its first root is ").unwrap();
    let (root, _) = root.split_once(',').unwrap();
    let trust = ["env", "trust", "prod", root, "--from", "new.json"];
    team.run("ann", &trust).expect(0);
    let publish = ["env", "root", "publish", "new.json", "--store", "third"];
    team.run("ann", &publish).expect(0);
    // Who has no root key of it does not vouch for it by looking.
    let part = |name: &str| -> Value {
        let file = team.path("third/env/prod/metadata").join(name);
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let made = serde_json::json!({
        "schema": 1, "environment": "prod",
        "root": part("1.root.json"), "targets": part("1.targets.json"),
    });
    fs::write(team.path("made.json"), made.to_string()).unwrap();
    for show in [&[][..], &["--show"]] {
        let words = [&publish[..3], &["made.json"], &publish[4..], show].concat();
        let said = team.run("zoe", &words).expect(0);
        says(&said, &["was published already"]);
        assert!(!team.path("zoe/prod.trust").exists());
    }

    // What a name means is not taken from an environment of hers either.
    team.run("eve", &["env", "init", "qa", "--plain", "-o", "qa.json"])
        .expect(0);
    let root = fs::read(team.path("store/env/dev/metadata/1.root.json")).unwrap();
    let root = store::Sha256::of(&root).to_string();
    team.run("eve", &["env", "trust", "dev", &root]).expect(0);
    team.run("eve", &["promote", "dev/web", "--to", "qa"])
        .expect(0);
    let approve = |image: &str| {
        let words = ["approve", image, "--for", "prod", "--key", "ann"];
        team.run("ann", &words)
    };
    for image in ["qa/web", "web"] {
        says(
            &approve(image).expect(3),
            &["nobody here has vouched for the environment qa"],
        );
    }
    let approved = approve("dev/web").expect(0);
    says(&approved, &["qa/web/1, which nobody here has vouched for"]);
    assert!(same(&team.path("store/env/dev"), &there));
}

/// An approval is for one environment, and not for another of its name.
#[test]
fn an_approval_is_for_one_environment() {
    let team = team();
    let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    // Another store has a prod of its own, with the same people.
    let there = |words: &[&str]| {
        let words = [words, &["--store", "second"]].concat();
        team.run("ann", &words)
    };
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    let other = ["-o", "second.json", "--root-days", "300"];
    there(&[&init[..], &other].concat()).expect(0);
    let promote = ["promote", "dev/web", "--to", "prod"];
    let over = [&promote[..], &["--source", "store"]].concat();
    says(
        &there(&over).expect(3),
        &["approvals: 0 of 1; wanted of ann"],
    );
    team.run("ann", &promote).expect(0);
    assert!(!team.path("prod-web-1.json").exists());
    // One for an environment of elsewhere names no root.
    let elsewhere = [&approve[..], &["--elsewhere"]].concat();
    team.run("ann", &elsewhere).expect(0);
    there(&[&promote[..], &["--source", "store"]].concat()).expect(0);
}

/// A change of root that was interrupted says how it goes on, and is not begun where no file can
/// keep it.
#[test]
fn an_interrupted_change_of_root_is_explained() {
    let team = team();
    team.key("ann", "next");
    let mut rotate = vec!["env", "rotate-key", "prod"];
    rotate.extend(["--old", "prod.online", "--new", "next"]);
    let mut command = team.command("ann");
    let nowhere = Ran::of(command.args(&rotate).current_dir("/proc"));
    assert_ne!(nowhere.code, 0);
    says(
        &nowhere,
        &["kept in a file until it is published: --output FILE"],
    );
    assert!(!team.path("store/env/prod/metadata/2.root.json").exists());

    let timestamp = team.path("store/env/prod/metadata/timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    let seen = fs::read(team.path("ann/prod.seen")).unwrap();
    let propose = ["env", "root", "propose", "prod", "-o", "change.json"];
    let change = ["--add", "online=next", "--remove", "online=prod.online"];
    team.run("ann", &[&propose[..], &change].concat()).expect(0);
    let publish = ["env", "root", "publish", "change.json"];
    team.run("ann", &publish).expect(0);
    // As if she had been interrupted before the timestamp.
    fs::write(&timestamp, before).unwrap();
    fs::write(team.path("ann/prod.seen"), seen).unwrap();
    for words in [&["env", "status", "prod"][..], &["env", "refresh", "prod"]] {
        let said = team.run("ann", words);
        assert_ne!(said.code, 0);
        says(
            &said,
            &[
                "root 2 was interrupted: imgbuild env root publish",
                "prod-root-2.json",
            ],
        );
    }
    team.run("ann", &publish).expect(0);
    team.run("ann", &["env", "status", "prod"]).expect(0);

    // One that leaves what can be opened, and was seen like that.
    let before = fs::read(&timestamp).unwrap();
    let propose = ["env", "root", "propose", "prod", "-o", "shorter.json"];
    let change = ["--timestamp-days", "2"];
    team.run("ann", &[&propose[..], &change].concat()).expect(0);
    let publish = ["env", "root", "publish", "shorter.json"];
    team.run("ann", &publish).expect(0);
    fs::write(&timestamp, before).unwrap();
    team.run("ann", &publish).expect(0);
    team.run("ann", &["env", "refresh", "prod"]).expect(0);
}

/// What was carried to a node by hand counts by the keys of today, and by what the node knows.
#[test]
fn a_carried_tarball_is_held_against_what_the_node_knows() {
    let team = team();
    fixtures::copy(&team.path("ann"), &team.path("thief"));
    let export = |who: &str, image: &str, file: &str| {
        let words = [
            "export", image, "--format", "tar", "-o", file, "--env", "dev",
        ];
        team.run(who, &words).expect(0);
    };
    export("ann", "dev/web/1", "web-1.tar");
    export("thief", "dev/web/2", "web-2.tar");
    team.run(
        "ann",
        &["env", "root", "save", "dev", "-o", "dev.root.json"],
    )
    .expect(0);
    let node = |words: &[&str]| {
        let mut command = std::process::Command::new(imgnode());
        command
            .current_dir(team.path(""))
            .args(["--state", "state"]);
        Ran::of(command.args(words))
    };
    let url = team.path("store");
    let url = url.to_str().unwrap();
    node(&[
        "init",
        "--env",
        "dev",
        "--repo",
        url,
        "--root",
        "dev.root.json",
    ])
    .expect(0);
    let install = |file: &str| node(&["build-schroot", file, "Web", "vg", "web", "1G", "ext4"]);

    // The key with which the thief signed is replaced; the node has not heard of it.
    team.key("ann", "targets2");
    let mut rotate = vec!["env", "rotate-key", "dev"];
    rotate.extend(["--old", "dev.targets", "--new", "targets2"]);
    team.run("ann", &rotate).expect(0);
    says(
        &install("web-2.tar").expect(3),
        &["0 of 1 signatures that count"],
    );

    // Revoked, which the node heard; then the store says nothing any more.
    fs::remove_dir_all(team.path("again")).ok();
    export("ann", "dev/web/1", "web-1.tar");
    let revoke = ["revoke", "dev/web/1", "--in", "dev", "--reason", "hole"];
    team.run("ann", &revoke).expect(0);
    says(&install("web-1.tar").expect(3), &["was revoked in dev"]);
    let timestamp = team.path("store/env/dev/metadata/timestamp.json");
    fs::write(&timestamp, "<html>").unwrap();
    says(
        &install("web-1.tar").expect(3),
        &["its last word counts", "was revoked in dev"],
    );
}
