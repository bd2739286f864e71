//! Releases in waves: real nodes in three groups, a canary on which a release fails, a good one that
//! goes through all its stages.

use std::net::TcpListener;

use serde_json::{Value, json};
use store::name::NodeName;
use store::tuf::Environment;
use store::tuf::waves::Member;
use store::{EnvName, WritableStore};
use tests::binaries::{Ran, is_soak};

use crate::fleet::Fleet;
use crate::team::{Team, says};

const WAVES: [&str; 2] = ["--waves", "canary,10%,50%,100%"];

/// Nodes of prod, and Ann who releases there.
struct Waves {
    fleet: Fleet,
    nodes: Vec<(String, &'static str)>,
}

impl Waves {
    /// Nodes that have release 1 of prod, of them two canaries whose system runs.
    fn new() -> Self {
        let fleet = Fleet::new();
        let count = if is_soak() { 30 } else { 9 };
        let group = |number: usize| match number {
            0 | 1 => "canary",
            odd if odd % 2 == 1 => "eu",
            _ => "us",
        };
        let nodes = (0..count).map(|number| (format!("n{number:02}"), group(number)));
        let waves = Self {
            fleet,
            nodes: nodes.collect(),
        };
        let team = &waves.fleet.team;
        team.run("ann", &["env", "init", "prod", "--plain"])
            .expect(0);
        waves.fleet.release_with("2.0", &json!({}));
        waves.promote(&[]).expect(0);
        let to = waves.fleet.path("receipts");
        let files: Vec<String> = waves
            .nodes
            .iter()
            .map(|(name, group)| waves.fleet.follow("prod", name, group, &to))
            .collect();
        let enrol = [
            "fleet",
            "enrol",
            "--env",
            "prod",
            "--receipts",
            "receipts",
            "--yes",
        ];
        let files = files.iter().map(String::as_str);
        let words: Vec<_> = enrol.into_iter().chain(files).collect();
        team.run("ann", &words).expect(0);
        for canary in ["n00", "n01"] {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let system = format!("Web-{canary}");
            waves
                .fleet
                .node(canary, &["start", &system, "--listen", &address])
                .expect(0);
        }
        waves
    }

    fn promote(&self, words: &[&str]) -> Ran {
        let promote = [
            "promote", "dev/web", "--to", "prod", "--deltas", "0", "--yes",
        ];
        self.fleet.team.run("ann", &[&promote[..], words].concat())
    }

    /// A step of the waves of the newest release.
    fn step(&self, words: &[&str]) -> Ran {
        let promote = [
            "promote",
            "web",
            "--to",
            "prod",
            "--yes",
            "--receipts",
            "receipts",
        ];
        self.fleet.team.run("ann", &[&promote[..], words].concat())
    }

    fn upgrade(&self, name: &str) -> Ran {
        self.fleet.node(name, &["upgrade", &format!("Web-{name}")])
    }

    /// The release that each node has.
    fn seqs(&self) -> Vec<u64> {
        let seq = |(name, _): &(String, &str)| {
            let said = self
                .fleet
                .node(name, &["status", "--json"])
                .expect(0)
                .stdout;
            let said: Value = serde_json::from_str(&said).unwrap();
            said["systems"][0]["seq"].as_u64().unwrap()
        };
        self.nodes.iter().map(seq).collect()
    }

    /// Which nodes the newest release covers, by the metadata alone.
    fn covered(&self) -> Vec<bool> {
        let store = WritableStore::open_or_create(self.fleet.team.path("store")).unwrap();
        let prod: EnvName = "prod".parse().unwrap();
        let env = Environment::open(&store, &prod).unwrap();
        let newest = env.releases().unwrap().pop().unwrap();
        let waves = newest.custom.waves.unwrap();
        let covers = |(name, group): &(String, &str)| {
            let (name, group): (NodeName, NodeName) =
                (name.parse().unwrap(), group.parse().unwrap());
            let node = Member {
                name: Some(&name),
                group: Some(&group),
            };
            waves.covers(&prod, &newest.name, newest.seq, node)
        };
        self.nodes.iter().map(covers).collect()
    }

    fn status(&self, words: &[&str]) -> Ran {
        let status = ["fleet", "status", "prod", "--receipts", "receipts"];
        self.fleet.team.run("ann", &[&status[..], words].concat())
    }

    /// The waves that `fleet status` shows, and the kinds of findings of each node.
    fn seen(&self) -> (Value, Vec<Vec<String>>) {
        let said = self.status(&["--json"]).stdout;
        let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let env = &said["environments"][0];
        let kinds = |node: &Value| {
            let found = node["findings"].as_array().unwrap().iter();
            found
                .map(|one| one["kind"].as_str().unwrap().to_owned())
                .collect()
        };
        let nodes = env["nodes"].as_array().unwrap().iter();
        (env["waves"][0].clone(), nodes.map(kinds).collect())
    }
}

#[test]
fn a_bad_release_stops_at_its_canaries_and_a_good_one_reaches_all() {
    let waves = Waves::new();
    let count = waves.nodes.len();
    waves.fleet.release_with(
        "3.0",
        &json!({ "health": { "command": ["/bin/sh", "-c", "exit 4"], "within": 1, "timeout": 1 } }),
    );
    let rule = ["--widen-after", "2h", "--widen-nodes", "2"];
    let begun = waves.promote(&[&WAVES[..], &rule].concat()).expect(0);
    says(
        &begun,
        &[
            "web 2 reaches nodes in waves: group canary, then 10 %, then 50 %, then 100 %",
            "a stage is clean when 2 h have passed, 2 nodes run the release and none has failed",
        ],
    );
    for (name, group) in &waves.nodes {
        let ran = waves.upgrade(name);
        if *group == "canary" {
            ran.expect(1);
        } else {
            let held = "release 2 of web is at stage 1 of 4 (group canary) and has not reached";
            says(&ran.expect(0), &[held]);
        }
    }
    assert_eq!(waves.seqs(), vec![1; count]);
    let (seen, found) = waves.seen();
    assert_eq!(seen["reached"], json!(["n00", "n01"]));
    assert_eq!(
        (&seen["failed"], &seen["current"]),
        (&seen["reached"], &json!([]))
    );
    // Who the release has not reached is not behind.
    assert!(found[2..].iter().all(Vec::is_empty), "{found:?}");
    let refused = waves.step(&["--widen", "--if-clean"]).expect(4);
    says(
        &refused,
        &[
            "release 2 of web in prod is not widened",
            "it failed on n00, n01",
            "its stage lasts until",
            "only 0 of 2 nodes run it, by fresh receipts",
        ],
    );
    let reason = ["--halt", "--reason", "it does not answer"];
    says(
        &waves.step(&reason).expect(0),
        &[
            "web 2 is halted at stage 1 of 4 (group canary)",
            "prod/web/2: published",
        ],
    );
    waves.step(&reason).expect(2);
    waves.step(&["--widen"]).expect(2);
    says(
        &waves.step(&["--widen", "--if-clean"]).expect(4),
        &["it is halted: it does not answer"],
    );
    for (name, _) in &waves.nodes {
        let words = ["upgrade", &format!("Web-{name}"), "--ahead"];
        let said = waves.fleet.node(name, &words).expect(0);
        says(
            &said,
            &["is halted at stage 1 of 4 (group canary): it does not answer"],
        );
    }
    assert_eq!(waves.seqs(), vec![1; count]);
    let said = waves.status(&[]).expect(4).stdout;
    let line = "web/2 halted at stage 1 of 4 (group canary) since";
    assert!(
        said.contains(line) && said.contains("; it does not answer"),
        "{said}"
    );
    let status = waves
        .fleet
        .team
        .run("ann", &["env", "status", "prod"])
        .expect(0);
    assert!(
        status.stdout.contains("halted at stage 1 of 4"),
        "{}",
        status.stdout
    );
    let log = waves
        .fleet
        .team
        .run("ann", &["env", "log", "prod"])
        .expect(0)
        .stdout;
    assert!(
        log.lines().next().unwrap().contains("  halt     web/2  "),
        "{log}"
    );

    // The last node is away from here on: for release 2 it was there, release 3 it misses.
    let away = waves.nodes.len() - 1;
    waves.fleet.release_with("4.0", &json!({}));
    waves
        .promote(&[&WAVES[..], &["--widen-nodes", "2"]].concat())
        .expect(0);
    for stage in 1..=4 {
        let covered = waves.covered();
        for (name, _) in &waves.nodes[..away] {
            waves.upgrade(name).expect(0);
        }
        if stage == 3 {
            waves.upgrade(&waves.nodes[away].0).expect(0);
        }
        let expected: Vec<u64> = (0..count)
            .map(|at| match at {
                at if at == away && stage < 3 => 1,
                at if at == away && stage == 4 => 3,
                at => {
                    if covered[at] {
                        3
                    } else {
                        1
                    }
                }
            })
            .collect();
        if stage == 4 {
            waves.upgrade(&waves.nodes[away].0).expect(0);
        }
        assert_eq!(waves.seqs(), expected, "stage {stage}");
        let (seen, _) = waves.seen();
        assert_eq!(seen["stage"], stage);
        assert_eq!(seen["failed"], json!([]), "{seen}");
        assert!(seen["current"].as_array().unwrap().len() >= 2, "{seen}");
        let code = if stage < 4 {
            "its waves go on, now at stage"
        } else {
            "prod/web/3 reaches all nodes already"
        };
        says(&waves.step(&["--widen", "--if-clean"]).expect(0), &[code]);
    }
    waves.status(&[]).expect(0);
    let file = waves.fleet.path("fleet.prom");
    waves.status(&["--prometheus", &file]).expect(0);
    let metrics = std::fs::read_to_string(file).unwrap();
    for line in [
        "imgbuild_fleet_wave_stage{environment=\"prod\",image=\"web\"} 4".to_owned(),
        "imgbuild_fleet_wave_halted{environment=\"prod\",image=\"web\"} 0".to_owned(),
        format!(
            "imgbuild_fleet_wave_nodes{{environment=\"prod\",image=\"web\",state=\"current\"}} {count}"
        ),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let why = waves
        .fleet
        .team
        .run("ann", &["why", "n02", "--receipts", "receipts"])
        .expect(0);
    assert!(
        why.stdout.contains(", at stage 4 of 4 (100 %)"),
        "{}",
        why.stdout
    );
    for canary in ["n00", "n01"] {
        waves
            .fleet
            .node(canary, &["stop", &format!("Web-{canary}")])
            .expect(0);
    }
}

/// A step takes the signatures that a release takes, and is shown to each who gives one.
#[test]
fn two_sign_a_halt_and_a_forged_one_is_refused() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    let bob = team.key("bob", "bob");
    let mut init = vec!["env", "init", "prod", "--plain", "--targets", "ann"];
    init.extend(["--targets", &bob, "--targets-threshold", "2"]);
    team.key("ann", "ann");
    team.run("ann", &init).expect(0);
    let file = "prod-root-1.json";
    team.run("bob", &["env", "root", "sign", file]).expect(0);
    team.run("ann", &["env", "root", "publish", file]).expect(0);
    for (who, env) in [("bob", "dev"), ("bob", "prod")] {
        team.run(who, &["env", "trust", env, &team.root(env)])
            .expect(0);
    }
    let both = |words: &[&str], file: &str| {
        says(&team.run("ann", words).expect(0), &["promote --sign", file]);
        let signed = team.run("bob", &["promote", "--sign", file]).expect(0);
        team.run("ann", &["env", "root", "publish", file]).expect(0);
        signed
    };
    let waves = [
        "promote",
        "dev/web",
        "--to",
        "prod",
        "--waves",
        "canary+eu,100%",
    ];
    let signed = both(&waves, "prod-web-1.json");
    says(
        &signed,
        &["web 1 reaches nodes in waves: groups canary and eu, then 100 %"],
    );
    says(&signed, &["web 1: a person decides about each stage"]);
    let step = ["promote", "prod/web", "--to", "prod"];
    let no_rule = [&step[..], &["--widen", "--if-clean"]].concat();
    says(&team.run("ann", &no_rule).expect(2), &["states no rule"]);
    let halt = [&step[..], &["--halt", "--reason", "no\u{1b}[2J"]].concat();
    let show = team
        .run("ann", &[&halt[..], &["--show"]].concat())
        .expect(0);
    says(&show, &["web 1 is halted", "nothing was signed"]);
    let waiting = team.run("ann", &halt).expect(0);
    let goes_on = "warning: web 1 goes on to reach nodes until that is published";
    says(&waiting, &[goes_on, "prod-web-1-halt.json"]);
    assert!(!waiting.stderr.contains('\u{1b}'), "{}", waiting.stderr);
    // Somebody makes of the halt a stage onward, with the signature that was there.
    let good = std::fs::read_to_string(team.path("prod-web-1-halt.json")).unwrap();
    let mut forged: Value = serde_json::from_str(&good).unwrap();
    let waves = &mut forged["targets"]["signed"]["targets"]["web/1.json"]["custom"]["waves"];
    waves.as_object_mut().unwrap().remove("halted");
    waves["reached"] = json!(2);
    std::fs::write(team.path("forged.json"), forged.to_string()).unwrap();
    let refused = team
        .run("bob", &["promote", "--sign", "forged.json"])
        .expect(3);
    says(
        &refused,
        &["its log has \"halt\" of web 1, and its list of releases does not"],
    );
    let signed = team
        .run("bob", &["promote", "--sign", "prod-web-1-halt.json"])
        .expect(0);
    says(
        &signed,
        &["nobody gets it who does not have it", "reason: no"],
    );
    team.run("ann", &["env", "root", "publish", "prod-web-1-halt.json"])
        .expect(0);
    both(
        &[&step[..], &["--resume"]].concat(),
        "prod-web-1-resume.json",
    );
    both(
        &[&step[..], &["--widen"]].concat(),
        "prod-web-1-stage-2.json",
    );
    let status = team.json("ann", &["env", "status", "prod", "--json"]);
    let waves = &status["environments"][0]["releases"][0]["waves"];
    assert_eq!((&waves["reached"], waves.get("halted")), (&json!(2), None));
    for words in [
        &["--widen", "--halt", "--reason", "x"][..],
        &["--halt"],
        &["--reason", "x"],
        &["--if-clean"],
        &["--waves", "10%"],
        &["--waves", "canary,100%", "--widen-after", "2"],
        &["--widen-nodes", "2"],
    ] {
        team.run("ann", &[&waves_of_dev()[..], words].concat())
            .expect(2);
    }
}

fn waves_of_dev() -> [&'static str; 4] {
    ["promote", "dev/web", "--to", "qa"]
}
