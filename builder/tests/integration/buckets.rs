//! `imgbuild` on a store in a bucket of real `SeaweedFS`: every command that reads or
//! writes, copies there and back, a copy that is killed, damage and its repair, and two
//! who release at once.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use servers::weed::{READER, WRITER, Weed};
use store::{ClientOptions, StoreUrl, WritableStore};

use crate::support::Ran;

struct Bench {
    weed: Weed,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            weed: Weed::start(),
            dir: tempfile::tempdir().unwrap(),
        };
        let root = bench.path("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        bench.grow(1);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// More files that do not compress in the tree that is imported.
    fn grow(&self, seed: u8) {
        for number in 0..8 {
            let mut bytes = vec![0; 1_500_000];
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[seed, number]);
            hasher.finalize_xof().fill(&mut bytes);
            fs::write(self.path("root").join(format!("{seed}-{number}")), bytes).unwrap();
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .envs(self.weed.environment(WRITER))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path("keys"))
            .env("IMGBUILD_PATIENCE", "5")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.command(words).output().unwrap().into()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(&[words, &["--json"]].concat());
        serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|e| {
            panic!("{words:?}: {e}\n{text}");
        })
    }

    fn import(&self, store: &str) -> String {
        let words = ["import", "root", "--name", "app", "--arch", "amd64"];
        let text = self.ok(&[&words[..], &["--store", store]].concat());
        text.trim().to_owned()
    }

    fn open(&self, store: &str) -> WritableStore {
        let variables = self.weed.environment(WRITER);
        let read = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.clone())
        };
        let place: StoreUrl = store.parse().unwrap();
        let access = ClientOptions::from_environment(&read).unwrap();
        WritableStore::open(&place, &access, &self.path("cache")).unwrap()
    }
}

const STORE: &str = "s3://images/team";
const LIVE: &str = "s3://images/live";

#[test]
fn a_bucket_takes_every_command() {
    let bench = Bench::new();
    let first = bench.import(STORE);
    bench.grow(2);
    let second = bench.import(STORE);
    let at = |words: &[&str]| bench.ok(&[words, &["--store", STORE]].concat());

    assert_eq!(at(&["list"]).lines().count(), 2);
    assert!(at(&["show", "app"]).contains(&second));
    assert!(at(&["diff", &first, &second]).contains("added"));
    assert!(at(&["store", "stats"]).contains("dev/app 2"));
    at(&["delta", &first, &second]);
    at(&["export", "dev/app", "-o", "app.tar"]);
    let tar = fs::read(bench.path("app.tar")).unwrap();
    assert_eq!(format!("blake3:{}", blake3::hash(&tar).to_hex()), second);

    let ann = at(&["key", "new", "ann", "--plain"]);
    let policy = format!("approvals = {{}}\n[keys]\nann = \"{}\"\n", ann.trim());
    fs::write(bench.path("policy.toml"), policy).unwrap();
    let mut groups = vec!["--root", "ann", "--targets", "ann", "--online", "ann"];
    groups.extend(["--policy", "policy.toml"]);
    at(&[&["env", "init", "prod"], &groups[..]].concat());
    at(&["approve", "app", "--for", "prod", "--key", "ann"]);
    at(&["promote", "dev/app", "--to", "prod"]);
    assert!(at(&["show", "app", "--attestations"]).contains("approved"));
    at(&["env", "refresh", "prod"]);
    at(&["env", "root", "save", "prod", "-o", "anchor.json"]);
    let anchor = fs::read(bench.path("anchor.json")).unwrap();
    let store = bench.open(STORE);
    let published = store
        .backend()
        .get("env/prod/metadata/1.root.json", 1 << 20);
    assert_eq!(anchor, published.unwrap().unwrap());
    drop(store);
    let status = at(&["env", "status"]);
    assert!(
        status.contains("dev") && status.contains("app/1"),
        "{status}"
    );
    at(&["store", "pin", &first, "--reason", "audit"]);
    at(&["revoke", "prod/app", "--in", "prod", "--reason", "CVE"]);
    assert!(at(&["env", "log", "prod"]).contains("CVE"));
    at(&["store", "gc", "--delete", "--grace", "0"]);
    assert_eq!(at(&["list"]).lines().count(), 2, "both are kept");
    at(&["store", "fsck"]);

    // Released from one store into another.
    let approve = ["approve", "app", "--for", "live", "--key", "ann"];
    let approve = [&approve[..], &["--elsewhere", "--store"]].concat();
    bench.ok(&[&approve[..], &[STORE]].concat());
    bench.ok(&[&["env", "init", "live"], &groups[..], &["--store", "here"]].concat());
    let words = ["promote", "dev/app", "--to", "live"];
    bench.ok(&[&words[..], &["--source", STORE, "--store", "here"]].concat());
    bench.ok(&["store", "fsck", "--store", "here"]);

    // From a bucket into another, and from a directory into that.
    bench.ok(&[&["env", "init", "live"], &groups[..], &["--store", LIVE]].concat());
    let moved = bench.ok(&[&words[..], &["--source", STORE, "--store", LIVE]].concat());
    assert_eq!(moved.trim(), second);
    bench.grow(3);
    let third = bench.import("desk");
    bench.ok(&[&approve[..], &["desk"]].concat());
    bench.ok(&[&words[..], &["--source", "desk", "--store", LIVE]].concat());
    assert!(
        bench
            .ok(&["show", "live/app", "--store", LIVE])
            .contains(&third)
    );
    bench.ok(&["store", "fsck", "--store", LIVE]);

    // Who may only read is told so.
    let mut command = bench.command(&["import", "root", "--name", "app", "--arch", "amd64"]);
    command.args(["--store", STORE]);
    let ran: Ran = command
        .envs(bench.weed.environment(READER))
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("PutObject"), "{}", ran.stderr);
}

#[test]
fn copies_are_killed_resumed_damaged_and_mended() {
    let bench = Bench::new();
    bench.import("first");
    bench.grow(2);
    bench.import("first");
    for milliseconds in [60, 150, 400] {
        let mut copy = bench
            .command(&["store", "copy", "first", STORE])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        // It may be over already: then there is nothing to kill.
        let _ = copy.kill();
        copy.wait().unwrap();
    }
    bench.ok(&["store", "copy", "first", STORE]);
    let again = bench.json(&["store", "copy", "first", STORE]);
    assert_eq!(again["there"].as_array().unwrap().len(), 2, "{again}");
    assert_eq!(again["bytes"], 0, "{again}");
    bench.ok(&["store", "fsck", "--store", STORE]);
    bench.ok(&["store", "copy", STORE, "second"]);
    let checked = bench.json(&["store", "fsck", "--store", "second"]);
    assert_eq!(checked["images"], 2, "{checked}");

    // One byte of a pack in the bucket is another.
    let store = bench.open(STORE);
    let pack = store.backend().list_all("packs/").unwrap();
    let pack = pack.iter().max_by_key(|object| object.size).unwrap();
    let mut bytes = store.backend().get(&pack.key, 1 << 30).unwrap().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.backend().put(&pack.key, &bytes).unwrap();
    drop(store);
    let hurt = bench.run(&["store", "fsck", "--store", STORE]);
    assert_eq!(hurt.code, 3, "{}\n{}", hurt.stdout, hurt.stderr);
    assert!(hurt.stdout.contains(&pack.key), "{}", hurt.stdout);
    bench.ok(&["store", "fsck", "--store", STORE, "--repair-from", "second"]);
    bench.ok(&["store", "fsck", "--store", STORE]);
    // The other way round.
    let folder = bench.path("second/packs");
    let packs = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let pack = packs
        .filter(|path| path.extension().is_some_and(|end| end == "pack"))
        .max()
        .unwrap();
    fs::remove_file(pack).unwrap();
    bench.ok(&["store", "fsck", "--store", "second", "--repair-from", STORE]);
    bench.ok(&["store", "fsck", "--store", "second"]);
}

#[test]
fn nothing_is_lost_between_two_who_release_at_once() {
    let bench = Bench::new();
    bench.import(STORE);
    bench.ok(&["key", "new", "ann", "--plain"]);
    let init = ["env", "init", "prod", "--root", "ann", "--targets", "ann"];
    bench.ok(&[&init[..], &["--online", "ann", "--store", STORE]].concat());
    let soak = std::env::var_os("IMGBUILD_SOAK").is_some();
    let rounds = if soak { 20 } else { 2 };
    let (mut refused, mut numbers) = (0, 1);
    for round in 0..rounds {
        // Two other images of the same name into the first environment: both are there
        // afterwards, whoever came first.
        let trees: Vec<String> = (0..2)
            .map(|writer| {
                let name = format!("tree-{round}-{writer}");
                let tree = bench.path(&name);
                fs::create_dir(&tree).unwrap();
                fs::write(tree.join("file"), &name).unwrap();
                name
            })
            .collect();
        let import = |tree: &str| {
            let words = ["import", tree, "--name", "app", "--arch", "amd64"];
            bench.run(&[&words[..], &["--store", STORE]].concat())
        };
        let made: Vec<Ran> = thread::scope(|scope| {
            let threads: Vec<_> = trees
                .iter()
                .map(|tree| scope.spawn(|| import(tree)))
                .collect();
            threads.into_iter().map(|ran| ran.join().unwrap()).collect()
        });
        for ran in &made {
            assert_eq!(ran.code, 0, "{}", ran.stderr);
        }
        numbers += 2;
        // Both promoted at once: who is late says so, and repeats itself.
        let promote = |ran: &Ran| {
            let image = ran.stdout.trim();
            let words = ["promote", image, "--from", "dev", "--to", "prod"];
            bench.run(&[&words[..], &["--store", STORE]].concat())
        };
        let released: Vec<Ran> = thread::scope(|scope| {
            let threads: Vec<_> = made
                .iter()
                .map(|ran| scope.spawn(|| promote(ran)))
                .collect();
            threads.into_iter().map(|ran| ran.join().unwrap()).collect()
        });
        assert!(released.iter().any(|ran| ran.code == 0), "one of two wins");
        for (ran, made) in released.iter().zip(&made) {
            if ran.code != 0 {
                assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
                let again = promote(made);
                assert_eq!(again.code, 0, "{}", again.stderr);
                refused += 1;
            }
        }
        let log = bench.ok(&["env", "log", "prod", "--store", STORE]);
        for ran in &made {
            assert!(log.contains(ran.stdout.trim()), "{log}");
        }
    }
    println!("{refused} of {} promotions had to be repeated", rounds * 2);
    let listed = bench.ok(&["list", "--store", STORE]);
    assert_eq!(listed.lines().count(), numbers, "{listed}");
    let status = bench.ok(&["env", "status", "dev", "--store", STORE]);
    assert!(status.contains(&format!("app/{numbers}")), "{status}");
    let checked = bench.json(&["store", "fsck", "--store", STORE]);
    assert_eq!(checked["images"], numbers, "{checked}");
}
