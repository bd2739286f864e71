//! Whoever signs has seen what they sign: on a terminal, by files, by names.

use std::fs;

use tests::binaries::{Ran, imgbuild};
use tests::terminal::Terminal;

use crate::team::{Team, says};

/// What changes is shown, then asked, and only then is the passphrase wanted.
#[test]
fn a_change_is_shown_before_it_is_signed() {
    let team = Team::new();
    fs::write(team.path("word"), "open up\n").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(team.path("word"), private).unwrap();
    let new = ["key", "new", "ann", "--passphrase-file", "word"];
    let ann = team.run("ann", &new).expect(0).stdout.trim().to_owned();
    let init = [
        "env",
        "init",
        "prod",
        "--root",
        "ann",
        "--targets",
        "ann",
        "--plain",
        "--passphrase-file",
        "word",
    ];
    let made = team.run("ann", &init).expect(0);
    says(&made, &[&format!("root: key ann {ann} is added")]);
    let bob = team.key("bob", "bob");
    let add = format!("targets={bob}");
    // Whoever proposes has no key.
    fs::create_dir(team.path("eve")).unwrap();
    let trust = ["env", "trust", "prod", made.stdout.trim()];
    team.run("eve", &trust).expect(0);
    let propose = [
        "env",
        "root",
        "propose",
        "prod",
        "--add",
        &add,
        "-o",
        "change.json",
    ];
    team.run("eve", &propose).expect(0);
    let before = fs::read(team.path("change.json")).unwrap();
    let shown = team
        .run("ann", &["env", "root", "sign", "change.json", "--show"])
        .expect(0);
    says(
        &shown,
        &[
            &format!("targets: key {bob} is added"),
            "nothing was signed",
        ],
    );

    let line = format!("{} env root sign change.json", imgbuild().display());
    for (answer, signs) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let mut screen = Terminal::start(&line, &team.command("ann"));
        assert!(screen.shows(&format!("targets: key {bob} is added")));
        assert!(screen.shows("root 2 runs out at"));
        assert!(screen.shows(&format!("ann {ann}")));
        assert!(screen.shows("sign this with ann? [y/N] "));
        screen.type_keys(answer);
        if signs {
            assert!(screen.shows("passphrase of the key ann: "));
            screen.type_keys("open up\n");
        }
        let (code, said) = screen.end();
        assert_eq!(code, i32::from(!signs), "{said}");
        assert_eq!(said.contains("passphrase"), signs, "{said}");
        let after = fs::read(team.path("change.json")).unwrap();
        assert_eq!(after != before, signs, "{said}");
    }
    // Nobody is asked who said so before.
    let line = format!("{line} --yes --passphrase-file word");
    let (code, said) = Terminal::start(&line, &team.command("ann")).end();
    assert_eq!(code, 0, "{said}");
}

/// The policy that counts is the one in force when a release is published.
#[test]
fn an_older_draft_meets_the_policy_of_today() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    team.run("ann", &["env", "init", "prod", "--plain"])
        .expect(0);
    // Signed, and kept: whoever signs does not have the online key.
    fs::create_dir(team.path("bob")).unwrap();
    for file in ["prod.targets.pem", "prod.targets.pub"] {
        fs::copy(team.path("ann").join(file), team.path("bob").join(file)).unwrap();
    }
    let promote = ["promote", "dev/web/1", "--to", "prod", "-o", "draft.json"];
    let fingerprint = |env: &str| {
        let saved = ["env", "root", "save", env, "-o", "saved.json"];
        let note = team.run("ann", &saved).expect(0).stderr;
        note.trim().rsplit(' ').next().unwrap().to_owned()
    };
    for env in ["dev", "prod"] {
        team.run("bob", &["env", "trust", env, &fingerprint(env)])
            .expect(0);
    }
    let kept = team.run("bob", &promote).expect(0);
    says(&kept, &["signed as targets: 1 of 1"]);
    let policy = "approvals = {}\n[keys]\nann = \"KEY\"\n";
    let ann = team.key("ann", "ann");
    team.change_policy(&policy.replace("KEY", &ann));
    for publish in [
        &["env", "root", "publish", "draft.json"][..],
        &["promote", "--sign", "draft.json"],
    ] {
        let refused = team.run("ann", publish).expect(3);
        says(
            &refused,
            &["does not meet the policy of prod", "approvals: 0 of 1"],
        );
    }
    team.run(
        "ann",
        &["approve", "dev/web/1", "--for", "prod", "--key", "ann"],
    )
    .expect(0);
    team.run("ann", &["env", "root", "publish", "draft.json"])
        .expect(0);
    // A list of names that names nobody.
    let refused = team.propose_policy("approvals = { keys = [] }\n");
    assert_ne!(refused.code, 0);
    says(&refused, &["`keys = []` names nobody"]);
}

/// A store that shows one history to some and another to the rest is found out, and where the
/// policy asks for it nothing is released that nobody else has seen the way to.
#[test]
fn a_witness_finds_another_history() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    team.run("ann", &["env", "init", "prod", "--plain"])
        .expect(0);
    let notary = team.key("notary", "notary");
    team.change_policy(&format!(
        "witnessed = {{ keys = [\"notary\"] }}\n[keys]\nnotary = \"{notary}\"\n"
    ));
    let promote = |seq: &str| {
        team.run(
            "ann",
            &["promote", &format!("dev/web/{seq}"), "--to", "prod"],
        )
    };
    let refused = promote("1").expect(3);
    says(
        &refused,
        &["witnessed: 0 of 1; wanted of notary: imgbuild env witness prod"],
    );

    // The notary has not met this environment, then has.
    let witness = ["env", "witness", "prod", "--key", "notary"];
    says(
        &team.run("notary", &witness).expect(3),
        &["nobody here has vouched"],
    );
    let saved = ["env", "root", "save", "prod", "-o", "saved.json"];
    let note = team.run("ann", &saved).expect(0).stderr;
    let fingerprint = note.trim().rsplit(' ').next().unwrap().to_owned();
    team.run("notary", &["env", "trust", "prod", &fingerprint])
        .expect(0);
    let seen = team.run("notary", &witness).expect(0);
    says(&seen, &["prod is seen for the first time"]);
    assert!(seen.stdout.contains("has 0 entries"), "{}", seen.stdout);
    promote("1").expect(0);
    // That was a further entry.
    team.tree("two", "1.1");
    team.import(&team.path("two"));
    promote("2").expect(3);

    // By files, from a machine that reaches no store.
    let log = ["env", "log", "prod", "--export", "log.json"];
    team.run("ann", &log).expect(0);
    let alone = |who: &str, words: &[&str]| {
        let mut command = team.command(who);
        Ran::of(command.env("IMGBUILD_STORE", team.path("none")).args(words))
    };
    let shown = alone("notary", &["env", "log", "prod", "--from", "log.json"]).expect(0);
    assert!(shown.stdout.contains("promote  web/1"), "{}", shown.stdout);
    let by_file = [
        "env", "witness", "prod", "--key", "notary", "--from", "log.json",
    ];
    let seen = alone("notary", &[&by_file[..], &["-o", "seen.json"]].concat()).expect(0);
    says(
        &seen,
        &["prod goes on from entry 0", "promote  web/1", " by "],
    );
    team.run("ann", &["env", "witness", "prod", "--add", "seen.json"])
        .expect(0);
    let copied = std::process::Command::new("cp")
        .args(["-a", "store", "fork"])
        .current_dir(team.path("."))
        .status();
    assert!(copied.unwrap().success());
    promote("2").expect(0);
    team.run("notary", &witness).expect(0);
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    assert!(status.contains("witness    notary  entry 2, 2"), "{status}");

    // Elsewhere the second release was another one.
    let fork = |who: &str, words: &[&str]| {
        let mut command = team.command(who);
        Ran::of(command.env("IMGBUILD_STORE", team.path("fork")).args(words))
    };
    team.tree("evil", "6.6");
    let import = ["import", "evil", "--name", "web", "--arch", "amd64"];
    // Whoever means to deceive forgets what they have seen.
    fs::remove_file(team.path("ann/prod.seen")).unwrap();
    fork("ann", &import).expect(0);
    fork("ann", &["promote", "dev/web/3", "--to", "prod"]).expect(0);
    let refused = fork("notary", &witness).expect(3);
    says(&refused, &["prod is not what was seen on", "targets 3 was"]);
    // And the state before is older than what was seen.
    says(
        &alone("notary", &[&by_file[..], &["-o", "again.json"]].concat()).expect(3),
        &["is at"],
    );
    assert!(!team.path("again.json").exists());
    let clean = team.run("ann", &["store", "fsck"]).expect(0);
    assert!(!clean.stderr.contains("witness"), "{}", clean.stderr);
}

/// Nobody signs for a name that means two things.
#[test]
fn a_name_with_two_meanings_is_not_approved() {
    let team = Team::new();
    let one = team.import(&team.tree("one", "1.0"));
    team.key("ann", "ann");
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "dev/web/1", "--to", "staging"])
        .expect(0);
    let approve = |image: &str| {
        let words = ["approve", image, "--for", "prod", "--key", "ann"];
        team.run("ann", &[&words[..], &["--elsewhere"]].concat())
    };
    let same = approve("web").expect(0);
    says(
        &same,
        &[&one, "released as dev/web/1", "released as staging/web/1"],
    );
    let two = team.import(&team.tree("one", "2.0"));
    let refused = approve("web").expect(2);
    let choices = [
        format!("dev/web/2 is {two}"),
        format!("staging/web/1 is {one}"),
    ];
    says(
        &refused,
        &[&choices[0], &choices[1], "name the one that you mean"],
    );
    says(&approve("staging/web").expect(0), &[&one]);
    says(&approve(&two).expect(0), &[&two, "released as dev/web/2"]);
    let shown = team.run("ann", &["show", "dev/web/1"]).expect(0).stdout;
    assert!(shown.contains(&one), "{shown}");
    let revoke = [
        "revoke",
        "staging/web/1",
        "--in",
        "staging",
        "--reason",
        "x",
    ];
    let revoked = team.run("ann", &revoke).expect(0).stdout;
    assert_eq!(revoked.trim(), one);
}

/// A key that comes or goes is in the policy as well, or that is said.
#[test]
fn a_change_of_keys_looks_at_the_policy() {
    let team = Team::new();
    let (ann, bob) = (team.key("ann", "ann"), team.key("ann", "bob"));
    let policy = format!("approvals = {{}}\n[keys]\nann = \"{ann}\"\nbob = \"{bob}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let mut init = vec!["env", "init", "prod", "--plain", "--root", "ann"];
    init.extend([
        "--targets",
        "ann",
        "--targets",
        "bob",
        "--policy",
        "policy.toml",
    ]);
    team.run("ann", &init).expect(0);
    let eve = team.key("ann", "eve");
    let mut propose = vec!["env", "root", "propose", "prod", "-o", "change.json"];
    propose.extend(["--add", "targets=eve", "--remove", "targets=bob", "--show"]);
    let shown = team.run("ann", &propose).expect(0);
    let said = [
        format!("policy: key bob {bob} is removed and still counts as bob"),
        format!("policy: key eve {eve} does not count for approvals"),
    ];
    says(&shown, &[&said[0], &said[1]]);
    // A key that takes the place of another one takes it everywhere.
    let rotate = ["env", "rotate-key", "prod", "--old", "bob", "--new", "eve"];
    let done = team.run("ann", &rotate).expect(0);
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
    let said = [
        format!("policy, gone: bob is the key {bob}"),
        format!("policy, new: eve is the key {eve}"),
    ];
    says(&done, &[&said[0], &said[1]]);
    // Also that of somebody who only approves.
    let lab = team.key("ann", "lab");
    let approver = format!("approvals = {{}}\n[keys]\nlab = \"{lab}\"\n");
    team.change_policy(&approver);
    let rotate = ["env", "rotate-key", "prod", "--old", "lab", "--new", "bob"];
    let done = team.run("ann", &rotate).expect(0);
    says(&done, &["policy, new: "]);
}

/// An approval that nobody would listen to is not made.
#[test]
fn approvals_are_for_an_environment_that_asks() {
    let team = Team::new();
    let one = team.import(&team.tree("one", "1.0"));
    let ann = team.key("ann", "ann");
    let eve = team.key("ann", "eve");
    let approve = |who: &str, key: &str, env: &str| {
        let words = ["approve", "dev/web", "--for", env, "--key", key];
        team.run(who, &words)
    };
    says(
        &approve("ann", "ann", "prod").expect(1),
        &["there is no environment prod in", "--elsewhere"],
    );
    team.run("ann", &["env", "init", "prod", "--plain"])
        .expect(0);
    says(
        &approve("ann", "ann", "prod").expect(3),
        &["the policy of prod asks for no approvals"],
    );
    let asks = "witnessed = { keys = [\"eve\"] }\napprovals = { keys = [\"ann\"] }";
    team.change_policy(&format!(
        "{asks}\n[keys]\nann = \"{ann}\"\neve = \"{eve}\"\n"
    ));
    says(
        &approve("ann", "eve", "prod").expect(3),
        &[
            "an approval by eve does not count in prod",
            "listens to ann",
        ],
    );
    let witness = ["env", "witness", "prod", "--key", "ann"];
    says(
        &team.run("ann", &witness).expect(3),
        &["ann is no witness of prod", "listens to eve"],
    );
    team.key("bob", "ann");
    says(
        &approve("bob", "ann", "prod").expect(3),
        &["nobody here has vouched for the environment prod"],
    );
    approve("ann", "ann", "prod").expect(0);
    // What is revoked is said before what is missing.
    let notary = ["env", "witness", "prod", "--key", "eve"];
    team.run("ann", &notary).expect(0);
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);
    let revoke = ["revoke", "prod/web", "--in", "prod", "--reason", "x"];
    team.run("ann", &revoke).expect(0);
    says(
        &team.run("ann", &revoke).expect(1),
        &["is revoked in prod already", "nothing is left to do"],
    );
    let gone = format!("{one} was revoked in prod");
    for refused in [
        team.run("ann", &["promote", "dev/web", "--to", "prod"]),
        approve("ann", "ann", "prod"),
    ] {
        let refused = refused.expect(3);
        says(&refused, &[&gone]);
        assert!(!refused.stderr.contains("witnessed"), "{}", refused.stderr);
    }
}

/// Of several who release at once, one wins and the others are told to try again.
#[test]
fn promotions_at_once() {
    let team = Team::new();
    for number in 0..4 {
        team.import(&team.tree(&format!("t{number}"), &format!("1.{number}")));
    }
    team.run("ann", &["env", "init", "prod", "--plain"])
        .expect(0);
    let running: Vec<_> = (1..=4)
        .map(|seq| {
            let mut command = team.command("ann");
            command.args([
                "promote",
                &format!("dev/web/{seq}"),
                "--to",
                "prod",
                "--deltas",
                "0",
            ]);
            command.stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut published = 0;
    for child in running {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => published += 1,
            code => {
                assert_eq!(code, Some(75), "{said}");
                assert!(said.contains("run the command again"), "{said}");
            }
        }
    }
    assert!(published >= 1);
    let versions = fs::read_dir(team.path("store/env/prod/metadata")).unwrap();
    let names = versions.map(|file| file.unwrap().file_name().into_string().unwrap());
    let targets = names.filter(|name| name.ends_with(".targets.json"));
    assert_eq!(targets.count(), published + 1);
}

/// Who signed is said by the keys of that time, and by name also where the key is not.
#[test]
fn signers_are_named_after_their_keys_have_gone() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    let ann = team.key("ann", "ann");
    let policy = format!("approvals = {{}}\n[keys]\nann = \"{ann}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);
    team.key("ann", "next");
    let old = ["env", "rotate-key", "prod", "--old", "prod.targets"];
    team.run("ann", &[&old[..], &["--new", "next"]].concat())
        .expect(0);
    let log = team.run("ann", &["env", "log", "prod"]).expect(0).stdout;
    assert!(log.contains("by prod.targets"), "{log}");

    // Somebody who has no key reads names from the policy, and from public halves.
    let show = ["show", "dev/web", "--attestations"];
    let said = team.run("eve", &show).expect(0).stdout;
    assert!(said.contains("by ann"), "{said}");
    let log = team.run("eve", &["env", "log", "prod"]).expect(0).stdout;
    assert!(!log.contains("prod.targets"), "{log}");
    fs::create_dir_all(team.path("eve")).unwrap();
    let public = "prod.targets.pub";
    fs::copy(team.path("ann").join(public), team.path("eve").join(public)).unwrap();
    let log = team.run("eve", &["env", "log", "prod"]).expect(0).stdout;
    assert!(log.contains("by prod.targets"), "{log}");
}
