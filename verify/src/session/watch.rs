//! What becomes of a system that somebody watches: `imgnode run`.
//!
//! A session lives as long as its main process, and where that is not known as long as one of its
//! processes. The kernel says when it ends, by its pidfd; whether another session took over is looked up in the session's
//! file. That is all while nothing happens.
//!
//! Only the holder of the lock can tell whether a session without its main process is dead: whoever hands
//! over may be about to start it again. That somebody stopped it is noted by [`super::stop`] before
//! anything is stopped.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::log;
use super::processes::MainProcess;
use super::record::{Session, StartOptions, read};
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::host::commands::last_lines;
use crate::node::Node;
use crate::state::Lock;
use crate::system::SystemName;

/// Lines of the log that an error repeats.
const LINES: usize = 20;

/// Notes that this very process watches a system, for whoever asks.
pub fn note_watcher(node: &Node<'_>, system: &SystemName) -> Result<()> {
    atomic_file::write_json(&node.state.watcher_file(system), &MainProcess::of_self())
}

/// Whether somebody watches a system.
pub fn is_watched(node: &Node<'_>, system: &SystemName) -> Result<bool> {
    let noted: Option<Option<MainProcess>> =
        atomic_file::read_json(&node.state.watcher_file(system))?;
    Ok(noted.flatten().is_some_and(MainProcess::lives))
}

/// A session that is watched.
pub struct Watch {
    session: Session,
    handles: Vec<OwnedFd>,
}

/// What a watched session is seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// The session runs on.
    Same,
    /// Another session of the system runs now, and is watched from here on.
    Replaced,
    /// Nothing runs. Only [`Watch::outcome`] knows what that means.
    Gone,
}

/// What became of a system.
#[derive(Debug)]
pub enum Outcome {
    /// The system runs.
    Runs(WatchState),
    /// Somebody stopped it.
    Stopped,
    /// The system ended without being told to.
    Died(Error),
}

impl Watch {
    /// Begins to watch a session that runs.
    pub fn new(session: Session) -> Self {
        let handles = session.handles();
        Self { session, handles }
    }

    /// The session that is watched.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Descriptors to wait for: one can be read when its process has ended.
    pub fn handles(&self) -> &[OwnedFd] {
        &self.handles
    }

    /// Looks whether the session runs on.
    pub fn check(&mut self, node: &Node<'_>) -> Result<WatchState> {
        let Some(current) = read(node, &self.session.system)? else {
            return Ok(WatchState::Gone);
        };
        let same = current.id == self.session.id;
        if current == self.session && !self.handles.is_empty() && !one_ended(&self.handles) {
            return Ok(WatchState::Same);
        }
        let handles = current.handles();
        if handles.is_empty() {
            return Ok(WatchState::Gone);
        }
        *self = Self {
            session: current,
            handles,
        };
        Ok(if same {
            WatchState::Same
        } else {
            WatchState::Replaced
        })
    }

    /// Says what became of the system, while nobody can change that.
    pub fn outcome(&mut self, node: &Node<'_>, _: &Lock) -> Result<Outcome> {
        let state = self.check(node)?;
        let system = &self.session.system;
        if state != WatchState::Gone {
            return Ok(Outcome::Runs(state));
        }
        // What was stopped may be uninstalled before we look.
        if StartOptions::remembered(node, system)?.stopped || node.state.system(system)?.is_none() {
            return Ok(Outcome::Stopped);
        }
        let (id, left) = (&self.session.id, self.session.processes().len());
        let mut error = Error::failed(format!("{system} died")).cause(match left {
            0 => format!("no process of {id} is left"),
            _ => format!("the main process of {id} ended; {left} others are ended with it"),
        });
        for line in last_lines(&log::since(node, system, 0), LINES) {
            error = error.cause(line);
        }
        Ok(Outcome::Died(error.hint(format!("imgnode logs {system}"))))
    }
}

fn one_ended(handles: &[OwnedFd]) -> bool {
    let each = |handle| PollFd::new(handle, PollFlags::IN);
    let mut each: Vec<_> = handles.iter().map(each).collect();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut each, Some(&now)) != Ok(0)
}
