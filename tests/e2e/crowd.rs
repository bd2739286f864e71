//! Many nodes at once against one web server, while releases are promoted there, metadata is signed anew
//! and the store is collected: none of them may meet a repository that contradicts itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use servers::nginx::Nginx;
use tests::bench::wait_for;
use tests::binaries::{Ran, is_soak};

use crate::fleet::{self, Fleet};
use crate::team::{at, says};

/// Days for which a timestamp is signed. A release is promoted each week, by the clock of who signs: no
/// signature is earlier than the one before.
const WEEK: u64 = 7;

/// A node that does the same again and again.
struct Node {
    name: String,
    /// How often it has done all of it.
    rounds: AtomicUsize,
    /// How often it was told to try again later.
    later: AtomicUsize,
}

/// Says that it is over, also where the test fails: its threads are waited for.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Crowd {
    fleet: Fleet,
    server: Nginx,
    nodes: Vec<Node>,
    over: AtomicBool,
}

impl Crowd {
    fn new(count: usize) -> Self {
        let fleet = Fleet::new();
        // nginx is nobody.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fleet.team.path(""), open).unwrap();
        let server = Nginx::serve(&fleet.team.path("store"), "");
        let node = |number| Node {
            name: format!("c{number:03}"),
            rounds: AtomicUsize::new(0),
            later: AtomicUsize::new(0),
        };
        let crowd = Self {
            fleet,
            server,
            nodes: (0..count).map(node).collect(),
            over: AtomicBool::new(false),
        };
        crowd.ann(&["env", "init", "prod", "--plain"]);
        crowd
    }

    #[track_caller]
    fn ann(&self, words: &[&str]) -> Ran {
        self.fleet.team.run("ann", words).expect(0)
    }

    /// Releases in dev another version, half of which is in no other, and promotes it; its number in dev.
    fn promote(&self, version: u64) -> u64 {
        let mut state = version;
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        });
        let noise: Vec<u8> = noise.take(1_000_000).collect();
        fs::write(self.fleet.team.path("tree/srv/data"), noise).unwrap();
        let made = self.fleet.release_with(&format!("{version}.0"), &json!({}));
        let mut words = vec![
            "promote", "dev/web", "--to", "prod", "--yes", "--deltas", "1",
        ];
        let least = version.saturating_sub(1).to_string();
        if version > 2 {
            words.extend(["--min-seq", &least]);
        }
        self.on_day(WEEK * version, &words);
        made
    }

    /// Signs snapshot and timestamp anew: by the clock of who does, that is due.
    fn refresh(&self, version: u64) {
        let said = self.on_day(WEEK * version + 6, &["env", "refresh", "prod", "--yes"]);
        says(&said, &["timestamp"]);
    }

    /// Ann does something so many days from now.
    #[track_caller]
    fn on_day(&self, days: u64, words: &[&str]) -> Ran {
        at(&self.fleet.team, &format!("+{days}d"), "ann", words).expect(0)
    }

    /// Ends what is older in dev than this release, of that the last is `old`, and removes what nobody needs
    /// any more, without waiting for anybody who may be reading it.
    fn collect(&self, made: u64, old: u64) {
        fleet::collect_below(|words| self.ann(words), made, old);
    }

    fn begin(&self, node: &Node) {
        let (url, root) = (
            self.server.url(),
            self.fleet.path("store/env/prod/metadata/1.root.json"),
        );
        let init = ["init", "--env", "prod", "--repo", &url, "--root", &root];
        self.fleet.node(&node.name, &init).expect(0);
        let target = format!("dir:{}", self.fleet.path(&format!("images-{}", node.name)));
        let system = format!("Web-{}", node.name);
        let words = ["install", "web", "--as", &system, "--target", &target];
        self.fleet.node(&node.name, &words).expect(0);
    }

    /// A node upgrades and verifies until it is over; what went wrong otherwise.
    fn go_on(&self, node: &Node) -> Result<(), String> {
        let system = format!("Web-{}", node.name);
        while !self.over.load(Ordering::SeqCst) {
            for command in ["upgrade", "verify"] {
                let ran = self.fleet.node(&node.name, &[command, &system]);
                match ran.code {
                    0 => {}
                    // What it was about to read was collected under its hands. It changed nothing, says
                    // so, and the next attempt reads what is there now.
                    75 if ran.stderr.contains("try again later") => {
                        node.later.fetch_add(1, Ordering::SeqCst);
                    }
                    code => {
                        let Ran { stdout, stderr, .. } = ran;
                        return Err(format!(
                            "{command} of {}: {code}\n{stdout}\n{stderr}",
                            node.name
                        ));
                    }
                }
            }
            // Nobody looks at old generations.
            let gc = self.fleet.node(&node.name, &["gc", "--keep", "1"]);
            if gc.code != 0 {
                return Err(format!("gc of {}: {}", node.name, gc.stderr));
            }
            node.rounds.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn seq(&self, node: &Node) -> Value {
        let said = self.fleet.node(&node.name, &["status", "--json"]).expect(0);
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        said["systems"][0]["seq"].clone()
    }
}

#[test]
fn a_crowd_of_nodes_sees_one_repository_while_it_is_released_and_collected() {
    let (count, releases) = if is_soak() { (100, 12) } else { (8, 3) };
    let crowd = Crowd::new(count);
    let mut old = crowd.promote(1);
    for node in &crowd.nodes {
        crowd.begin(node);
    }
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let crowd = &crowd;
        let failed = &failed;
        let nodes: Vec<_> = crowd
            .nodes
            .iter()
            .map(|node| {
                scope.spawn(move || {
                    let ended = crowd.go_on(node);
                    if ended.is_err() {
                        failed.store(true, Ordering::SeqCst);
                    }
                    ended
                })
            })
            .collect();
        let end = End(&crowd.over);
        for release in 2..=releases + 1 {
            let before: Vec<_> = crowd
                .nodes
                .iter()
                .map(|node| node.rounds.load(Ordering::SeqCst))
                .collect();
            let made = crowd.promote(release);
            crowd.refresh(release);
            crowd.collect(made, old);
            old = made;
            // Each has done all of it while that went on, or after it.
            wait_for("every node goes on", || {
                let mut both = crowd.nodes.iter().zip(&before);
                failed.load(Ordering::SeqCst)
                    || both.all(|(node, before)| node.rounds.load(Ordering::SeqCst) > *before)
            });
            if failed.load(Ordering::SeqCst) {
                break;
            }
        }
        drop(end);
        for node in nodes {
            node.join().unwrap().unwrap();
        }
    });
    let later = crowd
        .nodes
        .iter()
        .map(|node| node.later.load(Ordering::SeqCst));
    let rounds = crowd
        .nodes
        .iter()
        .map(|node| node.rounds.load(Ordering::SeqCst));
    println!(
        "{} rounds of {count} nodes, {} were told to try again later",
        rounds.sum::<usize>(),
        later.sum::<usize>()
    );
    for node in &crowd.nodes {
        let system = format!("Web-{}", node.name);
        for command in ["upgrade", "verify"] {
            crowd.fleet.node(&node.name, &[command, &system]).expect(0);
        }
        assert_eq!(crowd.seq(node), releases + 1);
    }
    crowd.ann(&["store", "fsck"]);
}
