//! Deltas: they give the image, whatever happens to them, and nothing else.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{EVERYTHING, any_tree, make, need_root, noise, publish};
use proptest::prelude::*;
use store::chunk::ChunkRef;
use store::delta::{DeltaInfo, PreviousImage};
use store::delta_writer::{self, CreatedDelta};
use store::maintenance;
use store::{
    Backend, Image, ImageId, LocalReader, Manifest, ObjectRange, Result, Store, WritableStore,
};

/// A store with two images and the delta between them.
struct Two {
    dir: tempfile::TempDir,
    from: Manifest,
    to: Manifest,
    made: CreatedDelta,
}

impl Two {
    /// Two versions of files that deltas are for.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let large = noise(1, 5 << 20);
        let mut edited = large.clone();
        for at in [100_000, 2_500_000, 4_900_000] {
            edited[at..at + 10].copy_from_slice(b"0123456789");
        }
        edited.splice(1_000_000..1_000_000, noise(9, 700));
        let text = |version: &str| format!("version {version}\n").repeat(500).into_bytes();
        for (root, files) in [
            (
                &one,
                vec![
                    ("usr/lib/libx.so.1.2.3", noise(2, 90_000)),
                    ("large", large),
                    ("text", text("1")),
                    ("gone", noise(3, 1000)),
                ],
            ),
            (
                &two,
                vec![
                    ("usr/lib/libx.so.1.2.4", {
                        let mut library = noise(2, 90_000);
                        library[44_000] ^= 1;
                        library
                    }),
                    ("large", edited),
                    ("text", text("2")),
                    ("new", noise(4, 3000)),
                    ("new-again", noise(4, 3000)),
                ],
            ),
        ] {
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
        Self::of(dir)
    }

    /// The trees `one` and `two` in a directory.
    fn of(dir: tempfile::TempDir) -> Self {
        let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
        let from = publish(&store, &dir.path().join("one"));
        let to = publish(&store, &dir.path().join("two"));
        let made =
            delta_writer::publish(store.store(), store.backend(), &from, &to, &|_| {}).unwrap();
        Self {
            dir,
            from,
            to,
            made,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn backend(&self) -> LocalReader {
        LocalReader::open(self.root()).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(Box::new(self.backend())).unwrap()
    }

    fn previous(&self) -> Image {
        self.store().image(&self.from).unwrap()
    }

    fn delta(&self) -> PathBuf {
        self.root().join(self.made.pair.delta_key())
    }

    /// Reads TO by the delta, and counts what came out of packs.
    fn read(&self, previous: impl PreviousImage + 'static) -> Result<(Vec<u8>, usize)> {
        let packs = Arc::new(AtomicUsize::new(0));
        let backend = Counting(self.backend(), Arc::clone(&packs));
        let store = Store::open(Box::new(backend)).unwrap();
        let pair = store.delta(&self.from.image, &self.to.image)?.unwrap();
        let image = store.image_with_delta(&self.to, &pair, Arc::new(previous))?;
        let mut tar = Vec::new();
        image.copy_tar(&mut tar)?;
        Ok((tar, packs.load(Ordering::Relaxed)))
    }
}

/// A directory that counts requests for packs.
struct Counting(LocalReader, Arc<AtomicUsize>);

impl Counting {
    fn count(&self, key: &str) {
        if key.starts_with("packs/") {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Backend for Counting {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.count(key);
        self.0.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.count(key);
        self.0.get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.0.list(prefix)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn prefetch(&self, wanted: Vec<ObjectRange>) {
        self.0.prefetch(wanted);
    }
}

/// What a machine has of FROM: all chunks, but for those that `change` changes.
struct Altered<F>(Image, F);

impl<F: Fn(&ChunkRef, Vec<u8>) -> Option<Vec<u8>> + Send + Sync> PreviousImage for Altered<F> {
    fn chunks(&self, each: &mut dyn FnMut(&[ChunkRef])) -> Result<()> {
        PreviousImage::chunks(&self.0, each)
    }

    fn fetch(&self, chunk: &ChunkRef) -> Result<Option<Vec<u8>>> {
        Ok(self.1(chunk, Image::fetch(&self.0, chunk)?))
    }
}

fn is(tar: &[u8], image: &ImageId) {
    assert_eq!(store::Blake3::of(tar), *image);
}

#[test]
fn a_delta_is_small_and_enough() {
    need_root();
    let two = Two::new();
    // 3 KB of noise in `new` and 700 bytes in `large` cannot get smaller.
    let DeltaInfo { size, packs, .. } = two.made.pair;
    assert!((3700..9000).contains(&size), "{size}");
    assert!(packs > 10 * size, "{packs}");
    let all = |_: &ChunkRef, bytes| Some(bytes);
    let (tar, packs) = two.read(Altered(two.previous(), all)).unwrap();
    is(&tar, &two.to.image);
    // Chunks that both have come from packs here; the rest must not.
    let lacks = |chunk: &ChunkRef| two.from.layout.chunks.contains(chunk);
    assert!(!two.to.layout.chunks.iter().all(lacks));
    assert!(packs > 0);
}

/// Numbers below 2^14 as deltas write them.
fn number(number: usize) -> Vec<u8> {
    match number {
        0..0x80 => vec![number as u8],
        _ => vec![number as u8 | 0x80, u8::try_from(number >> 7).unwrap()],
    }
}

/// A frame that makes the layout and behind it what should be a file that FROM has, too: the
/// layout is right, the rest is not. Only the layout can be verified when it is read.
#[test]
fn what_a_frame_makes_behind_the_layout_is_verified_too() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    for (name, more) in [("one", "1"), ("two", "2")] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a"), noise(5, 1000)).unwrap();
        fs::write(dir.path().join(name).join("b"), more).unwrap();
    }
    let two = Two::of(dir);
    let to = two.store().image(&two.to).unwrap();
    let layout = to.layout_chunks().iter();
    let layout = layout.flat_map(|chunk| Image::fetch(&to, chunk).unwrap());
    let layout: Vec<u8> = layout.collect();
    let chunk = ChunkRef::new(store::Blake3::of(&noise(5, 1000)), 1000).unwrap();
    for lie in [vec![0; 1000], vec![0; 1]] {
        let made = [&layout[..], &lie].concat();
        let patch = [&[1, 0][..], &number(made.len()), &[0], &made].concat();
        let frame = zstd::bulk::compress(&patch, 1).unwrap();
        let chunks = number(two.to.layout.chunks.len());
        // Runs: all of the layout; the first chunk of entry 2, behind `./`.
        let fresh = [&[2, 0, 0][..], &chunks, &[4, 0, 1]].concat();
        let rows = [
            &two.from.image.bytes()[..],
            two.to.image.bytes(),
            &[1],
            &number(frame.len()),
            &[0],
            &fresh,
        ];
        let mut table = zstd::bulk::compress(&rows.concat(), 1).unwrap();
        table.extend_from_slice(store::Blake3::of(&table).bytes());
        let delta = [&b"imgdlt\0\x02"[..], &frame, &table].concat();
        let pair = DeltaInfo {
            delta: store::Blake3::of(&delta),
            size: delta.len() as u64,
            table: table.len() as u32,
            ..two.made.pair.clone()
        };
        fs::write(two.root().join(pair.delta_key()), delta).unwrap();
        let previous = Arc::new(two.previous());
        let image = two.store().image_with_delta(&two.to, &pair, previous);
        assert!(image.unwrap().fetch(&chunk).unwrap() == noise(5, 1000));
    }
}

/// A delta of before patches: it is described and checked, and packs are read.
#[test]
fn a_delta_of_the_first_version_is_as_good_as_none() {
    need_root();
    let two = Two::new();
    let (from, to) = (&two.from.image, &two.to.image);
    let key = two.root().join(DeltaInfo::key(from, to));
    let first = DeltaInfo {
        schema: 1,
        ..two.made.pair.clone()
    };
    fs::write(&key, first.to_json()).unwrap();
    assert_eq!(two.store().delta(from, to).unwrap(), None);
    let backend = two.backend();
    let report = maintenance::fsck(
        &two.store(),
        &backend,
        EVERYTHING,
        &|_| Ok(Vec::new()),
        &|_| {},
    )
    .unwrap();
    assert!(report.damage.is_empty());
    let store = WritableStore::open_or_create(two.root()).unwrap();
    let again =
        delta_writer::publish(store.store(), store.backend(), &two.from, &two.to, &|_| {}).unwrap();
    assert_eq!(two.store().delta(from, to).unwrap(), Some(again.pair));
}

#[test]
fn the_same_images_make_the_same_delta() {
    need_root();
    let two = Two::new();
    let store = WritableStore::open_or_create(two.root()).unwrap();
    let again =
        delta_writer::publish(store.store(), store.backend(), &two.from, &two.to, &|_| {}).unwrap();
    assert_eq!(again, two.made);
    let none = two.store().delta(&two.to.image, &two.from.image).unwrap();
    assert_eq!(none, None);
}

#[test]
fn what_the_machine_lacks_comes_from_packs() {
    need_root();
    let two = Two::new();
    let gone = |_: &ChunkRef, _| None;
    is(
        &two.read(Altered(two.previous(), gone)).unwrap().0,
        &two.to.image,
    );
    let altered = |_: &ChunkRef, mut bytes: Vec<u8>| {
        bytes[0] ^= 1;
        Some(bytes)
    };
    is(
        &two.read(Altered(two.previous(), altered)).unwrap().0,
        &two.to.image,
    );
    let longer = |_: &ChunkRef, bytes: Vec<u8>| Some([&bytes[..], b"x"].concat());
    is(
        &two.read(Altered(two.previous(), longer)).unwrap().0,
        &two.to.image,
    );
}

#[test]
fn no_flipped_bit_and_no_cut_gives_another_image() {
    need_root();
    let two = Two::new();
    let good = fs::read(two.delta()).unwrap();
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(two.delta(), &bad).unwrap();
        // The table says where all is: when it is damaged, there is no delta.
        match two.read(two.previous()) {
            Ok((tar, _)) => is(&tar, &two.to.image),
            Err(error) => assert!(error.to_string().contains("table"), "{at}: {error}"),
        }
    }
    fs::write(two.delta(), &good[..good.len() - 1]).unwrap();
    assert!(two.read(two.previous()).is_err());
    fs::remove_file(two.delta()).unwrap();
    assert!(two.read(two.previous()).is_err());
}

#[test]
fn a_delta_of_other_images_is_refused() {
    need_root();
    let (two, other) = (Two::new(), {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        Two::of(dir)
    });
    // A description that leads to a delta of another pair.
    fs::copy(other.delta(), two.root().join(other.made.pair.delta_key())).unwrap();
    let lie = DeltaInfo {
        from: two.from.image,
        to: two.to.image,
        ..other.made.pair.clone()
    };
    let key = two
        .root()
        .join(DeltaInfo::key(&two.from.image, &two.to.image));
    fs::write(&key, lie.to_json()).unwrap();
    let error = two.read(two.previous()).unwrap_err();
    assert!(error.to_string().contains("another pair"), "{error}");
    // One that says nothing true about itself.
    for (size, table) in [
        (7, 1),
        (100, 0),
        (two.made.pair.size, two.made.pair.table - 1),
    ] {
        let wrong = DeltaInfo {
            size,
            table,
            ..two.made.pair.clone()
        };
        fs::write(&key, wrong.to_json()).unwrap();
        assert!(two.read(two.previous()).is_err(), "{size} {table}");
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    need_root();
    let two = Two::new();
    let before = crate::support::files(&two.root());
    // The place of the draft is gone: what is written is lost, and said to be.
    let store = WritableStore::open_or_create(two.root()).unwrap();
    let failing = delta_writer::create(
        &two.store().image(&two.to).unwrap(),
        &two.previous(),
        &mut Full,
        &|_| {},
    );
    assert!(failing.unwrap_err().to_string().contains("no room"));
    drop(store);
    assert_eq!(crate::support::files(&two.root()), before);
}

struct Full;

impl store::backend::ObjectWriter for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // The magic still fits.
        if bytes.len() <= 8 {
            return Ok(());
        }
        Err(store::Error::new(store::ErrorKind::Io, "no room"))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: &str) -> Result<()> {
        unreachable!("it is never whole")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_two_trees(one in any_tree(), two in any_tree(), edits in prop::collection::vec(any::<(prop::sample::Index, u32)>(), 0..4)) {
        need_root();
        let dir = tempfile::tempdir().unwrap();
        for (name, tree) in [("one", &one), ("two", &two)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            make(&dir.path().join(name), tree);
        }
        // Files that were files of the other tree, but for a byte.
        let files: Vec<_> = crate::support::files(&dir.path().join("one"))
            .into_iter()
            .filter(|path| path.is_file() && path.metadata().unwrap().len() > 0)
            .collect();
        for (number, (index, at)) in edits.into_iter().enumerate().filter(|_| !files.is_empty()) {
            let target = dir.path().join("two").join(format!("edited-{number}"));
            fs::copy(&files[index.index(files.len())], &target).unwrap();
            let file = fs::File::options().write(true).open(&target).unwrap();
            let at = u64::from(at) % file.metadata().unwrap().len();
            file.write_all_at(b"!", at).unwrap();
        }
        let two = Two::of(dir);
        let (tar, _) = two.read(two.previous()).unwrap();
        is(&tar, &two.to.image);
    }
}
