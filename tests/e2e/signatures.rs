//! What somebody signed stays, and counts for what they were shown.

use std::fs;

use serde_json::{Value, json};
use tests::binaries::{Ran, imgbuild};
use tests::terminal::Terminal;

use crate::team::{Team, says};

/// What others have signed is not lost because somebody begins again, and what was published is
/// known as that, however often it is brought.
#[test]
fn signatures_in_a_file_are_kept() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    let (ann, bob) = (team.key("ann", "ann"), team.key("bob", "bob"));
    let policy = format!("from = [\"stagin\"]\n[keys]\nann = \"{ann}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let mut init = vec!["env", "init", "prod", "--plain", "--root", "ann"];
    init.extend(["--targets", "ann", "--targets", &bob]);
    init.extend(["--targets-threshold", "2"]);
    // Who only looks makes no key, and hears of a name that nothing has.
    let look = [&init[..], &["--policy", "policy.toml", "--show"]].concat();
    says(
        &team.run("ann", &look).expect(0),
        &[
            "the key prod.online would be made",
            "`from` of the policy names stagin, and this store has no such environment",
            "nothing was signed",
        ],
    );
    assert!(!team.path("ann/prod.online.pem").exists());
    team.run("ann", &init).expect(0);
    let file = "prod-root-1.json";
    // Begun again by the only one who has signed.
    team.run("ann", &init).expect(0);
    let early = ["env", "root", "publish", file];
    says(
        &team.run("ann", &early).expect(3),
        &[
            "signed as targets: 1 of 2, by ann",
            &format!("could sign: {bob}"),
            "who signs: imgbuild env root sign prod-root-1.json",
        ],
    );
    team.run("bob", &["env", "root", "sign", file]).expect(0);
    let both = fs::read(team.path(file)).unwrap();
    let kept = |words: &[&str], file: &str, says_how: &str| {
        let before = fs::read(team.path(file)).unwrap();
        let refused = team.run("ann", words).expect(3);
        let there = format!("{file} is there already");
        says(&refused, &[&there, &format!("{says_how} {file}")]);
        assert_eq!(fs::read(team.path(file)).unwrap(), before);
    };
    kept(&init, file, "sign that one: imgbuild env root sign");
    assert_eq!(fs::read(team.path(file)).unwrap(), both);
    team.run("ann", &early).expect(0);
    for again in [&early[..], &["env", "root", "sign", file]] {
        let said = team.run("ann", again).expect(0);
        says(&said, &["the change of prod: was published already"]);
    }

    // The same of releases, whose file a stranger to the environment does not sign.
    let fingerprint = |env: &str| {
        let saved = ["env", "root", "save", env, "-o", "saved.json"];
        let note = team.run("ann", &saved).expect(0).stderr;
        note.trim().rsplit(' ').next().unwrap().to_owned()
    };
    for env in ["dev", "prod"] {
        let trust = ["env", "trust", env, &fingerprint(env)];
        team.run("bob", &trust).expect(0);
    }
    let promote = ["promote", "dev/web", "--to", "prod"];
    team.run("bob", &promote).expect(0);
    let file = "prod-web-1.json";
    kept(&promote, file, "sign that one: imgbuild promote --sign");
    fs::write(team.path("note.txt"), "mine").unwrap();
    let over = [&promote[..], &["-o", "note.txt"]].concat();
    says(
        &team.run("ann", &over).expect(3),
        &["note.txt is there already", "no change that waits"],
    );
    team.key("ann", "zoe");
    let sign = ["promote", "--sign", file];
    for words in [
        [&sign[..], &["--key", "zoe"]].concat(),
        [&promote[..], &["--key", "zoe", "-o", "z.json"]].concat(),
    ] {
        let refused = team.run("ann", &words).expect(3);
        says(
            &refused,
            &["the key zoe does not count for it", "could sign: "],
        );
    }
    assert!(!team.path("z.json").exists());
    team.run("ann", &sign).expect(0);
    for again in [&sign[..], &["env", "root", "publish", file]] {
        let said = team.run("ann", again).expect(0);
        says(&said, &["the change of prod: was published already"]);
    }
    let typo = team.run("ann", &["promote", "dev/web", "--to", "prdo"]);
    says(&typo.expect(1), &["prdo"]);
}

/// Two who sign one file at the same time both have signed it.
#[test]
fn two_sign_one_file_at_once() {
    let team = two_who_release();
    let file = "change.json";
    let propose = ["env", "root", "propose", "prod", "-o", file];
    team.run("ann", &propose).expect(0);
    let bob = team.key("bob", "bob2");
    let add = format!("targets={bob}");
    let sign = |who: &str, words: &str| {
        let line = format!("{} {words}", imgbuild().display());
        Terminal::start(&line, &team.command(who))
    };
    let both = [&propose[..], &["--add", &add]].concat();
    fs::remove_file(team.path(file)).unwrap();
    team.run("eve", &["env", "trust", "prod", &root_of(&team, "prod")])
        .expect(0);
    team.run("eve", &both).expect(0);
    let mut screen = sign("ann", &format!("env root sign {file}"));
    assert!(screen.shows("sign this with ann? [y/N] "));
    team.run("bob", &["env", "root", "sign", file]).expect(0);
    screen.type_keys("y\n");
    let (code, said) = screen.end();
    assert_eq!(code, 0, "{said}");
    let shown = team.run("bob", &["env", "root", "sign", file, "--show"]);
    says(&shown.expect(0), &["signed as root: 2 of 2"]);

    // Somebody begins another change in its place meanwhile.
    let mut screen = sign("ann", &format!("env root sign {file}"));
    assert!(screen.shows("[y/N] "));
    fs::remove_file(team.path(file)).unwrap();
    team.run("eve", &[&propose[..], &["--root-days", "100"]].concat())
        .expect(0);
    screen.type_keys("y\n");
    let (code, said) = screen.end();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("another change than the one that was shown"));

    // Both begin the same release.
    let promote = ["promote", "dev/web", "--to", "prod"];
    let mut screen = sign("ann", &promote.join(" "));
    assert!(screen.shows("sign this with ann? [y/N] "));
    team.run("bob", &promote).expect(0);
    let theirs = fs::read(team.path("prod-web-1.json")).unwrap();
    screen.type_keys("y\n");
    let (code, said) = screen.end();
    let kept = fs::read(team.path("prod-web-1.json")).unwrap();
    // Within one second both draft the same bytes, and the file has both.
    if code == 3 {
        assert!(said.contains("prod-web-1.json is there already"), "{said}");
        assert_eq!(kept, theirs);
    } else {
        assert_eq!(code, 0, "{said}");
        let both = ["promote", "--sign", "prod-web-1.json", "--show"];
        says(
            &team.run("bob", &both).expect(0),
            &["signed as targets: 2 of 2"],
        );
    }
}

/// Ann and Bob both sign roots and releases of prod; Ann has the online key.
fn two_who_release() -> Team {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    team.key("ann", "ann");
    let bob = team.key("bob", "bob");
    let mut init = vec!["env", "init", "prod", "--plain", "--root", "ann"];
    init.extend(["--root", &bob, "--root-threshold", "2"]);
    init.extend(["--targets", "ann", "--targets", &bob]);
    init.extend(["--targets-threshold", "2"]);
    team.run("ann", &init).expect(0);
    let file = "prod-root-1.json";
    team.run("bob", &["env", "root", "sign", file]).expect(0);
    team.run("ann", &["env", "root", "publish", file]).expect(0);
    for env in ["dev", "prod"] {
        let trust = ["env", "trust", env, &root_of(&team, env)];
        team.run("bob", &trust).expect(0);
    }
    team
}

fn root_of(team: &Team, env: &str) -> String {
    let saved = ["env", "root", "save", env, "-o", "saved.json"];
    let note = team.run("ann", &saved).expect(0).stderr;
    note.trim().rsplit(' ').next().unwrap().to_owned()
}

/// Of two changes of one version that enough have signed, the first to be published counts.
#[test]
fn a_second_root_of_a_version_is_not_published() {
    let team = two_who_release();
    let propose = |file: &str, days: &str| {
        let words = ["env", "root", "propose", "prod", "-o", file];
        team.run("ann", &[&words[..], &["--root-days", days]].concat())
            .expect(0);
        team.run("bob", &["env", "root", "sign", file]).expect(0);
    };
    propose("one.json", "100");
    propose("two.json", "200");
    let publish = |file: &str| team.run("ann", &["env", "root", "publish", file]);
    says(
        &team
            .run(
                "ann",
                &["env", "root", "publish", "one.json", "--key", "ann"],
            )
            .expect(3),
        &["ann is no online key of prod", "prod.online"],
    );
    publish("one.json").expect(0);
    let root = fs::read(team.path("store/env/prod/metadata/2.root.json")).unwrap();
    for words in [&[][..], &["--show"]] {
        let words = [&["env", "root", "publish", "two.json"], words].concat();
        says(
            &team.run("ann", &words).expect(3),
            &["root 2 of prod is another one", "propose it again"],
        );
    }
    says(
        &team
            .run("bob", &["env", "root", "sign", "two.json"])
            .expect(3),
        &["is version 2, and the next one of prod is 3"],
    );
    let there = fs::read(team.path("store/env/prod/metadata/2.root.json")).unwrap();
    assert_eq!(there, root);
    // A file that is ahead of a store is not written over there.
    let copied = std::process::Command::new("cp")
        .args(["-a", "store", "behind"])
        .current_dir(team.path("."))
        .status();
    assert!(copied.unwrap().success());
    propose("three.json", "300");
    publish("three.json").expect(0);
    propose("ahead.json", "100");
    let again = ["env", "root", "propose", "prod", "-o", "ahead.json"];
    let behind = |words: &[&str]| {
        let mut command = team.command("bob");
        Ran::of(
            command
                .env("IMGBUILD_STORE", team.path("behind"))
                .args(words),
        )
    };
    let before = fs::read(team.path("ahead.json")).unwrap();
    fs::remove_file(team.path("bob/prod.seen")).unwrap();
    says(
        &behind(&again).expect(3),
        &["ahead.json is there already", "version 4"],
    );
    assert_eq!(fs::read(team.path("ahead.json")).unwrap(), before);
    // Whoever watches notices another root of a version that it has seen.
    team.key("bob", "notary");
    let witness = ["env", "witness", "prod", "--key", "notary"];
    team.run("bob", &witness).expect(0);
    let forged = team.path("store/env/prod/metadata/3.root.json");
    let text = fs::read_to_string(&forged).unwrap();
    fs::write(&forged, text.replacen('\n', " \n", 1)).unwrap();
    says(
        &team.run("bob", &witness).expect(3),
        &["prod is not what was seen on", "root 3 was"],
    );
}

/// Files that people are handed replace only files of their kind.
#[test]
fn files_of_another_kind_are_not_replaced() {
    let team = two_who_release();
    let promote = ["promote", "dev/web", "--to", "prod"];
    team.run("ann", &promote).expect(0);
    let file = "prod-web-1.json";
    team.run("bob", &["promote", "--sign", file]).expect(0);
    let draft = fs::read(team.path(file)).unwrap();
    team.key("bob", "notary");
    team.key("bob", "other");
    for words in [
        &["env", "root", "save", "prod", "-o", file][..],
        &["env", "log", "prod", "--export", file],
        &["env", "witness", "prod", "--key", "notary", "-o", file],
    ] {
        let there = [file, "is there already"].join(" ");
        says(
            &team.run("bob", words).expect(3),
            &[&there, "something else"],
        );
        assert_eq!(fs::read(team.path(file)).unwrap(), draft);
    }
    team.run("ann", &["env", "root", "publish", file]).expect(0);
    for (who, code) in [("notary", 0), ("notary", 0), ("other", 3)] {
        let words = ["env", "witness", "prod", "--key", who, "-o", "seen.json"];
        team.run("bob", &words).expect(code);
    }
    let log = ["env", "log", "prod", "--export", "log.json"];
    team.run("ann", &log).expect(0);
    team.run("ann", &log).expect(0);
    // Each of them says what it is where another one is wanted.
    for (words, hint) in [
        (
            &["promote", "--sign", "seen.json"][..],
            "env witness ENV --add",
        ),
        (&["env", "root", "sign", "log.json"], "an exported log"),
        (
            &["env", "witness", "prod", "--add", file],
            "waits for signatures",
        ),
        (
            &["env", "log", "prod", "--from", "seen.json"],
            "a signed statement",
        ),
        (&["promote", "--sign", "saved.json"], "published metadata"),
    ] {
        says(&team.run("ann", words).expect(3), &[hint]);
    }
    // An exported file that somebody else signed as well.
    let export = |image: &str| team.run("ann", &["export", image, "-o", "web.tar"]);
    export("prod/web/1").expect(0);
    let statement = "web.tar.dsse.json";
    team.run("bob", &["export", "--sign", statement]).expect(0);
    export("prod/web/1").expect(0);
    team.import(&team.tree("one", "2.0"));
    team.run("ann", &promote).expect(0);
    let file = "prod-web-2.json";
    team.run("bob", &["promote", "--sign", file]).expect(0);
    team.run("ann", &["env", "root", "publish", file]).expect(0);
    let signed = fs::read(team.path(statement)).unwrap();
    says(
        &export("prod/web/2").expect(3),
        &[
            "web.tar.dsse.json is there already",
            "signed it for another file",
        ],
    );
    assert_eq!(fs::read(team.path(statement)).unwrap(), signed);
    let other = [
        "export",
        "prod/web/1",
        "--format",
        "tar.zst",
        "-o",
        "web.tar",
    ];
    says(
        &team.run("ann", &other).expect(3),
        &["web.tar.dsse.json is there already"],
    );
}

/// An environment that was begun and not finished is finished as it was begun, or not at all; and
/// nobody is shown less than what a release starts.
#[test]
fn what_was_interrupted_is_finished_as_it_began() {
    let team = Team::new();
    let init = ["env", "init", "qa", "--plain"];
    team.run("ann", &init).expect(0);
    let root = fs::read(team.path("store/env/qa/metadata/1.root.json")).unwrap();
    let timestamp = team.path("store/env/qa/metadata/timestamp.json");
    fs::remove_file(&timestamp).unwrap();
    let other = [&init[..], &["--timestamp-days", "3", "-o", "other.json"]].concat();
    says(
        &team.run("ann", &other).expect(1),
        &[
            "another environment qa was begun",
            "repeat the command that began it",
        ],
    );
    says(
        &team
            .run("eve", &[&init[..], &["-o", "eve.json"]].concat())
            .expect(1),
        &["another environment qa was begun"],
    );
    assert!(!timestamp.exists() && !team.path("eve/qa.trust").exists());
    says(
        &team.run("ann", &init).expect(0),
        &["an interrupted `env init` of qa is finished", "published"],
    );
    let finished = fs::read(team.path("store/env/qa/metadata/1.root.json")).unwrap();
    assert_eq!(finished, root);
    assert!(!team.path("qa-root-1.json").exists());

    let team = two_who_release();
    let promote = ["promote", "dev/web", "--to", "prod"];
    says(
        &team.run("ann", &promote).expect(0),
        &["web is new in prod", "bookworm amd64, dated 2"],
    );
    // Bob believes dev, which is where it comes from, or is told that he does not.
    let sign = ["promote", "--sign", "prod-web-1.json", "--show"];
    let told = "warning: that web comes from dev 1 is what the file says";
    let shown = team.run("bob", &sign).expect(0);
    assert!(!shown.stderr.contains(told), "{}", shown.stderr);
    fs::remove_file(team.path("bob/dev.trust")).unwrap();
    says(
        &team.run("bob", &sign).expect(0),
        &[told, "vouched for dev"],
    );
}

/// Nothing is begun over an environment of which a file is missing, and a list of releases makes
/// nobody known.
#[test]
fn what_a_hostile_store_shows_is_not_signed() {
    let team = two_who_release();
    let promote = ["promote", "dev/web", "--to", "prod"];
    team.run("ann", &promote).expect(0);
    let file = "prod-web-1.json";
    team.run("bob", &["promote", "--sign", file]).expect(0);
    team.run("ann", &["env", "root", "publish", file]).expect(0);
    for env in ["dev", "prod"] {
        let timestamp = format!("store/env/{env}/metadata/timestamp.json");
        let timestamp = team.path(&timestamp);
        let kept = fs::read(&timestamp).unwrap();
        fs::remove_file(&timestamp).unwrap();
        let root = team.path(&format!("store/env/{env}/metadata/1.root.json"));
        let before = fs::read(&root).unwrap();
        let begun = if env == "dev" {
            team.tree("two", "2.0");
            let import = ["import", "two", "--name", "web", "--arch", "amd64"];
            team.run("ann", &import)
        } else {
            let init = ["env", "init", "prod", "--plain", "-o", "new.json"];
            team.run("ann", &init)
        };
        assert_ne!(begun.code, 0);
        says(&begun, &["no timestamp.json", "another copy"]);
        assert_eq!(fs::read(&root).unwrap(), before);
        fs::write(&timestamp, kept).unwrap();
    }

    // Somebody else's root over the same list of releases: Bob has signed the list alone.
    let mine = team.path("bob/prod.trust");
    let vouched = fs::read(&mine).unwrap();
    fs::remove_file(&mine).unwrap();
    let mut evil = vec!["env", "init", "prod", "--plain", "--store", "evil"];
    evil.extend(["-o", "evil-root.json"]);
    team.run("eve", &evil).expect(0);
    let at = |name: &str| team.path("evil/env/prod/metadata").join(name);
    let read = |path: &std::path::Path| -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let released = team.path("store/env/prod/metadata/2.targets.json");
    let signatures = read(&released)["signatures"].as_array().unwrap().len();
    assert_eq!(signatures, 2);
    fs::copy(&released, at("2.targets.json")).unwrap();
    let keys = team.path("eve");
    let sign = |name: &str, signed: &Value| {
        let pair = store::keys::KeyFile::at(keys.join(name)).load().unwrap();
        let message = store::json::canonical(signed).unwrap();
        let signature = store::keys::Signer::sign(&pair, &message).unwrap();
        let id = store::keys::Signer::public(&pair).id();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "signatures": [{ "keyid": id, "sig": hex }], "signed": signed })
    };
    // Her root lists those who signed the real one's releases.
    let mut root = read(&at("1.root.json"))["signed"].clone();
    let ours = read(&team.path("store/env/prod/metadata/1.root.json"))["signed"].clone();
    for (id, key) in ours["keys"].as_object().unwrap() {
        root["keys"][id] = key.clone();
    }
    root["roles"]["targets"] = ours["roles"]["targets"].clone();
    let write = |name: &str, value: &Value| {
        let bytes = serde_json::to_vec_pretty(value).unwrap();
        fs::write(at(name), &bytes).unwrap();
        json!({
            "version": name.split('.').next().unwrap().parse::<u64>().unwrap_or(1),
            "length": bytes.len(),
            "hashes": { "sha256": store::Sha256::of(&bytes).hex() },
        })
    };
    write("1.root.json", &sign("prod.root.pem", &root));
    let mut snapshot = read(&at("1.snapshot.json"))["signed"].clone();
    let bytes = fs::read(&released).unwrap();
    snapshot["meta"]["targets.json"] = json!({
        "version": 2, "length": bytes.len(),
        "hashes": { "sha256": store::Sha256::of(&bytes).hex() },
    });
    let pin = write("1.snapshot.json", &sign("prod.online.pem", &snapshot));
    let mut timestamp = read(&at("timestamp.json"))["signed"].clone();
    timestamp["meta"]["snapshot.json"] = pin;
    write("timestamp.json", &sign("prod.online.pem", &timestamp));
    team.import(&team.tree("one", "3.0"));
    let mut release = promote.to_vec();
    release.extend(["--source", "store", "--store", "evil", "-o", "evil.json"]);
    says(
        &team.run("bob", &release).expect(3),
        &["nobody here has vouched for the environment prod"],
    );
    assert!(!team.path("evil.json").exists());
    fs::write(&mine, vouched).unwrap();
    // Another one of that name can take the place of the first, and of it alone.
    let evil = store::Sha256::of(&fs::read(at("1.root.json")).unwrap()).to_string();
    let mut trust = vec!["env", "trust", "prod", &evil, "--store", "evil"];
    team.run("bob", &trust).expect(0);
    assert_eq!(fs::read_to_string(&mine).unwrap().lines().count(), 2);
    trust.push("--only");
    team.run("bob", &trust).expect(0);
    assert_eq!(fs::read_to_string(&mine).unwrap().trim(), evil);
}
