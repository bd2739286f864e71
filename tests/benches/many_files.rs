//! Memory and time of each command on an image of very many small files.
//!
//! ```sh
//! cargo bench -p tests --bench many_files             # 1,000,000 files: about 20 GB in /var/tmp
//! cargo bench -p tests --bench many_files -- 100000
//! ```
//!
//! A directory is imported, every hundredth file is changed, and it is imported again; a node on
//! the same disk installs, verifies and upgrades. Prints a table in Markdown with seconds from start to
//! exit and the MiB of the largest process. GNU tar packs and unpacks the same tree in the same run.

use std::fs;
use std::path::Path;

use tests::shell::Shell;

/// Files of a directory.
const IN_ONE: u32 = 1000;

/// What is measured, in this order.
const STEPS: &[(&str, &str)] = &[
    ("tar -c", "tar -C tree -cf v1.tar ."),
    (
        "import of a directory",
        "$imgbuild import tree --name many --arch amd64",
    ),
    (
        "import of a tar",
        "$imgbuild import v1.tar --name tarred --arch amd64",
    ),
    (
        "import, nothing changed",
        "$imgbuild import tree --name many --arch amd64",
    ),
    ("export", "$imgbuild export many --format tar >v.tar"),
    ("tar -x", "mkdir out; tar -C out -xpf v1.tar; sync -f out"),
    (
        "init, install",
        "$imgnode --state state init --env dev --repo $PWD/store --root root.json
      $imgnode --state state install many --as many-files --target dir:$PWD/nodes",
    ),
    ("verify", "$imgnode --state state verify many-files"),
    (
        "import of the next version",
        "$imgbuild import tree2 --name many --arch amd64",
    ),
    ("diff", "$imgbuild diff dev/many/1 dev/many/2"),
    ("store fsck", "$imgbuild store fsck"),
    ("upgrade", "$imgnode --state state upgrade many-files"),
    (
        "verify after it",
        "$imgnode --state state verify many-files",
    ),
    ("store gc", "$imgbuild store gc --delete --grace 0"),
];

fn main() {
    // Cargo adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let number = words
        .next()
        .map_or(1_000_000, |word| word.parse().expect("a number"));
    let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let shell = Shell::new(dir.path());
    plant(&dir.path().join("tree"), number);
    println!("| {number} files | time | memory |\n|---|---|---|");
    for (name, script) in STEPS {
        match *name {
            "init, install" => {
                shell.run(
                    "rm -rf out v.tar v1.tar; cp store/env/dev/metadata/1.root.json root.json",
                );
            }
            "import of the next version" => {
                shell.run("mv tree tree2");
                change(&dir.path().join("tree2"), number);
            }
            "diff" => {
                shell.run("rm -rf tree2");
            }
            _ => {}
        }
        let cost = shell.measure(script);
        println!(
            "| {name} | {:.1} s | {:.0} MiB |",
            cost.seconds, cost.memory
        );
    }
    shell.run("$imgnode --state state uninstall many-files");
}

fn path(tree: &Path, file: u32) -> std::path::PathBuf {
    tree.join(format!("{:04}/file-{file}", file / IN_ONE))
}

/// Files of a line or two, each another one.
fn plant(tree: &Path, number: u32) {
    for file in 0..number {
        if file % IN_ONE == 0 {
            let parent = path(tree, file);
            fs::create_dir_all(parent.parent().expect("it is in one")).expect("it is ours");
        }
        fs::write(
            path(tree, file),
            format!("file {file}\n{:x}\n", file.wrapping_mul(0x9e37_79b9)),
        )
        .expect("there is room");
    }
}

/// Every hundredth file says something else.
fn change(tree: &Path, number: u32) {
    for file in (0..number).step_by(100) {
        fs::write(path(tree, file), format!("changed {file}\n")).expect("there is room");
    }
}
