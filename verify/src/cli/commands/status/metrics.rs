//! What `imgnode status` says as metrics: the text format of Prometheus, for the textfile collector of
//! its node exporter (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

use super::report::{Report, State, System, Timer};

/// A metric: its name, what it means, and its value for a system where it has one.
type Metric = (&'static str, &'static str, fn(&System) -> Option<u64>);

const OF_SYSTEMS: [Metric; 9] = [
    (
        "imgnode_system_running",
        "Whether its session runs and its main process lives.",
        |system| Some(u64::from(runs(system))),
    ),
    (
        "imgnode_system_generation",
        "The number of the active generation.",
        |system| Some(system.generation),
    ),
    (
        "imgnode_system_session_generation",
        "The number of the generation that runs.",
        |system| system.session.as_ref().map(|session| session.generation),
    ),
    (
        "imgnode_system_release",
        "The number of the active release in its environment.",
        |system| Some(system.seq),
    ),
    (
        "imgnode_system_processes",
        "The processes of its session.",
        |system| {
            let session = system.session.as_ref()?;
            Some(session.processes.len() as u64)
        },
    ),
    (
        "imgnode_system_free_bytes",
        "Room for further generations.",
        |system| system.free_bytes,
    ),
    (
        "imgnode_system_hooks_failed",
        "Whether a hook failed and runs again with the next command.",
        |system| Some(u64::from(system.failed_hooks.is_some())),
    ),
    (
        "imgnode_system_release_failed",
        "Whether the newest release that was tried did not work.",
        |system| Some(u64::from(system.failed_release.is_some())),
    ),
    (
        "imgnode_system_watched",
        "Whether an imgnode run watches it, and starts timers.",
        |system| Some(u64::from(system.watched)),
    ),
];

/// A metric of a timer: name, description, value.
type TimerMetric = (&'static str, &'static str, fn(&Timer) -> Option<i64>);

const OF_TIMERS: [TimerMetric; 3] = [
    (
        "imgnode_timer_started_seconds",
        "When the job of a timer started last, since 1970.",
        |timer| timer.last.started?.try_into().ok(),
    ),
    (
        "imgnode_timer_ended_seconds",
        "When the job of a timer ended last, since 1970.",
        |timer| timer.last.ended?.try_into().ok(),
    ),
    (
        "imgnode_timer_exit_code",
        "The exit code of the job of a timer that ended last.",
        |timer| timer.exit.map(i64::from),
    ),
];

fn runs(system: &System) -> bool {
    let session = system.session.as_ref();
    session.is_some_and(|session| session.state == State::Running)
}

fn head(name: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n")
}

/// All metrics of a node.
pub(super) fn text(report: &Report) -> String {
    let mut all = head(
        "imgnode_operation_pending",
        "Operations that are under way, or were interrupted.",
    );
    // Writing to a String cannot fail.
    let pending = report.pending.iter().chain(&report.more_pending).count();
    let _ = writeln!(all, "imgnode_operation_pending {pending}");
    if let Some(metadata) = &report.metadata {
        let name = "imgnode_metadata_age_seconds";
        all += &head(name, "Since when nothing was heard of the environment.");
        let _ = writeln!(all, "{name} {}", metadata.age_seconds);
        if let Some(at) = metadata.expires_at {
            let name = "imgnode_metadata_expires_seconds";
            all += &head(name, "When the metadata runs out, since 1970.");
            let _ = writeln!(all, "{name} {at}");
        }
    }
    for (name, help, value) in OF_SYSTEMS {
        let values = report.systems.iter();
        let values = values.filter_map(|system| Some((system, value(system)?)));
        let values: Vec<_> = values.collect();
        if values.is_empty() {
            continue;
        }
        all += &head(name, help);
        for (system, value) in values {
            let _ = writeln!(all, "{name}{{{}}} {value}", labels(system));
        }
    }
    let processes = report.systems.iter().flat_map(|system| {
        let session = system.session.iter();
        let further = session.flat_map(|session| &session.further);
        further.map(move |process| (system, process))
    });
    let processes: Vec<_> = processes.collect();
    if !processes.is_empty() {
        let name = "imgnode_process_running";
        all += &head(name, "Whether a process beside the main one runs.");
        for (system, process) in processes {
            let _ = writeln!(
                all,
                "{name}{{{},process=\"{}\"}} {}",
                labels(system),
                process.name,
                u64::from(process.pid.is_some())
            );
        }
    }
    for (name, help, value) in OF_TIMERS {
        let mut first = true;
        for system in &report.systems {
            for timer in &system.timers {
                let Some(value) = value(timer) else { continue };
                if std::mem::take(&mut first) {
                    all += &head(name, help);
                }
                let (labels, timer) = (labels(system), &timer.name);
                let _ = writeln!(all, "{name}{{{labels},timer=\"{timer}\"}} {value}");
            }
        }
    }
    all
}

/// The labels of a system. Names of systems, images and environments need no escaping: letters, digits,
/// `.`, `_`, `-`.
fn labels(system: &System) -> String {
    format!(
        "system=\"{}\",image=\"{}\",environment=\"{}\"",
        system.name, system.image_name, system.environment
    )
}
