//! The one place that enters namespaces.
//!
//! A [`Sandbox`] runs one command with a tree as its world: own mount, PID, IPC,
//! cgroup, UTS and (unless the step resolves inputs) network namespaces, a loopback
//! device, a fixed host name, a handful of devices. The command runs inside the
//! *source* chroot of real schroot, or, for the bootstrap itself, beside it.
//!
//! ```text
//! imgbuild ─ setpriv --pdeathsig KILL ─ unshare --kill-child … --fork
//!                                          └ imgbuild (init, PID 1)
//!                                               └ schroot -c source:imgbuild
//!                                                    └ env -i … command
//! ```
//!
//! Each link dies with the one before it, and the mounts, the schroot session
//! and every stray daemon die with the namespaces: nothing to clean up on the
//! host, whatever ends the build. See unshare(1), `pid_namespaces(7)`.
//!
//! ```text
//! init      the first process: arranges the namespaces, runs the command
//! mounts    the mount namespace
//! loopback  the loopback device
//! fence     what a step may not do although it is root
//! blank     what a process inherits, set to fixed values
//! reach     what a step without network tried to reach
//! vary      another clock, locale, order of directories and more
//! ```

mod blank;
mod fence;
mod init;
mod loopback;
mod mounts;
mod reach;
pub mod vary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::process::{Output, Tool};

pub use init::run as run_init;
pub use mounts::enter_mount_namespace;
pub use reach::Failure;
use reach::Report;

/// The hidden subcommand with which imgbuild becomes a sandbox's first process.
pub const INIT_COMMAND: &str = "sandbox-init";
/// The variable that names our own program to what runs beside a tree.
pub const OWN_PROGRAM: &str = "IMGBUILD_PROGRAM";
/// Where a sandbox finds what the builder hands it.
pub const HAND_IN: &str = "/run/imgbuild";
/// The file beside a tree that describes its running sandbox.
pub(crate) const SPEC: &str = "sandbox.json";
/// The name of the description where the host's network is visible: two may run in one tree.
const SPEC_ONLINE: &str = "online.json";
/// The host name inside every sandbox.
pub const HOSTNAME: &str = "imgbuild";

/// A directory of the host that the command may see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// Directory on the host.
    pub source: PathBuf,
    /// Name below [`HAND_IN`].
    pub name: String,
    /// Whether the command may write to it.
    pub writable: bool,
}

/// What runs and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// A program of the host that works on the tree from outside (debootstrap).
    Host {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A program inside the tree, through schroot's source chroot.
    Chroot {
        /// Program and arguments.
        argv: Vec<String>,
        /// A user of the tree.
        user: String,
        /// Working directory inside the tree.
        directory: String,
    },
}

/// One command and its world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// The tree, already mounted.
    pub root: PathBuf,
    /// What the builder hands in.
    pub binds: Vec<Bind>,
    /// The whole environment of the command.
    pub environment: BTreeMap<String, String>,
    /// Whether the host's network is visible (only while locking).
    pub network: bool,
    /// Whether what must not matter is different; see [`vary`].
    pub vary: bool,
    /// What runs.
    pub command: Command,
}

impl Sandbox {
    /// Runs the command to its end, with its output streamed.
    pub fn run(
        &self,
        timeout: Duration,
        output: Output<'_>,
    ) -> Result<std::result::Result<(), Failure>> {
        let (spec, tool) = self.tool()?;
        let report = Report::create(&spec)?;
        let ran = tool.timeout(timeout).run(output)?;
        Ok(ran.map_err(|failure| Failure::new(failure, report.read())))
    }

    /// Runs the command on the caller's terminal.
    pub fn run_interactive(&self) -> Result<ExitStatus> {
        let (_spec, tool) = self.tool()?;
        let term = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
        tool.env("TERM", term).run_interactive()
    }

    fn tool(&self) -> Result<(tempfile::TempPath, Tool)> {
        let json = serde_json::to_vec(self).context(|| "cannot describe the sandbox".into())?;
        // Beside the tree, where a killed build's leavings are cleared.
        let name = if self.network { SPEC_ONLINE } else { SPEC };
        let path = self.root.with_file_name(name);
        let failed = || format!("cannot write {}", path.display());
        std::fs::write(&path, json).context(failed)?;
        let spec = tempfile::TempPath::try_from_path(&path).context(failed)?;
        let own = own_executable()?;
        let mut tool = Tool::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--kill-child=KILL"])
            .args([
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--cgroup",
                "--fork",
                "--mount-proc",
            ]);
        if !self.network {
            tool = tool.arg("--net");
        }
        let name = match &self.command {
            Command::Host { argv } => argv.first().map_or("it", String::as_str),
            Command::Chroot { .. } => "its script",
        };
        let tool = tool
            .called(name)
            .arg("--")
            .arg(own)
            .arg(INIT_COMMAND)
            .arg(&spec);
        Ok((spec, tool))
    }
}

/// Our own program, to run again as another part of itself. The first call
/// decides: later the process may have another root directory.
pub fn own_executable() -> Result<&'static Path> {
    static OWN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = OWN.get_or_init(|| std::env::current_exe().ok());
    path.as_deref().filter(|p| p.exists()).ok_or_else(|| {
        Error::failed("imgbuild's own program file was replaced while it ran")
            .hint("run the command again")
    })
}
