//! One suite for every kind of target, through the real `imgnode`.
//!
//! Here it runs on plain directories and on btrfs (a loop device). Volumes need device-mapper, which
//! not every kernel has: `tests/e2e/vm` runs this very program in a virtual machine, where
//! `IMGNODE_TEST_TARGETS` names targets of LVM.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Farm;
use serde_json::Value;

/// Everything that an operator does with a system, and what must be true in between.
fn suite(name: &str, target: &dyn Fn(&Farm) -> String) {
    let mut farm = Farm::new(name);
    farm.target = target(&farm);
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["verify", &system]);
    farm.ok(&["start", &system]);
    let greeting = farm.ok(&["logs", &system]);
    assert!(greeting.contains("hello from op (4242:4242)"), "{greeting}");

    change(&farm.path("tree"));
    farm.release(2);
    let said = json(&farm.ok(&["upgrade", &system, "--json"]));
    assert_eq!(said["generation"], 2, "{said}");
    let bytes = |key: &str| said[key].as_u64().unwrap();
    let all = crate::support::files() * 96_000;
    assert!(bytes("reused_bytes") > all - 500_000, "{said}");
    // A copy is written to only where it differs.
    if !["dir:", "lvm:"]
        .iter()
        .any(|kind| farm.target.starts_with(kind))
    {
        assert!(bytes("written_bytes") < 2_000_000, "{said}");
    }
    farm.ok(&["verify", &system]);
    let status = farm.status();
    assert_eq!(status["systems"][0]["session"]["generation"], 1);
    assert_eq!(status["systems"][0]["session"]["state"], "running");
    assert!(
        status["systems"][0]["free_bytes"].as_u64().is_some(),
        "{status}"
    );

    farm.ok(&["stop", &system]);
    farm.ok(&["start", &system]);
    assert_eq!(farm.status()["systems"][0]["session"]["generation"], 2);
    assert!(farm.ok(&["logs", &system]).contains("changed hello"));
    farm.ok(&["reload", &system]);
    farm.ok(&["rollback", &system]);
    farm.ok(&["verify", &system]);
    farm.ok(&["stop", &system]);
    farm.ok(&["start", &system]);
    assert_eq!(farm.status()["systems"][0]["session"]["generation"], 1);
    farm.ok(&["stop", &system]);

    farm.release(3);
    farm.ok(&["upgrade", &system]);
    farm.ok(&["verify", &system]);
    let gone = json(&farm.ok(&["gc", &system, "--json"]));
    assert_eq!(gone["systems"][0]["removed"], json("[2]"), "{gone}");
    farm.ok(&["rollback", &system]);
    farm.ok(&["verify", &system]);
    let place = PathBuf::from(status["systems"][0]["directory"].as_str().unwrap());
    assert!(!place.exists(), "{} is still there", place.display());
    farm.close();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Every way in which a path can differ between two versions.
fn change(tree: &Path) {
    let app = fs::read_to_string(tree.join("srv/app")).unwrap();
    // A new file, not the old one written to: it has a second name.
    fs::remove_file(tree.join("srv/app")).unwrap();
    fs::write(
        tree.join("srv/app"),
        app.replace("hello from", "changed hello from"),
    )
    .unwrap();
    fs::set_permissions(tree.join("srv/app"), fs::Permissions::from_mode(0o755)).unwrap();
    // A file becomes a directory, a directory a link, a link a file.
    fs::remove_file(tree.join("data/001")).unwrap();
    fs::create_dir(tree.join("data/001")).unwrap();
    fs::write(tree.join("data/001/in"), b"inside").unwrap();
    fs::remove_dir_all(tree.join("var/lib/dpkg")).unwrap();
    symlink("../../srv", tree.join("var/lib/dpkg")).unwrap();
    fs::remove_file(tree.join("srv/shadow")).unwrap();
    fs::write(tree.join("srv/shadow"), b"none").unwrap();
    // Content moves, goes, is shared by two names or no longer.
    fs::rename(tree.join("data/002"), tree.join("data/moved")).unwrap();
    fs::remove_file(tree.join("data/003")).unwrap();
    fs::hard_link(tree.join("data/004"), tree.join("data/zzz")).unwrap();
    // Only what is said about a file changes.
    fs::set_permissions(tree.join("data/005"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(tree.join("data/006"), Some(4242), Some(4242)).unwrap();
    fs::set_permissions(tree.join("home/op"), fs::Permissions::from_mode(0o700)).unwrap();
    let label = Command::new("setfattr")
        .args(["-n", "user.note", "-v", "new"])
        .arg(tree.join("data/007"))
        .status();
    assert!(
        label.is_ok_and(|status| status.success()),
        "apt-get install attr"
    );
    // A part of a large file.
    let mut bytes = fs::read(tree.join("data/008")).unwrap();
    bytes[50_000] ^= 1;
    fs::write(tree.join("data/008"), bytes).unwrap();
}

#[test]
fn directories() {
    suite("dir", &|farm| farm.target.clone());
}

/// A btrfs of its own, in a file.
struct Loop {
    mounted: PathBuf,
}

impl Loop {
    fn new(directory: &Path) -> Self {
        let (file, mounted) = (directory.join("disk"), directory.join("mounted"));
        fs::create_dir(&mounted).unwrap();
        let disk = fs::File::create(&file).unwrap();
        disk.set_len(1 << 30).unwrap();
        let run = |program: &str, words: &[&std::ffi::OsStr]| {
            let ended = Command::new(program).args(words).output();
            let ended = ended
                .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install btrfs-progs"));
            assert!(
                ended.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&ended.stderr)
            );
        };
        run("mkfs.btrfs", &["-q".as_ref(), file.as_ref()]);
        run(
            "mount",
            &[
                "-o".as_ref(),
                "loop".as_ref(),
                file.as_ref(),
                mounted.as_ref(),
            ],
        );
        Self { mounted }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

#[test]
fn subvolumes_of_btrfs() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Loop::new(directory.path());
    let place = disk.mounted.join("images");
    suite("btrfs", &|_| format!("btrfs:{}", place.display()));
    // What schroot mounts and unmounts, and our subvolumes, are gone.
    let listed = Command::new("btrfs")
        .args(["subvolume", "list"])
        .arg(&disk.mounted)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
}

#[test]
fn a_directory_that_is_not_on_btrfs_is_no_target_of_btrfs() {
    let mut farm = Farm::new("notbtrfs");
    farm.target = "btrfs:/dev/images".to_owned();
    assert!(farm.install_fails(2).contains("is not on btrfs"));
    farm.assert_nothing_installed();
}

/// Targets of the machine this runs on, separated by spaces; none on most.
#[test]
fn targets_that_this_machine_was_given() {
    let targets = std::env::var("IMGNODE_TEST_TARGETS").unwrap_or_default();
    for (number, target) in targets.split_whitespace().enumerate() {
        suite(&format!("given{number}"), &|_| target.to_owned());
    }
}
