//! The notes of a session, by which it is found again: sessions/, ending/ and starts/ of the state
//! directory.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::processes::{self, MainProcess, Process};
use super::seen;
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Context, Error, Result};
use crate::host::schroot::sessions;
use crate::node::Node;
use crate::state::Lock;
use crate::system::SystemName;

/// The session that was begun for a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The version of this file.
    pub schema: u32,
    /// The system it belongs to.
    pub system: SystemName,
    /// The identifier in schroot.
    pub id: String,
    /// The generation that it shows.
    pub generation: u64,
    /// When it was begun, in seconds since 1970.
    pub started: u64,
    /// The addresses it listens on, with sockets that were passed to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Address>,
    /// Words that were added to the start command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// The process that it stands and falls with, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<MainProcess>,
    /// The imgnode that ends it with the one command that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<MainProcess>,
}

/// The options of a start; remembered for the next time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOptions {
    /// The version of this file.
    schema: u32,
    /// The addresses it listens on.
    pub listen: Vec<Address>,
    /// Words added to the start command.
    pub words: Vec<String>,
    /// Whether somebody has asked it to stop since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) stopped: bool,
}

impl StartOptions {
    /// Options with these addresses to listen on, and words added to the start command.
    pub fn new(listen: Vec<Address>, words: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            listen,
            words,
            stopped: false,
        }
    }

    /// The options of the last start; none of either if there was no start.
    pub fn remembered(node: &Node<'_>, system: &SystemName) -> Result<Self> {
        let path = node.state.start_file(system);
        let Some(options) = atomic_file::read_json::<Self>(&path)? else {
            return Ok(Self::new(Vec::new(), Vec::new()));
        };
        check_schema(&path, options.schema)?;
        Ok(options)
    }
}

/// How long the app may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// How long a started app must stay alive before `start` returns.
    pub settle: Duration,
    /// How long the app's own `stop` or `reload` may run.
    pub command: Duration,
    /// How long processes may take to end before they are killed.
    pub end: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            command: Duration::from_secs(60),
            end: Duration::from_secs(30),
        }
    }
}

impl Session {
    /// The mount point of the session: the root of its processes.
    pub fn root(&self) -> PathBuf {
        Path::new("/run/schroot/mount").join(&self.id)
    }

    /// The options it was started with.
    pub fn options(&self) -> StartOptions {
        StartOptions::new(self.listen.clone(), self.words.clone())
    }

    /// The processes that live in it, by number.
    pub fn processes(&self) -> Vec<Process> {
        processes::inside(&self.root())
    }

    /// Pidfds of what it stands and falls with: its main process, or where that is not known all
    /// that no other of its processes began. None when it is dead.
    pub(super) fn handles(&self) -> Vec<OwnedFd> {
        let root = self.root();
        match self.main {
            Some(main) => main.open(&root).into_iter().collect(),
            None => processes::first(&root, &self.further()),
        }
    }

    /// The numbers of its further processes and of what they began.
    pub(super) fn further(&self) -> Vec<i32> {
        let seen = seen::look(&self.root(), &self.id).into_values();
        seen.flat_map(|one| one.members.into_iter().map(|member| member.pid))
            .collect()
    }

    /// A process that lives in it: the main one, if that is known.
    pub(super) fn any_process(&self) -> Option<i32> {
        let main = self.main.filter(|main| main.open(&self.root()).is_some());
        main.map(|main| main.pid)
            .or_else(|| self.processes().first().map(|one| one.pid))
    }

    /// Whether its main process lives; where that is not known, whether any does.
    pub fn is_alive(&self) -> bool {
        !self.handles().is_empty()
    }

    /// Whether schroot knows it and its tree is mounted.
    pub fn exists(&self, node: &Node<'_>) -> Result<bool> {
        let known = sessions(node.observer)?.contains(&self.id);
        Ok(known && is_mounted(&self.root())?)
    }
}

/// The session of a system that is alive; none where nobody can tell.
pub fn alive(node: &Node<'_>, system: &SystemName) -> Option<Session> {
    // A file that cannot be read is said by other commands.
    let session = read(node, system).ok().flatten();
    session.filter(Session::is_alive)
}

/// The session of a system, if one was begun and not ended.
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

/// The sessions of a system that are about to end.
pub fn endings(node: &Node<'_>, system: &SystemName) -> Result<Vec<Session>> {
    let files = node.state.endings()?.into_iter();
    noted(
        files.map(|id| (node.state.ending_file(id.as_str()), id)),
        system,
    )
}

/// The sessions of a system that one command each has for itself.
pub(super) fn of_commands(node: &Node<'_>, system: &SystemName) -> Result<Vec<Session>> {
    let files = node.state.commands()?.into_iter();
    noted(
        files.map(|id| (node.state.command_file(id.as_str()), id)),
        system,
    )
}

fn noted(
    files: impl Iterator<Item = (PathBuf, SystemName)>,
    system: &SystemName,
) -> Result<Vec<Session>> {
    let mut found = Vec::new();
    for (path, id) in files {
        let Some(session) = atomic_file::read_json::<Session>(&path)? else {
            continue;
        };
        check_schema(&path, session.schema)?;
        if session.id != id.as_str() {
            let what = format!("{} is damaged", path.display());
            return Err(Error::failed(what).cause("it describes another session"));
        }
        if session.system == *system {
            found.push(session);
        }
    }
    Ok(found)
}

/// The session of a system in which something runs.
pub(super) fn running(node: &Node<'_>, system: &SystemName) -> Result<Session> {
    match read(node, system)? {
        Some(session) if session.is_alive() => Ok(session),
        _ => Err(Error::failed(format!("{system} is not running"))
            .hint(format!("imgnode start {system}"))),
    }
}

/// Notes that a session is to go on, whoever asked it to stop before.
pub fn adopt(node: &Node<'_>, _: &Lock, session: &Session) -> Result<()> {
    atomic_file::write_json(&node.state.start_file(&session.system), &session.options())
}

/// Removes the notes of a session that has ended.
pub(super) fn forget(node: &Node<'_>, session: &Session) -> Result<()> {
    if read(node, &session.system)?.is_some_and(|current| current.id == session.id) {
        atomic_file::remove(&node.state.session_file(&session.system))?;
    }
    atomic_file::remove(&node.state.command_file(&session.id))?;
    atomic_file::remove(&node.state.ending_file(&session.id))
}

/// Whether something is mounted at `root`.
pub(super) fn is_mounted(root: &Path) -> Result<bool> {
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

    #[test]
    fn nothing_is_mounted_where_nothing_is() {
        assert!(is_mounted(Path::new("/proc")).unwrap());
        assert!(!is_mounted(Path::new("/run/schroot/mount/none")).unwrap());
    }
}
