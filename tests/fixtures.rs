//! What several tests start from, made once a run and never changed afterwards.
//!
//! `tests/run` names the directory of the run in `IMGBUILD_TEST_FIXTURES`; all its tests, which are
//! processes, share it. Without it every process makes what it needs for itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::binaries::Ran;

/// The directory of a fixture. The first test that asks makes it; others wait for that.
///
/// # Panics
/// When it cannot be made; the next test that asks tries again.
pub fn fixture(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let all = directory();
    let own = all.join(name);
    let lock = File::create(all.join(format!("{name}.lock"))).expect("the directory is ours");
    lock.lock().expect("a file can be locked");
    let ready = all.join(format!("{name}.ready"));
    if !ready.exists() {
        // What a test that failed here has left.
        let _ = fs::remove_dir_all(&own);
        fs::create_dir(&own).expect("the directory is ours");
        make(&own);
        File::create(ready).expect("the directory is ours");
    }
    own
}

/// A directory for one test, on the file system of the fixtures: their files can be linked there.
pub fn scratch() -> tempfile::TempDir {
    let shared = std::env::var_os("IMGBUILD_TEST_FIXTURES").map(PathBuf::from);
    let parent = shared.as_deref().and_then(Path::parent);
    // Not below /tmp: it may be a tmpfs, too small for an image.
    let parent = parent.unwrap_or(Path::new("/var/tmp"));
    tempfile::tempdir_in(parent).expect("/var/tmp is writable")
}

/// Copies a directory by linking its files, which nobody changes in place.
#[track_caller]
pub fn link_copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-al", "--no-target-directory", "--"])
        .args([from, to]);
    Ran::of(&mut copy).expect(0);
}

/// Copies a directory, bytes and all.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let mut copy = Command::new("cp");
    copy.args(["-a", "--no-target-directory", "--"])
        .args([from, to]);
    Ran::of(&mut copy).expect(0);
}

/// Copies a store, or the work directory of builds. Objects of a store are linked. The rest is
/// copied: a lock that is shared would make tests wait for each other, and a link to a file of a
/// layer changes its ctime, which packing takes for a change of the file.
#[track_caller]
pub fn copy_places(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is new");
    for entry in fs::read_dir(from).expect("it is there").flatten() {
        let name = entry.file_name();
        let named_by_content = ["inputs", "packs", "tools"];
        if named_by_content.iter().any(|linked| name == *linked) {
            link_copy(&entry.path(), &to.join(name));
        } else {
            copy(&entry.path(), &to.join(name));
        }
    }
}

/// The directory of all fixtures.
fn directory() -> PathBuf {
    match std::env::var_os("IMGBUILD_TEST_FIXTURES") {
        Some(shared) => PathBuf::from(shared),
        None => process_scratch().to_owned(),
    }
}

/// A directory for what this process keeps to its end, and which is then removed.
pub fn process_scratch() -> &'static Path {
    static OWN: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let directory = scratch().keep();
        let janitor = janitor(&directory);
        (directory, janitor)
    });
    &own.0
}

/// Removes the directory when this process is gone, however it ends: nobody
/// drops what is in a static.
fn janitor(dir: &Path) -> Child {
    Command::new("setsid")
        .args(["sh", "-c", "cat; rm -rf -- \"$1\"", "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid is there")
}
