//! Nodes of prod without machines: keys of theirs, and receipts that they have signed.

use std::fs;

use store::Sha256;
use store::keys::{KeyPair, Signer};
use store::receipt::{Installed, LastOperation, Operation, Outcome, Receipt, System};

use super::{Bench, HOSTILE};

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
    pub(super) fn says(&mut self, bench: &Bench, runs: &Installed, came_to: Outcome) {
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
