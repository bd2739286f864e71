//! What a build or a session could leave behind on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::bench::wait_for;

/// A picture of mounts, schroot sessions and namespaces.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    mounts: BTreeSet<String>,
    files: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Host {
    /// Looks at the machine as it is now.
    pub fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
        let mut files = BTreeSet::new();
        for dir in [
            "/var/lib/schroot",
            "/run/schroot",
            "/etc/schroot",
            "/run/imgbuild",
        ] {
            walk(Path::new(dir), &mut files);
        }
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            files,
            namespaces: namespaces(),
        }
    }

    /// Fails the test when something is there that was not there before, and stays.
    ///
    /// A namespace goes when the kernel has ended the last process in it, which
    /// may be after the program that made it: that is waited for. Mounts and files
    /// are ours to remove, and are gone at once.
    #[track_caller]
    pub fn assert_clean_since(&self, before: &Self) {
        let left = [
            news(&self.mounts, &before.mounts),
            news(&self.files, &before.files),
        ];
        assert!(left.iter().all(Vec::is_empty), "left behind: {left:#?}");
        wait_for("the kernel takes the namespaces down", || {
            news(&namespaces(), &before.namespaces).is_empty()
        });
    }
}

fn news(now: &BTreeSet<String>, then: &BTreeSet<String>) -> Vec<String> {
    now.difference(then).cloned().collect()
}

fn walk(path: &Path, into: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        // schroot makes the parent of its mounts once and keeps it.
        if entry.path() != Path::new("/run/schroot/mount") {
            into.insert(entry.path().display().to_string());
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), into);
        }
    }
}

/// The mount, PID and network namespaces of all processes.
fn namespaces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let pid = process.file_name();
        if !pid.to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // A process may end meanwhile, and one that has ended and waits to be
        // reaped by the machine's init is in no namespace any more.
        let links = ["mnt", "pid", "net"].map(|kind| {
            let link = fs::read_link(process.path().join("ns").join(kind));
            link.map(|name| name.display().to_string())
        });
        if let [Ok(mnt), Ok(pid), Ok(net)] = links {
            found.extend([mnt, pid, net]);
        }
    }
    found
}
