//! What somebody can do who holds one key, and what not: lines of the table in docs/promotion.md
//! that no other test shows.

use std::fs;

use crate::team::{Team, says};

/// Prod as in the operators' guide: two of three root keys decide, Sam and Tom release, and the
/// builder, which is Ann's machine, has the online key. One image waits in dev.
fn prod() -> Team {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    let key = |who: &str| team.key(who, who);
    let [r1, r2, r3] = ["r1", "r2", "r3"].map(key);
    let [sam, tom] = ["sam", "tom"].map(key);
    let builder = team.run("ann", &["key", "show", "builder"]).expect(0);
    let builder = builder.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    let policy = format!(
        "built = {{ keys = [\"ci\"] }}\napprovals = {{ keys = [\"sam\", \"tom\"] }}\n\
         [keys]\nci = \"{builder}\"\nsam = \"{sam}\"\ntom = \"{tom}\"\n"
    );
    fs::write(team.path("policy.toml"), policy).unwrap();
    let mut init = vec!["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    for root in [&r1, &r2, &r3] {
        init.extend(["--root", root]);
    }
    init.extend(["--root-threshold", "2", "--targets-threshold", "2"]);
    init.extend(["--targets", &sam, "--targets", &tom]);
    team.run("ann", &init).expect(0);
    for who in ["r1", "r2", "sam", "tom"] {
        let sign = ["env", "root", "sign", "prod-root-1.json"];
        team.run(who, &sign).expect(0);
    }
    publish(&team, "prod-root-1.json", 0);
    for env in ["dev", "prod"] {
        let saved = ["env", "root", "save", env, "-o", "saved"];
        let note = team.run("ann", &saved).expect(0).stderr;
        let root = note.trim().rsplit(' ').next().unwrap().to_owned();
        for who in ["r3", "sam", "tom"] {
            team.run(who, &["env", "trust", env, &root]).expect(0);
        }
    }
    team
}

#[track_caller]
fn publish(team: &Team, file: &str, code: i32) -> tests::binaries::Ran {
    let publish = ["env", "root", "publish", file];
    team.run("ann", &publish).expect(code)
}

fn releases(team: &Team) -> usize {
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    status.matches("  release ").count()
}

/// Neither the key of builds nor the online key nor those of dev release, revoke or decide.
#[test]
fn the_builder_and_the_online_key_only_renew() {
    let team = prod();
    team.run("ann", &["env", "refresh", "prod"]).expect(0);
    let promote = ["promote", "dev/web", "--to", "prod", "-o", "release.json"];
    // What it says itself is not enough.
    let refused = team.run("ann", &promote).expect(3);
    says(&refused, &["approvals: 0 of 1"]);
    assert!(!refused.stderr.contains("built: 0"), "{}", refused.stderr);
    let approve = ["approve", "dev/web", "--for", "prod", "--key"];
    let own = [&approve[..], &["builder"]].concat();
    says(
        &team.run("ann", &own).expect(3),
        &["an approval by builder does not count in prod"],
    );
    // Nor made in a store that does not ask, and brought along.
    team.run("ann", &["store", "copy", "store", "other", "web"])
        .expect(0);
    let listed = team
        .run("ann", &["show", "dev/web", "--json"])
        .expect(0)
        .stdout;
    let shown: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let image = shown["image"].as_str().unwrap().to_owned();
    let mut own = vec!["approve", &image, "--for", "prod", "--key", "builder"];
    own.extend(["--elsewhere", "--store", "other"]);
    team.run("ann", &own).expect(0);
    team.run("ann", &["store", "copy", "other", "store", &image])
        .expect(0);
    says(&team.run("ann", &promote).expect(3), &["approvals: 0 of 1"]);
    // Nor is it with everybody's word.
    team.run("sam", &[&approve[..], &["sam"]].concat())
        .expect(0);
    team.run("ann", &promote).expect(0);
    says(
        &publish(&team, "release.json", 3),
        &["signed as targets: 0 of 2"],
    );
    assert_eq!(releases(&team), 0);
    let change = ["env", "root", "propose", "prod", "-o", "change.json"];
    for words in [
        &["--add", "targets=builder", "--threshold", "targets=1"][..],
        &["--no-policy"],
    ] {
        team.run("ann", &[&change[..], words].concat()).expect(0);
        let refused = publish(&team, "change.json", 3);
        says(&refused, &["signed as root: 0 of 2"]);
    }

    // One of the two who release is not enough either, and two are.
    team.run("sam", &["promote", "--sign", "release.json"])
        .expect(0);
    says(
        &publish(&team, "release.json", 3),
        &["signed as targets: 1 of 2"],
    );
    team.run("tom", &["promote", "--sign", "release.json"])
        .expect(0);
    publish(&team, "release.json", 0);
    assert_eq!(releases(&team), 1);
    // What nobody has signed revokes nothing, and that is no success.
    let revoke = ["revoke", "prod/web", "--in", "prod", "--reason", "x"];
    let nobody = team.run("ann", &[&revoke[..], &["-o", "revoke.json"]].concat());
    says(&nobody.expect(1), &["nobody has signed the revocation"]);
    publish(&team, "revoke.json", 3);
    let half = team.run("sam", &[&revoke[..], &["-o", "revoke.json"]].concat());
    says(&half.expect(0), &["may still run"]);
    publish(&team, "revoke.json", 3);
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    assert!(!status.contains("revoked"), "{status}");
}

/// One root key of three does nothing; two are everything.
#[test]
fn two_of_three_root_keys_decide_and_one_does_not() {
    let team = prod();
    let eve = team.key("eve", "eve");
    let add = format!("targets={eve}");
    let policy = fs::read_to_string(team.path("policy.toml")).unwrap();
    let other = policy.replace("approvals = { keys = [\"sam\", \"tom\"] }\n", "");
    fs::write(team.path("other.toml"), other).unwrap();
    let sam = team.run("sam", &["key", "show", "sam"]).expect(0).stdout;
    let sam = sam.trim().rsplit(' ').next().unwrap();
    let remove = format!("targets={sam}");
    let mut change = vec!["env", "root", "propose", "prod", "-o", "change.json"];
    change.extend(["--policy", "other.toml", "--threshold", "targets=1"]);
    change.extend(["--add", &add, "--remove", &remove]);
    let said = team.run("ann", &change).expect(0);
    // It goes from those who release, and its word about images still counts where it is listed.
    says(
        &said,
        &[&format!("key sam {sam} is removed and still counts")],
    );
    let sign = ["env", "root", "sign", "change.json"];
    team.run("r1", &sign).expect(0);
    says(
        &publish(&team, "change.json", 3),
        &["signed as root: 1 of 2"],
    );
    team.run("r3", &sign).expect(0);
    publish(&team, "change.json", 0);
    // Nobody else is asked now.
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    assert!(
        status.contains(&eve) && !status.contains("approvals"),
        "{status}"
    );
}
