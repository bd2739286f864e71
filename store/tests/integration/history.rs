//! Old versions of an environment's metadata: what is kept of them, and what that costs.

use std::fs;
use std::path::{Path, PathBuf};

use store::keys::{KeyPair, Signer};
use store::maintenance::{self, Collected, Collector, Policy};
use store::tuf::{Environment, KeyGroup, ReleaseOrigin, RoleKeys, RootChange};
use store::{LocalReader, Manifest, Sha256, Store, WritableStore};

use crate::support::*;

#[expect(clippy::unnecessary_wraps, reason = "it stands for one that can fail")]
fn no_inputs(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

/// An environment that two images are released into, again and again.
struct Releases {
    _dir: tempfile::TempDir,
    root: PathBuf,
    images: [Manifest; 2],
    keys: RoleKeys,
    made: usize,
}

fn key() -> Box<dyn Signer> {
    Box::new(KeyPair::generate().unwrap())
}

fn now() -> jiff::Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

impl Releases {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
        let store = WritableStore::open_or_create(&root).unwrap();
        fs::create_dir(&tree).unwrap();
        let images = [1, 2].map(|number| {
            fs::write(tree.join("own"), noise(number, 3000)).unwrap();
            publish(&store, &tree)
        });
        let keys = RoleKeys {
            root: Some(key()),
            targets: key(),
            online: key(),
        };
        Environment::init(&store, &"dev".parse().unwrap(), &keys, now()).unwrap();
        Self {
            _dir: dir,
            root,
            images,
            keys,
            made: 0,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Environment<'_>, &WritableStore) -> T) -> T {
        let store = WritableStore::open_or_create(&self.root).unwrap();
        let mut env = Environment::open(&store, &"dev".parse().unwrap()).unwrap();
        act(&mut env, &store)
    }

    fn release(&mut self, count: usize) {
        for _ in 0..count {
            let image = &self.images[self.made % 2];
            self.with(|env, _| env.release(image, &self.keys, now()).unwrap());
            self.made += 1;
        }
    }

    /// Other keys sign releases from now on.
    fn rotate(&mut self) {
        let next = key();
        self.with(|env, _| {
            let change = RootChange {
                add: vec![(Some(KeyGroup::Targets), next.public())],
                remove: vec![(Some(KeyGroup::Targets), self.keys.targets.public().id())],
                ..RootChange::default()
            };
            let mut proposal = env.draft_root(&change, now()).unwrap();
            let root = self.keys.root.as_deref().unwrap();
            env.sign(&mut proposal, &[root, &*next]).unwrap();
            env.publish(&proposal, &[&*self.keys.online], now())
                .unwrap();
        });
        self.keys.targets = next;
    }

    fn collect(&self, grace: u64) -> Collected {
        let store = WritableStore::open_or_create(&self.root).unwrap();
        let policy = Policy {
            grace,
            keep_last: 0,
            ..Policy::default()
        };
        let collector = Collector::new(store.store(), policy, &no_inputs);
        collector.run(store.backend(), &mut |_| {}).unwrap()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let root = self.root.join("env/dev").join(folder);
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        files(&root).into_iter().map(name).collect()
    }

    /// Who signed each entry of the log, the oldest first.
    fn signers(&self) -> Vec<String> {
        self.with(|env, _| {
            let entries = env.log(usize::MAX).unwrap();
            let signers = env.log_signers(&entries).unwrap().into_iter().rev();
            signers
                .map(|keys| keys.iter().map(store::keys::PublicKey::hex).collect())
                .collect()
        })
    }

    fn bytes(&self) -> u64 {
        let history = self.root.join("env/dev/history.json");
        fs::metadata(history).map_or(0, |meta| meta.len())
    }
}

fn damage(root: &Path) -> Vec<String> {
    let backend = LocalReader::open(root).unwrap();
    let store = Store::open(Box::new(backend.clone())).unwrap();
    let report = maintenance::fsck(&store, &backend, EVERYTHING, &no_inputs, &|_| {}).unwrap();
    report.damage.into_iter().map(|one| one.key).collect()
}

#[test]
fn old_versions_go_and_what_the_log_needs_stays() {
    let mut releases = Releases::new();
    releases.release(12);
    let first = releases.keys.targets.public().hex();
    releases.rotate();
    releases.release(13);
    let second = releases.keys.targets.public().hex();
    let all = releases.files("metadata");
    assert_eq!(all.len(), 2 + 2 * 27 + 1, "{all:?}");

    // Whoever follows an older timestamp still gets what it leads to.
    releases.collect(3600);
    assert_eq!(releases.files("metadata"), all);
    let signers = releases.signers();
    let expected = [vec![first; 12], vec![second.clone(); 13]].concat();
    assert_eq!(signers, expected);

    let collected = releases.collect(0);
    let gone = collected
        .removed
        .iter()
        .filter(|gone| gone.key.starts_with("env/"));
    assert_eq!(gone.count(), 2 * 26);
    let mut left = ["1.root", "2.root", "27.snapshot", "27.targets", "timestamp"]
        .map(|file| format!("{file}.json"));
    left.sort();
    assert_eq!(releases.files("metadata"), left);
    assert_eq!(releases.signers(), expected);
    assert_eq!(damage(&releases.root), [""; 0]);

    // Each version costs what it changed, however many there were before it.
    let small = releases.bytes();
    releases.release(25);
    releases.collect(0);
    assert_eq!(releases.signers(), [expected, vec![second; 25]].concat());
    assert_eq!(damage(&releases.root), [""; 0]);
    let grown = releases.bytes() - small;
    assert!(
        grown < 25 * 900 && grown < small * 11 / 10,
        "{small} then {grown}"
    );
}

#[test]
fn a_collector_that_was_killed_goes_on_and_nothing_unsigned_is_kept() {
    let mut releases = Releases::new();
    releases.release(5);
    let metadata = releases.root.join("env/dev/metadata");
    let old = fs::read(metadata.join("2.targets.json")).unwrap();
    releases.collect(0);
    // Killed before it removed the file.
    fs::write(metadata.join("2.targets.json"), &old).unwrap();
    assert_eq!(damage(&releases.root), [""; 0]);
    releases.collect(0);
    assert!(!metadata.join("2.targets.json").exists());

    // A version that nobody signed stays where a check names it.
    releases.release(2);
    let file = metadata.join("7.targets.json");
    let text = fs::read_to_string(&file).unwrap();
    let edited = text.replacen("\"seq\": 1,", "\"seq\": 9,", 1);
    assert_ne!(edited, text);
    fs::write(&file, &edited).unwrap();
    let collected = releases.collect(0);
    assert!(collected.spared > 0 && file.exists());
    assert_eq!(damage(&releases.root), ["env/dev/metadata/7.targets.json"]);
    fs::write(&file, text).unwrap();
    releases.collect(0);
    assert_eq!(damage(&releases.root), [""; 0]);

    // The history cannot be changed unseen, nor be lost.
    let file = releases.root.join("env/dev/history.json");
    let text = fs::read_to_string(&file).unwrap();
    for bad in [
        text.replacen("\"version\":3", "\"version\":4", 1),
        text.replacen("\"snapshots\":", "\"snapshots\":1", 1),
        text.replacen("dev", "dex", 1),
        text[..text.len() / 2].to_owned(),
    ] {
        assert_ne!(bad, text);
        fs::write(&file, bad).unwrap();
        assert_eq!(damage(&releases.root), ["env/dev/history.json"]);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(damage(&releases.root), ["env/dev/history.json"]);
}

/// Releases below the oldest that nodes may go back to leave the metadata with the change
/// that says so, and the store with the next collection.
#[test]
fn what_nobody_may_run_is_kept_no_longer() {
    let mut releases = Releases::new();
    releases.release(3);
    let [one, two] = releases.images.clone();
    let there = |manifest: &Manifest| {
        let key = format!("images/{}.json", manifest.image.hex());
        releases.root.join(key).exists()
    };
    let seqs = || {
        releases.with(|env, _| {
            let releases = env.releases().unwrap().into_iter();
            releases.map(|release| release.seq).collect::<Vec<_>>()
        })
    };
    let promote = |manifest: &Manifest, min_seq| {
        releases.with(|env, _| {
            let origin = ReleaseOrigin {
                min_seq: Some(min_seq),
                ..ReleaseOrigin::default()
            };
            let (mut proposal, _) = env
                .draft_release(manifest, &origin, now())
                .unwrap()
                .unwrap();
            let review = env.sign(&mut proposal, &[&*releases.keys.targets]).unwrap();
            let online: [&dyn Signer; 1] = [&*releases.keys.online];
            env.publish(&proposal, &online, now()).unwrap();
            (review.changes, review.warnings)
        })
    };
    let (changes, warnings) = promote(&two, 3);
    let said = "example: 2 releases below 3 are retired, and kept no longer";
    assert!(changes.contains(&said.to_owned()), "{changes:?}");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(seqs(), [3, 4]);
    // A node that reads the metadata from before the change still finds its manifest.
    releases.collect(3600);
    assert_eq!(releases.files("targets").len(), 4);
    releases.collect(0);
    assert_eq!(releases.files("targets").len(), 2);
    assert!(there(&one) && there(&two), "each is released still");
    let (_, warnings) = promote(&one, 5);
    assert_eq!((seqs(), warnings), (vec![5], vec![]));
    releases.collect(0);
    assert!(
        there(&one) && !there(&two),
        "the second is released nowhere"
    );
    assert_eq!(damage(&releases.root), [""; 0]);
    // The log still has all of it.
    assert_eq!(releases.signers().len(), 5);
    assert!(releases.signers().iter().all(|keys| keys.len() == 64));
}
