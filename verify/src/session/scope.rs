//! Where the processes of an app live, on a machine that systemd runs.
//!
//! systemd ends the processes of a unit with the unit, and those of a login with the login if it is
//! told to. An app must outlive the timer or the shell that it was started from, so it gets a unit of
//! its own, `imgnode-SESSION.scope` in `imgnode.slice`. `systemd-run --scope` makes one around itself
//! and then execs the program, which keeps number, streams and descriptors. At shutdown the scope is
//! ended after `imgnode@SYSTEM.service`, which stops the app, and before file systems are unmounted.
//!
//! Without systemd a session has no such unit, and what is bounded is in a control group (see `cgroup`).

use std::fs;
use std::path::Path;

use store::manifest::Fences;

use super::cgroup::{self, Group};
use super::record::Session;
use crate::event::Event;
use crate::host::commands::HostCommand;
use crate::node::Node;

/// The directory that is there if systemd runs this machine: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// Where a session's processes live.
#[derive(Debug)]
pub(super) enum Scope {
    /// In a unit of systemd.
    Unit {
        /// Its name.
        unit: String,
        /// The system that it is of.
        system: String,
    },
    /// In a control group of this name, if they are bounded.
    Group(String),
}

impl Scope {
    /// The scope of the app.
    pub(super) fn of(session: &Session) -> Self {
        Self::named(session, &session.id, session.id.clone())
    }

    /// A further scope, for a command that may leave processes behind; a control group takes more of them.
    pub(super) fn beside(session: &Session) -> Self {
        Self::named(session, &fresh(&session.id), session.id.clone())
    }

    /// The scope of a further process.
    pub(super) fn further(session: &Session, label: &str) -> Self {
        let unit = fresh(&format!("{}-{label}", session.id));
        Self::named(session, &unit, format!("{}.{label}", session.id))
    }

    fn named(session: &Session, unit: &str, group: String) -> Self {
        if !Path::new(BOOTED).is_dir() {
            return Self::Group(group);
        }
        Self::Unit {
            unit: format!("imgnode-{unit}.scope"),
            system: session.system.to_string(),
        }
    }

    /// Puts a command into the scope: the program itself, once it is started.
    pub(super) fn around(&self, run: HostCommand, fences: &Fences) -> HostCommand {
        let (unit, system) = match self {
            Self::Unit { unit, system } => (unit, system),
            // What is not kept was said when the app started.
            Self::Group(name) => {
                return match Group::make(name, fences).0 {
                    Some(group) => group.around(run),
                    None => run,
                };
            }
        };
        let mut words = vec![
            "systemd-run".to_owned(),
            "--scope".to_owned(),
            "--collect".to_owned(),
            "--quiet".to_owned(),
            "--no-ask-password".to_owned(),
            "--slice=imgnode.slice".to_owned(),
            format!("--unit={unit}"),
            format!("--description=App of the imgnode system {system}"),
            format!("--property=Before=imgnode@{system}.service"),
            "--property=After=local-fs.target".to_owned(),
        ];
        words.extend(properties(fences));
        words.push("--".to_owned());
        run.wrapped_by(words)
    }

    /// Whether a process is in the scope. One that ended and was not waited for still is.
    pub(super) fn holds(&self, pid: u32) -> bool {
        let Self::Unit { unit, .. } = self else {
            return true;
        };
        // N:CONTROLLERS:/imgnode.slice/UNIT, cgroups(7); " (deleted)" when it was the last one.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups
            .lines()
            .any(|line| line.split([':', '/', ' ']).any(|part| part == unit))
    }
}

/// The fences that are a unit's, as `systemd.resource-control(5)` calls them.
fn properties(fences: &Fences) -> impl Iterator<Item = String> {
    // In a delegated scope one process that is killed for its memory is one process; in others
    // systemd 253 and later stops all. What is bounded does not go on in swap.
    let memory = fences.memory.into_iter().flat_map(|bytes| {
        let bound = format!("MemoryMax={bytes}");
        [
            bound,
            "MemorySwapMax=0".to_owned(),
            "Delegate=yes".to_owned(),
        ]
    });
    let cpu = fences.cpu.map(|percent| format!("CPUQuota={percent}%"));
    let tasks = fences.tasks.map(|count| format!("TasksMax={count}"));
    memory
        .chain(cpu)
        .chain(tasks)
        .map(|property| format!("--property={property}"))
}

/// Says what of the fences is not kept in a session, without systemd and without the kernel's help.
pub(super) fn warn_of_what_nobody_counts(node: &Node<'_>, session: &Session, fences: &Fences) {
    if Path::new(BOOTED).is_dir() {
        return;
    }
    let (_, not_kept) = Group::make(&session.id, fences);
    if let Some(first) = not_kept.first() {
        let lines: Vec<_> = not_kept.iter().map(|one| one.fence.as_str()).collect();
        node.observer.event(Event::Note(&format!(
            "{} is not bounded by {}: systemd does not run this machine, and {}",
            session.system,
            lines.join(", "),
            first.why
        )));
    }
}

/// Removes what the kernel has of a session that has ended.
pub(super) fn remove(session: &Session) {
    if !Path::new(BOOTED).is_dir() {
        cgroup::remove(&session.id);
    }
}

/// A name that no unit has yet.
fn fresh(name: &str) -> String {
    let nanos = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    format!("{name}-{:x}", nanos % (1 << 48))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_systemd_run() {
        let scope = Scope::Unit {
            unit: "imgnode-web-1-a.scope".to_owned(),
            system: "web".to_owned(),
        };
        let fences = Fences {
            memory: Some(1 << 20),
            cpu: Some(150),
            ..Fences::default()
        };
        let run = HostCommand::new("schroot").arg("x");
        let shown = format!("{:?}", scope.around(run, &fences));
        for part in [
            "[\"systemd-run\", \"--scope\"",
            "\"--unit=imgnode-web-1-a.scope\", \"--description=App of the imgnode system web\"",
            "\"--property=Before=imgnode@web.service\"",
            "\"--property=MemoryMax=1048576\", \"--property=MemorySwapMax=0\", \"--property=Delegate=yes\"",
            "\"--property=CPUQuota=150%\", \"--\"",
            "\"--\", \"schroot\", \"x\"]",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!scope.holds(std::process::id()));
    }
}
