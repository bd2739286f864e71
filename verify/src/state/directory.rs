//! What a node remembers between commands, and who may change it.
//!
//! ```text
//! STATE/                    0700, /var/lib/imgnode unless told otherwise
//!   lock                    flock: one changing operation at a time
//!   node.json               environment and repository, written by `init`
//!   trust/                  the TUF client's metadata
//!   journal.json            the operation under way; see `journal`
//!   systems/SYSTEM.json     the generations of a system; see [`record`](super::record)
//!   manifests/HEX.json      signed manifests of installed images, by their blake3
//!   sessions/SYSTEM.json    the running session of a system; see `session`
//!   ending/SESSION.json     a session that is about to end
//!   starts/SYSTEM.json      how a system was started last
//!   hooks/SYSTEM.json       which hooks failed and have to run again
//!   kept/                   a cache of the store; see [`cache`](super::cache)
//!   logs/SYSTEM.log         what its processes printed
//! ```
//! Only the holder of a [`Lock`] changes anything; readers need none, since every file is replaced
//! whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use store::StoreUrl;
use store::digest::Blake3;
use store::manifest::Manifest;
use store::name::EnvName;

use super::record::SystemRecord;
use crate::atomic_file::{self, check_schema};
use crate::error::{Context, Error, Kind, Result};
use crate::system::SystemName;

/// How long a lock may take to be released: a killed imgnode may have been about to start a program,
/// which holds the lock until it runs.
const LOCK_GRACE: Duration = Duration::from_millis(300);

/// The state directory of a node.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

/// Proof that this process is the only one that changes the state.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What `init` decided: which environment this node follows, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The version of this file.
    pub schema: u32,
    /// The environment whose releases this node runs.
    pub environment: EnvName,
    /// The store that holds them, with the password if its address has one.
    pub repository: StoreUrl,
}

impl State {
    /// A state directory; nothing is read or created yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the TUF client.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// The directory of the cache of the store.
    pub fn store_cache(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// The journal file.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.json")
    }

    /// The file that describes the running session of `system`.
    pub fn session_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("sessions").join(format!("{system}.json"))
    }

    /// The file that describes a session which is about to end.
    pub fn ending_file(&self, id: &str) -> PathBuf {
        self.root.join("ending").join(format!("{id}.json"))
    }

    /// The file that says how `system` was started last.
    pub fn start_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("starts").join(format!("{system}.json"))
    }

    /// The file that says that hooks of `system` failed.
    pub fn hooks_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("hooks").join(format!("{system}.json"))
    }

    /// The log of `system`.
    pub fn log_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("logs").join(format!("{system}.log"))
    }

    /// The older part of the log of `system`, which was set aside.
    pub fn older_log_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("logs").join(format!("{system}.log.1"))
    }

    /// Takes the lock, creating the state directory when it is missing; busy when another has it.
    pub fn lock(&self) -> Result<Lock> {
        self.prepare()?;
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context(|| format!("cannot open {}", path.display()))?;
        let until = Instant::now() + LOCK_GRACE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let what = format!("another imgnode is at work in {}", self.root.display());
                    return Err(
                        Error::new(Kind::Busy, what).hint("run the command again when it is done")
                    );
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
    }

    fn prepare(&self) -> Result<()> {
        atomic_file::create_directory(&self.root, 0o700)?;
        let found = fs::symlink_metadata(&self.root)
            .context(|| format!("cannot look at {}", self.root.display()))?;
        let ours = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != ours || found.mode() & 0o022 != 0 {
            return Err(Error::refused(format!(
                "{} is not a directory that only its owner can change",
                self.root.display()
            ))
            .hint(format!(
                "imgnode trusts what it stored there: chown root and chmod 0700 {}",
                self.root.display()
            )));
        }
        for part in [
            "systems",
            "manifests",
            "sessions",
            "ending",
            "starts",
            "hooks",
            "logs",
        ] {
            atomic_file::create_directory(&self.root.join(part), 0o700)?;
        }
        Ok(())
    }

    /// What `init` decided, if it ran.
    pub fn config(&self) -> Result<Option<NodeConfig>> {
        let path = self.root.join("node.json");
        let config: Option<NodeConfig> = atomic_file::read_json(&path)?;
        config
            .map(|config| check_schema(&path, config.schema).map(|()| config))
            .transpose()
    }

    /// Notes which environment this node follows.
    pub fn set_config(&self, _: &Lock, config: &NodeConfig) -> Result<()> {
        atomic_file::write_json(&self.root.join("node.json"), config)
    }

    /// The systems that are installed, by name.
    pub fn systems(&self) -> Result<Vec<SystemName>> {
        self.names_in("systems")
    }

    /// The systems that have a session file, by name.
    pub fn sessions(&self) -> Result<Vec<SystemName>> {
        self.names_in("sessions")
    }

    /// The identifiers of sessions that are about to end.
    pub fn endings(&self) -> Result<Vec<SystemName>> {
        // An identifier is made like a system's name.
        self.names_in("ending")
    }

    fn names_in(&self, part: &str) -> Result<Vec<SystemName>> {
        let directory = self.root.join(part);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot list {}", directory.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
            // Temporary files of `atomic_file` begin with a dot and no system does.
            let name = entry.file_name();
            if let Some(Ok(name)) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .map(str::parse)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The record of a system, checked.
    pub fn system(&self, system: &SystemName) -> Result<Option<SystemRecord>> {
        let path = self.system_file(system);
        let Some(record) = atomic_file::read_json::<SystemRecord>(&path)? else {
            return Ok(None);
        };
        check_schema(&path, record.schema)?;
        record.check(system).map_err(|why| {
            Error::failed(format!("{} is damaged", path.display()))
                .cause(why)
                .hint("nothing was changed; put the file back from a backup")
        })?;
        Ok(Some(record))
    }

    /// The record of a system that must be there.
    pub fn installed(&self, system: &SystemName) -> Result<SystemRecord> {
        self.system(system)?.ok_or_else(|| {
            let known = self.systems().unwrap_or_default();
            let list = known
                .iter()
                .map(SystemName::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Error::usage(format!("no system `{system}` is installed on this node")).hint(
                if list.is_empty() {
                    "imgnode install NAME --as SYSTEM --target dir:PATH".to_owned()
                } else {
                    format!("installed are: {list}")
                },
            )
        })
    }

    /// Replaces or, with `None`, removes the record of a system.
    pub fn set_system(
        &self,
        _: &Lock,
        system: &SystemName,
        record: Option<&SystemRecord>,
    ) -> Result<()> {
        let path = self.system_file(system);
        match record {
            Some(record) => atomic_file::write_json(&path, record),
            None => atomic_file::remove(&path),
        }
    }

    fn system_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("systems").join(format!("{system}.json"))
    }

    /// Keeps a signed manifest; its blake3 is how it is found and checked again.
    pub fn keep_manifest(&self, _: &Lock, json: &[u8]) -> Result<Blake3> {
        let digest = Blake3::of(json);
        atomic_file::write(&self.manifest_file(digest), json, 0o600)?;
        Ok(digest)
    }

    /// Reads back a manifest of [`State::keep_manifest`].
    pub fn manifest(&self, digest: Blake3) -> Result<Manifest> {
        let path = self.manifest_file(digest);
        let damaged = |why: String| {
            Error::refused(format!(
                "{} is not the manifest that was signed",
                path.display()
            ))
            .cause(why)
            .hint("install the release again")
        };
        let bytes =
            atomic_file::read(&path)?.ok_or_else(|| damaged("the file is missing".to_owned()))?;
        let found = Blake3::of(&bytes);
        if found != digest {
            return Err(damaged(format!("its digest is {found}, not {digest}")));
        }
        Manifest::from_json(&bytes).map_err(|error| damaged(error.to_string()))
    }

    fn manifest_file(&self, digest: Blake3) -> PathBuf {
        self.root
            .join("manifests")
            .join(format!("{}.json", digest.hex()))
    }

    /// Removes manifests that no installed generation names.
    pub fn forget_manifests(&self, lock: &Lock) -> Result<()> {
        let mut wanted = Vec::new();
        for system in self.systems()? {
            if let Some(record) = self.system(&system)? {
                wanted.extend(
                    record
                        .generations
                        .iter()
                        .map(|generation| generation.manifest),
                );
            }
        }
        let _ = lock;
        let directory = self.root.join("manifests");
        let listing =
            fs::read_dir(&directory).context(|| format!("cannot list {}", directory.display()))?;
        for entry in listing {
            let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
            if !wanted
                .iter()
                .any(|digest| self.manifest_file(*digest) == entry.path())
            {
                atomic_file::remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Seconds since 1970 by this machine's clock.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_locker_is_told_to_wait() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let held = state.lock().unwrap();
        assert_eq!(state.lock().unwrap_err().exit_code(), 75);
        drop(held);
        state.lock().unwrap();
    }

    #[test]
    fn a_state_directory_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(State::new(&root).lock().unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_damaged_record_stops_us_and_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let _lock = state.lock().unwrap();
        let system: SystemName = "web".parse().unwrap();
        fs::write(state.system_file(&system), b"{\"schema\":1}").unwrap();
        let error = state.system(&system).unwrap_err();
        assert!(error.to_string().contains("systems/web.json"), "{error}");
        assert_eq!(state.systems().unwrap(), [system]);
    }
}
