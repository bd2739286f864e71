//! Whoever signs has seen what they sign: on a terminal, by files, by names.

use std::fs;

use tests::binaries::imgbuild;
use tests::terminal::Terminal;

use crate::promotion::{Team, says};

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
    fs::write(team.path("policy.toml"), policy.replace("KEY", &ann)).unwrap();
    let propose = [
        "env",
        "root",
        "propose",
        "prod",
        "--policy",
        "policy.toml",
        "-o",
        "root.json",
    ];
    team.run("ann", &propose).expect(0);
    team.run("ann", &["env", "root", "publish", "root.json"])
        .expect(0);
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
    fs::write(team.path("policy.toml"), "approvals = { keys = [] }\n").unwrap();
    let refused = team.run("ann", &propose);
    assert_ne!(refused.code, 0);
    says(&refused, &["`keys = []` names nobody"]);
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
    let approve =
        |image: &str| team.run("ann", &["approve", image, "--for", "prod", "--key", "ann"]);
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
