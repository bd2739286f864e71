//! The one place that runs other programs.
//!
//! A [`Tool`] is argv plus a clean environment. [`Tool::run`] streams its output
//! line by line into a log and to a listener, enforces a time-out, and turns a
//! failure into an error that names the command and quotes its last lines.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};
use crate::interrupt;

/// The search path of every program we start.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A log is cut here; a program that prints without end must not fill the disk.
const MAX_LOG: u64 = 64 << 20;
/// Longer lines are cut for the listener and the error text.
const MAX_LINE: usize = 4096;
/// How many last lines an error quotes.
const TAIL: usize = 15;

/// A program to run.
#[derive(Debug)]
pub struct Tool {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    timeout: Option<Duration>,
    called: Option<String>,
}

/// Why a tool did not succeed; becomes an [`Error`] with [`ToolFailure::into_error`].
#[derive(Debug)]
pub struct ToolFailure {
    what: String,
    tail: Vec<String>,
}

impl ToolFailure {
    /// The last lines of output.
    pub fn tail(&self) -> &[String] {
        &self.tail
    }

    /// An error with the last lines as evidence.
    pub fn into_error(self) -> Error {
        let mut error = Error::failed(self.what);
        for line in self.tail {
            error = error.detail(line);
        }
        error
    }
}

impl From<ToolFailure> for Error {
    fn from(failure: ToolFailure) -> Self {
        failure.into_error()
    }
}

/// Where output goes besides the error text.
pub struct Output<'a> {
    /// The step's log file, if it keeps one.
    pub log: Option<&'a mut File>,
    /// Hears every line.
    pub listen: &'a mut dyn FnMut(&str),
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
        }
    }

    /// What errors call it, for a program behind wrappers.
    #[must_use]
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.called = Some(name.into());
        self
    }

    /// A program that keeps the caller's environment; only for [`Tool::exec`].
    pub fn inherit(program: impl AsRef<OsStr>) -> Self {
        Self {
            argv: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            timeout: None,
            called: None,
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

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
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

    /// Runs to the end with output streamed. Ends with us in any case.
    pub fn run(self, output: Output<'_>) -> Result<std::result::Result<(), ToolFailure>> {
        interrupt::check()?;
        let (reader, writer) =
            std::io::pipe().map_err(|e| Error::failed("cannot make a pipe").because(&e))?;
        let stderr = writer
            .try_clone()
            .map_err(|e| Error::failed("cannot make a pipe").because(&e))?;
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(stderr)
            .process_group(0);
        let mut child = command.spawn().map_err(|e| self.spawn_failure(&e))?;
        drop(command); // closes our copies of the pipe's write end
        let registered = interrupt::Registered::new(&child);
        let (send, lines) = mpsc::sync_channel::<Vec<u8>>(256);
        let pump = std::thread::spawn(move || pump(reader, &send));

        let (tail, timed_out) = self.listen(&lines, output);
        if timed_out && let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(lines);
        let status = child
            .wait()
            .map_err(|e| Error::failed("cannot wait for a child").because(&e))?;
        drop(registered);
        let _ = pump.join();
        interrupt::check()?;

        if timed_out {
            let limit = self.timeout.unwrap_or_default().as_secs();
            return Ok(Err(ToolFailure {
                what: format!(
                    "{} was ended after its time limit of {limit} s",
                    self.name()
                ),
                tail: tail.into(),
            }));
        }
        if status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(ToolFailure {
            what: format!("{} {}", self.name(), ending(status)),
            tail: tail.into(),
        }))
    }

    /// Hears lines until the program's output ends or its time is over.
    fn listen(
        &self,
        lines: &mpsc::Receiver<Vec<u8>>,
        mut output: Output<'_>,
    ) -> (VecDeque<String>, bool) {
        let deadline = self.timeout.map(|limit| Instant::now() + limit);
        let mut tail = VecDeque::with_capacity(TAIL + 1);
        let mut logged = 0u64;
        loop {
            let line = match deadline {
                None => lines.recv().ok(),
                Some(at) => {
                    match lines.recv_timeout(at.saturating_duration_since(Instant::now())) {
                        Ok(line) => Some(line),
                        Err(mpsc::RecvTimeoutError::Disconnected) => None,
                        Err(mpsc::RecvTimeoutError::Timeout) => return (tail, true),
                    }
                }
            };
            let Some(line) = line else {
                return (tail, false);
            };
            if let Some(log) = output.log.as_deref_mut()
                && logged < MAX_LOG
            {
                logged += line.len() as u64;
                // A full disk shows in the step itself; the log is best effort.
                let _ = log.write_all(&line);
                if logged >= MAX_LOG {
                    let _ = log.write_all(b"\n[the log is cut here]\n");
                }
            }
            let shown = &line[..line.len().min(MAX_LINE)];
            let text = String::from_utf8_lossy(shown);
            let text = text.trim_end_matches(['\n', '\r']);
            let text = text.rsplit('\r').next().unwrap_or(text);
            if !text.trim().is_empty() {
                tail.push_back(text.to_owned());
                if tail.len() > TAIL {
                    tail.pop_front();
                }
                (output.listen)(text);
            }
        }
    }

    /// Runs with the caller's terminal, for an interactive shell.
    pub fn run_interactive(self) -> Result<ExitStatus> {
        let mut command = self.command();
        command.status().map_err(|e| self.spawn_failure(&e))
    }

    /// Runs and returns stdout; stderr becomes the evidence of a failure.
    pub fn output(self) -> Result<Vec<u8>> {
        interrupt::check()?;
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = command
            .process_group(0)
            .output()
            .map_err(|e| self.spawn_failure(&e))?;
        interrupt::check()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let mut tail: Vec<String> = text
            .lines()
            .rev()
            .filter(|l| !l.trim().is_empty())
            .take(TAIL)
            .map(Into::into)
            .collect();
        tail.reverse();
        let what = format!("{} {}", self.name(), ending(output.status));
        Err(ToolFailure { what, tail }.into_error())
    }

    /// Replaces this process by the program.
    pub fn exec(self) -> Error {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).envs(self.env.iter().cloned());
        let error = command.exec();
        self.spawn_failure(&error)
    }
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".into(),
    }
}

/// Splits output into lines of bounded length; ends when nobody listens.
fn pump(reader: impl Read, send: &mpsc::SyncSender<Vec<u8>>) {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if send.send(line).is_err() {
                    return;
                }
            }
        }
    }
}

/// Quotes a word for `sh`.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./=:,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_sh() {
        for word in [
            "",
            "plain",
            "two words",
            "it's",
            "$HOME `x` \"y\"",
            "a\nb",
            "--flag=é",
        ] {
            let out = Tool::new("sh")
                .args(["-c", &format!("printf %s {}", quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), word);
        }
    }

    #[test]
    fn a_failure_names_the_program_and_its_last_lines() {
        let mut heard = Vec::new();
        let failure = Tool::new("sh")
            .args(["-c", "seq 1 40; echo oops >&2; exit 7"])
            .run(Output {
                log: None,
                listen: &mut |l| heard.push(l.to_owned()),
            })
            .unwrap()
            .unwrap_err();
        assert_eq!(failure.what, "sh failed with exit code 7");
        assert_eq!(failure.tail.len(), TAIL);
        assert_eq!(failure.tail.last().unwrap(), "oops");
        assert_eq!(heard.len(), 41);
    }

    #[test]
    fn a_hanging_program_is_ended_at_its_time_limit() {
        let started = Instant::now();
        let failure = Tool::new("sh")
            .args(["-c", "echo begun; sleep 600"])
            .timeout(Duration::from_millis(300))
            .run(Output {
                log: None,
                listen: &mut |_| {},
            })
            .unwrap()
            .unwrap_err();
        assert!(failure.what.contains("time limit"), "{}", failure.what);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
