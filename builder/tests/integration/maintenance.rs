//! `imgbuild store ...` through the real binary: words, exit codes, JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use store::{Manifest, WritableStore};

use crate::support::{Ran, manifest_of, noise};

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Publishes a tree with one file of its own.
    fn publish(&self, seed: u8) -> Manifest {
        let tree = self.dir.path().join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fs::write(tree.join("etc/own"), noise(seed, 200_000)).unwrap();
        let store = WritableStore::open_or_create(self.store()).unwrap();
        let published = store.publish_tree(&tree, 1_700_000_000, &|_| {}).unwrap();
        let manifest = manifest_of(published, 1_700_000_000);
        store.put_manifest(&manifest).unwrap();
        manifest
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("IMGBUILD_STORE", self.store())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran::from(output)
    }

    /// The last line of stdout: what is before it are events.
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let lines = ran
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let mut results = lines.filter(|line: &Value| line.get("event").is_none());
        let result = results.next().expect("a result");
        assert_eq!(result["schema"], 1);
        result
    }
}

fn packs(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join("packs")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut packs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .collect();
    packs.sort();
    packs
}

#[test]
fn a_store_is_kept_small() {
    let bench = Bench::new();
    let (first, second) = (bench.publish(1), bench.publish(2));
    let hex = first.image.hex();
    let pinned = bench.run(&["store", "pin", &hex[..12], "--reason", "an audit"]);
    assert_eq!(
        (pinned.code, pinned.stdout.trim()),
        (0, &*first.image.to_string())
    );

    let list = bench.json(&["list", "--json"], 0);
    let images = list["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for image in images {
        let is_first = image["image"] == first.image.to_string();
        assert_eq!(image["pinned"] == "an audit", is_first, "{image}");
        assert!(image["published"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(image["released"], serde_json::json!([]));
    }
    assert!(bench.run(&["list"]).stdout.contains("pinned: an audit"));

    let stats = bench.json(&["store", "stats", "--json"], 0);
    assert_eq!(stats["images"].as_array().unwrap().len(), 2);
    assert_eq!(stats["logical"], first.size + second.size);
    let exclusive = stats["images"][0]["exclusive"].as_u64().unwrap();
    assert!((199_000..215_000).contains(&exclusive), "{stats}");

    // Nothing goes within the grace period, and nothing at all without --delete.
    let strict = ["store", "gc", "--grace", "0", "--keep-last", "0", "--json"];
    assert_eq!(bench.json(&["store", "gc", "--json"], 0)["frees"], 0);
    let planned = bench.json(&strict, 0);
    assert_eq!(planned["deleted"], false);
    assert_eq!(planned["images"][0]["image"], second.image.to_string());
    let frees = planned["frees"].as_u64().unwrap();
    assert!(frees > 199_000, "{planned}");
    assert_eq!(packs(&bench.store()).len(), 2);
    let text = bench.run(&strict[..6]);
    assert!(text.stderr.contains("with --delete, 20"), "{}", text.stderr);

    let mut delete = strict.to_vec();
    delete.push("--delete");
    let done = bench.json(&delete, 0);
    assert_eq!(
        (&done["deleted"], &done["frees"]),
        (&Value::Bool(true), &planned["frees"])
    );
    assert_eq!(packs(&bench.store()).len(), 1);
    assert_eq!(bench.json(&["store", "fsck", "--json"], 0)["clean"], true);
    assert_eq!(bench.run(&["store", "unpin", "small"]).code, 0);
    assert_eq!(bench.run(&["store", "unpin", "small"]).code, 1);
    // The newest of a name stays unless it is said otherwise.
    let kept = bench.json(&["store", "gc", "--grace", "0", "--json", "--delete"], 0);
    assert_eq!(kept["kept"][0]["why"], "newest");
}

#[test]
fn damage_is_named_and_ends_with_3() {
    let bench = Bench::new();
    let manifest = bench.publish(1);
    let pack = packs(&bench.store()).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    assert_eq!(bench.run(&["store", "fsck", "--quick"]).code, 0);
    let ran = bench.run(&["store", "fsck"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.starts_with("damaged packs/"), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains(&format!("hurt    small {}", manifest.image)),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("etc/own\n"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("hint: --repair-from STORE"),
        "{}",
        ran.stderr
    );
    let json = bench.json(&["store", "fsck", "--json"], 3);
    assert_eq!(json["hurt"][0]["image"], manifest.image.to_string());
    let moved = bench.json(&["store", "fsck", "--quarantine", "--json"], 3);
    assert_eq!(moved["quarantined"].as_array().unwrap().len(), 2, "{moved}");
    // What is hurt is kept, so nothing is removed.
    let refused = bench.run(&["store", "gc", "--grace", "0", "--delete"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("fsck"), "{}", refused.stderr);
    assert_eq!(bench.publish(1), manifest);
    assert_eq!(bench.run(&["store", "fsck"]).code, 0);
}

#[test]
fn one_at_a_time_and_only_a_store() {
    let bench = Bench::new();
    for command in ["gc", "fsck", "stats"] {
        assert_eq!(bench.run(&["store", command]).code, 1, "{command}");
    }
    assert_eq!(bench.run(&["store", "gc", "--delete"]).code, 1);
    assert!(!bench.store().exists(), "a store was made to be cleaned");
    assert_eq!(bench.run(&["store", "gc", "--grace", "soon"]).code, 2);
    bench.publish(1);
    let store = WritableStore::open_or_create(bench.store()).unwrap();
    let held = store.backend().try_lock("gc").unwrap().unwrap();
    for arguments in [&["store", "gc", "--delete"][..], &["store", "fsck"]] {
        let ran = bench.run(arguments);
        assert_eq!(ran.code, 75, "{}", ran.stderr);
        assert!(ran.stderr.contains("another"), "{}", ran.stderr);
    }
    assert_eq!(
        bench.run(&["store", "gc"]).code,
        0,
        "a look waits for nobody"
    );
    drop(held);
    assert_eq!(bench.run(&["store", "gc", "--delete"]).code, 0);
}

/// Whoever comes second into a store without anything waits, and then releases as well.
#[test]
fn two_first_imports_at_once() {
    let bench = Bench::new();
    let children: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|name| {
            let tree = bench.dir.path().join(name);
            fs::create_dir_all(&tree).unwrap();
            fs::write(tree.join("file"), name).unwrap();
            Command::new(env!("CARGO_BIN_EXE_imgbuild"))
                .args(["import", name, "--name", name, "--arch", "amd64"])
                .current_dir(bench.dir.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", bench.dir.path())
                .env("IMGBUILD_STORE", bench.store())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let status = bench.json(&["env", "status", "dev", "--json"], 0);
    let releases = status["environments"][0]["releases"].as_array().unwrap();
    assert_eq!(releases.len(), 3, "{status:#}");
}

#[test]
fn a_refused_environment_leaves_nothing() {
    let bench = Bench::new();
    for wrong in [
        &["--root-threshold", "0"][..],
        &["--policy", "missing.toml"],
    ] {
        let init = [&["env", "init", "prod", "--plain"], wrong].concat();
        assert_ne!(bench.run(&init).code, 0);
    }
    let left: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_pin_that_is_gone_is_missed_and_still_pins() {
    let bench = Bench::new();
    let (first, _) = (bench.publish(1), bench.publish(2));
    let image = first.image.to_string();
    assert_eq!(bench.run(&["store", "pin", &image]).code, 0);
    let pin = format!("pins/{}.json", first.image.hex());
    fs::remove_file(bench.store().join(&pin)).unwrap();
    let ran = bench.run(&["store", "fsck"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let told = format!("damaged {pin}: it is missing; `imgbuild store pin` or `unpin`");
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    let gc = [
        "store",
        "gc",
        "--delete",
        "--grace",
        "0",
        "--keep-last",
        "0",
        "--json",
    ];
    let kept = &bench.json(&gc, 0)["kept"];
    assert_eq!(kept.as_array().unwrap().len(), 1, "{kept:#}");
    assert_eq!(bench.run(&["store", "unpin", &image]).code, 0);
    assert_eq!(bench.run(&["store", "fsck"]).code, 0);
    assert_eq!(bench.json(&gc, 0)["kept"].as_array().unwrap().len(), 0);
}
