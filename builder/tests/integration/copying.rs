//! `imgbuild store copy` and `fsck --repair-from` through the real binary: between
//! directories, through nginx, through a line that breaks, killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use servers::nginx::Nginx;
use servers::proxy::{Fault, Proxy};
use store::{Manifest, Sha256, WritableStore};

use crate::support::{Ran, manifest_of, noise};

impl Ran {
    /// The last line of stdout, as JSON.
    #[track_caller]
    fn last_json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|_| panic!("{}\n{}", self.stdout, self.stderr))
    }
}

/// A store of two versions, with places for others.
struct Bench {
    dir: tempfile::TempDir,
    images: Vec<Manifest>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // For nginx, which is nobody.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut bench = Self {
            dir,
            images: Vec::new(),
        };
        for seed in 1..=2 {
            let manifest = bench.publish(seed);
            bench.images.push(manifest);
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn publish(&self, seed: u8) -> Manifest {
        let tree = self.path("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        for number in 0..8 {
            let file = tree.join(format!("etc/file{}", number + 8 * seed));
            fs::write(file, noise(number + 8 * seed, 2_000_000)).unwrap();
        }
        let store = WritableStore::open_or_create(self.path("store")).unwrap();
        let published = store.publish_tree(&tree, 1_700_000_000, &|_| {}).unwrap();
        let inputs = store.inputs();
        let keep = |text: &[u8]| inputs.insert(&mut &*text, None).unwrap().0;
        let changes = store::canonical_tar::Changes::default();
        let record = serde_json::json!({"schema": 1, "imported": "tar", "changes": changes});
        let manifest = Manifest {
            recipe: keep(b"a recipe"),
            // An import's record, which names no inputs.
            lock: keep(&serde_json::to_vec(&record).unwrap()),
            ..manifest_of(published, 1_700_000_000)
        };
        store.put_manifest(&manifest).unwrap();
        manifest
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env_remove("IMGBUILD_STORE")
            .env("IMGBUILD_PATIENCE", "5")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output().unwrap();
        Ran::from(output)
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}\n{}\n{}", ran.stdout, ran.stderr);
        ran
    }

    /// The store is whole, and has both images.
    #[track_caller]
    fn is_whole(&self, name: &str) {
        let checked = self
            .ok(&["store", "fsck", "--store", name, "--json"])
            .last_json();
        assert_eq!(checked["images"], 2, "{checked}");
    }

    fn files(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn from_a_directory_and_once_more() {
    let bench = Bench::new();
    let dry = bench.ok(&["store", "copy", "store", "other", "--dry-run", "--json"]);
    let dry = dry.last_json();
    assert_eq!((&dry["dry_run"], &dry["packs"]), (&true.into(), &0.into()));
    assert!(!bench.path("other").exists(), "a dry run makes no store");

    let copied = bench
        .ok(&["store", "copy", "store", "other", "--json"])
        .last_json();
    assert_eq!(copied["images"].as_array().unwrap().len(), 2, "{copied}");
    assert_eq!(copied["bytes"], dry["bytes"]);
    assert_eq!(copied["inputs"], 2);
    bench.is_whole("other");

    let again = bench.ok(&["store", "copy", "store", "other"]);
    let there = again
        .stdout
        .lines()
        .filter(|line| line.starts_with("there "));
    assert_eq!(there.count(), 2, "{}", again.stdout);
    // Not a terminal: no live line.
    assert!(!again.stderr.contains('\r'), "{}", again.stderr);
    let again = bench
        .ok(&["store", "copy", "store", "other", "--json"])
        .last_json();
    assert_eq!((&again["bytes"], &again["frames"]), (&0.into(), &0.into()));

    // One image, and without what it was built from.
    let digits = bench.images[0].image.hex()[..12].to_owned();
    let one = bench.ok(&[
        "store",
        "copy",
        "store",
        "one",
        &digits,
        "--no-inputs",
        "--json",
    ]);
    assert_eq!(one.last_json()["images"].as_array().unwrap().len(), 1);
    assert!(!bench.path("one/inputs").exists());
}

#[test]
fn what_cannot_be() {
    let bench = Bench::new();
    for (words, code, said) in [
        (
            &["store", "copy", "store", "./store"][..],
            2,
            "the same store",
        ),
        (
            &["store", "copy", "nothing", "other"],
            1,
            "there is no store at",
        ),
        (
            &["store", "copy", "store", "https://store.example/"],
            2,
            "can only be read",
        ),
        (
            &["store", "copy", "store", "ftp://store.example/"],
            2,
            "cannot be used",
        ),
        (&["store", "copy", "store", "tree"], 1, "is not a store"),
        (
            &["store", "copy", "store", "other", "nobody"],
            1,
            "has no image",
        ),
        (
            &["store", "copy", "store", "other", "--env", "prod"],
            1,
            "environment prod",
        ),
        (
            &["store", "copy", "http://127.0.0.1:9/", "other"],
            1,
            "127.0.0.1:9",
        ),
    ] {
        let ran = bench.run(words);
        assert_eq!(ran.code, code, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{words:?}: {}", ran.stderr);
    }
    assert!(!bench.path("other/images").exists());
}

#[test]
fn through_a_web_server_and_a_bad_line() {
    let bench = Bench::new();
    for settings in ["", "max_ranges 0;"] {
        let server = Nginx::serve(&bench.path("store"), settings);
        let other = format!("other{}", settings.len());
        let copied = bench
            .ok(&["store", "copy", &server.url(), &other, "--json"])
            .last_json();
        assert_eq!(copied["images"].as_array().unwrap().len(), 2, "{copied}");
        let requests = copied["requests"].as_u64().unwrap();
        // Marker, catalogue, hints, manifests, indexes, inputs, and some ranges.
        assert!(requests < 40, "{requests} requests: {:#?}", server.log());
        bench.is_whole(&other);
        let again = bench
            .ok(&["store", "copy", &server.url(), &other, "--json"])
            .last_json();
        assert_eq!(again["bytes"], 0, "{again}");
    }
    let server = Nginx::serve(&bench.path("store"), "");
    let proxy = Proxy::start(server.port(), |asked| match asked.number % 7 {
        1 => Fault::Cut(3000),
        2 => Fault::Status(503, "Retry-After: 0\r\n".into()),
        4 => Fault::Hangup,
        _ => Fault::None,
    });
    bench.ok(&["store", "copy", &proxy.url(), "bad-line"]);
    bench.is_whole("bad-line");
    // What is hurt once is asked for once more; what is hurt twice is refused.
    let proxy = Proxy::start(server.port(), |asked| match asked.header("cache-control") {
        Some("no-transform") => Fault::Flip(5000),
        _ => Fault::None,
    });
    bench.ok(&["store", "copy", &proxy.url(), "flipped"]);
    bench.is_whole("flipped");
    let proxy = Proxy::start(server.port(), |asked| {
        let pack = asked.path.contains(".pack");
        if pack { Fault::Flip(5000) } else { Fault::None }
    });
    let ran = bench.run(&["store", "copy", &proxy.url(), "liar"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stdout.contains("is damaged"), "{}", ran.stdout);
    assert!(bench.path("liar/imgbuild-store").exists());
    assert!(!bench.path("liar/images").exists());
}

/// Killed at random moments, and repeated: what came does not come again.
#[test]
fn killed_and_repeated() {
    let rounds = if std::env::var_os("IMGBUILD_SOAK").is_some() {
        100
    } else {
        4
    };
    let bench = Bench::new();
    let server = Nginx::serve(&bench.path("store"), "limit_rate 8m;");
    let whole = bench
        .ok(&["store", "copy", "store", "whole", "--json"])
        .last_json();
    let mut random = u64::from(std::process::id()) | 1;
    println!("seed {random}");
    for round in 0..rounds {
        let other = format!("other{round}");
        let mut kills = 0;
        loop {
            let mut child = bench
                .command(&["store", "copy", &server.url(), &other, "--json"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_millis(random % 3000));
            child.kill().unwrap();
            kills += 1;
            if child.wait().unwrap().success() || kills == 3 {
                break;
            }
            if bench.path(&other).join("imgbuild-store").exists() {
                // Whatever can be seen is whole.
                let checked = bench.run(&["store", "fsck", "--store", &other, "--json"]);
                let damage = checked.last_json()["damage"].as_array().unwrap().len();
                assert_eq!((checked.code, damage), (0, 0), "{}", checked.stdout);
            }
        }
        let mut came = 0;
        if bench.path(&other).join("packs").exists() {
            let mut files = bench.files(&format!("{other}/packs"));
            files.retain(|path| path.extension().is_some_and(|e| e == "index"));
            let packs = files.iter().map(|path| path.with_extension("pack"));
            came = packs.map(|pack| fs::metadata(pack).unwrap().len()).sum();
        }
        let last = bench
            .ok(&["store", "copy", &server.url(), &other, "--json"])
            .last_json();
        let (all, rest) = (
            whole["bytes"].as_u64().unwrap(),
            last["bytes"].as_u64().unwrap(),
        );
        // The magic of each pack is no frame.
        assert!(
            came + rest <= all + 1000,
            "{came} came, {rest} of {all} again"
        );
        bench.is_whole(&other);
    }
}

#[test]
fn mended_from_a_directory_and_from_the_web() {
    let bench = Bench::new();
    bench.ok(&["store", "copy", "store", "other"]);
    let server = Nginx::serve(&bench.path("store"), "");
    for from in ["store".to_owned(), server.url()] {
        for path in bench.files("other/packs") {
            flip(&path);
        }
        for path in bench.files("other/images") {
            flip(&path);
        }
        let input = Sha256::of(b"a recipe").hex();
        flip(&bench.path("other/inputs/sha256").join(input));
        let ran = bench.run(&["store", "fsck", "--store", "other"]);
        assert_eq!(ran.code, 3);
        assert!(ran.stderr.contains("--repair-from"), "{}", ran.stderr);
        let ran = bench.ok(&[
            "store",
            "fsck",
            "--store",
            "other",
            "--repair-from",
            &from,
            "--json",
        ]);
        let repaired = ran.last_json();
        assert_eq!(
            repaired["repaired_images"].as_array().unwrap().len(),
            2,
            "{repaired}"
        );
        assert!(
            repaired["not_repaired"].as_array().unwrap().is_empty(),
            "{repaired}"
        );
        bench.is_whole("other");
    }
    // A store that is damaged in the same place is of no help, and says so.
    bench.ok(&["store", "copy", "store", "twin"]);
    for name in ["other", "twin"] {
        let mut packs = bench.files(&format!("{name}/packs"));
        packs.retain(|path| path.extension().is_some_and(|e| e == "pack"));
        for pack in &packs {
            flip(pack);
        }
    }
    let ran = bench.run(&["store", "fsck", "--store", "other", "--repair-from", "twin"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stdout.contains("lost  "), "{}", ran.stdout);
    // From one that is whole, all of it comes back.
    bench.ok(&["store", "copy", "store", "other"]);
    bench.is_whole("other");
}

/// What somebody attests of the first image, in the store of this name.
fn attest(bench: &Bench, name: &str, who: &str) {
    let store = WritableStore::open_or_create(bench.path(name)).unwrap();
    let manifest = &bench.images[0];
    let predicate = serde_json::json!({"environment": "prod", "comment": who});
    let kind = store::attest::Kind::Approval;
    let mut approval = store::attest::statement(kind, manifest, predicate).unwrap();
    let key = store::keys::KeyPair::generate().unwrap();
    approval.sign(&key).unwrap();
    store::attest::put(store.backend(), manifest, &approval).unwrap();
}

#[test]
fn what_is_attested_travels_with_an_image_over_plain_http() {
    let bench = Bench::new();
    let image = bench.images[0].image.hex();
    let said = |store: &str| {
        let shown = bench.ok(&["show", &image, "--attestations", "--store", store, "--json"]);
        let shown = shown.last_json();
        let all = shown["attestations"].as_array().unwrap().clone();
        let who = |one: &Value| one["predicate"]["comment"].as_str().unwrap().to_owned();
        let mut who: Vec<String> = all.iter().map(who).collect();
        who.sort();
        who
    };
    let server = Nginx::serve(&bench.path("store"), "");
    attest(&bench, "store", "ann");
    attest(&bench, "store", "bob");
    assert_eq!(said(&server.url()), ["ann", "bob"]);
    bench.ok(&["store", "copy", &server.url(), "lab", &image]);
    assert_eq!(said("lab"), ["ann", "bob"]);
    // And back, of an image that both have.
    attest(&bench, "lab", "lab");
    let lab = Nginx::serve(&bench.path("lab"), "");
    bench.ok(&["store", "copy", &lab.url(), "store", &image]);
    assert_eq!(said(&server.url()), ["ann", "bob", "lab"]);
    let again = bench.ok(&["store", "copy", &lab.url(), "store", &image, "--json"]);
    assert_eq!(again.last_json()["beside"], 0);

    // A store that an older version wrote has no lists.
    let list = bench.path(&format!("lab/attestations/{image}.json"));
    fs::remove_file(&list).unwrap();
    let copied = bench.ok(&["store", "copy", &lab.url(), "other", &image]);
    assert!(
        copied.stderr.contains("was not copied"),
        "{}",
        copied.stderr
    );
    let shown = bench.run(&["show", &image, "--attestations", "--store", &lab.url()]);
    assert!(shown.stderr.contains("gc --delete"), "{}", shown.stderr);
    let checked = bench
        .ok(&["store", "fsck", "--store", "lab", "--json"])
        .last_json();
    assert!(
        checked
            .to_string()
            .contains(&format!("attestations/{image}.json")),
        "{checked}"
    );
    bench.ok(&["store", "gc", "--delete", "--store", "lab"]);
    assert_eq!(said(&lab.url()), ["ann", "bob", "lab"]);
    // One that lies is damaged, and is no part of what is copied.
    fs::write(&list, "{}").unwrap();
    let checked = bench.run(&["store", "fsck", "--store", "lab"]);
    assert_eq!(checked.code, 3, "{}", checked.stdout);
    bench.run(&["store", "fsck", "--quarantine", "--store", "lab"]);
    bench.ok(&["store", "fsck", "--store", "lab"]);
}
