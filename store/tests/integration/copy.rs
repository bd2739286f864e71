//! Images move between stores: only what is lacking, as it is, verified.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use store::copy::{Copied, Copier, CopyProgress, repair};
use store::{
    BuildLog, ErrorKind, ImageId, LocalReader, Manifest, Sha256, Store, WritableStore, maintenance,
};

/// A store of two versions with recipe, lock, inputs, and a log.
struct Two {
    example: Example,
    second: Manifest,
}

const INPUT: &[u8] = b"a package";

/// Each line of a lock in these tests is an input and its size.
fn locked(lock: &[u8]) -> Result<Vec<(Sha256, u64)>, String> {
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let line = |line: &str| -> Option<(Sha256, u64)> {
        let (digest, size) = line.split_once(' ')?;
        Some((digest.parse().ok()?, size.parse().ok()?))
    };
    let lines = text
        .lines()
        .map(|text| line(text).ok_or("no lock".to_owned()));
    lines.collect()
}

fn lock() -> Vec<u8> {
    format!("{} {}\n", Sha256::of(INPUT), INPUT.len()).into_bytes()
}

impl Two {
    fn new() -> Self {
        let example = Example::new();
        let inputs = example.store.inputs();
        for input in [&b"recipe"[..], &lock(), INPUT] {
            inputs.insert(&mut &*input, None).unwrap();
        }
        for number in 0..6 {
            let file = example.tree().join(format!("more{number}"));
            fs::write(file, noise(number, 900_000)).unwrap();
        }
        let published = example.store.publish_tree(&example.tree(), EPOCH, &|_| {});
        let second = Manifest {
            lock: Sha256::of(&lock()),
            ..manifest(&published.unwrap())
        };
        example.store.put_manifest(&second).unwrap();
        let step = ("build".to_owned(), "it works".to_owned());
        let log = BuildLog::new("example".into(), [step].into_iter());
        example.store.put_log(&second.image, &log).unwrap();
        Self { example, second }
    }

    fn read(&self) -> Store {
        self.example.read()
    }

    fn images(&self) -> [ImageId; 2] {
        [self.example.manifest.image, self.second.image]
    }

    fn other(&self, name: &str) -> WritableStore {
        WritableStore::open_or_create(self.example.dir.path().join(name)).unwrap()
    }
}

fn copy(from: &Store, images: &[ImageId], to: &WritableStore) -> Copied {
    let copier = Copier::new(from).with_inputs(&locked);
    copier.run(images, to, &mut |_| {}).unwrap()
}

fn dir_of(store: &WritableStore) -> &Path {
    store.directory().unwrap()
}

/// The objects of a folder with their bytes.
fn objects(root: &Path, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = root.join(folder);
    let files = files(&folder).into_iter();
    files
        .map(|path| {
            (
                path.strip_prefix(root).unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

fn check(store: &WritableStore) -> maintenance::Report {
    let locks = |text: &[u8]| {
        Ok(locked(text)?
            .into_iter()
            .map(|(digest, _)| digest)
            .collect())
    };
    let backend = LocalReader::open(dir_of(store)).unwrap();
    maintenance::fsck(store.store(), &backend, EVERYTHING, &locks, &|_| {}).unwrap()
}

#[test]
fn a_whole_store_becomes_the_same_store() {
    let two = Two::new();
    let other = two.other("other");
    let mut seen = Vec::new();
    let from = two.read();
    let copier = Copier::new(&from).with_inputs(&locked);
    let all = copier.all().unwrap();
    assert_eq!(all.len(), 2);
    let outcome = copier
        .run(&all, &other, &mut |progress| seen.push(progress))
        .unwrap();
    assert_eq!((outcome.images.len(), outcome.there.len()), (2, 0));
    assert_eq!(
        (outcome.inputs, outcome.beside, outcome.packs.len()),
        (3, 1, 2)
    );
    // The first version was built from a lock that nobody kept.
    assert_eq!(outcome.inputs_lacking.len(), 1);
    let moved = |progress: &CopyProgress| match progress {
        CopyProgress::Move { done, total } => Some((*done, *total)),
        _ => None,
    };
    let (done, total) = seen.iter().rev().find_map(moved).unwrap();
    assert_eq!((done, total), (outcome.moved, outcome.moved));

    for folder in ["packs", "images", "hints", "logs", "inputs"] {
        let (here, there) = (
            objects(dir_of(&two.example.store), folder),
            objects(dir_of(&other), folder),
        );
        assert!(
            here == there,
            "{folder}: {:?} {:?}",
            here.keys(),
            there.keys()
        );
    }
    assert!(check(&other).is_clean());
    for manifest in [&two.example.manifest, &two.second] {
        assert!(tar_of(&other, manifest) == tar_of(&two.example.store, manifest));
    }
    // Names work without a list as well.
    assert!(dir_of(&other).join("catalogue.json").exists());

    let again = copier.run(&all, &other, &mut |_| {}).unwrap();
    assert_eq!((again.images.len(), again.there.len()), (0, 2));
    assert_eq!((again.moved, again.written, again.packs.len()), (0, 0, 0));
}

#[test]
fn only_what_is_lacking_moves_and_a_plan_says_so() {
    let two = Two::new();
    let other = two.other("other");
    let [first, second] = two.images();
    let from = two.read();
    assert_eq!(copy(&from, &[first], &other).images.len(), 1);
    assert!(Store::manifest(other.store(), &second).is_err());

    let copier = Copier::new(&from).with_inputs(&locked);
    let backend = LocalReader::open(dir_of(&other)).unwrap();
    let to = Some((other.store(), &backend as &dyn store::ListableBackend));
    let before = objects(dir_of(&other), "");
    let plan = copier
        .plan(&[second, first, second], to, &mut |_| {})
        .unwrap();
    assert!(
        before == objects(dir_of(&other), ""),
        "a plan changes nothing"
    );
    assert_eq!(plan.images.len(), 2);
    assert!(
        plan.images[0].present && !plan.images[1].present,
        "{plan:?}"
    );
    assert_eq!(
        (plan.images[1].inputs, plan.images[1].inputs_bytes),
        (2, 74 + 9)
    );

    let outcome = copy(&from, &[second], &other);
    assert_eq!(outcome.moved, plan.bytes());
    let growth: u64 = 6 * 900_000;
    assert!(
        (growth - 900_000..growth + 100_000).contains(&outcome.moved),
        "{outcome:?}"
    );
    assert!(check(&other).damage.is_empty());

    // A destination that is not there yet has nothing.
    let plan = copier.plan(&[first, second], None, &mut |_| {}).unwrap();
    assert!(plan.bytes() > outcome.moved + 700_000);
}

#[test]
fn frames_come_from_the_middle_of_packs() {
    let two = Two::new();
    // A pack that holds much else.
    for number in 0..9 {
        let file = two.example.tree().join(format!("big{number}"));
        fs::write(file, noise(100 + number, 1_500_000)).unwrap();
    }
    publish(&two.example.store, &two.example.tree());
    for number in 1..9 {
        fs::remove_file(two.example.tree().join(format!("big{number}"))).unwrap();
    }
    let last = publish(&two.example.store, &two.example.tree());
    let other = two.other("other");
    copy(&two.read(), &two.images(), &other);
    let outcome = copy(&two.read(), &[last.image], &other);
    // A frame is up to 4 MiB; the pack is 13.5 MB.
    assert!(
        (1_500_000..9_000_000).contains(&outcome.moved),
        "{outcome:?}"
    );
    let root = dir_of(&two.example.store);
    let same = |pack: &store::Blake3| root.join(format!("packs/{}.pack", pack.hex())).exists();
    assert!(!outcome.packs.iter().all(same), "{outcome:?}");
    assert!(tar_of(&other, &last) == tar_of(&two.example.store, &last));
    assert!(check(&other).damage.is_empty());
}

#[test]
fn what_is_damaged_stays_behind_and_the_rest_comes() {
    let two = Two::new();
    let root = dir_of(&two.example.store);
    // The pack of the second version: the larger one.
    let mut packs = files(&root.join("packs"));
    packs.retain(|path| path.extension().is_some_and(|e| e == "pack"));
    packs.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let mut bytes = fs::read(&packs[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&packs[1], &bytes).unwrap();
    let input = root.join(format!("inputs/sha256/{}", Sha256::of(INPUT).hex()));
    fs::write(&input, b"a pockage").unwrap();

    let other = two.other("other");
    let outcome = copy(&two.read(), &two.images(), &other);
    assert_eq!(outcome.images[0].0, two.example.manifest.image);
    assert_eq!(outcome.failed.len(), 1);
    let (image, why) = &outcome.failed[0];
    assert_eq!(*image, two.second.image);
    assert!(why.contains("is damaged"), "{why}");
    // Of what was whole, nothing is thrown away; nothing wrong has come.
    assert!(Store::manifest(other.store(), &two.second.image).is_err());
    assert!(check(&other).damage.is_empty());
    tar_of(&other, &two.example.manifest);

    bytes[middle] ^= 1;
    fs::write(&packs[1], &bytes).unwrap();
    let outcome = copy(&two.read(), &two.images(), &other);
    assert_eq!((outcome.images.len(), outcome.there.len()), (1, 1));
    let lacking: Vec<_> = outcome
        .inputs_lacking
        .iter()
        .map(|(digest, _)| *digest)
        .collect();
    assert!(lacking.contains(&Sha256::of(INPUT)), "{lacking:?}");
    assert!(!other.inputs().has(&Sha256::of(INPUT)));
    tar_of(&other, &two.second);
}

#[test]
fn a_destination_that_lost_a_pack_gets_it_back() {
    let two = Two::new();
    let other = two.other("other");
    copy(&two.read(), &two.images(), &other);
    let before = objects(dir_of(&other), "packs");
    for path in before.keys() {
        fs::remove_file(dir_of(&other).join(path)).unwrap();
    }
    drop(other);
    let other = two.other("other");
    let outcome = copy(&two.read(), &two.images(), &other);
    assert_eq!(outcome.images.len(), 2);
    assert!(before == objects(dir_of(&other), "packs"));
    assert!(check(&other).damage.is_empty());
    // A hint that was lost is written anew, without moving anything.
    let hint = format!("hints/{}.json", two.second.image.hex());
    fs::remove_file(dir_of(&other).join(&hint)).unwrap();
    let outcome = copy(&two.read(), &two.images(), &other);
    assert_eq!((outcome.frames, outcome.images.len()), (0, 1));
    assert!(dir_of(&other).join(&hint).exists());
}

#[test]
fn another_description_of_the_same_bytes_stays() {
    let two = Two::new();
    let other = two.other("other");
    let theirs = Manifest {
        suite: "trixie".into(),
        ..manifest(
            &other
                .publish_tree(&two.example.tree(), EPOCH, &|_| {})
                .unwrap(),
        )
    };
    other.put_manifest(&theirs).unwrap();
    let outcome = copy(&two.read(), &[two.second.image], &other);
    assert_eq!(outcome.there.len(), 1);
    assert_eq!(other.store().manifest(&theirs.image).unwrap(), theirs);
}

#[test]
fn a_pack_is_finished_when_it_has_taken_long() {
    let two = Two::new();
    let other = two.other("other");
    let from = two.read();
    let copier = Copier::new(&from).with_checkpoint(std::time::Duration::ZERO);
    let outcome = copier.run(&two.images(), &other, &mut |_| {}).unwrap();
    // Each version would be one; a frame of 4 MiB of noise ends one.
    assert_eq!(outcome.packs.len(), 3, "{outcome:?}");
    assert!(check(&other).damage.is_empty());
}

#[test]
fn a_collector_beside_it_removes_nothing_of_it() {
    let two = Two::new();
    let other = two.other("other");
    let locks = |_: &[u8]| Ok(Vec::new());
    let policy = maintenance::Policy {
        grace: 0,
        keep_last: 1,
        waste: 0,
    };
    let collect = || {
        let store = two.other("other");
        let collector = maintenance::Collector::new(store.store(), policy, &locks);
        match collector.run(store.backend(), &mut |_| {}) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Busy => false,
            Err(error) => panic!("{error}"),
        }
    };
    let from = two.read();
    let copier = Copier::new(&from).with_inputs(&locked);
    let mut collected = 0;
    let outcome = copier
        .run(&two.images(), &other, &mut |_| {
            collected += usize::from(collect());
        })
        .unwrap();
    assert_eq!(outcome.images.len(), 2);
    assert!(collected > 5, "{collected}");
    for manifest in [&two.example.manifest, &two.second] {
        other.store().verify_image(manifest).unwrap();
    }
    for input in [&b"recipe"[..], &lock(), INPUT] {
        assert!(other.inputs().has(&Sha256::of(input)));
    }
}

#[test]
fn a_store_is_mended_from_another() {
    let two = Two::new();
    let other = two.other("other");
    copy(&two.read(), &two.images(), &other);
    let root = dir_of(&other).to_owned();
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let packs = objects(&root, "packs");
    // Packs and indexes.
    for key in packs.keys() {
        flip(root.join(key));
    }
    flip(root.join(format!("images/{}.json", two.second.image.hex())));
    let log = format!("logs/{}.json.zst", two.second.image.hex());
    fs::write(root.join(log), b"no log").unwrap();
    flip(root.join(format!("inputs/sha256/{}", Sha256::of(INPUT).hex())));
    fs::remove_file(root.join(format!("inputs/sha256/{}", Sha256::of(b"recipe").hex()))).unwrap();
    drop(other);

    let other = two.other("other");
    let report = check(&other);
    assert!(!report.is_clean());
    maintenance::quarantine(&report, other.backend()).unwrap();
    let repaired = repair(&report, &two.read(), &other, &locked, &mut |_| {}).unwrap();
    assert_eq!(repaired.images.len(), 2, "{repaired:?}");
    // The lock of the first version never was anywhere.
    assert_eq!(repaired.failed.len(), 1, "{repaired:?}");
    let after = check(&other);
    assert!(after.is_clean(), "{after:?}");
    assert_eq!(after.unbuildable.len(), 1);
    assert!(objects(&root, "packs") == objects(dir_of(&two.example.store), "packs"));
    assert!(objects(&root, "logs") == objects(dir_of(&two.example.store), "logs"));
    assert!(other.inputs().has(&Sha256::of(INPUT)));

    // From a store that is no better, nothing comes, and nothing is lost by it.
    let empty = two.other("empty");
    let pack = root.join(
        packs
            .keys()
            .find(|key| key.extension().unwrap() == "pack")
            .unwrap(),
    );
    fs::remove_file(pack).unwrap();
    let report = check(&other);
    let repaired = repair(&report, empty.store(), &other, &locked, &mut |_| {}).unwrap();
    assert!(
        repaired.images.is_empty() && repaired.failed.len() >= 2,
        "{repaired:?}"
    );
    let repaired = repair(&report, &two.read(), &other, &locked, &mut |_| {}).unwrap();
    assert!(!repaired.images.is_empty());
    assert!(check(&other).is_clean());
}
