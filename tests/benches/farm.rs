//! What a large farm costs: looking at its nodes, and what one of them does when there is nothing new.
//!
//! ```sh
//! apt-get install -y nginx-light
//! cargo bench -p tests --bench farm                # 10,000 nodes, 1,000 releases: some minutes
//! cargo bench -p tests --bench farm -- 500 50
//! ```
//!
//! Releases are signed as a build signs them, of two small images in turn: only the first two are
//! imported, which is what takes the time of the other benchmark of releases. Each node has a key of its
//! own and three receipts that follow each other, put by what puts them on a node; every fiftieth has
//! not heard of the newest release. Another receipt of each node comes for the last looks. Then a real
//! node follows the store behind nginx. Prints two tables in Markdown; times and bytes of a node are those
//! of one of many runs in a row.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use servers::nginx::{Nginx, sent};
use store::keys::{KeyPair, Signer as _};
use store::name::NodeName;
use store::receipt::{
    Enrolment, Event, Installed, LastOperation, Metadata, Operation, Outcome, Receipt, System,
    whole_seconds,
};
use store::tuf::{Environment, Release, RoleKeys};
use store::{ClientOptions, EnvName, ObjectFolder, Sha256, StoreUrl, WritableStore};
use tests::measure::mega;
use tests::shell::{Cost, Shell};

/// Which of the nodes are one release behind.
const BEHIND: usize = 50;

/// How often a node does the same, so that starting a shell does not count.
const ROUNDS: u32 = 20;

/// Threads that put receipts: each waits for the disk.
const THREADS: usize = 8;

/// Ends with what was found, and with nothing else.
const LOOKS: &[(&str, &str)] = &[
    (
        "status, first look",
        "$imgbuild fleet status --receipts receipts >first || [ $? = 4 ]",
    ),
    (
        "status, nothing new",
        "$imgbuild fleet status --receipts receipts >next || [ $? = 4 ]; cmp first next",
    ),
    (
        "status, a receipt of each is new",
        "$imgbuild fleet status --receipts receipts >next || [ $? = 4 ]",
    ),
    (
        "status --prometheus",
        "$imgbuild fleet status --receipts receipts --prometheus fleet.prom >next || [ $? = 4 ]; \
         grep -q '^imgbuild_fleet_nodes' fleet.prom",
    ),
    (
        "status --json",
        "$imgbuild fleet status --receipts receipts --json >next || [ $? = 4 ]",
    ),
];

/// What a node does, again and again.
const NODE: &[(&str, &str)] = &[
    (
        "upgrade, nothing new",
        "$imgnode --state state upgrade farm-bench",
    ),
    ("status", "$imgnode --state state status"),
];

fn main() {
    // Cargo adds `--bench`.
    let typed = std::env::args().skip(1).filter(|word| word != "--bench");
    let numbers: Vec<usize> = typed.map(|word| word.parse().expect("a number")).collect();
    let nodes = numbers.first().copied().unwrap_or(10_000);
    let releases = numbers.get(1).copied().unwrap_or(1_000);
    let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    // nginx is nobody.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path(), open).expect("it is ours");
    let farm = Farm(Shell::new(dir.path()));
    eprintln!("{releases} releases");
    let newest = farm.release(releases);
    eprintln!("{nodes} nodes");
    farm.look(nodes, newest);
    farm.follow();
}

/// The directory of the benchmark.
struct Farm(Shell);

/// A node that is not there.
struct Node {
    name: NodeName,
    key: KeyPair,
    counter: u64,
    previous: Option<Sha256>,
    runs: Installed,
    before: Installed,
}

impl Farm {
    /// Releases in dev, so many of them; the last two.
    fn release(&self, number: usize) -> [Release; 2] {
        self.0.run(
            "for n in 0 1; do mkdir tree$n; echo $n >tree$n/file; \
             $imgbuild import tree$n --name web --arch amd64; done",
        );
        let store = self.0.dir.join("store");
        let store = WritableStore::open_or_create(store).expect("it was made");
        let dev: EnvName = "dev".parse().expect("a name");
        let keys = RoleKeys::load(&self.0.dir.join("keys"), &dev).expect("they were made");
        let mut env = Environment::open(&store, &dev).expect("it was made");
        let mut last = env.releases().expect("there are two");
        let manifests = [0, 1].map(|at: usize| {
            let image = &last[at].image;
            store.store().manifest(image).expect("it was imported")
        });
        for made in last.len()..number {
            let manifest = &manifests[made % 2];
            let released = env.release(manifest, &keys, Timestamp::now());
            last.push(released.expect("there is room"));
        }
        self.0.run(
            "$imgbuild store gc --delete --grace 0; cp store/env/dev/metadata/1.root.json root.json",
        );
        let newest = last.pop().expect("there are two");
        [last.pop().expect("there are two"), newest]
    }

    /// Looks at nodes that run these.
    fn look(&self, number: usize, releases: [Release; 2]) {
        let [older, newer] = releases.map(|release| Installed {
            generation: release.seq,
            environment: "dev".parse().expect("a name"),
            seq: release.seq,
            image: release.image,
        });
        let node = |at: usize| Node {
            name: format!("node{at:05}").parse().expect("a name"),
            key: KeyPair::generate().expect("the kernel makes keys"),
            counter: 0,
            previous: None,
            runs: if at.is_multiple_of(BEHIND) {
                older.clone()
            } else {
                newer.clone()
            },
            before: older.clone(),
        };
        let mut nodes: Vec<Node> = (0..number).map(node).collect();
        let mut lines = String::new();
        for (at, node) in nodes.iter().enumerate() {
            let enrolment = Enrolment {
                name: node.name.clone(),
                group: format!("site{}", at % 10).parse().expect("a name"),
                key: node.key.public(),
            };
            let _ = writeln!(lines, "{enrolment}");
        }
        fs::write(self.0.dir.join("nodes"), lines).expect("there is room");
        let receipts = self.0.dir.join("receipts");
        fs::create_dir(&receipts).expect("it is ours");
        println!("| {number} nodes | time | memory | read |\n|---|---|---|---|");
        let enrol = "$imgbuild fleet enrol --env dev nodes --receipts receipts --yes";
        row("fleet enrol, all of them", self.0.measure(enrol));
        for operation in [Operation::Install, Operation::Upgrade, Operation::Heartbeat] {
            write(&mut nodes, &receipts, operation);
        }
        for (name, script) in LOOKS {
            if name.ends_with("is new") {
                write(&mut nodes, &receipts, Operation::Heartbeat);
            }
            row(name, self.0.measure(script));
        }
    }

    /// A real node that has nothing to do.
    fn follow(&self) {
        let server = Nginx::serve(&self.0.dir.join("store"), "");
        self.0.run(&format!(
            "$imgnode --state state init --env dev --repo {} --root root.json; \
             $imgnode --state state install web --as farm-bench --target dir:$PWD/images",
            server.url()
        ));
        println!("\n| a node | time | memory | requests | fetched |\n|---|---|---|---|---|");
        for (name, script) in NODE {
            let asked = server.log().len();
            let cost = self
                .0
                .measure(&format!("for round in $(seq {ROUNDS}); do {script}; done"));
            let log = server.log();
            let log = &log[asked..];
            println!(
                "| {name} | {:.1} ms | {:.0} MiB | {} | {} bytes |",
                cost.seconds * 1e3 / f64::from(ROUNDS),
                cost.memory,
                log.len() / ROUNDS as usize,
                sent(log) / u64::from(ROUNDS)
            );
        }
        self.0.run("$imgnode --state state uninstall farm-bench");
    }
}

fn row(name: &str, cost: Cost) {
    println!(
        "| {name} | {:.2} s | {:.0} MiB | {:.1} MB |",
        cost.seconds,
        cost.memory,
        mega(cost.read)
    );
}

/// Puts the next receipt of each node.
fn write(nodes: &mut [Node], receipts: &Path, operation: Operation) {
    let share = nodes.len().div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        for share in nodes.chunks_mut(share) {
            scope.spawn(move || {
                let url = StoreUrl::Directory(receipts.to_owned());
                let folder = ObjectFolder::open(&url, &ClientOptions::default());
                let folder = folder.expect("it is there");
                for node in share {
                    node.write(&folder, operation);
                }
            });
        }
    });
}

impl Node {
    fn write(&mut self, folder: &ObjectFolder, operation: Operation) {
        let now = Timestamp::now();
        let group = "site".parse().expect("a name");
        let mut receipt = Receipt::new(self.name.clone(), group, "0.1.0", now);
        self.counter += 1;
        receipt.counter = self.counter;
        receipt.previous = self.previous;
        receipt.environment = Some(self.runs.environment.clone());
        receipt.metadata = Some(Metadata {
            refreshed: whole_seconds(now),
            expires: Some(whole_seconds(now + SignedDuration::from_hours(100))),
            targets: Some(self.runs.seq),
        });
        receipt.event = Event {
            operation,
            system: Some("Web".to_owned()),
            result: Outcome::Done,
            reason: None,
        };
        receipt.systems = vec![System {
            system: "Web".to_owned(),
            image_name: "web".parse().expect("a name"),
            active: self.runs.clone(),
            runs: Some(self.runs.clone()),
            previous: Some(self.before.clone()),
            revoked: false,
            verified: Some(whole_seconds(now)),
            free_bytes: Some(200_000_000_000),
            last: Some(LastOperation {
                operation: Operation::Upgrade,
                result: Outcome::Done,
                reason: None,
                time: whole_seconds(now),
            }),
        }];
        let signed = receipt.sign(&self.key).expect("it is well formed");
        let put = folder.put_new(&signed.key(), &signed.to_json());
        assert!(put.expect("there is room"), "{}", signed.key());
        self.previous = Some(signed.sha256);
    }
}
