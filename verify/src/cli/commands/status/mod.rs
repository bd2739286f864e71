//! `imgnode status`: what is installed, what runs, how old the metadata is.
//!
//! ```text
//! metrics  a report -> the text format of Prometheus
//! report   this node -> what there is to say about it
//! ```

mod metrics;
mod report;

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use ::verify::atomic_file;
use ::verify::error::{Error, Result};
use ::verify::node::Node;
use ::verify::system::SystemName;

use self::report::{FailedRelease, Generation, Place, Report, State, Timer, gather};
use crate::cli::args::StatusForm;
use crate::cli::report::called;
use crate::cli::ui::Ui;

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    only: Option<&SystemName>,
    form: &StatusForm,
) -> Result<ExitCode> {
    let report = gather(node, only)?;
    if let Some(file) = &form.prometheus {
        // It is replaced, which must not happen to a device or to a link.
        if fs::symlink_metadata(file).is_ok_and(|found| !found.is_file()) {
            let what = format!("{} is not a plain file", file.display());
            return Err(Error::usage(what).hint("name a file of the directory that is collected"));
        }
        atomic_file::write(file, metrics::text(&report).as_bytes(), 0o644)?;
    } else if form.json {
        ui.json(&report);
    } else {
        show(ui, &report);
    }
    let problems = if form.check {
        problems(&report)
    } else {
        Vec::new()
    };
    for problem in &problems {
        ui.note(problem);
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What does not work, a sentence each.
fn problems(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    for system in &report.systems {
        let name = &system.name;
        let session = system.session.as_ref();
        match session.map(|session| session.state) {
            Some(State::Dead) => found.push(format!("{name} is dead")),
            Some(State::Broken) => found.push(format!("the main process of {name} is gone")),
            Some(State::Running) | None => {}
        }
        let running = session.filter(|session| session.state == State::Running);
        for process in running.iter().flat_map(|session| &session.further) {
            if process.pid.is_none() {
                found.push(format!(
                    "the process {} of {name} does not run",
                    process.name
                ));
            }
        }
        for Timer {
            name: timer,
            exit,
            timed_out,
            ..
        } in &system.timers
        {
            if *timed_out {
                found.push(format!(
                    "the timer {timer} of {name} reached its limit and was ended"
                ));
            } else if let Some(exit) = exit.filter(|exit| *exit != 0) {
                found.push(format!(
                    "the timer {timer} of {name} ended with exit code {exit}"
                ));
            }
        }
        if running.is_some() && !system.timers.is_empty() && !system.watched {
            found.push(format!("nobody runs the timers of {name}"));
        }
        if !system.registered {
            found.push(format!("the chroot {name} was changed by somebody else"));
        }
        let mut shown = system.generations.iter();
        let active = shown.find(|one| one.state == Place::Active);
        if let Some(why) = active.and_then(|one| one.barred.as_ref()) {
            found.push(format!("the active generation of {name} is barred: {why}"));
        }
        if let Some(why) = &system.failed_hooks {
            found.push(format!("hooks of {name} failed: {why}"));
        }
        if let Some(failed) = &system.failed_release {
            let FailedRelease { seq, why, .. } = failed;
            found.push(format!("release {seq} of {name} did not work: {why}"));
        }
    }
    found
}

fn show(ui: &Ui, report: &Report) {
    match (&report.environment, &report.repository) {
        (Some(environment), Some(repository)) => {
            ui.data(&format!("environment {environment} from {repository}"));
        }
        _ => ui.data("this node follows no environment yet"),
    }
    let name = called(report.node.as_ref(), report.group.as_ref());
    ui.data(&format!("node        {name}"));
    if let Some(metadata) = &report.metadata {
        ui.data(&format!(
            "metadata    of {} ({} ago)",
            metadata.refreshed,
            age(metadata.age_seconds)
        ));
        if let (Some(at), Some(role)) = (&metadata.expires, metadata.expires_first) {
            ui.data(&format!("expires     {at} ({role})"));
        }
    }
    for pending in report.pending.iter().chain(&report.more_pending) {
        let word = pending.operation.name();
        ui.data(&format!(
            "pending     {word} of {} since {}",
            pending.system, pending.since
        ));
    }
    for system in &report.systems {
        ui.data(&format!("\n{}", system.name));
        ui.data(&format!(
            "  image      {} {}",
            system.image_name, system.image
        ));
        ui.data(&format!(
            "  release    {} of {}, generation {}, installed {}",
            system.seq, system.environment, system.generation, system.installed
        ));
        let free = system.free_bytes.map_or_else(String::new, |bytes| {
            format!(", {} MB free", bytes / 1_000_000)
        });
        ui.data(&format!("  target     {}{free}", system.target));
        for one in &system.generations {
            show_generation(ui, one);
        }
        ui.data(&format!("  directory  {}", system.directory));
        for one in &system.data {
            ui.data(&format!(
                "  {:<10} {} in {}",
                one.kind, one.path, one.directory
            ));
        }
        if !system.registered {
            ui.data("  chroot     does not point at this generation; install again");
        }
        if let Some(why) = &system.failed_hooks {
            ui.data(&format!(
                "  hooks      {why}; they run again with: imgnode upgrade {}",
                system.name
            ));
        }
        if let Some(failed) = &system.failed_release {
            ui.data(&format!(
                "  failed     release {} of {} did not work: {}",
                failed.seq, failed.environment, failed.why
            ));
        }
        for timer in &system.timers {
            show_timer(ui, timer);
        }
        if !system.timers.is_empty() && !system.watched {
            ui.data(&format!(
                "  timers     nobody runs them: imgnode run {0}, or systemctl start imgnode@{0}",
                system.name
            ));
        }
        match &system.session {
            None => ui.data("  session    none"),
            Some(session) if session.state == State::Dead => {
                ui.data(&format!(
                    "  session    {} is dead; imgnode start {} begins a new one",
                    session.id, system.name
                ));
            }
            Some(session) => {
                let pids: Vec<_> = session
                    .processes
                    .iter()
                    .map(|process| process.pid.to_string())
                    .collect();
                ui.data(&format!(
                    "  session    {} since {}, generation {}",
                    session.id, session.since, session.generation
                ));
                ui.data(&format!("  processes  {}", pids.join(" ")));
                for process in &session.further {
                    let state = match process.pid {
                        Some(pid) => format!("process {pid}"),
                        None => "not running".to_owned(),
                    };
                    ui.data(&format!("  {:<10} {state}", process.name));
                }
                if session.state == State::Broken {
                    ui.data(&format!(
                        "  broken     its main process ended; imgnode stop {0}, then start {0}",
                        system.name
                    ));
                }
                for address in &session.listen {
                    ui.data(&format!("  listens    {address}"));
                }
            }
        }
        for session in &system.ending {
            ui.data(&format!(
                "  ending     {}, generation {}, {} processes left",
                session.id,
                session.generation,
                session.processes.len()
            ));
        }
    }
}

fn show_timer(ui: &Ui, timer: &Timer) {
    let mut line = format!("  timer      {} {}", timer.name, timer.schedule);
    // Writing to a String cannot fail.
    let _ = match (&timer.started, timer.pid, timer.exit) {
        (None, ..) => write!(line, ", has not run yet"),
        (Some(at), Some(pid), _) => write!(line, ", runs since {at}, process {pid}"),
        (Some(at), None, _) if timer.timed_out => {
            write!(line, ", ran at {at}, reached its limit and was ended")
        }
        (Some(at), None, Some(exit)) => write!(line, ", ran at {at}, exit code {exit}"),
        (Some(at), None, None) => write!(line, ", ran at {at}, nobody saw it end"),
    };
    if timer.timed_out && timer.pid.is_some() {
        line += ", the run before reached its limit and was ended";
    }
    if let Some(next) = &timer.next {
        let _ = write!(line, ", next at {next}");
    }
    ui.data(&line);
}

fn show_generation(ui: &Ui, one: &Generation) {
    let word = match one.state {
        Place::Active => {
            if let Some(why) = &one.barred {
                ui.data(&format!("  barred     {why}"));
            }
            return;
        }
        Place::Previous => "previous",
        Place::Kept => "also here",
    };
    let barred = one
        .barred
        .as_ref()
        .map_or_else(String::new, |why| format!("; barred: {why}"));
    let used = if one.sessions.is_empty() {
        String::new()
    } else {
        format!("; in use by {}", one.sessions.join(", "))
    };
    ui.data(&format!(
        "  {word:<10} generation {}, release {} of {}{used}{barred}",
        one.number, one.seq, one.environment
    ));
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
