//! Further processes that are started again when they end, by whoever watches a system.
//!
//! The pauses grow from one second to a minute, and begin anew after one has lived for a minute. A
//! process is started with the lock held, so that a switch between generations is not disturbed: when
//! another imgnode has it, there is a next time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use store::manifest::Process;

use super::further;
use super::record::{Session, Timeouts, read};
use crate::error::{Kind, Result};
use crate::event::Event;
use crate::node::Node;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of the further processes of the session that is watched.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// The identifier of the session, and its processes.
    of: Option<(String, Vec<Process>)>,
    known: BTreeMap<String, Known>,
    /// How children of ours ended that nobody has asked for yet.
    ended: BTreeMap<i32, String>,
}

/// A process, by its label.
#[derive(Debug)]
struct Known {
    /// The program that waits for it, while it runs.
    wrapper: Option<i32>,
    /// Since when it runs or does not.
    since: Instant,
    /// The pause before it is started again.
    pause: Duration,
}

impl Supervisor {
    /// Notes how a child of this process ended.
    pub fn child_ended(&mut self, pid: i32, how: String) {
        // Nobody asks for most of them.
        while self.ended.len() >= 64 {
            self.ended.pop_first();
        }
        self.ended.insert(pid, how);
    }

    /// Looks at the processes of a session, and starts those that ended and whose pause is over.
    pub fn look(&mut self, node: &Node<'_>, session: &Session, timeouts: Timeouts) -> Result<()> {
        if self.of.as_ref().is_none_or(|(id, _)| *id != session.id) {
            self.of = Some((session.id.clone(), further::of_session(node, session)?));
            self.known.clear();
        }
        let Some((_, processes)) = &self.of else {
            return Ok(());
        };
        if processes.is_empty() {
            return Ok(());
        }
        let running: BTreeMap<_, _> = further::running(processes, session).into_iter().collect();
        let mut due = Vec::new();
        for label in processes.iter().flat_map(Process::labels) {
            let wrapper = running.get(&label).copied();
            let known = self.known.entry(label.clone()).or_insert_with(|| {
                if wrapper.is_none() {
                    node.observer.event(Event::Note(&format!(
                        "the process {label} of {} does not run; it will be started",
                        session.system
                    )));
                }
                Known {
                    wrapper,
                    since: Instant::now(),
                    // What was missing when we came is started at once.
                    pause: wrapper.map_or(Duration::ZERO, |_| SHORTEST),
                }
            });
            match (known.wrapper, wrapper) {
                (Some(before), None) => {
                    if known.since.elapsed() >= LONGEST {
                        known.pause = SHORTEST;
                    }
                    known.wrapper = None;
                    known.since = Instant::now();
                    let how = self.ended.remove(&before);
                    node.observer.event(Event::Note(&format!(
                        "the process {label} of {} {}; it is started again in {} s",
                        session.system,
                        how.as_deref().unwrap_or("ended"),
                        known.pause.as_secs()
                    )));
                }
                (None, Some(_)) => {
                    known.wrapper = wrapper;
                    known.since = Instant::now();
                }
                (_, now) => known.wrapper = now,
            }
            if wrapper.is_none() && known.since.elapsed() >= known.pause {
                due.push(label);
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let lock = match node.state.lock(&session.system) {
            Err(error) if error.kind() == Kind::Busy => return Ok(()),
            lock => lock?,
        };
        // Whoever had the lock may have switched or stopped.
        let current = read(node, &session.system)?.filter(|now| now.id == session.id);
        let (Some(current), Some(record)) = (current, node.state.system(&session.system)?) else {
            return Ok(());
        };
        if !current.is_alive() {
            return Ok(());
        }
        for label in &due {
            if let Some(known) = self.known.get_mut(label) {
                known.since = Instant::now();
                known.pause = (known.pause * 2).clamp(SHORTEST, LONGEST);
            }
        }
        // How long it lives is seen later.
        let timeouts = Timeouts {
            settle: Duration::ZERO,
            ..timeouts
        };
        let wanted = |label: &String| due.contains(label);
        let completed = further::complete(node, &lock, &record, &current, timeouts, wanted);
        // One that dies before the next look is missed by it, and said to have ended.
        let running: BTreeMap<_, _> = further::running(processes, &current).into_iter().collect();
        for label in &due {
            if let Some(known) = self.known.get_mut(label) {
                known.wrapper = running.get(label).copied();
            }
        }
        completed.map(|_| ())
    }
}
