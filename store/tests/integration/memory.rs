//! Memory does not grow with the tree: each phase is a process of its own, and the
//! kernel says how much it had at most.
//!
//! `IMGBUILD_MEMORY_GB=8` measures with a tree of so many gigabytes, in `TMPDIR`;
//! it and its store need twice as much there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use store::maintenance::{self, Collector, Policy};
use store::{LocalReader, Sha256, Store, WritableStore};

use crate::support::*;

/// What a process is told to do, and where.
const ROLE: &str = "STORE_TEST_MEMORY";

/// The most that any command may have, in KiB.
const MOST: u64 = 256 * 1024;

#[expect(clippy::unnecessary_wraps, reason = "it stands for one that can fail")]
fn no_inputs(_: &[u8]) -> Result<Vec<Sha256>, String> {
    Ok(Vec::new())
}

/// Not a test by itself: the processes that are measured.
#[test]
fn phase() {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let role = role.into_string().unwrap();
    let (phase, root) = role.split_once(' ').unwrap();
    let root = Path::new(root);
    let backend = || LocalReader::open(root.join("store")).unwrap();
    match phase {
        "publish" => {
            let store = WritableStore::open_or_create(root.join("store")).unwrap();
            let manifest = publish(&store, &root.join("tree"));
            maintenance::pin(store.backend(), &manifest.image, "").unwrap();
        }
        "unpin" => {
            let store = WritableStore::open_or_create(root.join("store")).unwrap();
            let pins = maintenance::pins(store.store().backend()).unwrap();
            maintenance::unpin(store.backend(), &pins[0].image).unwrap();
        }
        "read" => {
            let store = Store::open(Box::new(backend())).unwrap();
            let image = store.images().unwrap()[0].image;
            let manifest = store.manifest(&image).unwrap();
            let image = store.image(&manifest).unwrap();
            image.copy_tar(&mut std::io::sink()).unwrap();
        }
        "check" => {
            let store = Store::open(Box::new(backend())).unwrap();
            let report =
                maintenance::fsck(&store, &backend(), EVERYTHING, &no_inputs, &|_| {}).unwrap();
            assert!(report.is_clean(), "{report:?}");
        }
        "collect" => {
            let store = WritableStore::open_or_create(root.join("store")).unwrap();
            let policy = Policy {
                grace: 0,
                keep_last: 0,
                waste: 20,
            };
            let collector = Collector::new(store.store(), policy, &no_inputs);
            let done = collector.run(store.backend(), &mut |_| {}).unwrap();
            assert!(done.rewritten > 0 && done.bytes_freed() > 0, "{done:?}");
        }
        other => panic!("{other}"),
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    println!("peak {}", line.unwrap().split_whitespace().nth(1).unwrap());
}

/// Runs a phase; returns the most KiB that it had.
fn run(phase: &str, root: &Path) -> u64 {
    let begun = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::phase", "--nocapture"])
        .env(ROLE, format!("{phase} {}", root.display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{phase}: {errors}");
    let peak = text.lines().find_map(|line| line.strip_prefix("peak "));
    let peak: u64 = peak.expect("the phase says its peak").parse().unwrap();
    eprintln!(
        "{phase:<8} {:>7.1} s  peak {:>4} MiB",
        begun.elapsed().as_secs_f64(),
        peak / 1024
    );
    peak
}

/// Files of 8 MiB that nothing can make smaller, and many small ones.
fn grow(tree: &Path, bytes: u64) {
    fs::create_dir_all(tree.join("small")).unwrap();
    let mut left = bytes;
    for number in 0_u32.. {
        if left == 0 {
            break;
        }
        let len = left.min(8 << 20);
        left -= len;
        let mut file = fs::File::create(tree.join(format!("large{number:05}"))).unwrap();
        let mut content = blake3::Hasher::new();
        content.update(&number.to_le_bytes());
        let mut content = content.finalize_xof();
        let mut piece = vec![0; 1 << 20];
        for _ in 0..len >> 20 {
            content.fill(&mut piece);
            file.write_all(&piece).unwrap();
        }
        for small in 0..4 {
            let path = tree.join(format!("small/{number:05}.{small}"));
            fs::write(path, &piece[..1000 * small]).unwrap();
        }
    }
}

#[test]
fn memory_is_flat() {
    let wanted = std::env::var("IMGBUILD_MEMORY_GB").ok();
    let gigabytes: u64 = wanted.map_or(0, |text| text.parse().unwrap());
    let bytes = if gigabytes > 0 {
        gigabytes << 30
    } else {
        96 << 20
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    grow(&root.join("tree"), bytes);
    let mut peaks = vec![run("publish", root), run("read", root), run("check", root)];
    // A smaller version stays, so that most of the first becomes waste.
    for entry in fs::read_dir(root.join("tree")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("large") && !name.ends_with(['0', '1', '2']) {
            fs::remove_file(path).unwrap();
        }
    }
    run("unpin", root);
    peaks.extend([
        run("publish", root),
        run("collect", root),
        run("check", root),
    ]);
    let most = peaks.iter().max().unwrap();
    assert!(*most < MOST, "{} MiB", most / 1024);
}
