//! Running a system: schroot sessions.
//!
//! ```text
//! start    note the session -> schroot --begin-session -> run `start` detached -> watch it for a moment
//! handover begin a session of another generation -> check it -> move the traffic -> end the old one
//! reload   run `reload` in the session
//! watch    wait until it ends, whoever ends it
//! stop     run `stop` in the session -> wait -> end what remains -> schroot --end-session -> forget
//! ```
//! The session is noted before it begins, so that a killed `start` is found and cleaned up. What
//! runs is not noted anywhere: it is looked up in /proc each time (see `process`), and a session
//! that schroot no longer knows, or whose mount is gone, as after a reboot, is stale and is
//! forgotten by the next command.
//!
//! schroot itself can only become users that the *host* knows. The users of an image are the
//! image's own, so schroot enters as root and `setpriv` of the image takes the numbers that the
//! signed manifest gives.

mod app;
mod handover;
mod health;
mod log;
pub mod processes;
mod scope;
pub mod sockets;
mod watch;

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use self::app::App;
pub(crate) use self::handover::take_over;
pub use self::handover::{Handover, endings};
pub use self::log::bound as bound_log;
use self::processes::Process;
use self::scope::Scope;
use self::sockets::Listener;
pub use self::watch::{Fate, Look, Watch};
use crate::atomic_file;
use crate::error::{Context, Error, Kind, Result};
use crate::event::Event;
use crate::host::commands::{Run, describe, has_ended, last_lines};
use crate::host::schroot::{schroot, sessions};
use crate::install::local_changes;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::state::{Lock, SCHEMA, check_schema, now};
use crate::storage::Desk;
use crate::system::SystemName;

/// How long the first process of a session may take to appear.
const APPEAR: Duration = Duration::from_secs(20);

/// The session that was begun for a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Version of this file.
    pub schema: u32,
    /// Whose it is.
    pub system: SystemName,
    /// Its identifier in schroot.
    pub id: String,
    /// The generation that it shows.
    pub generation: u64,
    /// When it was begun, in seconds since 1970.
    pub started: u64,
    /// Where it listens with sockets that were passed to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<SocketAddr>,
    /// Words that were added to the start command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
}

/// How a system is started. It is remembered, for the next time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// Version of this file.
    schema: u32,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Words added to the start command.
    pub words: Vec<String>,
    /// Whether somebody has asked it to stop since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
}

impl How {
    /// With sockets of these addresses, and these words more.
    pub fn new(listen: Vec<SocketAddr>, words: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            listen,
            words,
            stopped: false,
        }
    }

    /// As it was started last.
    pub fn remembered(node: &Node<'_>, system: &SystemName) -> Result<Self> {
        let path = node.state.start_file(system);
        let Some(how) = atomic_file::read_json::<Self>(&path)? else {
            return Ok(Self::new(Vec::new(), Vec::new()));
        };
        check_schema(&path, how.schema)?;
        Ok(how)
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a started app must stay alive before `start` returns.
    pub settle: Duration,
    /// How long the app's own `stop` or `reload` may run.
    pub command: Duration,
    /// How long processes may take to end before they are killed.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            command: Duration::from_secs(60),
            end: Duration::from_secs(30),
        }
    }
}

/// What `stop` had to do.
#[derive(Debug, Default)]
pub struct Stopped {
    /// Processes that did not end by themselves.
    pub killed: Vec<Process>,
}

impl Session {
    /// The mount point of the session: the root of its processes.
    pub fn root(&self) -> PathBuf {
        Path::new("/run/schroot/mount").join(&self.id)
    }

    /// How it was started.
    fn how(&self) -> How {
        How::new(self.listen.clone(), self.words.clone())
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<Process> {
        processes::inside(&self.root())
    }

    /// Whether schroot knows it and its tree is mounted.
    pub fn exists(&self, node: &Node<'_>) -> Result<bool> {
        let known = sessions(node.observer)?.contains(&self.id);
        Ok(known && is_mounted(&self.root())?)
    }
}

/// The session file of a system.
pub fn read(node: &Node<'_>, system: &SystemName) -> Result<Option<Session>> {
    let path = node.state.session_file(system);
    let session: Option<Session> = atomic_file::read_json(&path)?;
    if let Some(session) = &session {
        check_schema(&path, session.schema)?;
        // The identifier becomes a path and a word for schroot.
        if session.system != *system || session.id.parse::<SystemName>().is_err() {
            return Err(Error::failed(format!("{} is damaged", path.display()))
                .cause("it describes another system")
                .hint("look at `schroot --list --all-sessions`, then move the file away"));
        }
    }
    Ok(session)
}

/// Begins a session and starts the app in it.
pub fn start(
    node: &Node<'_>,
    lock: &Lock,
    record: &SystemRecord,
    how: &How,
    patience: Patience,
) -> Result<Session> {
    let generation = record.active();
    let app = App::load(node, record, generation.number)?;
    if app.service.start.is_empty() {
        return Err(Error::usage(format!(
            "the image of {} has no start command",
            record.system
        )));
    }
    sweep(node, lock, &record.system, patience)?;
    if let Some(session) = read(node, &record.system)? {
        let pids: Vec<_> = session
            .processes()
            .iter()
            .map(|process| process.pid.to_string())
            .collect();
        return Err(
            Error::failed(format!("{} is already running", record.system))
                .cause(format!(
                    "session {}, processes {}",
                    session.id,
                    pids.join(" ")
                ))
                .hint(format!(
                    "imgnode stop {}, or imgnode reload {}",
                    record.system, record.system
                )),
        );
    }
    let mut listeners = Vec::new();
    for address in &how.listen {
        let listener = Listener::open(*address, &how.listen);
        listeners.push(listener.map_err(|error| busy(*address, &error))?);
    }
    let session = prepare(node, record, how.clone())?;
    atomic_file::write_json(&node.state.session_file(&record.system), &session)?;
    let started = bring_up(node, &session, &app, &listeners, patience);
    if let Err(error) = started {
        end(node, &session, patience)?;
        return Err(error);
    }
    atomic_file::write_json(&node.state.start_file(&record.system), &session.how())?;
    Ok(session)
}

fn busy(address: SocketAddr, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; see those it has: ip address".to_owned()
        }
        _ => format!("see who does: ss -ltnp 'sport = {}'", address.port()),
    };
    Error::failed(format!("cannot listen on {address}"))
        .source(error)
        .hint(hint)
}

/// A session of the active generation, not begun.
fn prepare(node: &Node<'_>, record: &SystemRecord, how: How) -> Result<Session> {
    let generation = record.active();
    if node.schroot.registered(&record.system)?.as_deref() != Some(&generation.directory) {
        return Err(Error::refused(format!(
            "the chroot {} does not point at generation {}",
            record.system, generation.number
        ))
        .cause(format!(
            "{} was changed by somebody else",
            node.schroot.file(&record.system).display()
        ))
        .hint("install the system again"));
    }
    Ok(Session {
        schema: SCHEMA,
        system: record.system.clone(),
        id: fresh_id(record),
        generation: generation.number,
        started: now(),
        listen: how.listen,
        words: how.words,
    })
}

/// Begins a session, starts the app in it, and waits until it works.
fn bring_up(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    listeners: &[Listener],
    patience: Patience,
) -> Result<()> {
    begin(node, session)?;
    let share = |listener: &Listener| listener.socket.try_clone();
    let sockets = listeners.iter().map(share).collect::<std::io::Result<_>>();
    let sockets = sockets.context(|| "cannot share a socket")?;
    let run = app.start(session, sockets)?;
    launch(node, session, run, patience)?;
    health::wait(node, session, app, listeners)
}

fn begin(node: &Node<'_>, session: &Session) -> Result<()> {
    let chroot = format!("chroot:{}", session.system);
    schroot([
        "--begin-session",
        "--session-name",
        &session.id,
        "--chroot",
        &chroot,
    ])
    .run(node.observer)
    .map_err(|error| {
        error.under(format!(
            "schroot cannot begin a session of {}",
            session.system
        ))
    })?;
    if is_mounted(&session.root())? {
        return Ok(());
    }
    Err(Error::failed(format!(
        "schroot began the session {} but mounted nothing at {}",
        session.id,
        session.root().display()
    )))
}

fn launch(node: &Node<'_>, session: &Session, run: Run, patience: Patience) -> Result<()> {
    let (log, offset) = log::open(node, &session.system)?;
    let scope = Scope::of(session);
    let run = match &scope {
        Some(scope) => scope.around(run),
        None => run,
    };
    let mut child = run.detach(&log, node.observer)?;
    let mut placed = false;
    let begun = Instant::now();
    let mut seen: Option<Instant> = None;
    loop {
        node.go_on()?;
        let ended = has_ended(&child).context(|| "cannot wait for schroot")?;
        // As long as it was not waited for, the kernel says where it was.
        placed = placed || scope.as_ref().is_none_or(|scope| scope.holds(child.id()));
        let ended = if ended {
            child.try_wait().context(|| "cannot wait for schroot")?
        } else {
            None
        };
        let alive = !session.processes().is_empty();
        if alive {
            seen.get_or_insert_with(Instant::now);
        }
        let dead = match ended {
            Some(status) if !status.success() => Some(describe(status)),
            // A command that put itself into the background and left something behind is fine.
            Some(_) if !alive => Some("ended at once".to_owned()),
            None if seen.is_none() && begun.elapsed() > APPEAR => {
                Some("did not come to life".to_owned())
            }
            None if seen.is_some() && !alive && begun.elapsed() > APPEAR => {
                Some("has no process".to_owned())
            }
            _ => None,
        };
        if let Some(how) = dead {
            let _ = child.kill();
            let _ = child.wait();
            let system = &session.system;
            let mut error = Error::failed(if placed {
                format!("the app of {system} {how}")
            } else {
                format!("systemd gives the app of {system} no scope: systemd-run {how}")
            });
            for line in last_lines(&log::since(node, &session.system, offset), 10) {
                error = error.cause(line);
            }
            return Err(error.hint(format!("imgnode logs {}", session.system)));
        }
        if seen.is_some_and(|since| since.elapsed() >= patience.settle) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(25));
    }
}

/// Tells the app to reload.
pub fn reload(node: &Node<'_>, record: &SystemRecord, patience: Patience) -> Result<Session> {
    let session = running(node, &record.system)?;
    let app = App::load(node, record, session.generation)?;
    local_changes::show(node, record, session.generation);
    if app.service.reload.is_empty() {
        processes::signal_first(&session.root(), Signal::HUP);
    } else {
        let run = app.enter(&session, &app.service.reload)?;
        // It may begin what goes on.
        let run = match Scope::beside(&session) {
            Some(scope) => scope.around(run),
            None => run,
        };
        run.timeout(patience.command)
            .run(node.observer)
            .map_err(|error| error.under(format!("cannot reload {}", record.system)))?;
    }
    if session.processes().is_empty() {
        return Err(
            Error::failed(format!("{} did not survive its reload", record.system))
                .hint(format!("imgnode logs {}", record.system)),
        );
    }
    Ok(session)
}

/// Stops the app and ends its session, and those that should have ended before. What will not go is
/// named; `force` kills it.
pub fn stop(
    node: &Node<'_>,
    record: &SystemRecord,
    patience: Patience,
    force: bool,
) -> Result<Stopped> {
    let mut sessions = handover::endings(node, &record.system)?;
    sessions.extend(read(node, &record.system)?);
    if sessions.is_empty() {
        return Err(Error::failed(format!("{} is not running", record.system)));
    }
    // On a full disk it is more important that it stops.
    if let Err(error) = note_stop(node, record) {
        node.observer.event(Event::Note(&format!(
            "{error}; who watches {} will take it for dead",
            record.system
        )));
    }
    let mut stopped = Stopped::default();
    for session in sessions {
        if session.exists(node)? && !session.processes().is_empty() {
            ask_to_stop(node, record, &session, patience)?;
            processes::signal_all(&session.root(), Signal::TERM);
            let left = processes::wait_empty(&session.root(), patience.end);
            if !left.is_empty() && !force {
                return Err(unwilling(&session, &left));
            }
        }
        stopped.killed.extend(end(node, &session, patience)?.killed);
    }
    Ok(stopped)
}

/// Remembers that it was asked to stop, for who watches it.
fn note_stop(node: &Node<'_>, record: &SystemRecord) -> Result<()> {
    let how = match read(node, &record.system)? {
        Some(session) => session.how(),
        None => How::remembered(node, &record.system)?,
    };
    let how = How {
        stopped: true,
        ..how
    };
    atomic_file::write_json(&node.state.start_file(&record.system), &how)
}

/// Remembers that it is to run, whoever asked it to stop before.
pub fn take_on(node: &Node<'_>, _: &Lock, session: &Session) -> Result<()> {
    atomic_file::write_json(&node.state.start_file(&session.system), &session.how())
}

/// A session with processes that do not end.
fn unwilling(session: &Session, left: &[Process]) -> Error {
    let mut error = Error::new(
        Kind::Busy,
        format!("the session {} will not end", session.id),
    );
    for process in left {
        error = error.cause(format!("{}: {}", process.pid, process.command));
    }
    error.hint(format!(
        "wait and try again, or kill these: imgnode stop {} --force",
        session.system
    ))
}

fn ask_to_stop(
    node: &Node<'_>,
    record: &SystemRecord,
    session: &Session,
    patience: Patience,
) -> Result<()> {
    // Whatever the app wants: a session can always be ended.
    let app = match App::load(node, record, session.generation) {
        Ok(app) => app,
        Err(error) => {
            node.observer
                .event(Event::Note(&format!("{error}; ending its processes")));
            return Ok(());
        }
    };
    if app.service.stop.is_empty() {
        processes::signal_first(&session.root(), Signal::TERM);
        processes::wait_empty(&session.root(), patience.end);
        return Ok(());
    }
    let run = match app.enter(session, &app.service.stop) {
        Ok(run) => run.timeout(patience.command),
        Err(error) => {
            node.observer
                .event(Event::Note(&format!("{error}; ending its processes")));
            return Ok(());
        }
    };
    let ended = run.finish(node.observer)?;
    if ended.success() {
        processes::wait_empty(&session.root(), patience.end);
    } else {
        node.observer.event(Event::Note(&format!(
            "{}; ending its processes",
            ended.error()
        )));
    }
    Ok(())
}

/// Ends a session: its processes, its mounts, its file.
fn end(node: &Node<'_>, session: &Session, patience: Patience) -> Result<Stopped> {
    let killed = processes::end_all(&session.root(), patience.end.min(Duration::from_secs(5)));
    if sessions(node.observer)?.contains(&session.id) {
        let words = ["--end-session", "--chroot", &session.id];
        if schroot(words).run(node.observer).is_err() {
            // The mount may be gone already, as after a reboot: then schroot must be told to go on.
            let forced = schroot(words).arg("--force").run(node.observer);
            // The schroot of a command that was killed may have been at it too.
            if let Err(error) = forced
                && sessions(node.observer)?.contains(&session.id)
            {
                let root = session.root();
                return Err(error
                    .under(format!("schroot cannot end the session {}", session.id))
                    .hint(format!("see what holds it: fuser -vm {}", root.display())));
            }
        }
    }
    if let Some(record) = node.state.system(&session.system)? {
        let desk = Desk::of(node, &session.system);
        record.target.keeper().sweep(&desk, &session.id)?;
    }
    forget(node, session)?;
    Ok(Stopped { killed })
}

fn forget(node: &Node<'_>, session: &Session) -> Result<()> {
    if read(node, &session.system)?.is_some_and(|current| current.id == session.id) {
        atomic_file::remove(&node.state.session_file(&session.system))?;
    }
    atomic_file::remove(&node.state.ending_file(&session.id))
}

/// Forgets a session of `system` that is over: dead app, rebooted machine, killed `start`.
pub fn sweep(node: &Node<'_>, lock: &Lock, system: &SystemName, patience: Patience) -> Result<()> {
    handover::sweep(node, lock, system, patience)?;
    let Some(session) = read(node, system)? else {
        return Ok(());
    };
    if session.exists(node)? && !session.processes().is_empty() {
        return Ok(());
    }
    node.observer.event(Event::Note(&format!(
        "cleaning up after the dead session {}",
        session.id
    )));
    end(node, &session, patience).map(|_| ())
}

/// The session of a system in which something runs.
pub fn running(node: &Node<'_>, system: &SystemName) -> Result<Session> {
    match read(node, system)? {
        Some(session) if !session.processes().is_empty() => Ok(session),
        _ => Err(Error::failed(format!("{system} is not running"))
            .hint(format!("imgnode start {system}"))),
    }
}

/// `SYSTEM-GENERATION-TIME`, within what schroot allows.
fn fresh_id(record: &SystemRecord) -> String {
    let nanos = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos());
    let unique = format!("-{}-{:x}", record.active, nanos % (1 << 48));
    let name = record.system.as_str();
    format!("{}{unique}", &name[..name.len().min(64 - unique.len())])
}

fn is_mounted(root: &Path) -> Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .context(|| "cannot read /proc/self/mountinfo")?;
    let root = root.to_string_lossy();
    Ok(table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(&*root)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::tests::sample;

    #[test]
    fn identifiers_are_distinct_and_fit_schroot() {
        let record = sample("dir:/srv/images", &"x".repeat(64), 3);
        let (one, two) = (fresh_id(&record), fresh_id(&record));
        assert_ne!(one, two);
        assert!(
            one.len() <= 64 && one.parse::<SystemName>().is_ok(),
            "{one}"
        );
    }

    #[test]
    fn nothing_is_mounted_where_nothing_is() {
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/run/schroot/mount/none")).unwrap());
    }
}
