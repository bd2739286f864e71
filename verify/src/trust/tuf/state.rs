//! What a node must not forget.
//!
//! ```text
//! environment      the name that was given at the beginning
//! root.json        the newest trusted root
//! timestamp.json   the newest trusted timestamp
//! snapshot.json    the newest trusted snapshot
//! targets.json     the newest trusted targets
//! floor            what no later metadata may fall below, see [`Floor`]
//! lock             held by the process that works with all this
//! ```
//!
//! Each file is replaced whole (see [`atomic_file`]). Nothing is believed to be there that was not read back, and what
//! is there and cannot be read stops everything: a node that treats damage as
//! "never seen anything" can be rolled back by damaging a file. The way out is
//! a person who says so ([`State::reset`]).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize};
use store::name::EnvName;

use super::error::{Error, ErrorKind, Result};
use crate::atomic_file;

/// No file of the state is longer than the longest metadata.
const LIMIT: u64 = super::limits::TARGETS_LIMIT;

const FILES: [&str; 6] = [
    "root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
    "floor",
    "environment",
];

/// A directory of trusted state, locked.
pub(super) struct State {
    directory: PathBuf,
    _lock: File,
    /// How many more writes succeed: how tests kill the process.
    #[cfg(test)]
    pub(super) fuse: std::cell::Cell<Option<usize>>,
}

/// What later metadata must not fall below, whatever happens to the files: they
/// may be replaced before their successor arrives, deleted, or put back from an
/// old backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Floor {
    /// The latest time at which a refresh succeeded.
    #[serde(with = "time")]
    pub(super) last_seen: Option<Time>,
    /// The version of the newest trusted root.
    pub(super) root: u64,
    /// The version of the newest trusted timestamp; 0 before the first.
    pub(super) timestamp: u64,
    /// The version of the newest trusted snapshot, and of all that it pinned.
    pub(super) snapshot: Option<SnapshotFloor>,
    /// Per image name, the highest release seen.
    pub(super) seq: BTreeMap<String, u64>,
    /// A root is about to be trusted that replaces keys; see [`Void`].
    pub(super) void: Option<Void>,
}

/// The versions of the newest trusted snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotFloor {
    pub(super) version: u64,
    pub(super) pins: BTreeMap<String, u64>,
}

/// What loses its meaning once the root of a certain version is trusted (TUF
/// 5.3.11). Written before that root and carried out after it, so that a kill
/// in between neither keeps a floor that blocks the recovery nor drops one
/// while the old root still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Void {
    pub(super) at_root: u64,
    pub(super) timestamp_and_snapshot: bool,
    pub(super) seq: bool,
}

impl State {
    /// Makes the directory if it is missing, and locks it.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        if !directory.exists() {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(|e| failed("make the state directory", directory, e))?;
            if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
                atomic_file::sync(parent).map_err(|e| failed("sync", parent, e))?;
            }
        }
        Self::open(directory)
    }

    /// Locks a directory that is there.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let lock = lock.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_initialised(directory),
            _ => failed("open", &path, e),
        })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let text = format!("another process is using {}", directory.display());
                return Err(Error::new(ErrorKind::Busy, text).with_hint("try again later"));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed("lock", &path, e)),
        }
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
            #[cfg(test)]
            fuse: std::cell::Cell::new(None),
        })
    }

    /// The floor of a state that is perhaps in use.
    pub(super) fn peek(directory: &Path) -> Result<Option<Floor>> {
        let bytes = read(directory, "floor")?;
        bytes.map(|b| parse_floor(directory, &b)).transpose()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file of the state, `None` if it was never written.
    pub(super) fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        read(&self.directory, file)
    }

    /// Replaces a file of the state, durably.
    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        #[cfg(test)]
        self.burn(file)?;
        let path = self.directory.join(file);
        atomic_file::replace(&path, bytes, 0o644).map_err(|e| failed("write", &path, e))
    }

    /// Removes a file of the state, durably. It may be gone already.
    pub(super) fn remove(&self, file: &str) -> Result<()> {
        #[cfg(test)]
        self.burn(file)?;
        let path = self.directory.join(file);
        atomic_file::delete(&path).map_err(|e| failed("remove", &path, e))
    }

    #[cfg(test)]
    fn burn(&self, file: &str) -> Result<()> {
        match self.fuse.get() {
            Some(0) => Err(failed(
                "write",
                &self.directory.join(file),
                io::Error::other("killed"),
            )),
            left => {
                self.fuse.set(left.map(|n| n - 1));
                Ok(())
            }
        }
    }

    /// Forgets everything. Only ever on a person's word.
    pub(super) fn reset(&self) -> Result<()> {
        FILES.iter().try_for_each(|file| self.remove(file))
    }

    pub(super) fn floor(&self) -> Result<Floor> {
        let bytes = self.read("floor")?;
        let bytes = bytes.ok_or_else(|| self.corrupt("floor", &"it is missing"))?;
        parse_floor(&self.directory, &bytes)
    }

    pub(super) fn write_floor(&self, floor: &Floor) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(floor)
            .map_err(|e| failed("write", &self.directory.join("floor"), io::Error::other(e)))?;
        self.write("floor", &bytes)
    }

    pub(super) fn environment(&self) -> Result<EnvName> {
        let bytes = self
            .read("environment")?
            .ok_or_else(|| self.corrupt("environment", &"it is missing"))?;
        let text = String::from_utf8_lossy(&bytes);
        text.trim_end()
            .parse()
            .map_err(|e| self.corrupt("environment", &e))
    }

    /// The state is damaged: by whom or what, we cannot know.
    pub(super) fn corrupt(&self, file: &str, why: &dyn std::fmt::Display) -> Error {
        corrupt(&self.directory, file, why)
    }
}

fn corrupt(directory: &Path, file: &str, why: &dyn std::fmt::Display) -> Error {
    let directory = directory.display();
    let text = format!("the trusted state {directory}/{file} is damaged: {why}");
    Error::new(ErrorKind::CorruptState, text).with_hint(format!(
        "find out what damaged it; then forget this state and start again from the \
         environment's root file: imgnode init --reset (it is in {directory})"
    ))
}

fn parse_floor(directory: &Path, bytes: &[u8]) -> Result<Floor> {
    serde_json::from_slice(bytes).map_err(|e| corrupt(directory, "floor", &e))
}

fn read(directory: &Path, file: &str) -> Result<Option<Vec<u8>>> {
    let path = directory.join(file);
    let opened = match File::open(&path) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open", &path, e)),
    };
    let mut bytes = Vec::new();
    opened
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed("read", &path, e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(corrupt(directory, file, &"it is too long"));
    }
    Ok(Some(bytes))
}

pub(super) fn not_initialised(directory: &Path) -> Error {
    let text = format!("no environment is followed in {}", directory.display());
    Error::new(ErrorKind::NotInitialised, text)
        .with_hint("imgnode init --env ENV --repo URL --root FILE")
}

fn failed(verb: &str, path: &Path, source: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {verb} {}", path.display())).with_source(source)
}

/// An optional time as RFC 3339 text.
mod time {
    use super::Time;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "what serde passes")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Time>, s: S) -> Result<S::Ok, S::Error> {
        time.map(|t| t.to_string()).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Time>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| t.parse().map_err(D::Error::custom))
            .transpose()
    }
}
