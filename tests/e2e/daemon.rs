//! Programs that run beside a test, and end with it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ended when a test is over.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts a program whose output goes to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let command = command.stdin(Stdio::null());
        let command = command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
