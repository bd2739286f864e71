//! The care of a store: what a collector keeps and what it removes.

use std::fs;
use std::path::Path;

use store::maintenance::{self, Collected, Collector, GcProgress, KeepReason, Plan, Policy};
use store::tuf::{Environment, RoleKeys};
use store::{ErrorKind, Manifest, Sha256, WritableStore};

use crate::support::*;

/// Everything that is not needed goes, at once.
const STRICT: Policy = Policy {
    grace: 0,
    keep_last: 0,
    waste: 50,
};

#[expect(clippy::unnecessary_wraps, reason = "it stands for one that can fail")]
fn no_inputs(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

fn collect(store: &WritableStore, policy: Policy) -> Collected {
    let collector = Collector::new(store.store(), policy, &no_inputs);
    collector.run(store.backend(), &mut |_| {}).unwrap()
}

fn plan(store: &WritableStore, policy: Policy) -> Plan {
    let collector = Collector::new(store.store(), policy, &no_inputs);
    collector.plan(store.backend(), &mut |_| {}).unwrap()
}

/// A store of three versions of a tree, and what holds them is gone.
struct Versions {
    example: Example,
    manifests: Vec<Manifest>,
    root: std::path::PathBuf,
}

impl Versions {
    fn new() -> Self {
        let example = Example::new();
        let mut manifests = vec![example.manifest.clone()];
        for version in 1..3_u8 {
            fs::write(example.tree().join("own"), noise(version, 300_000)).unwrap();
            manifests.push(publish_again(&example, &example.tree()));
        }
        let root = example.root().to_owned();
        Self {
            example,
            manifests,
            root,
        }
    }

    /// Another writer, who holds nothing yet. The first one still lives, so its
    /// images are held until `forget`.
    fn other(&self) -> WritableStore {
        WritableStore::open_or_create(&self.root).unwrap()
    }
}

/// Publishes through a writer of its own, which ends.
fn publish_again(example: &Example, tree: &Path) -> Manifest {
    publish(
        &WritableStore::open_or_create(example.root()).unwrap(),
        tree,
    )
}

fn release(store: &WritableStore, manifest: &Manifest, keys: &Path) {
    let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let name = "dev".parse().unwrap();
    let keys = RoleKeys::load_or_generate(keys, &name).unwrap();
    let mut env = if Environment::exists(store, &name).unwrap() {
        Environment::open(store, &name).unwrap()
    } else {
        Environment::init(store, &name, &keys, now).unwrap()
    };
    env.release(manifest, &keys, now).unwrap();
}

#[test]
fn what_nobody_wants_goes_and_the_rest_reads_as_before() {
    let Versions {
        example, manifests, ..
    } = Versions::new();
    let root = example.root().to_owned();
    let Example {
        dir, store: first, ..
    } = example;
    // The first writer lives, so what it published is held.
    let store = WritableStore::open_or_create(&root).unwrap();
    let kept = plan(&store, STRICT).kept;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].why, [KeepReason::Held]);
    drop(first);

    release(&store, &manifests[0], &dir.path().join("keys"));
    maintenance::pin(store.backend(), &manifests[1].image, "for the auditors").unwrap();
    drop(store);
    let store = WritableStore::open_or_create(&root).unwrap();
    let before = maintenance::stats(store.store(), store.backend()).unwrap();
    assert_eq!(before.images.len(), 3);
    let planned = plan(&store, STRICT);
    assert_eq!(planned.images.len(), 1);
    assert_eq!(planned.images[0].image, manifests[2].image);
    let done = collect(&store, STRICT);
    assert_eq!(done.plan, planned);
    assert_eq!(done.spared, 0);
    assert!(done.bytes_freed() > 290_000, "{done:?}");

    for kept in &manifests[..2] {
        check_everything(store.store(), kept).unwrap();
    }
    let gone = store.store().manifest(&manifests[2].image).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Missing);
    let after = maintenance::stats(store.store(), store.backend()).unwrap();
    assert_eq!(after.stored() + done.bytes_freed(), before.stored());
    assert_eq!(after.waste, 0);
    assert!(plan(&store, STRICT).objects.is_empty());
    // What is not pinned any more goes with the next one.
    assert!(maintenance::unpin(store.backend(), &manifests[1].image).unwrap());
    drop(store);
    let store = WritableStore::open_or_create(&root).unwrap();
    assert_eq!(collect(&store, STRICT).plan.images.len(), 1);
    check_everything(store.store(), &manifests[0]).unwrap();
}

#[test]
fn the_newest_and_the_young_stay() {
    let versions = Versions::new();
    let store = versions.other();
    let policy = |grace, keep_last| Policy {
        grace,
        keep_last,
        ..STRICT
    };
    // The first is held by the writer that published it.
    assert_eq!(plan(&store, policy(0, 0)).images.len(), 2);
    assert_eq!(plan(&store, policy(0, 3)).images.len(), 0);
    let day = plan(&store, policy(24 * 60 * 60, 0));
    assert!(day.images.is_empty() && day.objects.is_empty());
    assert!(
        day.kept
            .iter()
            .all(|kept| kept.why.contains(&KeepReason::Young))
    );
    let one = plan(&store, policy(0, 1));
    assert!(one.kept.iter().any(|kept| kept.why == [KeepReason::Newest]));
}

#[test]
fn a_mostly_dead_pack_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
    crate::support::example(&tree);
    for number in 0..20_u8 {
        fs::write(tree.join(format!("big{number}")), noise(number, 600_000)).unwrap();
    }
    publish(&WritableStore::open_or_create(&root).unwrap(), &tree);
    for number in 0..20_u8 {
        if number % 5 != 0 {
            fs::remove_file(tree.join(format!("big{number}"))).unwrap();
        }
    }
    let small = publish(&WritableStore::open_or_create(&root).unwrap(), &tree);
    let store = WritableStore::open_or_create(&root).unwrap();
    maintenance::pin(store.backend(), &small.image, "").unwrap();
    let never = Policy {
        waste: 100,
        ..STRICT
    };
    assert!(plan(&store, never).fragmented.is_empty());
    let reader = store.store().image(&small).unwrap();
    let chunks: Vec<_> = reader
        .entries()
        .unwrap()
        .flat_map(|entry| entry.unwrap().1)
        .collect();
    reader.fetch(&chunks[0]).unwrap();
    let planned = plan(&store, STRICT);
    assert_eq!(planned.fragmented.len(), 1);
    let done = collect(&store, STRICT);
    assert!(done.rewritten > 3 * done.written, "{done:?}");
    check_everything(store.store(), &small).unwrap();
    // Whoever began to read before finds every chunk where it is now.
    for chunk in &chunks {
        reader.fetch(chunk).unwrap();
    }
    let stats = maintenance::stats(store.store(), store.backend()).unwrap();
    assert!(stats.waste < stats.packs.bytes / 10, "{stats:?}");
    // Nothing of it is done twice.
    let again = collect(&store, STRICT);
    assert_eq!((again.rewritten, again.removed.len()), (0, 0));
}

#[test]
fn inputs_follow_the_locks() {
    let dir = tempfile::tempdir().unwrap();
    let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
    crate::support::example(&tree);
    let store = WritableStore::open_or_create(&root).unwrap();
    let insert = |text: &str| store.inputs().insert(&mut text.as_bytes(), None).unwrap().0;
    let (package, other, recipe) = (insert("package"), insert("other"), insert("recipe"));
    let lock = insert(&package.hex());
    let published = store.publish_tree(&tree, EPOCH, &|_| {}).unwrap();
    let image = Manifest {
        recipe,
        lock,
        ..manifest(&published)
    };
    store.put_manifest(&image).unwrap();
    maintenance::pin(store.backend(), &image.image, "").unwrap();
    // All are held while their writer lives.
    assert!(plan(&store, STRICT).objects.is_empty());
    drop(store);

    let named = |text: &[u8]| {
        let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
        Ok(vec![Sha256::from_hex(text).map_err(|e| e.to_string())?])
    };
    let store = WritableStore::open_or_create(&root).unwrap();
    let collector = Collector::new(store.store(), STRICT, &named);
    let done = collector.run(store.backend(), &mut |_| {}).unwrap();
    let keys: Vec<_> = done.removed.iter().map(|gone| gone.key.clone()).collect();
    assert_eq!(keys, [format!("inputs/sha256/{}", other.hex())]);
    for input in [package, recipe, lock] {
        store.inputs().verify(&input).unwrap();
    }
    // What an image stands on stays with it.
    fs::write(tree.join("more"), "another image").unwrap();
    let base = manifest(&store.publish_tree(&tree, EPOCH, &|_| {}).unwrap());
    store.put_manifest(&base).unwrap();
    drop(store);
    let store = WritableStore::open_or_create(&root).unwrap();
    let of_lock = |text: &[u8]| Ok((Sha256::of(text) == lock).then_some(base.image));
    let with_base = Collector::new(store.store(), STRICT, &named).with_bases(&of_lock);
    let kept = with_base
        .run(store.backend(), &mut |_| {})
        .unwrap()
        .plan
        .kept;
    let why: Vec<_> = kept.into_iter().map(|one| (one.image, one.why)).collect();
    assert!(
        why.contains(&(base.image, vec![KeepReason::Base(image.image)])),
        "{why:?}"
    );
    let without = Collector::new(store.store(), STRICT, &named);
    without.run(store.backend(), &mut |_| {}).unwrap();
    assert!(store.store().manifest(&base.image).is_err());
    // A lock that cannot be read could name anything.
    let fails = |_: &[u8]| Err("it is Greek to me".to_owned());
    let collector = Collector::new(store.store(), STRICT, &fails);
    let error = collector.run(store.backend(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[test]
fn in_doubt_nothing_is_removed() {
    let versions = Versions::new();
    let Versions {
        example, manifests, ..
    } = versions;
    let root = example.root().to_owned();
    release(
        &example.store,
        &manifests[0],
        &example.dir.path().join("keys"),
    );
    let dir = example.dir;
    drop(example.store);
    let store = WritableStore::open_or_create(&root).unwrap();
    let refused = |kind| {
        let before = files(&root.join("packs"));
        let collector = Collector::new(store.store(), STRICT, &no_inputs);
        let error = collector.run(store.backend(), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(files(&root.join("packs")), before);
    };
    let spoil = |path: &Path, bytes: &[u8]| {
        let good = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        good
    };
    let timestamp = root.join("env/dev/metadata/timestamp.json");
    let good = spoil(&timestamp, b"{}");
    refused(ErrorKind::Corrupt);
    fs::write(&timestamp, good).unwrap();
    let pin = root.join(format!("pins/{}.json", manifests[1].image.hex()));
    maintenance::pin(store.backend(), &manifests[1].image, "").unwrap();
    spoil(&pin, b"{}");
    refused(ErrorKind::Corrupt);
    fs::remove_file(&pin).unwrap();
    let manifest = root.join(format!("images/{}.json", manifests[2].image.hex()));
    let good = spoil(&manifest, b"{}");
    refused(ErrorKind::Corrupt);
    fs::write(&manifest, good).unwrap();
    let index = files(&root.join("packs"));
    let index: Vec<_> = index
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "index"))
        .collect();
    let largest = index
        .iter()
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let good = spoil(largest, b"");
    refused(ErrorKind::Missing);
    fs::write(largest, good).unwrap();
    collect(&store, STRICT);
    check_everything(store.store(), &manifests[0]).unwrap();
    drop(dir);
}

#[test]
fn deltas_go_with_their_images() {
    let Versions {
        example,
        manifests,
        root,
    } = Versions::new();
    let Example { dir, store, .. } = example;
    let [one, two, three] = &manifests[..] else {
        panic!("three versions")
    };
    let pairs = [(one, two), (two, three)].map(|(from, to)| {
        let made = store::delta_writer::publish(store.store(), store.backend(), from, to, &|_| {});
        made.unwrap().pair
    });
    let there = |pair: &store::delta::DeltaInfo| {
        let keys = [
            store::delta::DeltaInfo::key(&pair.from, &pair.to),
            pair.delta_key(),
        ];
        let there = keys.map(|key| root.join(key).exists());
        assert_eq!(there[0], there[1], "a delta and its description");
        there[0]
    };
    for manifest in [one, two] {
        maintenance::pin(store.backend(), &manifest.image, "").unwrap();
    }
    drop(store);
    let store = WritableStore::open_or_create(&root).unwrap();
    collect(&store, STRICT);
    assert_eq!(pairs.each_ref().map(there), [true, false]);
    let stats = maintenance::stats(store.store(), store.backend()).unwrap();
    assert_eq!(stats.deltas.count, 2);

    // A delta that is damaged is found and moved away; the image is not hurt.
    let check = |quick| {
        maintenance::fsck(
            store.store(),
            store.backend(),
            depth(quick),
            &no_inputs,
            &|_| {},
        )
        .unwrap()
    };
    assert!(check(false).damage.is_empty());
    let path = root.join(pairs[0].delta_key());
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(check(true).damage.is_empty(), "quick reads no content");
    let report = check(false);
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(report.damage[0].key, pairs[0].delta_key());
    assert!(report.affected.is_empty(), "{:?}", report.affected);
    maintenance::quarantine(&report, store.backend()).unwrap();
    assert!(!path.exists());
    drop(dir);
}

/// What a publication had half written when the collector looked is whole by the time it
/// removes: the publication has ended in between, and holds nothing any more.
#[test]
fn a_pack_that_is_finished_during_a_collection_stays() {
    for late in ["index", "pack"] {
        let dir = tempfile::tempdir().unwrap();
        let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("own"), noise(1, 300_000)).unwrap();
        let open = || WritableStore::open_or_create(&root).unwrap();
        let manifest = publish(&open(), &tree);
        let named = format!("images/{}.json", manifest.image.hex());
        let packs = fs::read_dir(root.join("packs")).unwrap();
        let mut lacking: Vec<_> = packs
            .map(|file| file.unwrap().path())
            .filter(|file| file.extension().is_some_and(|kind| kind == late))
            .collect();
        lacking.push(root.join(named));
        let aside = |file: &Path| dir.path().join(file.file_name().unwrap());
        for file in &lacking {
            fs::rename(file, aside(file)).unwrap();
        }
        fs::remove_dir_all(root.join("inventory")).unwrap();

        let store = open();
        let collector = Collector::new(store.store(), STRICT, &no_inputs);
        let mut finish = |progress| {
            if matches!(progress, GcProgress::Remove) {
                for file in &lacking {
                    fs::rename(aside(file), file).unwrap();
                }
            }
        };
        let collected = collector.run(store.backend(), &mut finish).unwrap();
        assert_eq!(collected.removed, [], "late: {late}");
        open().store().verify_image(&manifest).unwrap();
    }
}

#[test]
fn two_collectors_and_a_dead_writer() {
    let versions = Versions::new();
    let store = versions.other();
    let held = store.backend().try_lock("gc").unwrap().unwrap();
    let other = versions.other();
    let collector = Collector::new(other.store(), STRICT, &no_inputs);
    let error = collector.run(other.backend(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    // A plan needs nobody's leave.
    plan(&other, STRICT);
    drop(held);
    fs::create_dir(versions.root.join("tmp/99")).unwrap();
    fs::write(versions.root.join("tmp/99/0"), noise(0, 5000)).unwrap();
    assert_eq!(plan(&other, STRICT).leftover, 5000);
    versions.other();
    assert_eq!(plan(&other, STRICT).leftover, 0);
    drop(versions.example);
}
