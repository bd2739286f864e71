//! What was seen last of each environment that something is signed for.
//!
//! Whoever can write to a store can put an earlier state of an environment back, with good
//! signatures: its revocations would be gone, and the next signature made here would make
//! that state new again. So whatever is signed for goes on from what was seen before.

use std::fs::{self, File};
use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::EnvName;
use store::tuf::{Checkpoint, Environment};

use super::Keyring;
use crate::atomic_file;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::ceremony::failed;

/// The version of the file.
const SCHEMA: u32 = 1;

/// The environments of one name: several stores may have one each.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    schema: u32,
    environments: Vec<Checkpoint>,
}

impl Keyring {
    /// Refuses an environment that stands at an earlier state than was seen here, or at one with
    /// another history; remembers the state otherwise. Where the directory of keys cannot be
    /// written, nothing is remembered.
    pub fn goes_on(&self, env: &Environment<'_>) -> Result<()> {
        self.remember(env, true)
    }

    /// Remembers the state of an environment, whatever was seen before: a person says that it is
    /// the right one.
    pub fn begin_anew(&self, env: &Environment<'_>) -> Result<()> {
        self.remember(env, false)
    }

    fn remember(&self, env: &Environment<'_>, compare: bool) -> Result<()> {
        let name = env.name();
        let path = self.seen_path(name);
        let Some(_alone) = self.lock()? else {
            return Ok(());
        };
        let mut seen = read(&path)?;
        let known = seen
            .iter()
            .position(|one| one.fingerprint == env.fingerprint());
        let state = match known.filter(|_| compare) {
            Some(known) => state_after(env, &seen[known])?,
            None => env.checkpoint(Timestamp::now()),
        };
        match known {
            Some(known) if same(&seen[known], &state) => return Ok(()),
            Some(known) => seen[known] = state,
            None => seen.push(state),
        }
        let seen = Seen {
            schema: SCHEMA,
            environments: seen,
        };
        let json =
            serde_json::to_vec(&seen).context(|| format!("cannot write {}", path.display()))?;
        atomic_file::write(&path, &json)
    }

    /// Keeps others from what was seen, until it is dropped; none where nothing can be written.
    fn lock(&self) -> Result<Option<File>> {
        let what = || format!("cannot lock {}", self.dir.display());
        let path = self.dir.join(".seen.lock");
        let opened = fs::create_dir_all(&self.dir)
            .and_then(|()| File::options().create(true).append(true).open(&path));
        match opened {
            Ok(file) => {
                file.lock().context(what)?;
                Ok(Some(file))
            }
            Err(e) if [PermissionDenied, ReadOnlyFilesystem].contains(&e.kind()) => Ok(None),
            Err(e) => Err(e).context(what),
        }
    }

    fn seen_path(&self, env: &EnvName) -> PathBuf {
        self.dir.join(format!("{env}.seen"))
    }
}

/// The state of an environment, which goes on from what was seen. One that was read before
/// somebody else here went on is read again.
fn state_after(env: &Environment<'_>, seen: &Checkpoint) -> Result<Checkpoint> {
    let now = Timestamp::now();
    let Err(e) = env.since(Some(seen)) else {
        return Ok(env.checkpoint(now));
    };
    let what = || format!("nothing is signed for {}", env.name());
    let again = env.reopen().map_err(|e| failed(what(), &e))?;
    if again.since(Some(seen)).is_ok() {
        return Ok(again.checkpoint(now));
    }
    Err(failed(what(), &e).hint(format!(
        "somebody put an earlier state back, or this copy of the store lags behind: revocations may \
         be missing; if this state is the right one: imgbuild env trust {} {}",
        env.name(),
        env.fingerprint()
    )))
}

/// Whether two states are one, whenever they were seen.
fn same(one: &Checkpoint, other: &Checkpoint) -> bool {
    let mut other = other.clone();
    other.time = one.time;
    *one == other
}

fn read(path: &Path) -> Result<Vec<Checkpoint>> {
    let what = || format!("cannot read {}", path.display());
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == NotFound => return Ok(Vec::new()),
        bytes => bytes.context(what)?,
    };
    let damaged = |why: String| {
        Error::new(ErrorKind::Failed, what()).detail(why).hint(
            "it says what was seen of this environment: put it back from a backup; without it \
             nobody here notices an earlier state",
        )
    };
    let seen: Seen = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if seen.schema != SCHEMA {
        return Err(damaged(format!("its schema is {}", seen.schema)));
    }
    Ok(seen.environments)
}
