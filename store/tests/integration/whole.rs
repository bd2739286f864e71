//! A check sees all of a store: each kind of object edited, cut, swapped and deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use store::attest::{self, Kind};
use store::keys::{KeyPair, Signer};
use store::maintenance::{self, Collector, Policy, Report};
use store::tuf::{Environment, RoleKeys};
use store::{BuildLog, LocalReader, Manifest, Sha256, Store, WritableStore};

use crate::support::*;

/// The locks of these tests are digests, one a line.
fn named(lock: &[u8]) -> Result<Vec<Sha256>, String> {
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let digest = |line| Sha256::from_hex(line).map_err(|error| error.to_string());
    text.lines().map(digest).collect()
}

fn check(root: &Path) -> Report {
    let backend = LocalReader::open(root).unwrap();
    let store = Store::open(Box::new(backend.clone())).unwrap();
    maintenance::fsck(&store, &backend, EVERYTHING, &named, &|_| {}).unwrap()
}

/// All that a report names.
fn named_in(report: &Report) -> BTreeSet<String> {
    let damage = report.damage.iter().map(|damage| damage.key.clone());
    let strays = report.strays.iter().chain(&report.foreign).cloned();
    damage.chain(strays).collect()
}

/// A store with several of each kind of object.
struct Whole {
    _dir: tempfile::TempDir,
    root: PathBuf,
    images: Vec<Manifest>,
}

impl Whole {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
        let store = WritableStore::open_or_create(&root).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("shared"), noise(1, 9000)).unwrap();
        let keep = |text: String| store.inputs().insert(&mut text.as_bytes(), None).unwrap().0;
        let images: Vec<Manifest> = (0..4_u8)
            .map(|number| {
                fs::write(tree.join("own"), noise(10 + number, 6000)).unwrap();
                let published = store.publish_tree(&tree, EPOCH, &|_| {}).unwrap();
                let mut manifest = manifest(&published);
                let deb = keep(format!("package {number}"));
                manifest.lock = keep(deb.hex());
                manifest.recipe = keep(format!("recipe {number}"));
                store.put_manifest(&manifest).unwrap();
                manifest
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        for (number, image) in images.iter().enumerate() {
            let steps = [("one".to_owned(), format!("output of {number}\n"))];
            let log = BuildLog::new("example".into(), steps.into_iter());
            store.put_log(&image.image, &log).unwrap();
            let reason = format!("for audit {number}");
            maintenance::pin(store.backend(), &image.image, &reason).unwrap();
            for kind in [Kind::TestResult, Kind::Approval] {
                let predicate = serde_json::json!({"environment": "dev", "result": "PASSED"});
                let mut envelope = attest::statement(kind, image, predicate).unwrap();
                envelope.sign(&key).unwrap();
                attest::put(store.backend(), image, &envelope).unwrap();
            }
        }
        for pair in images[..3].windows(2) {
            let [from, to] = [&pair[0], &pair[1]];
            store::delta_writer::publish(store.store(), store.backend(), from, to, &|_| {})
                .unwrap();
        }
        let key = || Box::new(KeyPair::generate().unwrap()) as Box<dyn Signer>;
        let keys = RoleKeys {
            root: Some(key()),
            targets: key(),
            online: key(),
        };
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut env = Environment::init(&store, &"dev".parse().unwrap(), &keys, now).unwrap();
        for manifest in &images[..2] {
            env.release(manifest, &keys, now).unwrap();
        }
        drop(store);
        let whole = Self {
            _dir: dir,
            root,
            images,
        };
        whole.collect(0).unwrap();
        let store = WritableStore::open_or_create(&whole.root).unwrap();
        let mut env = Environment::open(&store, &"dev".parse().unwrap()).unwrap();
        for manifest in [&whole.images[0], &whole.images[2]] {
            env.release(manifest, &keys, now).unwrap();
        }
        drop(store);
        whole
    }

    /// Every object with its bytes, by key.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let keys = files(&self.root).into_iter().map(|path| {
            let key = path.strip_prefix(&self.root).unwrap();
            (key.to_str().unwrap().to_owned(), fs::read(path).unwrap())
        });
        let ours = |key: &str| !key.starts_with("locks/") && !key.starts_with("tmp/");
        keys.filter(|(key, _)| ours(key)).collect()
    }

    /// Makes the store what it was.
    fn restore(&self, objects: &BTreeMap<String, Vec<u8>>) {
        let now = self.objects();
        for key in now.keys().filter(|key| !objects.contains_key(*key)) {
            fs::remove_file(self.root.join(key)).unwrap();
        }
        for (key, bytes) in objects
            .iter()
            .filter(|(key, _)| now.get(*key) != objects.get(*key))
        {
            fs::write(self.root.join(key), bytes).unwrap();
        }
    }

    fn quarantine(&self, report: &Report) -> maintenance::Quarantined {
        let store = WritableStore::open_or_create(&self.root).unwrap();
        maintenance::quarantine(report, store.backend()).unwrap()
    }

    fn collect(&self, grace: u64) -> store::Result<maintenance::Collected> {
        let store = WritableStore::open_or_create(&self.root).unwrap();
        let policy = Policy {
            grace,
            keep_last: 0,
            ..Policy::default()
        };
        let collector = Collector::new(store.store(), policy, &named);
        let collected = collector.run(store.backend(), &mut |_| {})?;
        store.renew_catalogue()?;
        Ok(collected)
    }
}

/// The kind of an object: its key without digests and numbers.
fn kind(key: &str) -> String {
    let part = |part: &str| {
        let number = part.chars().all(|c| c.is_ascii_digit());
        let digest = part.len() == 64;
        if number || digest { "*" } else { part }.to_owned()
    };
    let parts: Vec<String> = key.split(['/', '.']).map(part).collect();
    parts.join("/")
}

/// Damages every object in every way: no check passes over it, and putting it out of the way
/// touches nothing that is whole.
#[test]
fn no_damage_goes_unseen_and_none_is_mended_wrongly() {
    let whole = Whole::new();
    let good = whole.objects();
    let report = check(&whole.root);
    assert!(
        report.is_clean() && named_in(&report).is_empty(),
        "{report:#?}"
    );
    assert!(report.unbuildable.is_empty(), "{report:#?}");
    let kinds: BTreeSet<String> = good.keys().map(|key| kind(key)).collect();
    assert_eq!(
        kinds,
        [
            "attestations/*/*/json",
            "attestations/*/json",
            "catalogue/json",
            "deltas/*/*/json",
            "deltas/*/delta",
            "env/dev/history/json",
            "env/dev/log/*/json",
            "env/dev/metadata/*/root/json",
            "env/dev/metadata/*/snapshot/json",
            "env/dev/metadata/*/targets/json",
            "env/dev/metadata/timestamp/json",
            "env/dev/targets/example/*/*/json",
            "hints/*/json",
            "images/*/json",
            "imgbuild-store",
            "inputs/sha256/*",
            "inventory/*/json",
            "logs/*/json/zst",
            "packs/*/index",
            "packs/*/pack",
            "pins/*/json",
        ]
        .map(str::to_owned)
        .into()
    );
    let mut faults = Vec::new();
    let mut look = |what: &str, keys: &[&str]| {
        let report = check(&whole.root);
        let named = named_in(&report);
        let seen = |key: &str| {
            // A delta without its description, and the other way round.
            let delta = |named: &String| named.starts_with("deltas/");
            named.contains(key)
                || (key.starts_with("deltas/") && named.iter().any(delta))
                || (key.starts_with("packs/") && !report.affected.is_empty())
                || (key.starts_with("inputs/") && !report.unbuildable.is_empty())
        };
        if !keys.iter().any(|key| seen(key)) {
            faults.push(format!("{what} {keys:?} is not seen: {report:#?}"));
        }
        let damaged: BTreeSet<&str> = report.damage.iter().map(|one| one.key.as_str()).collect();
        let made = [
            "hints/",
            "inventory/",
            "catalogue.json",
            "attestations/",
            "deltas/",
            "packs/",
        ];
        let derived = |key: &str| match kind(key).as_str() {
            "attestations/*/*/json" => false,
            _ => made.iter().any(|folder| key.starts_with(folder)),
        };
        for other in damaged.iter().filter(|key| !keys.contains(*key)) {
            // A delta and its description, a pack and its index belong together.
            if !derived(other) {
                faults.push(format!("{what} {keys:?} accuses {other}"));
            }
        }
        if !damaged.is_empty() {
            whole.quarantine(&report);
        }
        let after = whole.objects();
        for (key, bytes) in &good {
            if !keys.contains(&key.as_str()) && !derived(key) && after.get(key) != Some(bytes) {
                faults.push(format!("{what} {keys:?} was mended by changing {key}"));
            }
        }
        whole.restore(&good);
    };
    for (key, bytes) in good.iter().filter(|(key, _)| *key != "imgbuild-store") {
        let path = whole.root.join(key);
        let letters: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at].is_ascii_alphanumeric())
            .collect();
        // What is JSON stays JSON, mostly. A description of a delta ends with estimates.
        let last = letters.last().filter(|_| kind(key) != "deltas/*/*/json");
        for at in [letters.get(letters.len() / 2), last].into_iter().flatten() {
            let mut bad = bytes.clone();
            bad[*at] ^= 1;
            fs::write(&path, &bad).unwrap();
            look("edit", &[key]);
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        look("cut", &[key]);
        fs::remove_file(&path).unwrap();
        look("delete", &[key]);
        let twin = good
            .iter()
            .find(|(other, theirs)| *other > key && kind(other) == kind(key) && *theirs != bytes);
        if let Some((other, theirs)) = twin {
            fs::write(&path, theirs).unwrap();
            fs::write(whole.root.join(other), bytes).unwrap();
            look("swap", &[key, other]);
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
    fs::write(whole.root.join("packs/notes.txt"), b"mine").unwrap();
    assert_eq!(check(&whole.root).foreign, ["packs/notes.txt"]);
}

/// What a collector does where something is gone that nobody has removed.
#[test]
fn what_was_lost_is_not_collected() {
    let whole = Whole::new();
    let image = &whole.images[3];
    let key = |folder: &str| format!("{folder}/{}.json", image.image.hex());
    // A pin that is gone still pins.
    fs::remove_file(whole.root.join(key("pins"))).unwrap();
    whole.collect(0).unwrap();
    assert!(whole.root.join(key("images")).exists());
    // Of a manifest that is gone, all that it leads to stays.
    fs::remove_file(whole.root.join(key("images"))).unwrap();
    let error = whole.collect(0).unwrap_err();
    assert_eq!(error.kind(), store::ErrorKind::Missing, "{error}");
    let report = check(&whole.root);
    assert_eq!(report.affected.len(), 1, "{report:#?}");
    // Given up, it is garbage.
    let moved = whole.quarantine(&report);
    assert_eq!(moved.given_up, [key("images")]);
    let store = WritableStore::open_or_create(&whole.root).unwrap();
    assert!(maintenance::unpin(store.backend(), &image.image).unwrap());
    drop(store);
    whole.collect(0).unwrap();
    let report = check(&whole.root);
    assert!(
        report.is_clean() && named_in(&report).is_empty(),
        "{report:#?}"
    );
    assert!(!whole.root.join(key("inventory")).exists());
}

/// A store that an older version wrote has no inventories; a collector of an older version
/// leaves them behind.
#[test]
fn stores_of_older_versions_get_inventories() {
    let whole = Whole::new();
    let good = whole.objects();
    fs::remove_dir_all(whole.root.join("inventory")).unwrap();
    let report = check(&whole.root);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.strays.len(), whole.images.len(), "{report:#?}");
    let store = WritableStore::open_or_create(&whole.root).unwrap();
    store::inventory::complete(store.backend()).unwrap();
    drop(store);
    assert_eq!(whole.objects(), good);
    // All of an image went, but for what was not known.
    let hex = whole.images[3].image.hex();
    for key in good
        .keys()
        .filter(|key| key.contains(&hex) && !key.starts_with("inventory/"))
    {
        fs::remove_file(whole.root.join(key)).unwrap();
    }
    let report = check(&whole.root);
    assert!(report.is_clean(), "{report:#?}");
    assert!(named_in(&report).contains(&format!("inventory/{hex}.json")));
    whole.collect(0).unwrap();
    assert!(!whole.root.join(format!("inventory/{hex}.json")).exists());
}
