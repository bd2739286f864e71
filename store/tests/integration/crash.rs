//! Processes: publishers, collectors and readers at once, and killed at any moment.
//!
//! The processes are this test binary again, told by a variable what to be.
//! `IMGBUILD_SOAK=1` kills 200 times instead of 12.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use store::maintenance::{self, Collector, Policy};
use store::tuf::{Environment, RoleKeys};
use store::{ErrorKind, ImageId, LocalReader, Manifest, Sha256, Store, WritableStore};

use crate::support::*;

/// What a process is told to do, and where.
const ROLE: &str = "STORE_TEST_ROLE";

/// Everything that is not needed goes, at once; packs are rewritten early.
const STRICT: Policy = Policy {
    grace: 0,
    keep_last: 0,
    waste: 30,
};

#[expect(clippy::unnecessary_wraps, reason = "it stands for one that can fail")]
fn no_inputs(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

fn open(root: &Path) -> WritableStore {
    WritableStore::open_or_create(root.join("store")).unwrap()
}

fn collect(store: &WritableStore) -> store::Result<maintenance::Collected> {
    Collector::new(store.store(), STRICT, &no_inputs).run(store.backend(), &mut |_| {})
}

/// A tree whose files are chosen by the bits of `choice`.
fn tree(root: &Path, name: &str, choice: u16) -> PathBuf {
    // Each process has trees of its own.
    let tree = root.join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/version"), choice.to_string()).unwrap();
    for bit in 0..16_u8 {
        if choice >> bit & 1 == 1 {
            let len = 3_000 + usize::from(bit) * 17_000;
            fs::write(tree.join(format!("etc/file{bit}")), noise(bit, len)).unwrap();
        }
    }
    tree
}

fn release(root: &Path, store: &WritableStore, manifest: &Manifest) {
    let name = "dev".parse().unwrap();
    let keys = RoleKeys::load_or_generate(&root.join("keys"), &name).unwrap();
    let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    if !Environment::exists(store, &name).unwrap() {
        Environment::init(store, &name, &keys, now).unwrap();
    }
    let mut env = Environment::open(store, &name).unwrap();
    env.release(manifest, &keys, now).unwrap();
}

/// Not a test by itself: the other processes.
#[test]
fn process() {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let role = role.into_string().unwrap();
    let words: Vec<&str> = role.split_whitespace().collect();
    let root = Path::new(words[1]);
    let choices = || words[2..].iter().map(|word| word.parse::<u16>().unwrap());
    match words[0] {
        "publish" => {
            for choice in choices() {
                publish(&open(root), &tree(root, &format!("tree{choice}"), choice));
            }
        }
        "pin" => {
            for choice in choices() {
                let store = open(root);
                let tree = tree(root, &format!("tree{choice}"), choice);
                let manifest = publish(&store, &tree);
                maintenance::pin(store.backend(), &manifest.image, "kept").unwrap();
            }
        }
        "release" => {
            for choice in choices() {
                let store = open(root);
                let manifest = publish(&store, &tree(root, &format!("tree{choice}"), choice));
                release(root, &store, &manifest);
            }
        }
        "collect" => {
            for _ in choices() {
                match collect(&open(root)) {
                    Err(error) if error.kind() == ErrorKind::Busy => std::process::exit(75),
                    done => drop(done.unwrap()),
                }
            }
        }
        other => panic!("{other}"),
    }
}

fn spawn(role: &str, root: &Path, choices: &[u16]) -> Child {
    let choices: Vec<String> = choices.iter().map(u16::to_string).collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::process", "--nocapture"])
        .env(
            ROLE,
            format!("{role} {} {}", root.display(), choices.join(" ")),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait(child: Child) -> Option<i32> {
    let output = child.wait_with_output().unwrap();
    let fine = output.status.success() || output.status.code() == Some(75);
    assert!(fine, "{}", String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

/// A process that another test is starting has our locks until it is itself.
fn patiently<T>(mut attempt: impl FnMut() -> store::Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.kind() == ErrorKind::Busy && begun.elapsed() < Duration::from_secs(10) =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done.unwrap(),
        }
    }
}

/// Everything is what it is called, and nothing is missing.
fn assert_whole(root: &Path, when: &str) {
    let backend = LocalReader::open(root.join("store")).unwrap();
    let store = Store::open(Box::new(backend.clone())).unwrap();
    let report = patiently(|| maintenance::fsck(&store, &backend, EVERYTHING, &no_inputs, &|_| {}));
    assert!(report.is_clean(), "{when}: {report:?}");
}

fn images(root: &Path) -> BTreeSet<ImageId> {
    let backend = LocalReader::open(root.join("store")).unwrap();
    let store = Store::open(Box::new(backend)).unwrap();
    let listed = store.images().unwrap().into_iter();
    listed.map(|listed| listed.image).collect()
}

fn releases(root: &Path) -> BTreeSet<ImageId> {
    let backend = LocalReader::open(root.join("store")).unwrap();
    let store = Store::open(Box::new(backend)).unwrap();
    let name = "dev".parse().unwrap();
    if !Environment::exists(&store, &name).unwrap() {
        return BTreeSet::new();
    }
    let env = Environment::open(&store, &name).unwrap();
    let releases = env.releases().unwrap().into_iter();
    releases.map(|release| release.image).collect()
}

#[test]
fn publishers_collectors_and_a_reader_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let kept = {
        let store = open(root);
        let kept = publish(&store, &tree(root, "kept", 0xffff));
        release(root, &store, &kept);
        kept
    };
    let mut children = vec![
        spawn(
            "pin",
            root,
            &[0x00ff, 0x0ff0, 0xff00, 0x1234, 0x4321, 0x7777],
        ),
        spawn(
            "pin",
            root,
            &[0x00ff, 0x0ff1, 0xff01, 0x1235, 0x4320, 0x7776],
        ),
        spawn("publish", root, &[0x0f0f, 0xf0f0, 0x3333, 0xcccc, 0x5555]),
        spawn("collect", root, &[0; 12]),
    ];
    let backend = LocalReader::open(root.join("store")).unwrap();
    let store = Store::open(Box::new(backend)).unwrap();
    let image = store.image(&kept).unwrap();
    let mut reads = 0;
    while children.iter_mut().any(|c| c.try_wait().unwrap().is_none()) || reads < 3 {
        image.copy_tar(&mut std::io::sink()).unwrap();
        store.verify_image(&kept).unwrap();
        reads += 1;
    }
    let codes: Vec<_> = children.into_iter().map(wait).collect();
    assert_eq!(codes, [Some(0); 4]);
    assert_whole(root, "after all");
    collect(&open(root)).unwrap();
    assert_whole(root, "after the last collector");
    // The released one and the eleven different pinned ones, nothing else.
    let now = images(root);
    assert!(now.contains(&kept.image));
    let store = open(root);
    let pins: BTreeSet<_> = maintenance::pins(store.store().backend())
        .unwrap()
        .into_iter()
        .map(|pin| pin.image)
        .collect();
    assert!(pins.len() >= 11, "{pins:?}");
    assert_eq!(now.len(), pins.len() + 1);
}

/// What is recorded of an object is what lies there, whoever put it last.
#[test]
fn two_pin_one_image_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let image = publish(&open(root), &tree(root, "kept", 0xffff)).image;
    for round in 0..30 {
        std::thread::scope(|scope| {
            for who in ["ann", "bob"] {
                scope.spawn(move || {
                    let reason = format!("{who} {round}");
                    maintenance::pin(open(root).backend(), &image, &reason).unwrap();
                });
            }
        });
        assert_whole(root, "after both");
    }
}

#[test]
fn two_collectors() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let kept = {
        let store = open(root);
        let kept = publish(&store, &tree(root, "kept", 0xffff));
        maintenance::pin(store.backend(), &kept.image, "").unwrap();
        kept
    };
    for round in 0..4_u16 {
        publish(&open(root), &tree(root, "other", 0x0f00 + round));
        let children = [0; 3].map(|_| spawn("collect", root, &[0; 4]));
        let codes = children.map(wait);
        assert!(
            codes.contains(&Some(0)),
            "one is not alone, all are: {codes:?}"
        );
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 75))),
            "{codes:?}"
        );
    }
    assert_whole(root, "after all");
    assert_eq!(images(root), BTreeSet::from([kept.image]));
}

/// Numbers without a pattern that matters here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn killed_at_any_moment_of_publish_release_and_gc() {
    let soak = std::env::var_os("IMGBUILD_SOAK").is_some();
    let wanted = if soak { 200 } else { 12 };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut dice = Dice(u64::from(std::process::id()) << 20 | 0x9e37);
    // How long each takes when it is left alone.
    let mut took = Vec::new();
    for role in ["release", "publish", "collect"] {
        let begun = Instant::now();
        wait(spawn(role, root, &[0xffff]));
        took.push((role, begun.elapsed()));
    }
    let mut released = releases(root);
    assert_eq!(released.len(), 1);
    let (mut killed, mut rounds) = ([0; 3], 0);
    while killed.iter().sum::<u32>() < wanted {
        rounds += 1;
        assert!(
            rounds < 20 * wanted,
            "processes end before they can be killed"
        );
        let number = dice.roll(3) as usize;
        let (role, usual) = took[number];
        // Releases stay for ever, so there are only so many different ones.
        let choice = match role {
            "release" => 0x8000 | dice.roll(64) as u16,
            _ => dice.roll(1 << 15) as u16,
        };
        if role == "collect" {
            // Something to do.
            for _ in 0..2 {
                publish(&open(root), &tree(root, "waste", dice.roll(1 << 15) as u16));
            }
        }
        let micros = u64::try_from(usual.as_micros()).unwrap();
        let mut child = spawn(role, root, &[choice]);
        std::thread::sleep(Duration::from_micros(dice.roll(micros * 5 / 4)));
        child.kill().unwrap();
        if child.wait().unwrap().code().is_none() {
            killed[number] += 1;
        }
        assert_whole(root, &format!("killed {role} in round {rounds}"));
        let now = releases(root);
        assert!(
            now.is_superset(&released),
            "a release was lost in round {rounds}"
        );
        assert!(
            images(root).is_superset(&now),
            "a released image has no manifest"
        );
        released = now;
    }
    collect(&open(root)).unwrap();
    assert_whole(root, "after the last collector");
    let store = open(root);
    // Beside the released ones stay those whose release was killed half way.
    let wanted = maintenance::keep_reasons(store.store(), store.backend()).unwrap();
    let wanted = wanted.into_iter().filter(|(_, why)| !why.is_empty());
    assert_eq!(images(root), wanted.map(|(image, _)| image).collect());
    assert!(images(root).is_superset(&released));
    let stats = maintenance::stats(store.store(), store.backend()).unwrap();
    assert!(stats.waste * 10 < stats.packs.bytes * 4, "{stats:?}");
    eprintln!(
        "killed {killed:?} times (release, publish, collect) in {rounds} rounds; {} images are \
         released",
        released.len()
    );
}

/// What a random history does.
#[derive(Clone, Debug)]
enum Op {
    Publish(u16),
    Pin(prop::sample::Index),
    Unpin(prop::sample::Index),
    Collect,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any::<u16>().prop_map(Op::Publish),
        2 => any::<prop::sample::Index>().prop_map(Op::Pin),
        1 => any::<prop::sample::Index>().prop_map(Op::Unpin),
        3 => Just(Op::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// After any history, a store has what a model of it has.
    #[test]
    fn any_history_keeps_what_it_should(ops in prop::collection::vec(any_op(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        open(root);
        let (mut there, mut pinned) = (Vec::<Manifest>::new(), BTreeSet::<ImageId>::new());
        for op in ops.into_iter().chain([Op::Collect]) {
            match op {
                Op::Publish(choice) => {
                    let manifest = publish(&open(root), &tree(root, "tree", choice));
                    if !there.contains(&manifest) {
                        there.push(manifest);
                    }
                }
                Op::Pin(index) if !there.is_empty() => {
                    let image = index.get(&there).image;
                    maintenance::pin(open(root).backend(), &image, "").unwrap();
                    pinned.insert(image);
                }
                Op::Unpin(index) if !there.is_empty() => {
                    let image = index.get(&there).image;
                    let was = maintenance::unpin(open(root).backend(), &image).unwrap();
                    prop_assert_eq!(was, pinned.remove(&image));
                }
                Op::Pin(_) | Op::Unpin(_) => {}
                Op::Collect => {
                    let store = open(root);
                    let done = patiently(|| collect(&store));
                    prop_assert_eq!(done.spared, 0);
                    there.retain(|manifest| pinned.contains(&manifest.image));
                    let stats = maintenance::stats(store.store(), store.backend()).unwrap();
                    prop_assert!(stats.waste * 10 <= stats.packs.bytes * 4, "{:?}", stats);
                }
            }
            let now: BTreeSet<ImageId> = there.iter().map(|manifest| manifest.image).collect();
            prop_assert_eq!(images(root), now);
            for manifest in &there {
                check_everything(open(root).store(), manifest).unwrap();
            }
        }
        assert_whole(root, "at the end");
    }
}

/// A small file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Self {
        need_root();
        fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(mount.success(), "this test mounts a tmpfs");
        Self(at.to_owned())
    }

    fn read_only(&self) {
        let mount = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(mount.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_where_a_collector_helps() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mount = Mount::tmpfs(&root.join("store"), "size=12m");
    let kept = {
        publish(&open(root), &tree(root, "all", 0xffff));
        publish(&open(root), &tree(root, "gone", 0x1));
        let store = open(root);
        let kept = publish(&store, &tree(root, "some", 0x0111));
        maintenance::pin(store.backend(), &kept.image, "").unwrap();
        kept
    };
    // Not a byte is free.
    let filler = mount.0.join("filler");
    let store = open(root);
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    let error = store
        .publish_tree(&tree(root, "more", 0x8000), EPOCH, &|_| {})
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    // What can be removed is; what has to be rewritten first may not fit.
    match collect(&store) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::Full, "{error:?}"),
    }
    assert_whole(root, "full");
    fs::remove_file(&filler).unwrap();
    drop(store);
    let done = collect(&open(root)).unwrap();
    assert!(done.plan.images.is_empty() || done.spared == 0, "{done:?}");
    assert_whole(root, "with room again");
    assert_eq!(images(root), BTreeSet::from([kept.image]));
}

#[test]
fn a_read_only_disk_can_be_looked_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mount = Mount::tmpfs(&root.join("store"), "size=32m");
    publish(&open(root), &tree(root, "all", 0xffff));
    mount.read_only();
    assert_whole(root, "read-only");
    let backend = LocalReader::open(&mount.0).unwrap();
    let store = Store::open(Box::new(backend.clone())).unwrap();
    let plan = Collector::new(&store, STRICT, &no_inputs)
        .plan(&backend, &mut |_| {})
        .unwrap();
    assert_eq!(plan.images.len(), 1);
    assert_eq!(
        maintenance::stats(&store, &backend).unwrap().images.len(),
        1
    );
    let error = WritableStore::open_or_create(&mount.0).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error:?}");
}
