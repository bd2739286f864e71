//! Jobs that run from time to time: `[[timer]]` of a recipe.
//!
//! `imgnode run` starts them in the session that runs, and the operator by hand. When each ran last is
//! noted in timers/ of the state directory, which only the holder of the system's lock writes; whether
//! it runs is looked up as for other processes (see [`super::seen`]), also in sessions that are about
//! to end, so it never runs twice at once. A time at which nobody was there to start it is made up for
//! once. Times of day are those of UTC: there is no hour that is skipped or comes twice.
//!
//! One that runs for longer than its `limit` is asked to end, then killed with all that it began. How long
//! it runs the kernel says, which counts on whatever somebody does to the clock, and whoever watches.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use store::manifest::{Timer, duration};

use super::app::App;
use super::further::{detach, kill, tell};
use super::processes::age_of;
use super::record::{Session, endings, of_commands, read};
use super::seen::{self, Seen};
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::host::commands::describe;
use crate::node::Node;
use crate::state::{Lock, now};
use crate::system::SystemName;

/// The exit code of a job that ran for longer than its limit, as timeout(1) has it.
pub(super) const TIMED_OUT: i32 = 124;

/// How long the end of a job by hand waits for the lock, to be noted.
const PATIENCE: Duration = Duration::from_secs(60);

/// A timer as an operator sees it. Moments are seconds since 1970.
#[derive(Clone, Debug)]
pub struct TimerStatus {
    /// Its name.
    pub name: String,
    /// When it starts, in words.
    pub schedule: String,
    /// The process, while it runs.
    pub pid: Option<i32>,
    /// How it ran last.
    pub last: Last,
    /// When it is to start next, once somebody has looked at it.
    pub next: Option<u64>,
}

/// How a timer ran last. Moments are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// The moment from which the next time is counted.
    since: u64,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Whether its end was not noted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    underway: bool,
    /// When it ended, or the run before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// The exit code of the run that ended then, if somebody saw it end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Whether that run was ended because it took longer than its limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

impl Last {
    fn begin(&mut self, now: u64) {
        self.started = Some(now);
        self.underway = true;
    }

    fn end(&mut self, exit: Option<i32>) {
        self.underway = false;
        self.ended = Some(now());
        self.exit = exit;
        self.timed_out = false;
    }

    fn end_at_limit(&mut self) {
        self.end(Some(TIMED_OUT));
        self.timed_out = true;
    }
}

/// The file of a system.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    schema: u32,
    timers: BTreeMap<String, Last>,
}

impl Noted {
    fn of(node: &Node<'_>, system: &SystemName) -> Result<Self> {
        let path = node.state.timers_file(system);
        let found: Option<Self> = atomic_file::read_json(&path)?;
        let found = found.unwrap_or(Self {
            schema: SCHEMA,
            timers: BTreeMap::new(),
        });
        check_schema(&path, found.schema)?;
        Ok(found)
    }

    fn write(&self, node: &Node<'_>, _: &Lock, system: &SystemName) -> Result<()> {
        atomic_file::write_json(&node.state.timers_file(system), self)
    }
}

/// What the label of a timer's process begins with.
const LABEL: &str = "timer.";

/// The label of a timer's process. No process beside the main one has such a label.
pub(super) fn label(name: &str) -> String {
    format!("{LABEL}{name}")
}

/// What there is of a system's timers, in whichever of its sessions; also what one left behind that has
/// ended.
fn look(node: &Node<'_>, system: &SystemName) -> Result<Vec<(String, Session, Seen)>> {
    let mut sessions = endings(node, system)?;
    sessions.extend(of_commands(node, system)?);
    sessions.extend(read(node, system)?);
    let mut found = Vec::new();
    for session in sessions {
        let all = seen::look(&session.root(), &session.id).into_iter();
        found.extend(all.map(|(label, seen)| (label, session.clone(), seen)));
    }
    Ok(found)
}

/// The processes of a system's timers by label.
fn running(node: &Node<'_>, system: &SystemName) -> Result<BTreeMap<String, Option<i32>>> {
    let all = look(node, system)?.into_iter();
    let those = all.filter(|(_, _, seen)| seen.wrapper.is_some());
    Ok(those
        .map(|(label, _, seen)| (label, seen.main.map(|main| main.pid)))
        .collect())
}

/// What there is to say about timers of a system.
pub fn timers(node: &Node<'_>, system: &SystemName, timers: &[Timer]) -> Result<Vec<TimerStatus>> {
    if timers.is_empty() {
        return Ok(Vec::new());
    }
    let mut noted = Noted::of(node, system)?.timers;
    let running = running(node, system)?;
    let one = |timer: &Timer| {
        let last = noted.remove(&timer.name);
        TimerStatus {
            name: timer.name.clone(),
            schedule: timer.schedule(),
            pid: running.get(&label(&timer.name)).copied().flatten(),
            next: last.as_ref().map(|last| timer.next(last.since)),
            last: last.unwrap_or_default(),
        }
    };
    Ok(timers.iter().map(one).collect())
}

/// Starts the timers of a session that is watched.
#[derive(Debug, Default)]
pub struct Timers {
    /// The identifier of the session, and its timers.
    of: Option<(String, Vec<Timer>)>,
    /// The jobs that we started, by the program that waits for each.
    children: BTreeMap<i32, String>,
    /// How those ended, by timer.
    ended: BTreeMap<String, ExitStatus>,
    /// Jobs that have reached their limit, by the session and the label: the program that waits for each, and
    /// when it was told.
    told: BTreeMap<(String, String), (Option<i32>, Instant)>,
    /// The timers whose job has reached its limit and whose end was not noted yet.
    timed_out: BTreeSet<String>,
    /// The timers of sessions that are about to end.
    older: BTreeMap<String, Vec<Timer>>,
}

impl Timers {
    /// Notes how a child of this process ended.
    pub fn child_ended(&mut self, pid: i32, status: ExitStatus) {
        if let Some(name) = self.children.remove(&pid) {
            self.ended.insert(name, status);
        }
    }

    /// Notes what ended, ends what has reached its limit, and starts what is to start now. `grace` is how long
    /// a job may take to end.
    pub fn look(&mut self, node: &Node<'_>, session: &Session, grace: Duration) -> Result<()> {
        let system = &session.system;
        if self.of.as_ref().is_none_or(|(id, _)| *id != session.id) {
            let app = App::of_session(node, session)?;
            let timers = app.map_or_else(Vec::new, |app| app.service.timers);
            self.of = Some((session.id.clone(), timers));
        }
        let Some((_, timers)) = self.of.clone() else {
            return Ok(());
        };
        let ending = endings(node, system)?;
        self.older
            .retain(|id, _| ending.iter().any(|session| session.id == *id));
        if timers.is_empty() && ending.is_empty() {
            return Ok(());
        }
        let noted = Noted::of(node, system)?.timers;
        let nothing = |timer: &Timer| {
            noted.get(&timer.name).is_some_and(|last| {
                !last.underway && last.since <= now() && timer.next(last.since) > now()
            })
        };
        if timers.iter().all(nothing) && ending.is_empty() && self.told.is_empty() {
            return Ok(());
        }
        let found = look(node, system)?;
        self.bound(node, &found, grace);
        let those = found.iter().filter(|(_, _, seen)| seen.wrapper.is_some());
        let running: BTreeSet<_> = those.map(|(label, ..)| label.clone()).collect();
        if timers
            .iter()
            .all(|timer| nothing(timer) || running.contains(&label(&timer.name)))
        {
            return Ok(());
        }
        // Nobody switches or stops while we look again and start.
        let lock = match node.state.lock(system) {
            Err(error) if error.kind() == Kind::Busy => return Ok(()),
            lock => lock?,
        };
        let current = read(node, system)?.filter(|now| now.id == session.id);
        match current {
            Some(current) if current.is_alive() => self.work(node, &lock, &current, &timers),
            _ => Ok(()),
        }
    }

    /// Ends jobs that have reached their limit, and what is left of those that ended after that.
    fn bound(&mut self, node: &Node<'_>, found: &[(String, Session, Seen)], grace: Duration) {
        let key = |label: &String, session: &Session| (session.id.clone(), label.clone());
        self.told.retain(|told, _| {
            let mut those = found.iter();
            those.any(|(label, session, _)| *told == key(label, session))
        });
        for (label, session, seen) in found {
            let told = key(label, session);
            if let (None, true) = (seen.wrapper, self.told.contains_key(&told)) {
                kill(node, session, label, seen);
                continue;
            }
            let Some(timer) = self.timer_of(node, session, label) else {
                continue;
            };
            let before = self.told.get(&told).filter(|(of, _)| *of == seen.wrapper);
            let before = before.map(|(_, at)| *at);
            if let Some(at) = bound(node, session, (label, &timer), seen, (before, grace)) {
                self.told.insert(told, (seen.wrapper, at));
                self.timed_out.insert(timer.name);
            }
        }
    }

    /// The timer of a label, as the image of its session has it.
    fn timer_of(&mut self, node: &Node<'_>, session: &Session, label: &str) -> Option<Timer> {
        let name = label.strip_prefix(LABEL)?;
        let current = self.of.as_ref().filter(|(id, _)| *id == session.id);
        let timers = match current {
            Some((_, timers)) => timers,
            // What cannot be read bounds nothing, and is an error elsewhere.
            None => self.older.entry(session.id.clone()).or_insert_with(|| {
                let app = App::of_session(node, session).ok().flatten();
                app.map_or_else(Vec::new, |app| app.service.timers)
            }),
        };
        timers.iter().find(|timer| timer.name == name).cloned()
    }

    fn work(
        &mut self,
        node: &Node<'_>,
        lock: &Lock,
        session: &Session,
        timers: &[Timer],
    ) -> Result<()> {
        let system = &session.system;
        let mut noted = Noted::of(node, system)?;
        noted
            .timers
            .retain(|name, _| timers.iter().any(|timer| timer.name == *name));
        let running = running(node, system)?;
        let mut due = Vec::new();
        for timer in timers {
            let now = now();
            let last = noted.timers.entry(timer.name.clone()).or_insert(Last {
                since: now,
                ..Last::default()
            });
            if running.contains_key(&label(&timer.name)) {
                continue;
            }
            if last.underway {
                let status = self.ended.remove(&timer.name);
                if self.timed_out.remove(&timer.name) {
                    last.end_at_limit();
                } else {
                    last.end(status.map(exit_code));
                }
                if last.timed_out {
                    // It was said when it was told to end.
                } else if let Some(failed) = status.filter(|status| !status.success()) {
                    note_failure(node, system, &timer.name, &describe(failed));
                }
            }
            // Somebody put the clock back.
            last.since = last.since.min(now);
            if timer.next(last.since) <= now {
                last.since = now;
                last.begin(now);
                // That of a run by hand is noted by others.
                self.timed_out.remove(&timer.name);
                due.push(timer);
            }
        }
        noted.write(node, lock, system)?;
        for timer in due {
            match begin(node, session, timer) {
                Ok(pid) => {
                    self.children.insert(pid, timer.name.clone());
                }
                Err(error) => {
                    note_failure(
                        node,
                        system,
                        &timer.name,
                        &format!("does not start: {error}"),
                    );
                    if let Some(last) = noted.timers.get_mut(&timer.name) {
                        last.end(Some(127));
                    }
                    noted.write(node, lock, system)?;
                }
            }
        }
        Ok(())
    }
}

/// Looks whether a job has reached its limit: it is told to end, and killed when it still runs after `grace`.
/// Takes and returns when it was told.
pub(super) fn bound(
    node: &Node<'_>,
    session: &Session,
    (label, timer): (&str, &Timer),
    seen: &Seen,
    (told, grace): (Option<Instant>, Duration),
) -> Option<Instant> {
    let limit = timer.limit?;
    let age = seen.wrapper.and_then(age_of)?;
    if age < Duration::from_secs(limit) {
        return None;
    }
    let Some(at) = told else {
        let how = format!("has reached its limit of {} and is ended", duration(limit));
        note_failure(node, &session.system, &timer.name, &how);
        tell(session, seen, Signal::TERM);
        return Some(Instant::now());
    };
    if at.elapsed() >= grace {
        kill(node, session, label, seen);
    }
    Some(at)
}

fn note_failure(node: &Node<'_>, system: &SystemName, name: &str, how: &str) {
    let what = format!("the timer {name} of {system} {how}; imgnode logs {system}");
    node.observer.event(Event::Note(&what));
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = || 128 + status.signal().unwrap_or_default();
    status.code().unwrap_or_else(by_signal)
}

/// Starts the job of a timer beside the app; says which program waits for it.
fn begin(node: &Node<'_>, session: &Session, timer: &Timer) -> Result<i32> {
    let app = App::of_session(node, session)?.ok_or_else(|| gone(&session.system))?;
    let app = app.with_given(node, &session.system)?;
    let label = label(&timer.name);
    let app = app.of_timer(timer, &label)?;
    let run = app.enter(session, &timer.command)?;
    let child = detach(node, session, (run, &app.provided.fences), &label)?;
    Ok(child.id().cast_signed())
}

fn gone(system: &SystemName) -> Error {
    Error::failed(format!("{system} is not installed any more"))
}

/// Refuses to run a job by hand that runs already.
pub(super) fn refuse_second(
    node: &Node<'_>,
    _: &Lock,
    session: &Session,
    name: &str,
) -> Result<()> {
    let system = &session.system;
    if running(node, system)?.contains_key(&label(name)) {
        let what = format!("the timer {name} of {system} runs already");
        return Err(Error::new(Kind::Busy, what).hint(format!("imgnode status {system}")));
    }
    Ok(())
}

/// Notes how a job ended that ran by hand, once nobody else is at work.
pub(super) fn note_by_hand(
    node: &Node<'_>,
    system: &SystemName,
    name: &str,
    started: u64,
    (status, timed_out): (ExitStatus, bool),
) -> Result<()> {
    let begun = Instant::now();
    let lock = loop {
        match node.state.lock(system) {
            Err(error) if error.kind() == Kind::Busy && begun.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(100));
            }
            lock => break lock?,
        }
    };
    let mut noted = Noted::of(node, system)?;
    let last = noted.timers.entry(name.to_owned()).or_insert(Last {
        since: started,
        ..Last::default()
    });
    last.begin(started);
    if timed_out {
        last.end_at_limit();
    } else {
        last.end(Some(exit_code(status)));
    }
    noted.write(node, &lock, system)
}
