//! What there is to say about this node, as data.

use ::verify::error::Result;
use ::verify::host::schroot;
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::session;
use ::verify::session::processes::Process;
use ::verify::state::now;
use ::verify::state::record::{self, SystemRecord};
use ::verify::system::SystemName;
use ::verify::trust::{self, LogEnd, TargetsFile};
use serde::Serialize;
use store::manifest::DirectoryKind;
use store::name::NodeName;

use crate::cli::report::{JSON_SCHEMA, time};

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) environment: Option<String>,
    pub(super) repository: Option<String>,
    /// What this node is called, and the group that somebody has put it into.
    pub(super) node: Option<NodeName>,
    pub(super) group: Option<NodeName>,
    pub(super) metadata: Option<Metadata>,
    /// The oldest operation that is under way, or was interrupted.
    pub(super) pending: Option<Pending>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) more_pending: Vec<Pending>,
    pub(super) systems: Vec<System>,
}

#[derive(Serialize)]
pub(super) struct Metadata {
    pub(super) refreshed: String,
    pub(super) age_seconds: u64,
    /// When the first of its files runs out.
    pub(super) expires: Option<String>,
    /// That file's role.
    pub(super) expires_first: Option<&'static str>,
    /// Where the environment's log ends, by what this node was shown.
    pub(super) log: Option<LogEnd>,
    /// The list of releases that this node was shown.
    pub(super) targets: Option<TargetsFile>,
    #[serde(skip)]
    pub(super) expires_at: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Pending {
    pub(super) operation: journal::Operation,
    pub(super) system: String,
    pub(super) since: String,
}

#[derive(Serialize)]
pub(super) struct System {
    #[serde(rename = "system")]
    pub(super) name: String,
    pub(super) image_name: String,
    pub(super) image: String,
    pub(super) environment: String,
    pub(super) seq: u64,
    pub(super) generation: u64,
    pub(super) previous: Option<u64>,
    pub(super) target: String,
    /// Bytes free for further generations; nothing when the target cannot say.
    pub(super) free_bytes: Option<u64>,
    pub(super) directory: String,
    /// Directories of data that the active generation has from the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) data: Vec<Data>,
    pub(super) installed: String,
    /// Whether the chroot of this name points at the active generation.
    pub(super) registered: bool,
    /// The hooks that failed, and run again with the next install or switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed_hooks: Option<String>,
    /// The newest release that was tried and did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed_release: Option<FailedRelease>,
    /// Whether an `imgnode run` watches it.
    pub(super) watched: bool,
    /// Jobs that run from time to time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) timers: Vec<Timer>,
    pub(super) session: Option<Session>,
    /// Sessions that have no traffic any more and end with their last process.
    pub(super) ending: Vec<Session>,
    pub(super) generations: Vec<Generation>,
}

#[derive(Serialize)]
pub(super) struct Data {
    pub(super) kind: &'static str,
    /// Its path in a session.
    pub(super) path: String,
    /// Its path on the node.
    pub(super) directory: String,
}

#[derive(Serialize)]
pub(super) struct Generation {
    #[serde(rename = "generation")]
    pub(super) number: u64,
    pub(super) image: String,
    pub(super) environment: String,
    pub(super) seq: u64,
    pub(super) installed: String,
    pub(super) directory: String,
    pub(super) state: Place,
    /// Sessions of schroot that show it, whoever began them.
    pub(super) sessions: Vec<String>,
    /// The reason why it may not become active again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) barred: Option<String>,
}

#[derive(Serialize)]
pub(super) struct FailedRelease {
    pub(super) environment: String,
    pub(super) seq: u64,
    pub(super) why: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    Active,
    Previous,
    Kept,
}

#[derive(Serialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) generation: u64,
    pub(super) since: String,
    /// The addresses it listens on, with sockets that were passed to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) listen: Vec<session::Address>,
    pub(super) state: State,
    pub(super) processes: Vec<Process>,
    /// The processes that its image has beside the main one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) further: Vec<Further>,
}

#[derive(Serialize)]
pub(super) struct Timer {
    pub(super) name: String,
    pub(super) schedule: String,
    /// The process, while it runs.
    pub(super) pid: Option<i32>,
    /// When it started last.
    pub(super) started: Option<String>,
    /// The exit code of the last run that ended, if anybody saw it end.
    pub(super) exit: Option<i32>,
    /// Whether that run was ended because it took longer than its limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) timed_out: bool,
    /// When it is to start next.
    pub(super) next: Option<String>,
    #[serde(skip)]
    pub(super) last: session::Last,
}

#[derive(Serialize)]
pub(super) struct Further {
    pub(super) name: String,
    /// Nothing when it does not run.
    pub(super) pid: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Some of its processes live.
    Running,
    /// Its main process ended, others live on.
    Broken,
    /// Nothing lives in it; the next start or stop cleans it up.
    Dead,
}

pub(super) fn gather(node: &Node<'_>, only: Option<&SystemName>) -> Result<Report> {
    let config = node.state.config()?;
    let called = node.state.names()?.or_machine();
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
    let metadata = trust::last_refresh(node)?.map(|at| metadata(node, at));
    let mut pending = journal::unfinished(node)?.into_iter().map(|left| Pending {
        operation: left.operation,
        system: left.system.to_string(),
        since: time(left.started),
    });
    Ok(Report {
        schema: JSON_SCHEMA,
        environment: config.as_ref().map(|config| config.environment.to_string()),
        repository: config.as_ref().map(|config| config.repository.to_string()),
        node: called.name,
        group: called.group,
        metadata,
        pending: pending.next(),
        more_pending: pending.collect(),
        systems,
    })
}

fn metadata(node: &Node<'_>, refreshed: u64) -> Metadata {
    let trusted = trust::trusted_metadata(node);
    let (at, role) = trusted.expires.unzip();
    Metadata {
        refreshed: time(refreshed),
        age_seconds: now().saturating_sub(refreshed),
        expires: at.map(|at| at.to_string()),
        expires_first: role,
        log: trusted.log,
        targets: trusted.targets,
        expires_at: at.map(jiff::Timestamp::as_second),
    }
}

fn system(node: &Node<'_>, record: &SystemRecord) -> Result<System> {
    let active = record.active();
    let describe = |session: session::Session| {
        let processes = session.processes();
        let further = further(node, record, &session).unwrap_or_default();
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
            further,
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
        watched: session::is_watched(node, &record.system)?,
        timers: timers(node, record, session.as_ref())?,
        session: session.map(describe),
        ending: ending.into_iter().map(describe).collect(),
        generations: generations(record)?,
    })
}

/// The timers of what runs, else of the active generation.
fn timers(
    node: &Node<'_>,
    record: &SystemRecord,
    session: Option<&session::Session>,
) -> Result<Vec<Timer>> {
    let shown = session.and_then(|session| record.generation(session.generation));
    let generation = shown.unwrap_or(record.active());
    let run = node.state.manifest(generation.manifest)?.run;
    let all = run.map_or_else(Vec::new, |run| run.timers);
    let one = |one: session::TimerStatus| Timer {
        name: one.name,
        schedule: one.schedule,
        pid: one.pid,
        started: one.last.started.map(time),
        exit: one.last.exit,
        timed_out: one.last.timed_out,
        next: one.next.map(time),
        last: one.last,
    };
    let found = session::timers(node, &record.system, &all)?;
    Ok(found.into_iter().map(one).collect())
}

fn further(
    node: &Node<'_>,
    record: &SystemRecord,
    session: &session::Session,
) -> Option<Vec<Further>> {
    let generation = record.generation(session.generation)?;
    // What cannot be read is an error elsewhere.
    let run = node.state.manifest(generation.manifest).ok()?.run?;
    let all = session::further(&run.processes, session).into_iter();
    let one = |one: session::Further| Further {
        name: one.label,
        pid: one.pid,
    };
    Some(all.map(one).collect())
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
