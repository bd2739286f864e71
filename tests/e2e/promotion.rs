//! Three environments through the real binary: an image is built in dev, promoted to
//! staging, refused for prod, meets its policy, is promoted there by two people, and
//! revoked.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::bench::base_work;
use tests::binaries::is_soak;
use tests::fixtures::copy_places;
use tests::rebuilt::attest_rebuilt;

use crate::team::{Team, says};

/// The whole way, with a real build, and in the soak tier a real rebuild.
#[test]
fn from_a_build_to_prod_and_back() {
    let team = Team::new();
    fs::write(
        team.path("web.toml"),
        "name = \"web\"\n[bootstrap]\nsuite = \"bookworm\"\n\
         [[test]]\nname = \"it has a shell\"\nscript = \"test -x /bin/sh\"\n",
    )
    .unwrap();
    // Ann builds; her Debian was bootstrapped before.
    copy_places(&base_work(), &team.path("work"));
    let image = team
        .run("ann", &["web.toml"])
        .expect(0)
        .stdout
        .trim()
        .to_owned();
    let ci = team.json("ann", &["key", "show", "builder", "--json"]);
    let ci = ci["public"].as_str().unwrap();
    let (ann, bob, lab) = (
        team.key("ann", "ann"),
        team.key("bob", "bob"),
        team.key("lab", "lab"),
    );
    let policy = format!(
        "built = {{ keys = [\"ci\"] }}\ntested = {{ keys = [\"ci\"] }}\n\
         rebuilt = {{ keys = [\"lab\"] }}\n\
         approvals = {{ count = 2, keys = [\"ann\", \"bob\"] }}\n\
         suites = [\"bookworm\"]\nfrom = [\"staging\"]\n\
         [keys]\nci = \"{ci}\"\nann = \"{ann}\"\nbob = \"{bob}\"\nlab = \"{lab}\"\n"
    );
    fs::write(team.path("policy.toml"), policy).unwrap();

    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    // Prod takes two of two.
    let init = [
        "env",
        "init",
        "prod",
        "--root",
        "ann",
        "--root",
        &bob,
        "--root-threshold",
        "2",
        "--targets",
        "ann",
        "--targets",
        &bob,
        "--targets-threshold",
        "2",
        "--policy",
        "policy.toml",
    ];
    let begun = team.run("ann", &init).expect(0);
    says(&begun, &["waits for more signatures", "prod-root-1.json"]);
    // A key that has no say is refused, and those that have one are named.
    let wrong = team
        .run("lab", &["env", "root", "sign", "prod-root-1.json"])
        .expect(3);
    says(
        &wrong,
        &["there is no key in hand", "signed as root: 1 of 2"],
    );
    let signed = team
        .run("bob", &["env", "root", "sign", "prod-root-1.json"])
        .expect(0);
    says(&signed, &["it has all signatures"]);
    team.run("ann", &["env", "root", "publish", "prod-root-1.json"])
        .expect(0);

    // To staging, twice: the second time there is nothing to do.
    let promoted = team
        .run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    says(&promoted, &["compared with every digest", "published"]);
    assert_eq!(promoted.stdout.trim(), image);
    let again = team
        .run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    says(&again, &["is the newest release of staging already"]);

    // Prod: refused, point by point.
    team.run("ann", &["approve", "web", "--for", "prod", "--key", "ann"])
        .expect(0);
    let refused = team
        .run("ann", &["promote", "staging/web", "--to", "prod"])
        .expect(3);
    says(
        &refused,
        &[
            "does not meet the policy of prod",
            "rebuilt: 0 of 1; wanted of lab: imgbuild rebuild",
            "approvals: 1 of 2, by ann; wanted of bob: imgbuild approve",
        ],
    );
    assert!(!refused.stderr.contains(" built: 0"), "{}", refused.stderr);
    let releases = team.json("ann", &["env", "status", "prod", "--json"]);
    assert_eq!(
        releases["environments"][0]["releases"],
        Value::Array(vec![])
    );

    // Another builder, and the second approval.
    if is_soak() {
        let rebuilt = team
            .run("lab", &["rebuild", "web", "--attest", "--key", "lab"])
            .expect(0);
        says(&rebuilt, &["the same bytes", "says so in attestations/"]);
    } else {
        attest_rebuilt(&team.path("store"), &image, &team.path("lab/lab.pem"));
    }
    let approve = ["approve", "web", "--for", "prod", "--key", "bob"];
    says(
        &team.run("bob", &approve).expect(3),
        &["nobody here has vouched for the environment dev"],
    );
    // A digest means the same whoever made the environments.
    let approve = ["approve", &image, "--for", "prod", "--key", "bob"];
    team.run("bob", &approve).expect(0);
    let said = team
        .run("ann", &["show", "web", "--attestations"])
        .expect(0)
        .stdout;
    for kind in ["built", "tested", "rebuilt", "approved"] {
        assert!(said.contains(kind), "{said}");
    }

    // Two signatures: one file.
    let half = team
        .run("ann", &["promote", "staging/web", "--to", "prod"])
        .expect(0);
    says(
        &half,
        &[
            "the policy of prod is met",
            "imgbuild promote --sign prod-web-1.json",
        ],
    );
    // Bob was not there when prod was made; he asks, and vouches.
    let root = team.root("prod");
    team.run("bob", &["env", "trust", "prod", &root]).expect(0);
    let staging = team.root("staging");
    let unknown = team
        .run("bob", &["promote", "--sign", "prod-web-1.json"])
        .expect(3);
    says(
        &unknown,
        &["nobody here has vouched for the environment staging"],
    );
    team.run("bob", &["env", "trust", "staging", &staging])
        .expect(0);
    let whole = team
        .run("bob", &["promote", "--sign", "prod-web-1.json"])
        .expect(0);
    says(&whole, &["release 1 of web is", "has all signatures"]);
    team.run("ann", &["env", "root", "publish", "prod-web-1.json"])
        .expect(0);
    let twice = team
        .run("ann", &["env", "root", "publish", "prod-web-1.json"])
        .expect(0);
    says(&twice, &["was published already"]);

    // Revoked, by both, and not promoted again.
    let revoke = [
        "revoke",
        "prod/web",
        "--in",
        "prod",
        "--reason",
        "a hole",
        "-o",
        "revoke.json",
    ];
    team.run("ann", &revoke).expect(0);
    let second = team
        .run("bob", &["promote", "--sign", "revoke.json"])
        .expect(0);
    says(&second, &["must not run any more", "reason: a hole"]);
    team.run("ann", &["env", "root", "publish", "revoke.json"])
        .expect(0);
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    assert!(
        status.contains(&format!("revoked    web  {image}")),
        "{status}"
    );
    let log = team.run("ann", &["env", "log", "prod"]).expect(0).stdout;
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("revoke") && lines[0].contains("\"a hole\""),
        "{log}"
    );
    assert!(
        lines[1].contains("promote") && lines[1].contains("from staging/1"),
        "{log}"
    );
}

/// What changes is shown, a changed log is noticed, keys come and go.
#[test]
fn differences_logs_and_keys() {
    let team = Team::new();
    let first = team.import(&team.tree("one", "1.0"));
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    let second = team.import(&team.tree("two", "1.1"));
    assert_ne!(first, second);
    let shown = team
        .run("ann", &["promote", "web", "--to", "staging", "--dry-run"])
        .expect(0);
    says(&shown, &["libfoo", "1.0", "1.1", "nothing was signed"]);
    let promoted = team.run(
        "ann",
        &["promote", "dev/web", "--to", "staging", "--min-seq", "2"],
    );
    says(
        &promoted.expect(0),
        &["nodes may not go back below release 2"],
    );

    // Of another one's environment nothing is signed before somebody vouches for it.
    let stranger = team.run(
        "eve",
        &["revoke", "web", "--in", "staging", "--reason", "x"],
    );
    says(&stranger.expect(3), &["nobody here has vouched"]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let stranger = team.run("eve", &["env", "trust", "staging", &wrong]);
    says(&stranger.expect(3), &["another environment"]);

    // The online key goes, in one command; the environment stays what it was.
    let root = team.root("staging");
    team.key("ann", "new-online");
    let rotate = [
        "env",
        "rotate-key",
        "staging",
        "--old",
        "staging.online",
        "--new",
        "new-online",
    ];
    team.run("ann", &rotate).expect(0);
    assert_eq!(team.root("staging"), root);
    let status = team.json("ann", &["env", "status", "staging", "--json"]);
    let roles = &status["environments"][0]["roles"];
    assert_eq!(roles[0]["version"], 2);
    assert_eq!(roles[3]["keys"][0]["name"], "new-online");
    team.run("ann", &["env", "refresh", "staging"]).expect(0);

    // One changed letter in an old entry.
    let entry = team.path("store/env/staging/log/1.json");
    team.run("ann", &["env", "log", "staging"]).expect(0);
    let text = fs::read_to_string(&entry)
        .unwrap()
        .replace("promote", "release");
    fs::write(&entry, text).unwrap();
    let log = team.run("ann", &["env", "log", "staging"]).expect(3);
    says(&log, &["entry 1 of the log cannot be believed"]);
}

/// dev in one store, prod in another: the image moves with what is said about it, and
/// the second one costs what changed.
#[test]
fn into_another_store() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    fs::write(tree.join("etc/large"), vec![b'x'; 1 << 20]).unwrap();
    let image = team.import(&tree);
    let prod = team.path("prod");
    let prod = prod.to_str().unwrap();
    team.run("ann", &["env", "init", "prod", "--plain", "--store", prod])
        .expect(0);
    let approve = ["approve", &image, "--for", "prod", "--key", "builder"];
    team.run("ann", &[&approve[..], &["--elsewhere"]].concat())
        .expect(0);
    let promote = ["promote", "dev/web", "--to", "prod", "--store", prod];
    let dry = team
        .run("ann", &[&promote[..], &["--dry-run"]].concat())
        .expect(0);
    says(&dry, &["web is new in prod", "nothing was signed"]);
    assert!(!team.path("prod/images").join(&image[7..]).exists());
    team.run("ann", &["show", &image, "--store", prod])
        .expect(1);

    let promoted = team.run("ann", &promote).expect(0);
    says(&promoted, &["moved from", "published"]);
    let said = team.run(
        "ann",
        &["show", "prod/web", "--attestations", "--store", prod],
    );
    assert!(said.expect(0).stdout.contains("approved   by builder"));
    team.run("ann", &["store", "fsck", "--store", prod])
        .expect(0);
    let again = team.run("ann", &promote).expect(0);
    says(&again, &["is the newest release of prod already"]);

    // What the source has damaged is not released, and what prod has stays.
    let tree = team.tree("one", "1.1");
    fs::write(tree.join("etc/new"), vec![b'y'; 100_000]).unwrap();
    let before = packs(&team.path("store"));
    team.import(&tree);
    let after = packs(&team.path("store"));
    let pack = after.iter().find(|pack| !before.contains(pack)).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, &bytes).unwrap();
    let hurt = team.run("ann", &promote).expect(3);
    says(&hurt, &["cannot copy", "store fsck"]);
    bytes[middle] ^= 1;
    fs::write(pack, &bytes).unwrap();
    let second = team.run("ann", &promote).expect(0);
    says(
        &second,
        &[
            "what changes in prod",
            "1.0 -> 1.1",
            " in place of ",
            "published",
        ],
    );
    assert!(team.path("prod/deltas").is_dir());
}

fn packs(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![store.join("packs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_none() || path.extension().unwrap() == "pack" => {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    found
}

/// What was approved is what is started, and not only the bytes; what is revoked is bytes.
#[test]
fn an_approval_is_of_a_manifest_and_a_revocation_of_bytes() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    let image = team.import(&tree);
    let ann = team.key("ann", "ann");
    let policy = format!("approvals = {{ keys = [\"ann\"] }}\n[keys]\nann = \"{ann}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    // The same bytes, described otherwise.
    let words = [
        "import",
        tree.to_str().unwrap(),
        "--name",
        "other",
        "--arch",
        "amd64",
    ];
    let same = team.run("ann", &words).expect(0).stdout;
    assert_eq!(same.trim(), image);
    let refused = team
        .run("ann", &["promote", "dev/other", "--to", "prod"])
        .expect(3);
    says(&refused, &["does not count", "what this one starts"]);
    let said = team
        .run("ann", &["show", "dev/other", "--attestations"])
        .expect(0)
        .stdout;
    assert!(
        said.contains("(of the bytes, not of what is started)"),
        "{said}"
    );
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);

    let approve = ["approve", "dev/other", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    let revoke = ["revoke", &image, "--in", "prod", "--reason", "a hole"];
    team.run("ann", &revoke).expect(0);
    for signing in [
        &["promote", "dev/other", "--to", "prod"][..],
        &["approve", "dev/other", "--for", "prod", "--key", "ann"],
    ] {
        says(
            &team.run("ann", signing).expect(3),
            &["was revoked in prod"],
        );
    }
    // Under every name, and also where it is another environment that is asked about.
    let listed = team.run("ann", &["list"]).expect(0).stdout;
    let marked = listed
        .lines()
        .filter(|line| line.contains("revoked in prod"));
    assert_eq!(marked.count(), 2, "{listed}");
    let shown = team.run("ann", &["show", "dev/other"]).expect(0).stdout;
    assert!(shown.contains("revoked        in prod"), "{shown}");
    let mut approve = vec!["approve", "dev/other", "--for", "staging", "--key", "ann"];
    approve.push("--elsewhere");
    let warned = team.run("ann", &approve).expect(0);
    says(&warned, &["warning: it was revoked in prod"]);
}

/// What was released before is what is started, too.
#[test]
fn an_environment_before_released_this_manifest() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    team.import(&tree);
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "dev/web", "--to", "staging"])
        .expect(0);
    fs::write(team.path("policy.toml"), "from = [\"staging\"]\n").unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    let tree = tree.to_str().unwrap();
    let other = ["import", tree, "--name", "other", "--arch", "amd64"];
    team.run("ann", &other).expect(0);
    let refused = team
        .run("ann", &["promote", "dev/other", "--to", "prod"])
        .expect(3);
    says(&refused, &["from: it is not released in staging"]);
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);

    // Nor is it signed what somebody who can write to the store has made of it.
    let targets = team.path("store/env/dev/targets/other");
    let file = fs::read_dir(targets).unwrap().next().unwrap().unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let changed = text.replace("\"bookworm\"", "\"trixie\"");
    assert_ne!(changed, text);
    fs::write(file.path(), changed).unwrap();
    let refused = team.run("ann", &["promote", "dev/other", "--to", "staging"]);
    says(&refused.expect(3), &["is not what was signed"]);
}

/// What changes is said from what was released, and not from what else is known of those bytes.
#[test]
fn differences_are_from_the_manifest_that_was_released() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    let tree = tree.to_str().unwrap();
    for suite in ["bookworm", "trixie"] {
        let words = ["import", tree, "--name", "web", "--arch", "amd64"];
        team.run("ann", &[&words[..], &["--suite", suite]].concat())
            .expect(0);
    }
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    let promote = |seq: &str| {
        let image = format!("dev/web/{seq}");
        let done = team.run("ann", &["promote", &image, "--to", "staging"]);
        done.expect(0)
    };
    promote("2");
    says(
        &promote("1"),
        &["web (trixie amd64)", "web (bookworm amd64)"],
    );
}
