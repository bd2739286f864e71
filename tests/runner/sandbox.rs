//! The namespaces in which a test runs, and the directory that all tests of a run share.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Short: sockets are made below it, and their paths have 108 bytes at most (unix(7)).
const PREFIX: &str = "imgbuild-";
/// The file in it that is locked as long as the run lives.
const LOCK: &str = "run.lock";

/// The scratch directory of a run, removed when dropped.
///
/// Below /var/tmp and not /tmp, which may be a tmpfs and too small for images.
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
    /// Removes the directory when we are gone, however we end; ours is the other end of its input.
    janitor: Child,
}

impl Scratch {
    /// Makes it, after removing what runs that were killed have left.
    pub(crate) fn new() -> io::Result<Self> {
        for entry in fs::read_dir("/var/tmp")?.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            let lock = File::open(entry.path().join(LOCK));
            if let Ok(lock) = lock
                && ours
                && !matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
            {
                remove(&entry.path());
            }
        }
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in("/var/tmp")?;
        let path = made.keep();
        // Nobody sees it before it is locked.
        let lock = File::create(path.join("new"))?;
        lock.lock()?;
        fs::rename(path.join("new"), path.join(LOCK))?;
        for part in ["tmp", "host", "fixtures"] {
            fs::create_dir(path.join(part))?;
        }
        for (part, mode) in [("", 0o755), ("tmp", 0o1777)] {
            fs::set_permissions(path.join(part), fs::Permissions::from_mode(mode))?;
        }
        let janitor = Command::new("setsid")
            .args([
                "sh",
                "-c",
                "trap '' INT TERM HUP; cat; rm -rf -- \"$1\"",
                "sh",
            ])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self {
            path,
            _lock: lock,
            janitor,
        })
    }

    /// The command that runs words in namespaces of their own. They end with it, and it with us.
    pub(crate) fn command(&self) -> io::Result<Command> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--mount", "--propagation", "unchanged", "--pid", "--ipc"])
            .args(["--fork", "--kill-child"])
            .arg(std::env::current_exe()?)
            .arg("inside")
            .arg(&self.path)
            .arg("--")
            // Where a test finds what another one has made for all.
            .env("IMGBUILD_TEST_FIXTURES", self.path.join("fixtures"));
        Ok(command)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

fn remove(path: &Path) {
    let _ = Command::new("rm").args(["-rf", "--"]).arg(path).status();
}
