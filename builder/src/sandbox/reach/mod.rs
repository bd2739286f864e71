//! What a step without network tried to reach.
//!
//! A step that needs something undeclared fails as if the network were down,
//! and often says little about it. So the sandbox's first process watches the
//! calls that name somebody outside: connect(2), sendto(2), and the queries of
//! name lookups. The kernel asks it about each one (seccomp(2),
//! `SECCOMP_RET_USER_NOTIF`) and is always told to go on: for the step nothing
//! changes, and a failure can name what was missing.
//!
//! ```text
//! init ── filter ──▶ command          connect(192.0.2.7:443)
//!   └ witness thread ◀── kernel ◀───────┘   "go on"
//!        └ file beside the sandbox's description ──▶ the step's error
//! ```
//!
//! It is evidence for people, not a fence; the fence is the empty network. Where
//! the kernel cannot do this, or somebody watches imgbuild in the same way
//! already, there is just nothing to tell.

mod address;
mod notify;

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use self::address::Peer;
use self::notify::{Call, Listener};
use super::HOSTNAME;
use crate::error::{Context, Error, Result};
use crate::process::ToolFailure;

/// The ending of the file beside a sandbox's description in which the witness writes.
const REACHED: &str = "reached";
/// More than these are not told.
const MAX: usize = 10;

/// Where the witness of the sandbox described at `spec` writes.
fn file_for(spec: &Path) -> PathBuf {
    spec.with_extension(REACHED)
}

/// A command that failed in a sandbox.
#[derive(Debug)]
pub struct Failure {
    tool: ToolFailure,
    reached: Vec<String>,
}

impl Failure {
    pub(super) fn new(tool: ToolFailure, reached: Vec<String>) -> Self {
        Self { tool, reached }
    }

    /// Names and addresses outside that it tried to reach, e.g.
    /// `192.0.2.7 port 443`; none where the network was there.
    pub fn reached(&self) -> &[String] {
        &self.reached
    }

    /// An error with the last lines of output as evidence.
    pub fn into_error(self) -> Error {
        self.tool.into_error()
    }
}

/// The builder's end: the file that the witness fills.
#[derive(Debug)]
pub(super) struct Report(tempfile::TempPath);

impl Report {
    pub(super) fn create(spec: &Path) -> Result<Self> {
        let path = file_for(spec);
        let failed = || format!("cannot write {}", path.display());
        File::create(&path).context(failed)?;
        Ok(Self(
            tempfile::TempPath::try_from_path(&path).context(failed)?,
        ))
    }

    /// What was written; a witness that was killed while writing left less.
    pub(super) fn read(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().take(MAX + 1).map(str::to_owned).collect()
    }
}

/// Init's end: from here on, what this thread starts is watched.
pub(super) fn watch(spec: &Path) {
    let Ok(file) = OpenOptions::new().write(true).open(file_for(spec)) else {
        return;
    };
    // The witness must not be watched itself: it is there before the filter.
    let (send, listeners) = mpsc::channel::<Listener>();
    std::thread::spawn(move || {
        if let Ok(listener) = listeners.recv() {
            Witness::new(file).listen(&listener);
        }
    });
    if let Ok(listener) = notify::install() {
        let _ = send.send(listener);
    }
}

/// Hears of calls and keeps what they name.
struct Witness {
    file: File,
    seen: Seen,
}

impl Witness {
    fn new(file: File) -> Self {
        Self {
            file,
            seen: Seen::default(),
        }
    }

    fn listen(mut self, listener: &Listener) {
        while let Some(call) = listener.next() {
            if self.seen.len() <= MAX && self.look(&call) == Some(true) {
                self.write();
            }
            listener.go_on(&call);
        }
    }

    /// Whether the call named something new. The process may change its memory
    /// meanwhile: then the evidence is wrong, and nothing else.
    fn look(&mut self, call: &Call) -> Option<bool> {
        let memory = File::open(format!("/proc/{}/mem", call.pid)).ok()?;
        let bytes = |at: u64, length: u64| {
            let mut buffer = vec![0; usize::try_from(length.min(512)).ok()?];
            let read = memory.read_at(&mut buffer, at).ok()?;
            buffer.truncate(read);
            Some(buffer)
        };
        let [_, second, third, _, fifth, sixth] = call.arguments;
        Some(match call.number {
            libc::SYS_connect => self.seen.peer(Peer::parse(&bytes(second, third)?)?),
            libc::SYS_sendto => {
                let to = (fifth != 0).then(|| Peer::parse(&bytes(fifth, sixth)?));
                let to = to.flatten();
                let query = self.seen.asks(to).then(|| bytes(second, third)).flatten();
                let named = query.is_some_and(|q| self.seen.query(&q));
                to.is_some_and(|to| self.seen.peer(to)) | named
            }
            libc::SYS_sendmmsg if self.seen.asks(None) => {
                let mut new = false;
                for at in notify::first_pieces(second, third, &bytes) {
                    new |= self.seen.query(&bytes(at.0, at.1)?);
                }
                new
            }
            _ => false,
        })
    }

    fn write(&mut self) {
        let text: String = self.seen.lines().map(|line| line + "\n").collect();
        // Evidence is lost when the disk is full; the step itself goes on.
        let _ = self.file.rewind();
        let _ = self.file.write_all(text.as_bytes());
        let _ = self.file.set_len(text.len() as u64);
    }
}

/// Names and addresses in the order in which they came up.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    peers: Vec<Peer>,
    name_server: bool,
    /// Whether some query could be read.
    understood: bool,
}

impl Seen {
    fn len(&self) -> usize {
        self.names.len() + self.peers.len()
    }

    fn peer(&mut self, peer: Peer) -> bool {
        if peer.port == address::NAME_SERVER {
            return !std::mem::replace(&mut self.name_server, true);
        }
        let new = !peer.is_here() && !self.peers.contains(&peer);
        if new {
            self.peers.push(peer);
        }
        new
    }

    /// Whether what is sent there may be a query.
    fn asks(&self, to: Option<Peer>) -> bool {
        to.map_or(self.name_server, |to| to.port == address::NAME_SERVER)
    }

    fn query(&mut self, packet: &[u8]) -> bool {
        let Some(name) = address::question(packet) else {
            return false;
        };
        let first = !std::mem::replace(&mut self.understood, true);
        // Programs look their own machine up.
        let new = name != HOSTNAME && !self.names.contains(&name);
        if new {
            self.names.push(name);
        }
        first || new
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let names = self
            .names
            .iter()
            .map(|name| format!("{name} (name lookup)"));
        let peers = self.peers.iter().map(Peer::to_string);
        let server = self.name_server && !self.understood;
        let server = server.then(|| "a name server".to_owned());
        let all = names.chain(peers).chain(server);
        let more = (self.len() > MAX).then(|| "more".to_owned());
        all.take(MAX).chain(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_of_the_machine_itself_is_nothing() {
        let mut seen = Seen {
            name_server: true,
            ..Seen::default()
        };
        assert_eq!(seen.lines().next().unwrap(), "a name server");
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x08imgbuild\0\0\x01\0\x01";
        assert!(seen.query(query), "what was written is wrong now");
        assert_eq!(seen.lines().next(), None);
        assert!(!seen.query(query));
    }

    #[test]
    fn names_come_first_and_the_list_ends() {
        let mut seen = Seen::default();
        let peer = |text: &str| Peer {
            address: text.parse().unwrap(),
            port: 443,
        };
        assert!(seen.peer(peer("192.0.2.7")));
        assert!(!seen.peer(peer("192.0.2.7")));
        assert!(!seen.peer(peer("127.0.0.1")));
        assert!(!seen.asks(None));
        assert!(seen.peer(Peer {
            address: "127.0.0.1".parse().unwrap(),
            port: 53
        }));
        assert!(seen.asks(None));
        assert_eq!(
            seen.lines().collect::<Vec<_>>(),
            ["192.0.2.7 port 443", "a name server"]
        );
        for i in 0..12 {
            seen.peer(peer(&format!("192.0.2.{i}")));
        }
        assert_eq!(seen.lines().count(), MAX + 1);
        assert_eq!(seen.lines().last().unwrap(), "more");
    }
}
