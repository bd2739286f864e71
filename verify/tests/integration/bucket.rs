//! The real `imgnode` against a bucket of real `SeaweedFS`.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::Farm;
use serde_json::Value;
use servers::weed::{READER, WRITER, Weed};
use store::delta_writer;
use store::tuf::Environment;
use store::{ClientOptions, WritableStore};

const REPOSITORY: &str = "s3://images/farm";

/// A node whose repository is a bucket that it may read.
struct Node {
    farm: Farm,
    weed: Weed,
}

impl Node {
    fn new(system: &str) -> Self {
        let node = Self {
            farm: Farm::without_init(system),
            weed: Weed::start(),
        };
        node.sync();
        node
    }

    /// Brings what the farm's store has into the bucket, as any program that copies
    /// files to a bucket would: content first, the newest word of an environment last.
    fn sync(&self) {
        let variables = self.weed.environment(WRITER);
        let read = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.clone())
        };
        let access = ClientOptions::from_environment(&read).unwrap();
        let bucket = REPOSITORY.parse().unwrap();
        let bucket = WritableStore::open(&bucket, &access, &self.farm.path("cache")).unwrap();
        let store = self.farm.path("store");
        let mut files = Vec::new();
        walk(&store, &mut files);
        files.sort_by_key(|path| (path.ends_with("timestamp.json"), path.clone()));
        for file in files {
            let key = file.strip_prefix(&store).unwrap().to_str().unwrap();
            let bytes = fs::read(&file).unwrap();
            bucket.backend().put(key, &bytes).unwrap();
        }
    }

    fn run(&self, words: &[&str], user: Option<(&str, &str)>) -> Output {
        let mut command = self.farm.command(words);
        for (name, value) in self.weed.environment(user.unwrap_or(READER)) {
            command.env(name, value);
        }
        if user.is_none() {
            command.env_remove("AWS_ACCESS_KEY_ID");
            command.env_remove("AWS_SECRET_ACCESS_KEY");
        }
        command
            .env("HOME", self.farm.directory.path())
            .env("IMGBUILD_PATIENCE", "5")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words, Some(READER));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "imgnode {words:?}\n{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, words: &[&str], user: Option<(&str, &str)>, code: i32) -> String {
        let output = self.run(words, user);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{said}");
        said
    }

    fn init_words(&self) -> [&str; 7] {
        let root = self.farm.str("root.json");
        ["init", "--env", "dev", "--repo", REPOSITORY, "--root", root]
    }
}

fn walk(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn a_node_follows_a_bucket() {
    let node = Node::new("bucket");
    let farm = &node.farm;
    node.ok(&node.init_words());
    let words = farm.install_words();
    let words = words.each_ref().map(String::as_str);
    node.ok(&words);
    node.ok(&["verify", &farm.system]);
    assert_eq!(farm.status()["repository"], REPOSITORY);

    // From packs, then with a delta.
    let mut fetched = Vec::new();
    for (version, way) in [(2_u8, "packs"), (3, "delta")] {
        for file in 0..20 {
            let path = farm.path(&format!("tree/data/{file:03}"));
            let mut bytes = fs::read(&path).unwrap();
            bytes[40_000..40_016].fill(version);
            fs::write(path, bytes).unwrap();
        }
        farm.release(version.into());
        if way == "delta" {
            let store = WritableStore::open_or_create(farm.path("store")).unwrap();
            let environment = Environment::open(&store, &"dev".parse().unwrap()).unwrap();
            let releases = environment.releases().unwrap();
            let [.., old, new] = &releases[..] else {
                panic!("three were released");
            };
            let manifest = |release: &store::tuf::Release| store.store().manifest(&release.image);
            let (old, new) = (manifest(old).unwrap(), manifest(new).unwrap());
            delta_writer::publish(store.store(), store.backend(), &old, &new, &|_| ()).unwrap();
        }
        node.sync();
        let said = node.ok(&["upgrade", &farm.system, "--json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["way"], way, "{said}");
        node.ok(&["verify", &farm.system]);
        fetched.push(said["fetched_bytes"].as_u64().unwrap());
    }
    assert!(fetched[1] < fetched[0] / 10, "{fetched:?}");
    node.ok(&["rollback", &farm.system]);
    node.farm.close();
}

#[test]
fn a_bucket_that_refuses_is_named_with_the_way_out() {
    let node = Node::new("bucket-no");
    let words = node.init_words();
    let said = node.fails(&words, None, 2);
    assert!(said.contains("hint: ") && said.contains("AWS_"), "{said}");
    let said = node.fails(&words, Some((READER.0, "wrong")), 2);
    assert!(said.contains("SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains("wrong"), "a secret is in: {said}");
    let said = node.fails(&words, Some(("NOBODY", "wrong")), 2);
    assert!(said.contains("hint: "), "{said}");
    let root = node.farm.str("root.json");
    let missing = ["init", "--env", "dev", "--repo", "s3://gone/farm", "--root"];
    let said = node.fails(&[&missing[..], &[root]].concat(), Some(READER), 2);
    assert!(said.contains("gone") && said.contains("hint: "), "{said}");
    node.farm.assert_nothing_installed();

    // The right one, and then the server goes away.
    node.ok(&words);
    let Node { farm, weed } = node;
    let variables = weed.environment(READER);
    drop(weed);
    let install = farm.install_words();
    let output = farm
        .command(&install.each_ref().map(String::as_str))
        .envs(variables)
        .env("IMGBUILD_PATIENCE", "2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("hint: "), "{said}");
    farm.assert_nothing_installed();
}
