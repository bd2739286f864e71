//! Running programs of the host, in one place.
//!
//! A command is a list of words, never a line for a shell. Each run is announced to the observer,
//! gets no terminal and no input, leads its own process group, and is killed with that group when
//! its time is over. Output is read while the program runs and only its end is kept, so a program
//! that prints gigabytes costs us nothing. A failure names the command, how it ended and the last
//! lines it said.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    waitid,
};

use super::descriptors;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};

/// Bytes of the end of each stream that are kept.
const KEEP: usize = 64 << 10;
/// Lines of a failed command that its error repeats.
const SHOWN_LINES: usize = 8;
/// How long the pipes of a program that has ended are read on: a daemon may hold them open.
const GRACE: Duration = Duration::from_millis(300);

/// A program with its words.
#[derive(Debug)]
pub struct HostCommand {
    words: Vec<String>,
    timeout: Duration,
    environment: Vec<(String, String)>,
    sockets: Vec<OwnedFd>,
}

/// How a program ended and the end of what it said.
#[derive(Debug)]
pub struct Finished {
    /// The words it was started with.
    pub words: Vec<String>,
    /// Exit status; `None` when its time was over.
    pub status: Option<ExitStatus>,
    /// The end of its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
    timeout: Duration,
}

impl HostCommand {
    /// A run of `program`, looked up in PATH, for at most a minute.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            words: vec![program.into()],
            timeout: Duration::from_secs(60),
            environment: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// Adds one word.
    #[must_use]
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.words.push(word.into());
        self
    }

    /// Adds words.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Puts the words of another program in front, which then starts this one.
    #[must_use]
    pub fn wrapped_by<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.words.splice(0..0, words.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Passes sockets on as descriptors 3, 4 and so on, where it is detached.
    #[must_use]
    pub fn sockets(mut self, sockets: Vec<OwnedFd>) -> Self {
        self.sockets = sockets;
        self
    }

    /// The time after which it is killed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the program to its end, whatever that is; an error only when it cannot be started.
    pub fn finish(self, observer: &dyn Observer) -> Result<Finished> {
        observer.event(Event::Command(&self.words));
        let mut command = self.command();
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| self.cannot_start(&error))?;
        let stdout = Tail::follow(child.stdout.take());
        let stderr = Tail::follow(child.stderr.take());
        let status = wait(&mut child, self.timeout)
            .context(|| format!("cannot wait for {}", self.words[0]))?;
        if status.is_none() {
            kill_group(&child);
            let _ = child.wait();
        }
        let until = Instant::now() + GRACE;
        Ok(Finished {
            words: self.words,
            status,
            stdout: stdout.end(until),
            stderr: stderr.end(until),
            timeout: self.timeout,
        })
    }

    /// Runs the program to its end; anything but success is an error.
    pub fn run(self, observer: &dyn Observer) -> Result<Finished> {
        let ended = self.finish(observer)?;
        if ended.success() {
            Ok(ended)
        } else {
            Err(ended.error())
        }
    }

    /// Starts the program with `input` as its standard input, its standard output to be read. It ends with
    /// the [`OutputStream`].
    pub fn stream(self, input: File, observer: &dyn Observer) -> Result<OutputStream> {
        observer.event(Event::Command(&self.words));
        let mut command = self.command();
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| self.cannot_start(&error))?;
        let output = child.stdout.take();
        let output =
            output.ok_or_else(|| Error::failed(format!("{} has no output", self.words[0])))?;
        Ok(OutputStream {
            output: Box::new(output),
            child: Some(child),
        })
    }

    /// Starts the program in a session of its own, without terminal, both streams going to `log`, and does
    /// not wait. `setsid` of util-linux execs the program in the same process.
    pub fn detach(self, log: &File, observer: &dyn Observer) -> Result<Child> {
        let words = [vec!["setsid".to_owned()], self.words].concat();
        let detached = Self { words, ..self };
        observer.event(Event::Command(&detached.words));
        let streams = || log.try_clone().context(|| "cannot share the log file");
        let mut command = detached.command();
        command.stdout(streams()?).stderr(streams()?);
        let kept = match &detached.sockets[..] {
            [] => Ok(Vec::new()),
            sockets => descriptors::pass_on(&mut command, sockets),
        };
        let _kept = kept.context(|| "cannot pass on sockets")?;
        command
            .spawn()
            .map_err(|error| detached.cannot_start(&error))
    }

    /// Becomes the program, which has our streams; returns only when it cannot.
    pub fn become_it(self, observer: &dyn Observer) -> Error {
        observer.event(Event::Command(&self.words));
        let error = self.command().stdin(Stdio::inherit()).exec();
        self.cannot_start(&error)
    }

    /// Runs the program with our streams to its end. When the operator wants us to stop, it is asked to.
    pub fn accompany(self, observer: &dyn Observer, cancel: &AtomicBool) -> Result<ExitStatus> {
        self.begin(observer)?.end(cancel, || ())
    }

    /// Starts the program with our streams.
    pub fn begin(self, observer: &dyn Observer) -> Result<Accompanied> {
        observer.event(Event::Command(&self.words));
        let mut command = self.command();
        command.stdin(Stdio::inherit());
        let child = command.spawn().map_err(|error| self.cannot_start(&error))?;
        let name = self.words.into_iter().next().unwrap_or_default();
        Ok(Accompanied { child, name })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .stdin(Stdio::null())
            .current_dir("/");
        command.env("PATH", search_path(std::env::var_os("PATH")));
        // Messages are read by people and by us: one language.
        command
            .env("LC_ALL", "C.UTF-8")
            // Who manages us need not hear of them.
            .env_remove("NOTIFY_SOCKET")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn cannot_start(&self, error: &std::io::Error) -> Error {
        let name = &self.words[0];
        let failed = Error::failed(format!("cannot start {name}")).source(error);
        match (error.kind(), package_of(name)) {
            (std::io::ErrorKind::NotFound, Some(package)) => {
                failed.hint(format!("apt-get install {package}"))
            }
            _ => failed,
        }
    }
}

/// The path in which programs are looked for: what cron(8) and su(1) give leaves out those of administrators.
fn search_path(ours: Option<OsString>) -> OsString {
    let ours = ours.filter(|path| !path.is_empty());
    let mut path = ours.unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// A program that has our streams.
#[derive(Debug)]
pub struct Accompanied {
    child: Child,
    name: String,
}

impl Accompanied {
    /// Waits for its end. When the operator wants us to stop, it is asked to. `meanwhile` is called each second.
    pub fn end(mut self, cancel: &AtomicBool, mut meanwhile: impl FnMut()) -> Result<ExitStatus> {
        let mut told = false;
        loop {
            let failed = || format!("cannot wait for {}", self.name);
            if let Some(status) = wait(&mut self.child, Duration::from_secs(1)).context(failed)? {
                return Ok(status);
            }
            meanwhile();
            if cancel.load(Ordering::Relaxed) && !told {
                told = true;
                let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // It may be gone this moment.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    }
}

/// A stream of bytes, and the program that makes them, if any.
pub struct OutputStream {
    output: Box<dyn Read>,
    child: Option<Child>,
}

impl OutputStream {
    /// A stream of bytes that no program makes.
    pub fn plain(output: impl Read + 'static) -> Self {
        Self {
            output: Box::new(output),
            child: None,
        }
    }
}

impl Read for OutputStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Drop for OutputStream {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The failure as an error: command, end, last lines.
    pub fn error(&self) -> Error {
        let how = match self.status {
            None => format!("was killed after {} s", self.timeout.as_secs()),
            Some(status) => describe(status),
        };
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let mut error = Error::failed(format!("`{}` {how}", join(&self.words)));
        for line in last_lines(said, SHOWN_LINES) {
            error = error.cause(line);
        }
        error
    }
}

/// How a program ended, in words: `ended with exit code 2` or `was killed by signal 9`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The words of a command for a message; quoted only where a reader would be misled.
pub fn join(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = !word.is_empty()
            && !word
                .contains(|c: char| c.is_whitespace() || c.is_control() || "'\"$`\\".contains(c));
        if plain {
            word.clone()
        } else {
            format!("{word:?}")
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The last `count` lines that say something, control characters made harmless.
pub fn last_lines(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| {
            line.chars()
                .map(|c| {
                    if c.is_control() && c != '\t' {
                        '\u{fffd}'
                    } else {
                        c
                    }
                })
                .collect()
        })
        .collect()
}

/// Whether a program of the host is there.
pub fn available(program: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|directory| is_program(&directory.join(program)))
}

/// Whether a path is a file that somebody may execute.
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn package_of(program: &str) -> Option<&'static str> {
    match program {
        "schroot" => Some("schroot"),
        "setsid" => Some("util-linux"),
        "systemd-run" => Some("systemd"),
        "xz" => Some("xz-utils"),
        "btrfs" => Some("btrfs-progs"),
        "lvs" | "vgs" | "lvcreate" | "lvchange" | "lvremove" => Some("lvm2"),
        "mkfs.xfs" => Some("xfsprogs"),
        "mkfs.ext4" => Some("e2fsprogs"),
        _ => None,
    }
}

/// Waits at most `timeout`; `None` when the child still runs then.
pub fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + timeout;
    // A kernel before 5.3 has none.
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let told = process.as_ref().is_some_and(|process| {
            let left = Timespec::try_from(left).ok();
            poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()).is_ok()
        });
        if !told {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Whether a child has ended; it can be waited for afterwards as if nobody had asked.
pub fn has_ended(child: &Child) -> std::io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(std::io::ErrorKind::InvalidInput)?;
    let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), only_look)?.is_some())
}

fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The end of a stream, gathered by a thread of its own.
struct Tail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Tail {
    fn follow(stream: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let reader = stream.map(|mut stream| {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut block = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut block) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(&block[..count]);
                    let excess = kept.len().saturating_sub(KEEP);
                    kept.drain(..excess);
                }
            })
        });
        Self { kept, reader }
    }

    fn end(self, until: Instant) -> String {
        while self
            .reader
            .as_ref()
            .is_some_and(|reader| !reader.is_finished())
            && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(1));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;

    fn sh(script: &str) -> HostCommand {
        HostCommand::new("sh").args(["-c", script])
    }

    #[test]
    fn a_failure_names_command_code_and_last_lines() {
        let error = sh("echo one; echo two >&2; exit 4")
            .run(&Silent)
            .unwrap_err();
        assert!(
            error.what().ends_with("ended with exit code 4"),
            "{}",
            error.what()
        );
        assert_eq!(error.causes(), ["two"]);
    }

    #[test]
    fn a_hang_is_ended_with_everything_it_started() {
        let begun = Instant::now();
        let ended = sh("sleep 60 & sleep 60")
            .timeout(Duration::from_millis(200))
            .finish(&Silent)
            .unwrap();
        assert!(ended.status.is_none());
        assert!(begun.elapsed() < Duration::from_secs(50));
        assert!(ended.error().what().contains("was killed after"));
    }

    #[test]
    fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
        let begun = Instant::now();
        let ended = sh("setsid sleep 30 & echo done").finish(&Silent).unwrap();
        assert_eq!(ended.stdout, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(25));
    }

    #[test]
    fn endless_output_is_cut_to_its_end() {
        let ended = sh("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end")
            .run(&Silent)
            .unwrap();
        assert!(ended.stdout.len() <= KEEP);
        assert!(ended.stdout.ends_with("end\n"));
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = HostCommand::new("schroot")
            .env("PATH", "/nonexistent")
            .run(&Silent);
        // `Command` looks programs up in the PATH it is given.
        assert_eq!(error.unwrap_err().advice(), Some("apt-get install schroot"));
    }

    #[test]
    fn a_child_that_was_seen_to_end_can_still_be_waited_for() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        while !has_ended(&child).unwrap() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(3));
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!has_ended(&child).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn words_are_quoted_only_where_needed() {
        let words = ["a".to_owned(), "b c".to_owned(), String::new()];
        assert_eq!(join(&words), "a \"b c\" \"\"");
    }

    #[test]
    fn programs_of_administrators_are_found_whoever_starts_us() {
        let found = |path: Option<&str>| {
            let path = search_path(path.map(OsString::from));
            available("sh", &path) && available("ldconfig", &path)
        };
        assert!(found(Some("/usr/bin:/bin")) && found(Some("")) && found(None));
        let path = search_path(Some("/first".into()));
        assert!(path.to_str().unwrap().starts_with("/first:"));
    }

    #[test]
    fn the_debian_package_names_what_brings_programs() {
        let control = include_str!("../../debian/control");
        let fields = ["Depends:", "Recommends:", "Suggests:"];
        let named: Vec<&str> = control
            .lines()
            .filter(|line| fields.iter().any(|field| line.starts_with(field)))
            .flat_map(|line| line.split([' ', ',']))
            .collect();
        for program in [
            "schroot",
            "xz",
            "btrfs",
            "lvcreate",
            "mkfs.xfs",
            "mkfs.ext4",
        ] {
            let package = package_of(program).unwrap();
            assert!(named.contains(&package), "{program}: {package}");
        }
    }
}
