//! Output of a program while it runs: into its log, to a listener, and as the last lines of an error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Tool;
use super::failure::{ToolFailure, ending};
use super::text::{TAIL, plain};
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::interrupt;

/// How often a download is looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// A log is cut here; a program that prints without end must not fill the disk.
const MAX_LOG: u64 = 64 << 20;
/// Longer lines are cut for the listener and the error text.
const MAX_LINE: usize = 4096;
/// How much output is handed on at once.
const MAX_BLOCK: usize = 1 << 16;

/// Where output goes besides the error text.
pub struct Output<'a> {
    /// The step's log file, if it keeps one.
    pub log: Option<&'a mut File>,
    /// Hears every line.
    pub listen: &'a mut dyn FnMut(&str),
}

impl Tool {
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
