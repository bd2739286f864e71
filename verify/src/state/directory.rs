//! What a node remembers between commands, and who may change it.
//!
//! ```text
//! STATE/                    0700, /var/lib/imgnode unless told otherwise
//!   lock                    flock: shared by who works on a system, alone for `init`
//!   locks/SYSTEM            flock: one changing operation at a time, with its process number
//!   node.json               environment and repository, written by `init`
//!   names.json              what the node is called, and its group; see [`NodeNames`](super::NodeNames)
//!   trust/                  the TUF client's metadata
//!   journals/SYSTEM.json    the operation under way on a system; see `journal`
//!   systems/SYSTEM.json     the generations of a system; see [`record`](super::record)
//!   manifests/HEX.json      signed manifests of installed images, by their blake3
//!   sessions/SYSTEM.json    the running session of a system; see `session`
//!   ending/SESSION.json     a session that is about to end
//!   starts/SYSTEM.json      how a system was started last
//!   hooks/SYSTEM.json       which hooks failed and have to run again
//!   kept/                   a cache of the store; see [`cache`](super::cache)
//!   receipts/               what the node says of itself; see [`receipts`](crate::receipts)
//!   logs/SYSTEM.log         what its processes printed
//! ```
//! Only the holder of a system's [`Lock`] changes anything of it; readers need none, since every file
//! is replaced whole. Earlier versions locked `lock` alone, and kept one `journal.json` for all systems.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::StoreUrl;
use store::name::EnvName;

use super::lock::{self, Lock};
use super::record::SystemRecord;
use crate::atomic_file::{self, check_schema};
use crate::error::{Context, Error, Result};
use crate::system::SystemName;

/// The state directory of a node.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
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

    /// The journal file of `system`.
    pub fn journal(&self, system: &SystemName) -> PathBuf {
        self.root.join("journals").join(format!("{system}.json"))
    }

    /// The journal file that earlier versions kept for all systems.
    pub fn common_journal(&self) -> PathBuf {
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

    /// The file that describes a session which one command has for itself.
    pub fn command_file(&self, id: &str) -> PathBuf {
        self.root.join("commands").join(format!("{id}.json"))
    }

    /// The file that says how `system` was started last.
    pub fn start_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("starts").join(format!("{system}.json"))
    }

    /// The file that says that hooks of `system` failed.
    pub fn hooks_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("hooks").join(format!("{system}.json"))
    }

    /// The directory of the data of `system`, which outlives it.
    pub fn data(&self, system: &SystemName) -> PathBuf {
        self.root.join("data").join(system.as_str())
    }

    /// The file that names the generations of `system` in which `before-switch` succeeded.
    pub fn prepared_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("prepared").join(format!("{system}.json"))
    }

    /// The file that says when timers of `system` ran.
    pub fn timers_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("timers").join(format!("{system}.json"))
    }

    /// The file that names the process that watches `system`.
    pub fn watcher_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("watchers").join(format!("{system}.json"))
    }

    /// The directory of what this node says of itself.
    pub fn receipts(&self) -> PathBuf {
        self.root.join("receipts")
    }

    /// The log of `system`.
    pub fn log_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("logs").join(format!("{system}.log"))
    }

    /// The older part of the log of `system`, which was set aside.
    pub fn older_log_file(&self, system: &SystemName) -> PathBuf {
        self.root.join("logs").join(format!("{system}.log.1"))
    }

    /// Takes the lock of a system, creating the state directory when it is missing; busy when another
    /// has it, or the whole node.
    pub fn lock(&self, system: &SystemName) -> Result<Lock> {
        self.prepare()?;
        let traces = [self.system_file(system), self.journal(system)];
        Lock::of_system(&self.root, system, traces)
    }

    /// Takes the lock of the whole node: nobody is at work on any system.
    pub fn lock_node(&self) -> Result<Lock> {
        self.prepare()?;
        Lock::of_node(&self.root)
    }

    /// Takes the lock of those who run hooks.
    pub fn lock_hooks(&self) -> Result<File> {
        lock::of_hooks(&self.root)
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
            "locks",
            "journals",
            "prepared",
            "commands",
            "timers",
            "watchers",
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

    /// The systems that have a journal, by name.
    pub fn journals(&self) -> Result<Vec<SystemName>> {
        self.names_in("journals")
    }

    /// The systems of which a killed command can have left something, by name: those that have a
    /// journal, a part of their first one, or a lock and no record.
    pub fn leftovers(&self) -> Result<Vec<SystemName>> {
        let mut names = self.journals()?;
        let json = |name: &str| name.strip_suffix(".json")?.parse().ok();
        names.extend(self.list("journals", |name| json(atomic_file::meant(name)?))?);
        let mut locks = self.list("locks", |name| name.parse().ok())?;
        locks.retain(|system| !self.system_file(system).exists());
        names.extend(locks);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The identifiers of sessions that are about to end.
    pub fn endings(&self) -> Result<Vec<SystemName>> {
        // An identifier is made like a system's name.
        self.names_in("ending")
    }

    /// The identifiers of sessions that one command has for itself.
    pub fn commands(&self) -> Result<Vec<SystemName>> {
        self.names_in("commands")
    }

    /// Removes what a killed command left of its notes of a system's sessions, which nobody would write again:
    /// each session has an identifier of its own. For whoever has the lock of the system.
    pub fn forget_unfinished_notes(&self, system: &SystemName) -> Result<()> {
        for part in ["ending", "commands"] {
            let unfinished = |name: &str| {
                let id = name.strip_prefix('.')?.strip_suffix(".json.new")?;
                // SYSTEM-GENERATION-TIME, of which the first may be cut.
                let named = id.rsplitn(3, '-').nth(2)?;
                let ours = system.as_str().get(..named.len()) == Some(named);
                let whole = named.len() == system.as_str().len() || id.len() == 64;
                (ours && whole).then(|| id.parse().ok()).flatten()
            };
            for id in self.list(part, unfinished)? {
                let unfinished = self.root.join(part).join(format!(".{id}.json.new"));
                atomic_file::remove(&unfinished)?;
            }
        }
        Ok(())
    }

    fn names_in(&self, part: &str) -> Result<Vec<SystemName>> {
        // Temporary files of `atomic_file` begin with a dot and no system does.
        self.list(part, |name| name.strip_suffix(".json")?.parse().ok())
    }

    /// The systems that the files of a directory are about, by name.
    fn list(
        &self,
        part: &str,
        about: impl Fn(&str) -> Option<SystemName>,
    ) -> Result<Vec<SystemName>> {
        let directory = self.root.join(part);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot list {}", directory.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
            names.extend(entry.file_name().to_str().and_then(&about));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_locker_is_told_to_wait() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let [web, other] = ["web", "other"].map(|name| name.parse::<SystemName>().unwrap());
        let held = state.lock(&web).unwrap();
        let error = state.lock(&web).unwrap_err();
        assert_eq!(error.exit_code(), 75);
        assert!(error.what().contains("at work on web"), "{error}");
        // Others are none of its business, and all are those of who changes the node.
        let beside = state.lock(&other).unwrap();
        drop(held);
        assert_eq!(state.lock_node().unwrap_err().exit_code(), 75);
        drop(beside);
        let all = state.lock_node().unwrap();
        assert_eq!(state.lock(&web).unwrap_err().exit_code(), 75);
        drop(all);
        state.lock(&web).unwrap();
        // Of systems that are not there no file stays.
        assert_eq!(fs::read_dir(state.root.join("locks")).unwrap().count(), 0);
    }

    #[test]
    fn unfinished_notes_go_with_their_system_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let ending = state.root.join("ending");
        fs::create_dir_all(&ending).unwrap();
        let [theirs, kept, own] = [
            ".web-2-3-aa.json.new",
            "web-3-ab.json",
            ".web-3-aa.json.new",
        ]
        .map(|name| ending.join(name));
        for file in [&theirs, &kept, &own] {
            fs::write(file, "").unwrap();
        }
        let web: SystemName = "web".parse().unwrap();
        state.forget_unfinished_notes(&web).unwrap();
        assert!(theirs.exists() && kept.exists() && !own.exists());
        state
            .forget_unfinished_notes(&"web-2".parse().unwrap())
            .unwrap();
        assert!(!theirs.exists());
    }

    #[test]
    fn a_state_directory_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(State::new(&root).lock_node().unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_damaged_record_stops_us_and_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let system: SystemName = "web".parse().unwrap();
        let _lock = state.lock(&system).unwrap();
        fs::write(state.system_file(&system), b"{\"schema\":1}").unwrap();
        let error = state.system(&system).unwrap_err();
        assert!(error.to_string().contains("systems/web.json"), "{error}");
        assert_eq!(state.systems().unwrap(), [system]);
    }
}
