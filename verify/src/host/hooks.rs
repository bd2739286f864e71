//! What the operator wants done around an install, a switch or an uninstall.
//!
//! The procedure this replaces ran `unlock-filesystem` before and `lock-filesystem` after writing.
//! Executables in `/etc/imgnode/hooks.d/pre-install` run in the order of their names before the
//! first byte is written to the target; those in `post-install` run afterwards whatever happened,
//! also when an earlier imgnode was killed and this one cleans up. A pre-install hook that fails
//! ends the install. Each gets two words, `install`, `switch` or `uninstall` and the name of the
//! system, and five minutes; then it is killed with all it started, and counts as failed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::commands::{HostCommand, is_program};
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};
use crate::system::SystemName;

const TIMEOUT: Duration = Duration::from_secs(300);

/// The hooks of a node.
#[derive(Clone, Debug)]
pub struct Hooks {
    directory: PathBuf,
    timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self::new("/etc/imgnode/hooks.d")
    }
}

impl Hooks {
    /// Hooks below `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            timeout: TIMEOUT,
        }
    }

    /// Runs the hooks before an install, up to the first that fails.
    pub fn before(&self, act: &str, system: &SystemName, observer: &dyn Observer) -> Result<()> {
        for hook in self.list("pre-install")? {
            self.call(&hook, act, system, observer)
                .map_err(|error| error.under("a pre-install hook failed"))?;
        }
        Ok(())
    }

    /// Runs all hooks after an install; the first failure is reported at the end.
    pub fn after(&self, act: &str, system: &SystemName, observer: &dyn Observer) -> Result<()> {
        let mut failed = None;
        for hook in self.list("post-install")? {
            if let Err(error) = self.call(&hook, act, system, observer) {
                observer.event(Event::Note(&error.to_string()));
                failed.get_or_insert(error.under("a post-install hook failed"));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.list("pre-install")?.is_empty() && self.list("post-install")?.is_empty())
    }

    fn call(
        &self,
        hook: &Path,
        act: &str,
        system: &SystemName,
        observer: &dyn Observer,
    ) -> Result<()> {
        let program = hook
            .to_str()
            .ok_or_else(|| Error::failed(format!("{} has no readable name", hook.display())))?;
        HostCommand::new(program)
            .args([act, system.as_str()])
            .timeout(self.timeout)
            .run(observer)
            .map(|_| ())
    }

    fn list(&self, when: &str) -> Result<Vec<PathBuf>> {
        let directory = self.directory.join(when);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(|| format!("cannot list {}", directory.display()))?,
        };
        let mut hooks = Vec::new();
        for entry in entries {
            let path = entry
                .context(|| format!("cannot list {}", directory.display()))?
                .path();
            let hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || !is_program(&path) {
                continue;
            }
            // What root runs must be root's.
            let found = path
                .metadata()
                .context(|| format!("cannot look at {}", path.display()))?;
            if found.mode() & 0o022 != 0 || found.uid() != rustix::process::geteuid().as_raw() {
                return Err(Error::refused(format!(
                    "the hook {} can be changed by others than root",
                    path.display()
                ))
                .hint(format!("chown root:root and chmod go-w {}", path.display())));
            }
            hooks.push(path);
        }
        hooks.sort();
        Ok(hooks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use std::os::unix::fs::PermissionsExt;

    fn hooks() -> (tempfile::TempDir, Hooks) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("pre-install")).unwrap();
        fs::create_dir(directory.path().join("post-install")).unwrap();
        let hooks = Hooks {
            directory: directory.path().to_owned(),
            timeout: Duration::from_millis(300),
        };
        (directory, hooks)
    }

    fn write(path: &Path, script: &str, mode: u32) {
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn hooks_run_in_order_with_their_words_and_stop_at_a_failure() {
        let (directory, hooks) = hooks();
        let (web, out) = ("web".parse().unwrap(), directory.path().join("out"));
        write(&directory.path().join("pre-install/20-b"), "exit 3", 0o755);
        write(
            &directory.path().join("pre-install/10-a"),
            &format!("echo $0 $@ >> {}", out.display()),
            0o755,
        );
        write(
            &directory.path().join("pre-install/30-c"),
            &format!("echo never >> {}", out.display()),
            0o755,
        );
        write(
            &directory.path().join("pre-install/README"),
            "exit 9",
            0o644,
        );
        let error = hooks.before("install", &web, &Silent).unwrap_err();
        assert!(error.to_string().contains("20-b"), "{error}");
        let said = fs::read_to_string(out).unwrap();
        assert!(said.ends_with("10-a install web\n"), "{said}");
    }

    #[test]
    fn later_hooks_run_after_a_failing_one_and_a_hang_is_bounded() {
        let (directory, hooks) = hooks();
        let out = directory.path().join("out");
        write(&directory.path().join("post-install/1"), "sleep 60", 0o755);
        write(
            &directory.path().join("post-install/2"),
            &format!("echo locked > {}", out.display()),
            0o755,
        );
        let error = hooks
            .after("switch", &"web".parse().unwrap(), &Silent)
            .unwrap_err();
        assert!(error.to_string().contains("was killed"), "{error}");
        assert_eq!(fs::read_to_string(out).unwrap(), "locked\n");
    }

    #[test]
    fn a_hook_that_others_can_write_is_refused() {
        let (directory, hooks) = hooks();
        write(&directory.path().join("pre-install/1"), "true", 0o777);
        assert_eq!(
            hooks
                .before("install", &"web".parse().unwrap(), &Silent)
                .unwrap_err()
                .exit_code(),
            3
        );
    }

    #[test]
    fn no_directory_means_no_hooks() {
        Hooks::new("/nonexistent")
            .before("install", &"web".parse().unwrap(), &Silent)
            .unwrap();
    }
}
