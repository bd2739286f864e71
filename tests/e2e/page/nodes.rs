//! What the pages say of nodes. These have no machines: they are keys, and receipts signed with them.

use std::collections::BTreeMap;
use std::fs;

use store::Sha256;
use store::keys::{KeyPair, Signer};
use store::receipt::{Installed, LastOperation, Operation, Outcome, Receipt, System};

use tests::binaries::Ran;

use super::html::files;
use super::{Bench, HOSTILE, SHOWN, has};
use crate::team::says;

/// What is written with one key.
pub(super) struct Node {
    name: &'static str,
    group: &'static str,
    key: KeyPair,
    counter: u64,
    previous: Option<Sha256>,
}

impl Node {
    fn new(name: &'static str, group: &'static str) -> Self {
        Self {
            name,
            group,
            key: KeyPair::generate().unwrap(),
            counter: 0,
            previous: None,
        }
    }

    /// Says that this runs, after an operation that came to that.
    fn says(&mut self, bench: &Bench, runs: &Installed, came_to: Outcome) {
        let now = jiff::Timestamp::now();
        let (name, group) = (self.name.parse().unwrap(), self.group.parse().unwrap());
        let mut receipt = Receipt::new(name, group, "0.1.0 <b>", now);
        self.counter += 1;
        receipt.counter = self.counter;
        receipt.previous = self.previous;
        receipt.environment = Some(runs.environment.clone());
        let failed = came_to != Outcome::Done;
        let reason = failed.then(|| format!("it ended: {HOSTILE}"));
        receipt.event.operation = Operation::Upgrade;
        receipt.event.system = Some("Web".to_owned());
        receipt.event.result = came_to;
        receipt.event.reason.clone_from(&reason);
        receipt.systems = vec![System {
            system: "Web".to_owned(),
            image_name: "web".parse().unwrap(),
            active: runs.clone(),
            runs: (!failed).then(|| runs.clone()),
            previous: None,
            revoked: false,
            verified: None,
            free_bytes: None,
            last: Some(LastOperation {
                operation: Operation::Upgrade,
                result: came_to,
                reason,
                time: receipt.time,
            }),
        }];
        let signed = receipt.sign(&self.key).unwrap();
        self.previous = Some(signed.sha256);
        self.put(bench, &signed.to_json());
    }

    fn put(&self, bench: &Bench, bytes: &[u8]) {
        let folder = bench.team.path("receipts/receipts").join(self.name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{:012}.json", self.counter)), bytes).unwrap();
    }
}

/// Enrols five nodes in two groups of prod: the first is current, one has failed, one has never
/// written anything, of one the newest receipt is no receipt, and one runs what is no release there.
/// One more that nobody has enrolled writes too.
pub(super) fn write(bench: &Bench) -> (Node, Installed) {
    let listed = bench.team.json("ann", &["list", "--json"]);
    let images = listed["images"].as_array().unwrap();
    let of = |release: &str| {
        let mut found = images.iter();
        let found = found.find(|image| image["released"].to_string().contains(release));
        found.unwrap()["image"].as_str().unwrap().parse().unwrap()
    };
    let good = Installed {
        generation: 1,
        environment: "prod".parse().unwrap(),
        seq: 1,
        image: of("prod/web"),
    };
    let other = Installed {
        generation: 2,
        environment: "dev".parse().unwrap(),
        seq: 2,
        image: of("dev/web 2"),
    };
    let mut nodes = [
        ("web01", "eu"),
        ("web02", "eu"),
        ("web03", "eu"),
        ("db01", "us"),
        ("db02", "us"),
    ]
    .map(|(name, group)| Node::new(name, group));
    let lines = nodes.iter().map(|node| {
        let key = node.key.public().hex();
        format!("{} {} {key}\n", node.name, node.group)
    });
    let lines: String = lines.collect();
    fs::write(bench.team.path("nodes"), lines).unwrap();
    fs::create_dir(bench.team.path("receipts")).unwrap();
    let words = ["fleet", "enrol", "--env", "prod", "--receipts", "receipts"];
    bench.ann(&[&words[..], &["--yes", "nodes"]].concat());
    let [first, failed, _, garbled, foreign] = &mut nodes;
    first.says(bench, &good, Outcome::Failed);
    first.says(bench, &good, Outcome::Done);
    failed.says(bench, &good, Outcome::Failed);
    garbled.says(bench, &good, Outcome::Done);
    garbled.counter += 1;
    garbled.put(bench, HOSTILE.as_bytes());
    foreign.says(bench, &other, Outcome::Done);
    Node::new("stranger", "eu").says(bench, &good, Outcome::Done);
    let [first, ..] = nodes;
    (first, good)
}

#[test]
fn nodes_are_shown_and_nothing_that_they_say_is_markup() {
    let bench = Bench::new();
    let (mut first, runs) = write(&bench);
    let page = |dir: &str| {
        let words = ["page", "--out", dir, "--receipts", "receipts"];
        bench.team.run("ann", &words).expect(0)
    };
    says(&page("www"), &["5 of 5 described"]);
    let pages = bench.read("www");
    pages.check();
    let raw: String = files(&bench.team.path("www"))
        .values()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for bad in ["<script", "<b>", "\u{202e}", "\u{1b}", "'x\""] {
        assert!(!raw.contains(bad), "{bad:?}");
    }
    has(
        pages.text("index.html"),
        &["What runs on which node", "Nodes of each environment"],
    );
    has(
        pages.text("fleet.html"),
        &[
            "Refused: receipts of nodes of prod cannot be believed: db01",
            "Refused: nobody has enrolled stranger",
            "No nodes are enrolled in dev.",
            "Nodes of prod by group and state; list 1 of them, signed by prod.targets",
            "not-believed",
            "never-seen",
            "it has written no receipt",
            "web 2 of dev is not a release of prod",
            SHOWN,
            "Releases on nodes of prod",
            "web 1",
        ],
    );
    let group = pages.text("fleet/prod~eu~1");
    has(
        group,
        &[
            "web01",
            "current",
            "web02",
            "failed",
            "does not run",
            SHOWN,
            "2 of 20",
        ],
    );
    assert!(!group.contains("db01"), "{group}");
    let node = pages.text("node/prod~web01");
    has(
        node,
        &[
            "web01 in prod",
            "Nothing: it is current.",
            "imgnode 0.1.0 <b>",
            &runs.image.hex()[..12],
            "upgrade",
            "failed",
            "done",
            SHOWN,
        ],
    );
    has(
        pages.text("node/prod~db01"),
        &["not-believed", "nobody: it is no receipt"],
    );
    has(
        pages.text("node/prod~web03"),
        &["never-seen", "It has told of none.", "There are none."],
    );

    // The same bytes elsewhere; nothing is done twice, and what is new alone is read.
    page("other");
    let bytes = |dir: &str| -> BTreeMap<String, Vec<u8>> {
        let files = files(&bench.team.path(dir)).into_iter();
        files
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    };
    assert!(bytes("www") == bytes("other"));
    let again = page("www");
    says(&again, &["0 of 5 described"]);
    assert!(
        again.stdout.contains(" pages, 0 of them written"),
        "{}",
        again.stdout
    );
    first.says(&bench, &runs, Outcome::Done);
    let more = page("www");
    says(&more, &["1 of 5 described"]);
    // Its own page, and that of its group.
    assert!(
        more.stdout.contains(" pages, 2 of them written"),
        "{}",
        more.stdout
    );

    // The variable does as well; with dev alone there is nobody.
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--out", "dev", "--env", "dev"])
        .env("IMGBUILD_RECEIPTS", bench.team.path("receipts"));
    Ran::of(&mut command).expect(0);
    let dev = bench.read("dev");
    dev.check();
    assert!(dev.names("node/").is_empty() && !dev.text("fleet.html").contains("stranger"));
    // Without receipts the pages go.
    bench.page("www").expect(0);
    let without = bench.read("www");
    without.check();
    assert!(without.names("node/").is_empty() && without.names("fleet").is_empty());
    // Nobody is told about nodes of an environment that they do not vouch for.
    let words = ["page", "--out", "eves", "--receipts", "receipts"];
    says(&bench.team.run("eve", &words).expect(3), &["env trust dev"]);
    assert!(!bench.team.path("eves").exists());
}
