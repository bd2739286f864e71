//! `imgnode status`: what is installed, what runs, how old the metadata is.

use std::net::SocketAddr;
use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::host::schroot;
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::session;
use ::verify::session::processes::Process;
use ::verify::state::now;
use ::verify::state::record::{self, SystemRecord};
use ::verify::system::SystemName;
use ::verify::trust;
use serde::Serialize;
use store::manifest::DirectoryKind;

use crate::cli::report::{JSON_SCHEMA, time};
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report {
    schema: u32,
    environment: Option<String>,
    repository: Option<String>,
    metadata: Option<Metadata>,
    /// The oldest operation that is under way, or was interrupted.
    pending: Option<Pending>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_pending: Vec<Pending>,
    systems: Vec<System>,
}

#[derive(Serialize)]
struct Metadata {
    refreshed: String,
    age_seconds: u64,
}

#[derive(Serialize)]
struct Pending {
    operation: journal::Operation,
    system: String,
    since: String,
}

#[derive(Serialize)]
struct System {
    #[serde(rename = "system")]
    name: String,
    image_name: String,
    image: String,
    environment: String,
    seq: u64,
    generation: u64,
    previous: Option<u64>,
    target: String,
    /// Bytes free for further generations; nothing when the target cannot say.
    free_bytes: Option<u64>,
    directory: String,
    /// Directories of data that the active generation has from the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<Data>,
    installed: String,
    /// Whether the chroot of this name points at the active generation.
    registered: bool,
    /// The hooks that failed, and run again with the next install or switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_hooks: Option<String>,
    /// The newest release that was tried and did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_release: Option<FailedRelease>,
    session: Option<Session>,
    /// Sessions that have no traffic any more and end with their last process.
    ending: Vec<Session>,
    generations: Vec<Generation>,
}

#[derive(Serialize)]
struct Data {
    kind: &'static str,
    /// Its path in a session.
    path: String,
    /// Its path on the node.
    directory: String,
}

#[derive(Serialize)]
struct Generation {
    #[serde(rename = "generation")]
    number: u64,
    image: String,
    environment: String,
    seq: u64,
    installed: String,
    directory: String,
    state: Place,
    /// Sessions of schroot that show it, whoever began them.
    sessions: Vec<String>,
    /// The reason why it may not become active again.
    #[serde(skip_serializing_if = "Option::is_none")]
    barred: Option<String>,
}

#[derive(Serialize)]
struct FailedRelease {
    environment: String,
    seq: u64,
    why: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Active,
    Previous,
    Kept,
}

#[derive(Serialize)]
struct Session {
    id: String,
    generation: u64,
    since: String,
    /// The addresses it listens on, with sockets that were passed to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<SocketAddr>,
    state: State,
    processes: Vec<Process>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Some of its processes live.
    Running,
    /// Its main process ended, others live on.
    Broken,
    /// Nothing lives in it; the next start or stop cleans it up.
    Dead,
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    only: Option<&SystemName>,
    json: bool,
) -> Result<ExitCode> {
    let report = gather(node, only)?;
    if json {
        ui.json(&report);
    } else {
        show(ui, &report);
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(node: &Node<'_>, only: Option<&SystemName>) -> Result<Report> {
    let config = node.state.config()?;
    let names = match only {
        Some(one) => vec![node.state.installed(one)?.system],
        None => node.state.systems()?,
    };
    let mut systems = Vec::new();
    for name in names {
        if let Some(record) = node.state.system(&name)? {
            systems.push(system(node, &record)?);
        }
    }
    let refreshed = trust::last_refresh(node)?;
    let mut pending = journal::unfinished(node)?.into_iter().map(|left| Pending {
        operation: left.operation,
        system: left.system.to_string(),
        since: time(left.started),
    });
    Ok(Report {
        schema: JSON_SCHEMA,
        environment: config.as_ref().map(|config| config.environment.to_string()),
        repository: config.as_ref().map(|config| config.repository.to_string()),
        metadata: refreshed.map(|at| Metadata {
            refreshed: time(at),
            age_seconds: now().saturating_sub(at),
        }),
        pending: pending.next(),
        more_pending: pending.collect(),
        systems,
    })
}

fn system(node: &Node<'_>, record: &SystemRecord) -> Result<System> {
    let active = record.active();
    let describe = |session: session::Session| {
        let processes = session.processes();
        Session {
            state: if processes.is_empty() {
                State::Dead
            } else if session.is_alive() {
                State::Running
            } else {
                State::Broken
            },
            id: session.id,
            generation: session.generation,
            since: time(session.started),
            listen: session.listen,
            processes,
        }
    };
    let session = session::read(node, &record.system)?;
    let mut ending = session::endings(node, &record.system)?;
    // A note of it may be left by a kill.
    ending.retain(|one| session.as_ref().is_none_or(|current| current.id != one.id));
    Ok(System {
        name: record.system.to_string(),
        image_name: record.image_name.to_string(),
        image: active.image.to_string(),
        environment: active.environment.to_string(),
        seq: active.seq,
        generation: active.number,
        previous: record.previous,
        target: record.target.to_string(),
        free_bytes: {
            let context = node.context(&record.system);
            record.target.driver().free(&context).ok()
        },
        directory: active.directory.display().to_string(),
        data: data(node, record)?,
        installed: time(active.installed),
        registered: node.schroot.registered(&record.system)?.as_deref() == Some(&active.directory),
        failed_hooks: journal::failed_hooks(node, &record.system)?.map(|failed| failed.why),
        failed_release: record.failed.as_ref().map(|failed| FailedRelease {
            environment: failed.environment.to_string(),
            seq: failed.seq,
            why: failed.why.clone(),
        }),
        session: session.map(describe),
        ending: ending.into_iter().map(describe).collect(),
        generations: generations(record)?,
    })
}

fn data(node: &Node<'_>, record: &SystemRecord) -> Result<Vec<Data>> {
    let manifest = node.state.manifest(record.active().manifest)?;
    let Some(run) = manifest.run else {
        return Ok(Vec::new());
    };
    // A wrong file is an error of whoever starts the system.
    let file = node.provisions.read(&record.system).unwrap_or_default();
    let one = |(kind, path): (DirectoryKind, &str)| {
        let own = || session::data_directory(node, &record.system, kind, path);
        let bound = file.bind.get(path).map(|bind| bind.path.clone());
        Data {
            kind: kind.name(),
            path: path.to_owned(),
            directory: bound.unwrap_or_else(own).display().to_string(),
        }
    };
    Ok(run.needs.directories().map(one).collect())
}

fn generations(record: &SystemRecord) -> Result<Vec<Generation>> {
    let describe = |one: &record::Generation| {
        Ok(Generation {
            number: one.number,
            image: one.image.to_string(),
            environment: one.environment.to_string(),
            seq: one.seq,
            installed: time(one.installed),
            directory: one.directory.display().to_string(),
            state: match one.number {
                number if number == record.active => Place::Active,
                number if Some(number) == record.previous => Place::Previous,
                _ => Place::Kept,
            },
            // Only root may look at schroot's sessions.
            sessions: schroot::users_of(&one.directory).unwrap_or_default(),
            barred: one.barred.clone(),
        })
    };
    record.generations.iter().map(describe).collect()
}

fn show(ui: &Ui, report: &Report) {
    match (&report.environment, &report.repository) {
        (Some(environment), Some(repository)) => {
            ui.data(&format!("environment {environment} from {repository}"));
        }
        _ => ui.data("this node follows no environment yet"),
    }
    if let Some(metadata) = &report.metadata {
        ui.data(&format!(
            "metadata    of {} ({} ago)",
            metadata.refreshed,
            age(metadata.age_seconds)
        ));
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
