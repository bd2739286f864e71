//! What was seen last of each environment that something is signed for.
//!
//! Whoever can write to a store can put an earlier state of an environment back, with good
//! signatures: its revocations would be gone, and the next signature made here would make
//! that state new again. So whatever is signed for goes on from what was seen before.

use std::fs::{self, File};
use std::io::ErrorKind::NotFound;
use std::io::Write;
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
    /// another history; remembers the state otherwise. One that somebody else went on with since
    /// it was read is read again.
    pub fn goes_on(&self, env: &mut Environment<'_>) -> Result<()> {
        let path = self.seen_path(env.name());
        loop {
            let before = read(&path)?;
            let mut after = before.clone();
            match after.iter_mut().find(|one| is_of(one, env)) {
                Some(seen) => {
                    advance(env, seen)?;
                    let state = env.checkpoint(seen.time);
                    if *seen == state {
                        return Ok(());
                    }
                    *seen = env.checkpoint(Timestamp::now());
                }
                None => after.push(env.checkpoint(Timestamp::now())),
            }
            if self.replace(&path, &before, after)? {
                return Ok(());
            }
        }
    }

    /// Remembers what was written here, whatever the store shows by now.
    pub fn wrote(&self, written: &Checkpoint) -> Result<()> {
        let path = self.seen_path(&written.environment);
        loop {
            let before = read(&path)?;
            let mut after = before.clone();
            let known = |one: &&mut Checkpoint| one.fingerprint == written.fingerprint;
            match after.iter_mut().find(known) {
                Some(seen) if seen.is_as_far_as(written) => return Ok(()),
                Some(seen) => *seen = written.clone(),
                None => after.push(written.clone()),
            }
            if self.replace(&path, &before, after)? {
                return Ok(());
            }
        }
    }

    /// Remembers the state of an environment, whatever was seen before: a person says that it is
    /// the right one. True if more was seen of it before, or something else.
    pub fn begin_anew(&self, env: &Environment<'_>) -> Result<bool> {
        let path = self.seen_path(env.name());
        loop {
            // One that is damaged is what this command mends.
            let before = read(&path).unwrap_or_default();
            let (of_it, mut after): (Vec<_>, Vec<_>) =
                before.iter().cloned().partition(|one| is_of(one, env));
            let forgets = of_it.iter().any(|seen| env.since(Some(seen)).is_err());
            after.push(env.checkpoint(Timestamp::now()));
            if self.write(&path, &before, after)? {
                return Ok(forgets);
            }
        }
    }

    /// Writes what was seen; false if somebody else has written since it was read. Where nothing
    /// can be written, what was there still counts, and nothing is remembered.
    fn replace(&self, path: &Path, before: &[Checkpoint], after: Vec<Checkpoint>) -> Result<bool> {
        match self.write(path, before, after) {
            Err(error) if error.kind() != ErrorKind::Busy => {
                // Whoever reads it, a person or a journal.
                let _ = writeln!(
                    std::io::stderr(),
                    "warning: what was seen is not remembered: {error}"
                );
                Ok(true)
            }
            written => written,
        }
    }

    fn write(&self, path: &Path, before: &[Checkpoint], after: Vec<Checkpoint>) -> Result<bool> {
        let _alone = self.lock(path)?;
        if read(path).unwrap_or_default() != before {
            return Ok(false);
        }
        let seen = Seen {
            schema: SCHEMA,
            environments: after,
        };
        let json =
            serde_json::to_vec(&seen).context(|| format!("cannot write {}", path.display()))?;
        atomic_file::write(path, &json)?;
        Ok(true)
    }

    /// Keeps others from writing what was seen, until it is dropped.
    fn lock(&self, path: &Path) -> Result<File> {
        let what = || format!("cannot lock {}", path.display());
        let opened = fs::create_dir_all(&self.dir).and_then(|()| {
            let lock = path.with_extension("seen.lock");
            File::options().create(true).append(true).open(lock)
        });
        atomic_file::lock(opened.context(what)?, what)
    }

    /// The time to make an environment of this name: now, or the next second if something was seen of
    /// one in this. A root says to the second when it ends, so that two of one second with the same
    /// keys would be one environment.
    pub fn time_to_begin(&self, env: &EnvName, now: Timestamp) -> Timestamp {
        // What is damaged is said where it counts.
        let seen = read(&self.seen_path(env)).unwrap_or_default();
        let second = now.as_second();
        let is_taken = seen.iter().any(|one| one.time.as_second() == second);
        let next = Timestamp::from_second(second + 1);
        next.ok().filter(|_| is_taken).unwrap_or(now)
    }

    fn seen_path(&self, env: &EnvName) -> PathBuf {
        self.dir.join(format!("{env}.seen"))
    }
}

fn is_of(seen: &Checkpoint, env: &Environment<'_>) -> bool {
    seen.fingerprint == env.fingerprint()
}

/// Makes sure that an environment goes on from what was seen.
fn advance(env: &mut Environment<'_>, seen: &Checkpoint) -> Result<()> {
    let Err(error) = env.since(Some(seen)) else {
        return Ok(());
    };
    let what = || format!("nothing is signed for {}", env.name());
    let again = env.reopen().map_err(|e| failed(what(), &e))?;
    if again.since(Some(seen)).is_ok() {
        *env = again;
        return Ok(());
    }
    Err(failed(what(), &error).hint(format!(
        "this store shows an earlier state, or lags behind: revocations may be missing. Look at \
         another copy; if a backup was put back and this is the state to go on from: imgbuild env \
         trust {} {}",
        env.name(),
        env.fingerprint()
    )))
}

fn read(path: &Path) -> Result<Vec<Checkpoint>> {
    let what = || format!("cannot read {}", path.display());
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == NotFound => return Ok(Vec::new()),
        bytes => bytes.context(what)?,
    };
    let damaged = |why: String| {
        Error::new(ErrorKind::Failed, what()).detail(why).hint(
            "it says what was seen of environments of that name: put it back from a backup, or \
             begin anew with `imgbuild env trust`",
        )
    };
    let seen: Seen = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if seen.schema != SCHEMA {
        return Err(damaged(format!("its schema is {}", seen.schema)));
    }
    Ok(seen.environments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::keyring::Passphrase;
    use store::WritableStore;
    use store::tuf::{RoleKeys, RootChange};

    /// One that was read before somebody went on is read again; one that does not go on is refused,
    /// also beside that.
    #[test]
    fn what_was_read_earlier_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
        let keyring = Keyring {
            dir: dir.path().join("keys"),
            passphrase: Passphrase::Terminal,
            only: None,
        };
        let name = "dev".parse().unwrap();
        let keys = RoleKeys::load_or_generate(&keyring.dir, &name).unwrap();
        let now = Timestamp::now();
        let mut early = Environment::init(&store, &name, &keys, now).unwrap();
        let timestamp = dir.path().join("store/env/dev/metadata/timestamp.json");
        let (old, root) = (fs::read(&timestamp).unwrap(), early.root_bytes().to_vec());
        keyring.goes_on(&mut early).unwrap();
        let mut change = early.draft_root(&RootChange::default(), now).unwrap();
        early
            .sign(&mut change, &[keys.root.as_deref().unwrap()])
            .unwrap();
        let mut other = early.reopen().unwrap();
        other.publish(&change, &[&*keys.online], now).unwrap();
        keyring.goes_on(&mut other).unwrap();
        assert_eq!(early.root_bytes(), root);
        keyring.goes_on(&mut early).unwrap();
        assert_eq!(early.root_bytes(), other.root_bytes());

        // Put back.
        let second = dir.path().join("store/env/dev/metadata/2.root.json");
        fs::remove_file(second).unwrap();
        fs::write(&timestamp, &old).unwrap();
        let mut back = early.reopen().unwrap();
        let error = keyring.goes_on(&mut back).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(keyring.begin_anew(&back).unwrap());
        assert!(!keyring.begin_anew(&back).unwrap());
        keyring.goes_on(&mut back).unwrap();
        // What was written here counts, whatever the store shows.
        let mut change = back.draft_root(&RootChange::default(), now).unwrap();
        back.sign(&mut change, &[keys.root.as_deref().unwrap()])
            .unwrap();
        back.publish(&change, &[&*keys.online], now).unwrap();
        fs::remove_file(dir.path().join("store/env/dev/metadata/2.root.json")).unwrap();
        fs::write(&timestamp, &old).unwrap();
        let written = back.written().unwrap();
        assert_eq!(written.root, 2);
        keyring.wrote(written).unwrap();
        let mut back = back.reopen().unwrap();
        keyring.goes_on(&mut back).unwrap_err();
        keyring.begin_anew(&back).unwrap();
        // Damage is not passed over, and can be mended.
        let seen = keyring.seen_path(&name);
        fs::write(&seen, "{}").unwrap();
        keyring.goes_on(&mut back).unwrap_err();
        keyring.begin_anew(&back).unwrap();
        keyring.goes_on(&mut back).unwrap();
    }
    #[test]
    fn two_environments_of_one_second_are_two() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring {
            dir: dir.path().join("keys"),
            passphrase: Passphrase::Terminal,
            only: None,
        };
        let name = "live".parse().unwrap();
        let keys = RoleKeys::load_or_generate(&keyring.dir, &name).unwrap();
        let now = Timestamp::now();
        assert_eq!(keyring.time_to_begin(&name, now), now);
        let make = |place: &str, time| {
            let store = WritableStore::open_or_create(dir.path().join(place)).unwrap();
            let mut env = Environment::init(&store, &name, &keys, time).unwrap();
            keyring.goes_on(&mut env).unwrap();
            env.fingerprint()
        };
        let first = make("here", now);
        // Whichever second it is by now.
        let again = keyring.time_to_begin(&name, Timestamp::now());
        assert_ne!(make("there", again), first);
    }
}
