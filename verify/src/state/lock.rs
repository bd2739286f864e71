//! Who may change what of the state directory: files that are locked with flock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Kind, Result};
use crate::system::SystemName;

/// How long a lock may take to be released: a killed imgnode may have been about to start a program,
/// which holds the lock until it runs.
const LOCK_GRACE: Duration = Duration::from_millis(300);

/// Proof that this process is the only one that changes a system, or all of the state.
#[derive(Debug)]
pub struct Lock {
    // The system's goes first.
    _own: Option<SystemLock>,
    _node: File,
}

/// The lock file of a system. That of a system which is gone, or never was, goes with it.
#[derive(Debug)]
struct SystemLock {
    _file: File,
    path: PathBuf,
    traces: [PathBuf; 2],
}

impl Drop for SystemLock {
    fn drop(&mut self) {
        if self.traces.iter().all(|trace| !trace.exists()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Lock {
    /// The lock of a system in the state directory at `root`. The system is there as long as one of
    /// `traces` is.
    pub(super) fn of_system(
        root: &Path,
        system: &SystemName,
        traces: [PathBuf; 2],
    ) -> Result<Self> {
        let node = open_lock(&root.join("lock"))?;
        take(&node, Share::Shared, || at_work_in(root))?;
        let path = root.join("locks").join(system.as_str());
        loop {
            let file = open_lock(&path)?;
            take(&file, Share::Alone, || owner(&path, system))?;
            // Whoever had it may have removed it.
            let place = fs::metadata(&path).ok().map(|found| found.ino());
            if place.is_none() || file.metadata().ok().map(|found| found.ino()) != place {
                continue;
            }
            // For people alone.
            let _ = fs::write(&path, format!("{}\n", std::process::id()));
            let own = SystemLock {
                _file: file,
                path,
                traces,
            };
            return Ok(Self {
                _own: Some(own),
                _node: node,
            });
        }
    }

    /// The lock of the whole node, whose state directory is at `root`.
    pub(super) fn of_node(root: &Path) -> Result<Self> {
        let node = open_lock(&root.join("lock"))?;
        take(&node, Share::Alone, || at_work_in(root))?;
        Ok(Self {
            _own: None,
            _node: node,
        })
    }
}

/// The lock of those who run hooks.
pub(super) fn of_hooks(root: &Path) -> Result<File> {
    // No system has such a name.
    let file = open_lock(&root.join("locks/.hooks"))?;
    let what = || "another imgnode is at work, and its hooks may not meet ours".to_owned();
    take(&file, Share::Alone, what)?;
    Ok(file)
}

/// Whether others may hold a lock as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    Shared,
    Alone,
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .context(|| format!("cannot open {}", path.display()))
}

fn take(file: &File, share: Share, busy: impl Fn() -> String) -> Result<()> {
    let until = Instant::now() + LOCK_GRACE;
    loop {
        let taken = match share {
            Share::Shared => file.try_lock_shared(),
            Share::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(
                    Error::new(Kind::Busy, busy()).hint("run the command again when it is done")
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).context(|| "cannot lock a file"),
        }
    }
}

fn at_work_in(root: &Path) -> String {
    format!("another imgnode is at work in {}", root.display())
}

/// Who is at work on a system, as far as can be seen.
fn owner(path: &Path, system: &SystemName) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let pid: Option<u32> = text.trim().parse().ok();
    let line = pid.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    // Its first word after the program; the others are nobody's business.
    let act = line.and_then(|line| {
        let word = line.split(|byte| *byte == 0).nth(1)?.to_owned();
        let plain = !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || *b == b'-');
        String::from_utf8(word).ok().filter(|_| plain)
    });
    match (pid, act) {
        (Some(pid), Some(act)) => {
            format!("another imgnode is at work on {system}: {act}, process {pid}")
        }
        _ => format!("another imgnode is at work on {system}"),
    }
}
