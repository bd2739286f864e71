//! What the releases of an environment cost as they become many.
//!
//! ```sh
//! cargo bench -p tests --bench releases              # 10, 100, 1,000 releases: some minutes
//! cargo bench -p tests --bench releases -- 10 50
//! ```
//!
//! Two small images are imported in turn, so that each import is a release. At each number the
//! files below `env/` are counted, before and after a collection without a grace period, and
//! commands are timed after it. Prints a table in Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::binaries::imgbuild;
use tests::measure::{mega, timed};

/// The commands that are timed.
const COMMANDS: [&str; 6] = [
    "store gc --delete --grace 0",
    "env log dev",
    "env log dev -n 10",
    "env status dev",
    "list",
    "store fsck",
];

fn main() {
    // Cargo adds `--bench`.
    let typed = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut numbers: Vec<u32> = typed.map(|word| word.parse().expect("a number")).collect();
    if numbers.is_empty() {
        numbers = vec![10, 100, 1000];
    }
    let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let run = |words: &str| -> Duration {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(dir.path())
            .args(words.split(' '))
            .env("HOME", dir.path())
            .env("IMGBUILD_STORE", dir.path().join("store"))
            .env("IMGBUILD_KEYS", dir.path().join("keys"));
        timed(&mut command)
    };
    for number in [0, 1] {
        let tree = dir.path().join(format!("tree{number}"));
        fs::create_dir(&tree).expect("it is ours");
        fs::write(tree.join("file"), [number]).expect("it is ours");
        let mut tar = Command::new("tar");
        tar.arg("-cf")
            .arg(dir.path().join(format!("tar{number}")))
            .arg("-C")
            .arg(&tree)
            .arg(".");
        timed(&mut tar);
    }
    let mut header = "| releases | env/ | after gc".to_owned();
    for command in COMMANDS {
        let _ = write!(header, " | {command}");
    }
    println!(
        "{header} | import |\n|{}",
        "---|".repeat(4 + COMMANDS.len())
    );
    let release = |made: u32| run(&format!("import tar{} --arch amd64 --name web", made % 2));
    let mut made = 0;
    for number in numbers {
        while made < number {
            release(made);
            made += 1;
        }
        let before = size(&dir.path().join("store/env"));
        let mut times = String::new();
        let mut after = 0;
        for command in COMMANDS {
            let taken = run(command);
            if command.starts_with("store gc") {
                after = size(&dir.path().join("store/env"));
            }
            let _ = write!(times, " | {:.2} s", taken.as_secs_f64());
        }
        let taken = release(made).as_secs_f64();
        made += 1;
        println!(
            "| {number} | {:.1} MB | {:.1} MB{times} | {taken:.2} s |",
            mega(before),
            mega(after)
        );
    }
}

/// Bytes of the files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("the store has an environment");
    let sizes = entries.map(|entry| {
        let entry = entry.expect("it can be read");
        let meta = entry.metadata().expect("it can be read");
        if meta.is_dir() {
            size(&entry.path())
        } else {
            meta.len()
        }
    });
    sizes.sum()
}
