//! Bounds for a session's processes where systemd does not run the machine: control groups of version 2.
//!
//! ```text
//! /sys/fs/cgroup/imgnode/SESSION         the app
//! /sys/fs/cgroup/imgnode/SESSION.LABEL   a further process, or the job of a timer
//! ```
//! A group is made when a command is started that is to be bounded, a shell of the host enters it and
//! becomes the command, and it is removed when the session ends. What the kernel does not count here, as
//! in a container or where version 1 has the controllers, is said.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use store::manifest::Fences;

use crate::host::commands::HostCommand;

/// The group of all systems.
const OURS: &str = "imgnode";

/// The time in which processors are shared out, in microseconds: what the kernel has by itself.
const PERIOD: u64 = 100_000;

/// How long the kernel may take to forget the last process of a group.
const EMPTY: Duration = Duration::from_secs(2);

/// Enters the group and becomes the command.
const ENTER: &str = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";

/// A group that bounds what is in it.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

/// A fence that is not kept here, as a recipe has it, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotKept {
    pub(super) fence: String,
    pub(super) why: String,
}

/// Where control groups of version 2 are mounted.
fn mounted() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut lines = table.lines();
    lines.find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let at = mount.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| at.into())
    })
}

impl Group {
    /// Makes the group `name` with those bounds that the kernel keeps here; none if that is none of them.
    pub(super) fn make(name: &str, fences: &Fences) -> (Option<Self>, Vec<NotKept>) {
        let Some(root) = mounted() else {
            let why = "no control groups of version 2 are mounted";
            let all = bounds(fences).into_iter();
            let all = all.map(|bound| bound.not_kept(why.to_owned()));
            return (None, all.collect());
        };
        Self::make_in(&root, name, fences)
    }

    fn make_in(root: &Path, name: &str, fences: &Fences) -> (Option<Self>, Vec<NotKept>) {
        let (ours, group) = (root.join(OURS), root.join(OURS).join(name));
        let mut not_kept = Vec::new();
        let mut kept = false;
        for bound in bounds(fences) {
            match bound.set(root, &ours, &group) {
                Ok(()) => kept = true,
                Err(why) => not_kept.push(bound.not_kept(why)),
            }
        }
        if !kept {
            let _ = fs::remove_dir(&group);
        }
        (kept.then_some(Self(group)), not_kept)
    }

    /// Puts a command into the group: the program itself, once it is started.
    pub(super) fn around(&self, run: HostCommand) -> HostCommand {
        let path = self.0.display().to_string();
        run.wrapped_by(["sh", "-c", ENTER, "sh", &path])
    }
}

/// Removes the groups of a session that has ended.
pub(super) fn remove(session: &str) {
    let Some(root) = mounted() else { return };
    remove_in(&root, session);
}

fn remove_in(root: &Path, session: &str) {
    let further = format!("{session}.");
    let entries = fs::read_dir(root.join(OURS))
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if *name != *session && !name.starts_with(&further) {
            continue;
        }
        let until = Instant::now() + EMPTY;
        // One that stays bounds nothing any more.
        while fs::remove_dir(entry.path())
            .is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A bound as the kernel knows it.
struct Bound {
    /// As a recipe has it.
    fence: String,
    controller: &'static str,
    /// Files of the group and what they are to say; only the first one must be there.
    files: Vec<(&'static str, String)>,
}

/// The bounds that need somebody who counts.
fn bounds(fences: &Fences) -> Vec<Bound> {
    let only = |fences: Fences| fences.lines().join(", ");
    let memory = fences.memory.map(|bytes| Bound {
        fence: only(Fences {
            memory: Some(bytes),
            ..Fences::default()
        }),
        controller: "memory",
        // What is bounded does not go on in swap; a kernel may not count that.
        files: vec![
            ("memory.max", bytes.to_string()),
            ("memory.swap.max", "0".to_owned()),
        ],
    });
    let cpu = fences.cpu.map(|percent| Bound {
        fence: only(Fences {
            cpu: Some(percent),
            ..Fences::default()
        }),
        controller: "cpu",
        files: vec![("cpu.max", format!("{} {PERIOD}", percent * PERIOD / 100))],
    });
    let tasks = fences.tasks.map(|count| Bound {
        fence: only(Fences {
            tasks: Some(count),
            ..Fences::default()
        }),
        controller: "pids",
        files: vec![("pids.max", count.to_string())],
    });
    [memory, cpu, tasks].into_iter().flatten().collect()
}

impl Bound {
    fn set(&self, root: &Path, ours: &Path, group: &Path) -> Result<(), String> {
        let controller = self.controller;
        let there = fs::read_to_string(root.join("cgroup.controllers"));
        let there = there.map_err(|error| format!("cannot read {}: {error}", root.display()))?;
        if !there.split_whitespace().any(|one| one == controller) {
            return Err(format!(
                "{} has no controller `{controller}`",
                root.display()
            ));
        }
        let enable = format!("+{controller}");
        for above in [root, ours] {
            make(above).map_err(|error| format!("cannot make {}: {error}", above.display()))?;
            let control = above.join("cgroup.subtree_control");
            put(&control, &enable).map_err(|error| failed(&control, &error))?;
        }
        make(group).map_err(|error| format!("cannot make {}: {error}", group.display()))?;
        for (number, (name, value)) in self.files.iter().enumerate() {
            let file = group.join(name);
            if number > 0 && !file.exists() {
                continue;
            }
            put(&file, value).map_err(|error| failed(&file, &error))?;
        }
        Ok(())
    }

    fn not_kept(&self, why: String) -> NotKept {
        NotKept {
            fence: self.fence.clone(),
            why,
        }
    }
}

fn failed(file: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", file.display())
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Writes to a file of the kernel, which is there already.
fn put(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as the kernel shows one, but for what it makes by itself in a new group.
    fn fake(root: &Path, controllers: &str) {
        let group = root.join("imgnode/web-1-a");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.join("cgroup.controllers"), controllers).unwrap();
        for above in [root, &root.join("imgnode")] {
            fs::write(above.join("cgroup.subtree_control"), "").unwrap();
        }
        for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
            fs::write(group.join(file), "").unwrap();
        }
    }

    fn fences() -> Fences {
        Fences {
            memory: Some(1 << 30),
            cpu: Some(150),
            tasks: Some(64),
            ..Fences::default()
        }
    }

    #[test]
    fn what_the_kernel_is_told() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "cpuset cpu memory pids\n");
        let (group, not_kept) = Group::make_in(root.path(), "web-1-a", &fences());
        assert_eq!(not_kept, []);
        let path = root.path().join("imgnode/web-1-a");
        let told = |file| fs::read_to_string(path.join(file)).unwrap();
        assert_eq!(told("memory.max"), "1073741824");
        assert_eq!(told("memory.swap.max"), "0");
        assert_eq!(told("cpu.max"), "150000 100000");
        assert_eq!(told("pids.max"), "64");
        let control = root.path().join("imgnode/cgroup.subtree_control");
        assert!(fs::read_to_string(control).unwrap().contains("+pids"));
        let run = group.unwrap().around(HostCommand::new("schroot"));
        let shown = format!("{run:?}");
        let place = format!("\"sh\", \"{}\", \"schroot\"]", path.display());
        assert!(shown.contains(&place), "{shown}");
    }

    #[test]
    fn what_nobody_counts_is_said() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "cpu\n");
        let (group, not_kept) = Group::make_in(root.path(), "web-1-a", &fences());
        assert!(group.is_some());
        let names: Vec<_> = not_kept.iter().map(|one| one.fence.as_str()).collect();
        assert_eq!(names, ["memory 1G", "tasks 64"]);
        assert!(not_kept[0].why.ends_with("has no controller `memory`"));
        fs::remove_file(root.path().join("imgnode/web-1-a/cpu.max")).unwrap();
        let (group, not_kept) = Group::make_in(root.path(), "web-1-a", &fences());
        assert!(group.is_none() && not_kept.len() == 3, "{not_kept:?}");
        assert!(not_kept[1].why.contains("cpu.max"), "{not_kept:?}");
    }

    #[test]
    fn groups_go_with_their_session() {
        let root = tempfile::tempdir().unwrap();
        for name in ["web-1-a", "web-1-a.worker.1", "web-1-ab", "web-2-a"] {
            fs::create_dir_all(root.path().join("imgnode").join(name)).unwrap();
        }
        remove_in(root.path(), "web-1-a");
        let left = fs::read_dir(root.path().join("imgnode")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["web-1-ab", "web-2-a"]);
    }
}
