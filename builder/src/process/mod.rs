//! The one place that runs other programs.
//!
//! A [`Tool`] is argv plus a clean environment. [`Tool::run`] streams its output
//! line by line into a log and to a listener, enforces a time-out, and turns a
//! failure into an error that names the command and quotes its last lines.

mod failure;
mod stream;
#[cfg(test)]
mod tests;
mod text;
pub mod watch;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

pub use self::failure::ToolFailure;
use self::failure::ending;
pub use self::stream::Output;
pub use self::text::{last_lines, quote};
use self::watch::Watch;
use crate::error::{Error, Result};
use crate::interrupt;

/// The search path of every program we start.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Debug)]
pub struct Tool {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    timeout: Option<Duration>,
    called: Option<String>,
    tied: bool,
    watch: Option<Watch>,
}

/// What a program did and wrote.
pub struct Captured {
    /// Whether it succeeded.
    pub ended: std::result::Result<(), ToolFailure>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote besides.
    pub stderr: Vec<u8>,
}

/// The standard input of a program.
struct Fed {
    input: Option<std::process::ChildStdin>,
    /// Whether the program reads no more.
    is_shut: bool,
}

impl Write for Fed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let input = self.input.as_mut();
        let written = input.map_or(Ok(0), |input| input.write(bytes));
        self.is_shut |= written.is_err();
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Tool {
    /// A program found on [`PATH`], with nothing of the caller's environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: vec![
                ("PATH".into(), PATH.into()),
                ("LC_ALL".into(), "C.UTF-8".into()),
            ],
            timeout: None,
            called: None,
            tied: false,
            watch: None,
        }
    }

    /// What errors call it, for a program behind wrappers.
    #[must_use]
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.called = Some(name.into());
        self
    }

    /// Ends the program when we end, even by `kill -9`; for those that run long.
    #[must_use]
    pub fn tied(mut self) -> Self {
        self.tied = true;
        self
    }

    /// A program that keeps the caller's environment; only for [`Tool::exec`].
    pub fn inherit(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            timeout: None,
            called: None,
            tied: false,
            watch: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Kills the program after this long.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Kills the program when what it downloads stalls or never ends; only for
    /// [`Tool::run`].
    #[must_use]
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    fn command(&self) -> Command {
        let tie: &[&str] = if self.tied {
            &["setpriv", "--pdeathsig", "KILL", "--"]
        } else {
            &[]
        };
        let words = tie.iter().map(OsStr::new);
        let mut words = words.chain(self.argv.iter().map(OsString::as_os_str));
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .env_clear()
            .envs(self.env.iter().cloned());
        command
    }

    fn name(&self) -> String {
        if let Some(name) = &self.called {
            return name.clone();
        }
        let name = Path::new(&self.argv[0])
            .file_name()
            .unwrap_or(&self.argv[0]);
        name.to_string_lossy().into_owned()
    }

    fn spawn_failure(&self, error: &std::io::Error) -> Error {
        let error = Error::failed(format!("cannot start {}", self.name())).because(error);
        error.hint("`imgbuild doctor` lists what is missing on this machine")
    }

    /// Runs with the caller's terminal, for an interactive shell.
    pub fn run_interactive(self) -> Result<ExitStatus> {
        let mut command = self.command();
        let _held = interrupt::Held::new();
        command.status().map_err(|e| self.spawn_failure(&e))
    }

    /// Runs and returns stdout; stderr becomes the evidence of a failure.
    pub fn output(self) -> Result<Vec<u8>> {
        let captured = self.capture()?;
        captured.ended?;
        Ok(captured.stdout)
    }

    /// Runs and returns what it wrote, also of a program that failed.
    pub fn capture(self) -> Result<Captured> {
        interrupt::check()?;
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|e| self.spawn_failure(&e))?;
        let registered = interrupt::Registered::new(&child);
        let output = child
            .wait_with_output()
            .map_err(|e| Error::failed("cannot wait for a child").because(&e))?;
        drop(registered);
        interrupt::check()?;
        let ended = if output.status.success() {
            Ok(())
        } else {
            Err(ToolFailure {
                what: format!("{} {}", self.name(), ending(output.status)),
                ended: false,
                code: output.status.code(),
                tail: last_lines(&output.stderr),
            })
        };
        Ok(Captured {
            ended,
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }

    /// Runs with what `write` writes as its standard input.
    pub fn feed(self, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
        interrupt::check()?;
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .process_group(0)
            .spawn()
            .map_err(|e| self.spawn_failure(&e))?;
        let registered = interrupt::Registered::new(&child);
        let input = child.stdin.take();
        // Its complaints are read meanwhile: it could wait for that else.
        let reader = std::thread::spawn(move || child.wait_with_output());
        let mut input = Fed {
            input,
            is_shut: false,
        };
        let written = write(&mut input);
        let is_shut = input.is_shut;
        drop(input);
        let ended = reader
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("a thread died")));
        let output = ended.map_err(|e| Error::failed("cannot wait for a child").because(&e))?;
        drop(registered);
        interrupt::check()?;
        match written {
            // The program did not shut its input: it got too little of it for this reason.
            Err(error) if !is_shut => Err(error),
            _ if !output.status.success() => Err(Error::from(ToolFailure {
                what: format!("{} {}", self.name(), ending(output.status)),
                ended: false,
                code: output.status.code(),
                tail: last_lines(&output.stderr),
            })),
            // It had enough, and what was to be written has not been written to its end.
            written => written,
        }
    }

    /// Replaces this process by the program.
    pub fn exec(self) -> Error {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).envs(self.env.iter().cloned());
        let error = command.exec();
        self.spawn_failure(&error)
    }
}
