//! A store in a bucket of real `SeaweedFS`: published, read, collected, checked, and
//! written by several at once, also over a network that does its worst.

mod faults;
mod lies;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::*;
use servers::weed::{READER, WRITER, Weed};
use store::maintenance::{Collector, Policy, fsck};
use store::{Blake3, ClientOptions, ErrorKind, Manifest, Sha256, Store, StoreUrl, WritableStore};

fn access(variables: &[(&str, String)]) -> ClientOptions {
    let read = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.clone())
    };
    let mut access = ClientOptions::from_environment(&read).unwrap();
    access.pause = Duration::from_millis(5);
    access.scratch = std::env::temp_dir();
    access
}

fn place(prefix: &str) -> StoreUrl {
    format!("s3://{}/{prefix}", servers::weed::BUCKET)
        .parse()
        .unwrap()
}

/// A server and a directory for caches.
struct Bench {
    weed: Weed,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            weed: Weed::start(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn access(&self) -> ClientOptions {
        access(&self.weed.environment(WRITER))
    }

    fn open(&self, prefix: &str, cache: &str) -> WritableStore {
        let cache = self.dir.path().join(cache);
        WritableStore::open(&place(prefix), &self.access(), &cache).unwrap()
    }

    fn read(&self, prefix: &str) -> Store {
        let access = access(&self.weed.environment(READER));
        Store::open(place(prefix).open(&access).unwrap()).unwrap()
    }

    fn tree(&self, name: &str) -> std::path::PathBuf {
        let tree = self.dir.path().join(name);
        example(&tree);
        tree
    }
}

fn requests(store: &Store) -> u64 {
    store.backend().traffic().unwrap().requests
}

#[allow(clippy::unnecessary_wraps, reason = "what a collector wants")]
fn no_locks(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

#[test]
fn versions_are_published_pulled_collected_and_checked() {
    let bench = Bench::new();
    let tree = bench.tree("tree");
    for file in 0..40 {
        fs::write(tree.join(format!("big{file}")), noise(file, 900_000)).unwrap();
    }
    let local = WritableStore::open_or_create(bench.dir.path().join("local")).unwrap();
    let expected = publish(&local, &tree);

    let store = bench.open("a/b", "cache");
    let first = publish(&store, &tree);
    let publishing_first = requests(store.store());
    assert_eq!(first, expected, "an image does not depend on where it is");
    drop(store);

    fs::write(tree.join("big7"), noise(99, 900_000)).unwrap();
    let store = bench.open("a/b", "cache");
    let second = publish(&store, &tree);
    let publishing_second = requests(store.store());
    drop(store);

    let read = bench.read("a/b");
    assert_eq!(read.images().unwrap().len(), 2);
    let before = requests(&read);
    read.verify_image(&second).unwrap();
    let pulling = requests(&read) - before;
    read.verify_objects(&second).unwrap();
    assert_eq!(tar(&read, &first), tar(local.store(), &expected));
    println!("requests: {publishing_first} and {publishing_second} to publish, {pulling} to pull");
    // The first writer also tries what the bucket keeps.
    assert!(publishing_first < 60 + 25, "{publishing_first}");
    assert!(publishing_second < 60, "{publishing_second}");
    assert!(pulling < 50, "{pulling}");
    assert_eq!(read.backend().traffic().unwrap().repeated, 0);

    // The older one goes; a plan needs no permission to write.
    let store = bench.open("a/b", "cache");
    let policy = Policy {
        grace: 0,
        keep_last: 1,
        waste: 100,
    };
    thread::sleep(Duration::from_secs(1));
    let collector = Collector::new(store.store(), policy, &no_locks);
    let done = collector.run(store.backend(), &mut |_| {}).unwrap();
    assert_eq!(done.plan.images.len(), 1, "{:?}", done.plan);
    assert!(
        done.removed
            .iter()
            .any(|gone| gone.key.contains(&first.image.hex()))
    );
    store.renew_catalogue().unwrap();
    let report = fsck(
        store.store(),
        store.backend(),
        EVERYTHING,
        &no_locks,
        &|_| {},
    )
    .unwrap();
    assert!(report.is_clean(), "{report:?}");
    let read = bench.read("a/b");
    assert_eq!(read.images().unwrap().len(), 1);
    read.verify_image(&second).unwrap();
    // Nothing but the store's own objects is left: no lease, no taken lock.
    assert!(store.backend().list_all("tmp/").unwrap().is_empty());
}

fn tar(store: &Store, manifest: &Manifest) -> Vec<u8> {
    let mut tar = Vec::new();
    store.image(manifest).unwrap().copy_tar(&mut tar).unwrap();
    tar
}

#[test]
fn one_of_several_wins_and_nothing_is_lost() {
    let bench = Bench::new();
    let rounds = if std::env::var_os("IMGBUILD_SOAK").is_some() {
        40
    } else {
        3
    };
    let writers = 3;
    for round in 0..rounds {
        let prefix = format!("round{round}");
        let made: Vec<Manifest> = thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    let (bench, prefix) = (&bench, &prefix);
                    scope.spawn(move || {
                        let name = format!("{prefix}-{writer}");
                        let tree = bench.dir.path().join(format!("tree-{name}"));
                        fs::create_dir(&tree).unwrap();
                        fs::write(tree.join("own"), name.as_bytes()).unwrap();
                        fs::write(tree.join("shared"), noise(1, 400_000)).unwrap();
                        let store = bench.open(prefix, &format!("cache-{name}"));
                        // Everybody makes the same store, one marker and one catalogue.
                        let manifest = publish(&store, &tree);
                        let lock = store.lock("environments").unwrap();
                        let key = "env/dev/counter";
                        let there = store.store().backend().get(key, 99).unwrap();
                        let mut there = there.unwrap_or_default();
                        there.push(b'x');
                        store.put(key, &there).unwrap();
                        drop(lock);
                        manifest
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|made| made.join().unwrap())
                .collect()
        });
        let read = bench.read(&prefix);
        let listed = read.images().unwrap();
        let catalogue = read
            .backend()
            .get("catalogue.json", 1 << 20)
            .unwrap()
            .unwrap();
        let catalogue = String::from_utf8(catalogue).unwrap();
        for manifest in &made {
            assert!(listed.iter().any(|row| row.image == manifest.image));
            assert!(catalogue.contains(&manifest.image.hex()), "{catalogue}");
            read.verify_image(manifest).unwrap();
        }
        let counted = read.backend().get("env/dev/counter", 99).unwrap().unwrap();
        assert_eq!(counted.len(), writers, "a lock let two in");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line_without_secrets() {
    let bench = Bench::new();
    drop(bench.open("s", "cache"));
    let cache = bench.dir.path().join("cache");
    let good = bench.weed.environment(WRITER);
    let with = |name: &str, value: &str| {
        let mut variables = good.to_vec();
        variables.retain(|(variable, _)| *variable != name);
        if !value.is_empty() {
            let name = good.iter().find(|(known, _)| *known == name).unwrap().0;
            variables.push((name, value.to_owned()));
        }
        access(&variables)
    };
    let failed = |prefix: &str, access: &ClientOptions, kind: ErrorKind, hint: &str| {
        let opened = WritableStore::open(&place(prefix), access, &cache);
        let error = opened.err().unwrap_or_else(|| panic!("{hint}: no error"));
        let said = format!("{error} / {:?} / {error:?}", error.hint());
        assert_eq!(error.kind(), kind, "{said}");
        assert!(
            error.hint().is_some_and(|said| said.contains(hint)),
            "{said}"
        );
        for secret in ["writer-secret", "Signature=", "X-Amz-Credential"] {
            assert!(!said.contains(secret), "{said}");
        }
        assert!(!error.to_string().contains('\n'), "{said}");
    };
    let wrong = with("AWS_SECRET_ACCESS_KEY", "wrong");
    failed("s", &wrong, ErrorKind::Invalid, "AWS_SECRET_ACCESS_KEY");
    let nobody = with("AWS_ACCESS_KEY_ID", "NOBODY");
    failed("s", &nobody, ErrorKind::Invalid, "AWS_ACCESS_KEY_ID");
    let none = with("AWS_ACCESS_KEY_ID", "");
    failed("s", &none, ErrorKind::Invalid, "AWS_PROFILE");
    let nowhere = with("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    failed("s", &nowhere, ErrorKind::Io, "try again later");
    let no_address = with("AWS_ENDPOINT_URL_S3", "writer-secret");
    failed("s", &no_address, ErrorKind::Invalid, "AWS_ENDPOINT_URL_S3");
    let reader = access(&bench.weed.environment(READER));
    failed("new", &reader, ErrorKind::ReadOnly, "PutObject");
    let missing: StoreUrl = "s3://no-such-bucket/x".parse().unwrap();
    let error = missing
        .open(&bench.access())
        .map(Store::open)
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(
        error.hint().unwrap().contains("make the bucket"),
        "{error:?}"
    );
    // Somebody else's objects are not written among.
    let store = bench.open("full/of", "cache2");
    store.put("pins/x", b"x").unwrap();
    failed("full", &bench.access(), ErrorKind::Foreign, "prefix");
}

#[test]
fn a_writer_that_stood_still_notices_and_the_next_goes_on() {
    let bench = Bench::new();
    let tree = bench.tree("tree");
    let mut quick = bench.access();
    quick.lease = Duration::from_secs(3);
    let open = |access: &ClientOptions, cache: &str| {
        let cache = bench.dir.path().join(cache);
        WritableStore::open(&place("p"), access, &cache).unwrap()
    };
    // What a killed writer leaves: a lease and a lock that nobody renews.
    let store = open(&quick, "one");
    let manifest = publish(&store, &tree);
    let lock = store.lock("environments").unwrap();
    std::mem::forget(lock);
    let note = format!(
        r#"{{"schema":1,"owner":"{}","renewal":1,"held":["packs/x"]}}"#,
        Blake3::of(b"x").hex()
    );
    store.put("tmp/dead.json", note.as_bytes()).unwrap();
    store.put("locks/gate", note.as_bytes()).unwrap();
    let other = open(&quick, "two");
    assert!(other.backend().writers().unwrap().held.contains("packs/x"));
    // The gate is dead after three seconds: holding waits for that, and not longer.
    assert!(other.hold_image(&manifest.image).unwrap());
    let gate = other.backend().gate().unwrap();
    let writers = other.backend().writers().unwrap();
    assert!(!writers.held.contains("packs/x"), "{writers:?}");
    assert!(other.backend().get("tmp/dead.json", 999).unwrap().is_none());
    // The living one is still there: it renews.
    assert!(
        writers
            .held
            .iter()
            .any(|key| key.contains(&manifest.image.hex()))
    );
    drop(gate);
    // Somebody takes its lease away, as after a long sleep: it says so.
    for object in other.backend().list_all("tmp/").unwrap() {
        other.backend().withdraw(&object.key).unwrap();
    }
    let error = store.backend().check_lease().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(
        store.put("pins/x", b"x").unwrap_err().kind(),
        ErrorKind::Busy
    );
}

#[test]
fn places_keep_their_promises() {
    let bench = Bench::new();
    let store = bench.open("p", "cache");
    let place = store.backend();
    assert!(place.put_new("pins/a", b"one").unwrap());
    assert!(!place.put_new("pins/a", b"two").unwrap());
    let (bytes, seen) = place.get_versioned("pins/a", 9).unwrap().unwrap();
    assert_eq!(bytes, b"one");
    assert!(place.replace("pins/a", b"three", &seen).unwrap());
    assert!(!place.replace("pins/a", b"four", &seen).unwrap());
    assert_eq!(place.get("pins/a", 9).unwrap().unwrap(), b"three");
    place.remove("pins/a").unwrap();
    place.remove("pins/a").unwrap();
    assert_eq!(place.get_versioned("pins/a", 9).unwrap(), None);
    assert!(!place.replace("pins/a", b"five", &seen).unwrap());
    assert!(place.put("../a", b"").is_err());
    // In parts, and through quarantine.
    let long = noise(3, 40 << 20);
    let mut draft = place.create().unwrap();
    for piece in long.chunks(1 << 20) {
        draft.write(piece).unwrap();
    }
    draft.finish("packs/long").unwrap();
    assert_eq!(
        place.get_range("packs/long", 17 << 20, 3 << 20).unwrap(),
        long[17 << 20..20 << 20]
    );
    assert_eq!(place.list_all("packs/").unwrap()[0].size, 40 << 20);
    place.quarantine("packs/long").unwrap();
    assert!(place.list_all("packs/").unwrap().is_empty());
    assert_eq!(
        place.list_all("quarantine/").unwrap()[0].key,
        "quarantine/packs/long"
    );
    let now = place.now().unwrap();
    assert!(
        place.list_all("quarantine/").unwrap()[0]
            .modified
            .abs_diff(now)
            < 3600
    );
    // More than one page of a list.
    let all: Vec<usize> = (0..1100).collect();
    thread::scope(|scope| {
        for part in all.chunks(140) {
            scope.spawn(move || {
                for number in part {
                    place.put(&format!("pins/{number}"), b"x").unwrap();
                }
            });
        }
    });
    assert_eq!(place.list("pins/").unwrap().unwrap().len(), 1100);
    assert_eq!(place.list_all("pins/").unwrap().len(), 1100);
    // Locks.
    let other = bench.open("p", "cache2");
    let held = place.try_lock("gc").unwrap().unwrap();
    assert!(other.backend().try_lock("gc").unwrap().is_none());
    assert!(other.backend().try_share("gc").unwrap().is_none());
    drop(held);
    let shared = other.backend().try_share("gc").unwrap().unwrap();
    assert!(place.try_share("gc").unwrap().is_some());
    assert!(place.try_lock("gc").unwrap().is_none());
    drop(shared);
    assert!(place.try_lock("gc").unwrap().is_some());
    drop(other);
    assert!(Path::new(&bench.dir.path().join("cache")).is_dir());
}

/// Receipts beside a store, in a bucket.
#[test]
fn a_folder_of_small_objects_is_put_once() {
    use store::ObjectFolder;

    let bench = Bench::new();
    let access = bench.access();
    let folder = ObjectFolder::open(&place("receipts"), &access).unwrap();
    let key = "receipts/web01/000000000001.json";
    assert!(folder.put_new(key, b"one").unwrap());
    assert!(!folder.put_new(key, b"two").unwrap());
    assert_eq!(folder.get(key, 3).unwrap().unwrap(), b"one");
    assert_eq!(folder.get("receipts/web01/none", 3).unwrap(), None);
    let listed = folder.list("receipts/web01").unwrap().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, "000000000001.json");
    assert!(listed[0].modified.is_some());
    assert_eq!(folder.folders("receipts").unwrap().unwrap(), ["web01"]);
    folder.put("fleet/prod.json", b"a").unwrap();
    folder.put("fleet/prod.json", b"b").unwrap();
    assert_eq!(folder.get("fleet/prod.json", 1).unwrap().unwrap(), b"b");
    folder.remove(key).unwrap();
    folder.remove(key).unwrap();
    assert!(folder.list("receipts/web01").unwrap().unwrap().is_empty());
    // Who may only read puts nothing.
    let reader = self::access(&bench.weed.environment(READER));
    let reader = ObjectFolder::open(&place("receipts"), &reader).unwrap();
    let error = reader.put_new(key, b"one").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}
