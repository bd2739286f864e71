//! The one place that runs other programs.
//!
//! A [`Tool`] is argv plus a clean environment. [`Tool::run`] streams its output
//! line by line into a log and to a listener, enforces a time-out, and turns a
//! failure into an error that names the command and quotes its last lines.

pub mod watch;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use self::watch::Watch;
use crate::error::{Error, Result};
use crate::interrupt;

/// How often a download is looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// The search path of every program we start.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A log is cut here; a program that prints without end must not fill the disk.
const MAX_LOG: u64 = 64 << 20;
/// Longer lines are cut for the listener and the error text.
const MAX_LINE: usize = 4096;
/// How much output is handed on at once.
const MAX_BLOCK: usize = 1 << 16;
/// How many last lines an error quotes.
const TAIL: usize = 15;

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

/// Why a tool did not succeed; becomes an [`Error`] with [`ToolFailure::into_error`].
#[derive(Debug)]
pub struct ToolFailure {
    what: String,
    ended: bool,
    code: Option<i32>,
    tail: Vec<String>,
}

impl ToolFailure {
    /// The program's exit code, when it ended by itself.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// What became of the program.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether we ended it: its time was over, or what it downloads stood still.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

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

/// What a program did and wrote.
pub struct Captured {
    /// Whether it succeeded.
    pub ended: std::result::Result<(), ToolFailure>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote besides.
    pub stderr: Vec<u8>,
}

/// Where output goes besides the error text.
pub struct Output<'a> {
    /// The step's log file, if it keeps one.
    pub log: Option<&'a mut File>,
    /// Hears every line.
    pub listen: &'a mut dyn FnMut(&str),
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

    /// Runs to the end with output streamed. Ends with us in any case.
    pub fn run(mut self, output: Output<'_>) -> Result<std::result::Result<(), ToolFailure>> {
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
        let (send, lines) = mpsc::sync_channel::<Vec<u8>>(16);
        let pump = std::thread::spawn(move || pump(reader, &send));

        let watch = self.watch.take();
        let (tail, ended) = self.listen(&lines, watch, output);
        if ended.is_some()
            && let Some(group) = Pid::from_raw(child.id().cast_signed())
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(lines);
        let status = child
            .wait()
            .map_err(|e| Error::failed("cannot wait for a child").because(&e))?;
        drop(registered);
        let _ = pump.join();
        interrupt::check()?;

        if let Some(why) = ended {
            return Ok(Err(ToolFailure {
                what: format!("{} was ended {why}", self.name()),
                ended: true,
                code: None,
                tail: tail.into(),
            }));
        }
        if status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(ToolFailure {
            what: format!("{} {}", self.name(), ending(status)),
            ended: false,
            code: status.code(),
            tail: tail.into(),
        }))
    }

    /// Hears lines until the program's output ends or the program must be ended,
    /// and says why.
    fn listen(
        &self,
        blocks: &mpsc::Receiver<Vec<u8>>,
        mut watch: Option<Watch>,
        mut output: Output<'_>,
    ) -> (VecDeque<String>, Option<String>) {
        let deadline = self.timeout.map(|limit| Instant::now() + limit);
        let mut tail = VecDeque::with_capacity(TAIL + 1);
        let mut logged = 0u64;
        let ended = loop {
            // A program that prints without end has a time limit as well.
            let now = Instant::now();
            if deadline.is_some_and(|at| now >= at) {
                let limit = self.timeout.unwrap_or_default().as_secs();
                break Some(format!("after its time limit of {limit} s"));
            }
            if let Some(why) = watch.as_mut().and_then(Watch::look) {
                break Some(format!("because {why}"));
            }
            let glance = watch.is_some().then(|| now + GLANCE);
            let block = match deadline.into_iter().chain(glance).min() {
                None => blocks.recv().ok(),
                Some(at) => match blocks.recv_timeout(at.saturating_duration_since(now)) {
                    Ok(block) => Some(block),
                    Err(mpsc::RecvTimeoutError::Disconnected) => None,
                    Err(mpsc::RecvTimeoutError::Timeout) => continue,
                },
            };
            let Some(block) = block else { break None };
            if let Some(log) = output.log.as_deref_mut()
                && logged < MAX_LOG
            {
                logged += block.len() as u64;
                // A full disk shows in the step itself; the log is best effort.
                let _ = log.write_all(&block);
            }
            for line in block.split_inclusive(|&b| b == b'\n') {
                let text = plain(&String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]));
                if text.trim().is_empty() {
                    continue;
                }
                (output.listen)(&text);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(text);
            }
        };
        if let Some(log) = output.log
            && logged >= MAX_LOG
        {
            let _ = writeln!(log, "\n[the log is cut here; the last lines were:]");
            for line in &tail {
                let _ = writeln!(log, "{line}");
            }
        }
        (tail, ended)
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

/// The last lines of output as they may be shown.
pub fn last_lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().rev().map(plain);
    let mut tail: Vec<String> = lines.filter(|l| !l.trim().is_empty()).take(TAIL).collect();
    tail.reverse();
    tail
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".into(),
    }
}

/// Sends output on in blocks of whole lines, of bounded length; ends when
/// nobody listens.
fn pump(mut reader: impl Read, send: &mpsc::SyncSender<Vec<u8>>) {
    let mut pending = Vec::new();
    let mut buffer = vec![0; MAX_BLOCK];
    loop {
        let read = match reader.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(read) if read > 0 => read,
            _ => break,
        };
        pending.extend_from_slice(&buffer[..read]);
        let whole = match memchr::memrchr(b'\n', &pending) {
            Some(at) => at + 1,
            None if pending.len() < MAX_BLOCK => continue,
            None => pending.len(),
        };
        let rest = pending.split_off(whole);
        if send.send(std::mem::replace(&mut pending, rest)).is_err() {
            return;
        }
    }
    if !pending.is_empty() {
        let _ = send.send(pending);
    }
}

/// A line as it may be shown: what a carriage return leaves to see, without
/// escape sequences (ECMA-48) and other controls, which belong to a terminal.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\x07' && c != '\\') {},
                _ => {}
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
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
    use crate::error::Context;

    #[test]
    fn what_went_wrong_first_is_told_of_a_program_that_is_fed() {
        let feed = |script: &str, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>| {
            Tool::new("sh").args(["-c", script]).feed(write)
        };
        let all = |input: &mut dyn Write| {
            let failed = || "cannot write".to_owned();
            (0..512).try_for_each(|_| input.write_all(&[0; 1 << 13]).context(failed))
        };
        feed("cat > /dev/null", &mut |input| all(input)).unwrap();
        let ours = feed("cat > /dev/null; exit 3", &mut |_| {
            Err(Error::failed("damaged"))
        });
        assert_eq!(ours.unwrap_err().to_string(), "damaged");
        let its = feed("echo full >&2; exit 3", &mut |input| all(input)).unwrap_err();
        assert_eq!(its.causes(), ["full"], "{its}");
        // What it did not want is not taken for read.
        let enough = feed("exit 0", &mut |input| all(input)).unwrap_err();
        assert_eq!(enough.to_string(), "cannot write");
    }

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
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(plain("\x1b[1;31mred\x1b[0m\tx\x07\n"), "red\tx");
        assert_eq!(plain("\x1b]0;title\x07text"), "text");
        assert_eq!(plain("10%\r20%\r\n"), "20%");
        assert_eq!(plain("cut \x1b[3"), "cut ");
    }

    #[test]
    fn a_program_that_prints_for_ever_is_ended_at_its_time_limit() {
        let failure = Tool::new("yes")
            .timeout(Duration::from_millis(300))
            .run(Output {
                log: None,
                listen: &mut |_| {},
            })
            .unwrap()
            .unwrap_err();
        assert!(failure.what.contains("time limit"), "{}", failure.what);
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
