//! The pages over HTTP, for one person on this machine.
//!
//! GET and HEAD of what the list of pages names, and nothing else: a path is looked up in that list
//! and never leads to a file by itself. Each connection has one request and a thread of its own, as
//! browsers open connections that they do not use. On loopback, a request for the name of another host
//! is refused: a page from elsewhere could have its name lead here, and read what it got.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{document, site};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::interrupt;

/// The longest head of a request.
const MAX_HEAD: usize = 16 << 10;

/// Connections at a time; further ones are closed.
const MOST_CONNECTIONS: usize = 64;

/// How long a reader may take for each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of pages that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pages: Arc<Pages>,
}

/// What is served.
struct Pages {
    dir: PathBuf,
    names: BTreeSet<String>,
    is_loopback: bool,
}

impl Server {
    /// Listens on `HOST:PORT`, for the pages of a directory that this program wrote.
    pub fn listen(dir: &Path, address: &str) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            let shown = address.escape_default();
            Error::usage(format!("cannot serve at `{shown}`: {why}")).hint(
                "ADDRESS is HOST:PORT, as in 127.0.0.1:8080; of port 0 the kernel chooses one",
            )
        };
        let resolved = address.to_socket_addrs().map_err(|e| wrong(&e))?;
        let resolved: Vec<SocketAddr> = resolved.collect();
        let listener = TcpListener::bind(&resolved[..]).map_err(|e| match e.kind() {
            io::ErrorKind::AddrInUse => {
                let what = format!("another program listens on {}", address.escape_default());
                Error::new(ErrorKind::Busy, what).hint("--serve=127.0.0.1:0 takes any free port")
            }
            _ => wrong(&e),
        })?;
        listener.set_nonblocking(true).map_err(|e| wrong(&e))?;
        let address = listener.local_addr().map_err(|e| wrong(&e))?;
        let pages = Arc::new(Pages {
            dir: dir.to_owned(),
            names: site::pages(dir)?,
            is_loopback: address.ip().is_loopback(),
        });
        Ok(Self {
            listener,
            address,
            pages,
        })
    }

    /// Where a browser finds the first page.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves until a signal ends it; that is no error.
    pub fn run(&self) -> Result<()> {
        let open = Arc::new(AtomicUsize::new(0));
        let failed = || "cannot wait for readers".to_owned();
        while interrupt::check().is_ok() {
            let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
            // A signal does not wake this thread.
            let moment = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            match poll(&mut waiting, Some(&moment)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                other => other.context(failed)?,
            };
            // Whoever has gone away meanwhile is no concern of others.
            let Ok((stream, _)) = self.listener.accept() else {
                continue;
            };
            if open.load(Ordering::SeqCst) >= MOST_CONNECTIONS {
                continue;
            }
            open.fetch_add(1, Ordering::SeqCst);
            let (pages, counted) = (Arc::clone(&self.pages), Arc::clone(&open));
            std::thread::spawn(move || {
                let _ = pages.answer(stream);
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
        Ok(())
    }
}

/// An answer without its body.
struct Answer {
    status: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn plain(status: &'static str) -> Self {
        let body = format!("{status}\n").into_bytes();
        Self { status, body }
    }
}

impl Pages {
    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(head) = read_head(&mut stream)? else {
            return Ok(());
        };
        let (answer, with_body) = self.respond(&head);
        let kind = if answer.status.starts_with("200") {
            "text/html"
        } else {
            "text/plain"
        };
        let policy = document::security_policy();
        write!(
            stream,
            "HTTP/1.1 {}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: {policy}; frame-ancestors 'none'\r\n\r\n",
            answer.status,
            answer.body.len()
        )?;
        if with_body {
            stream.write_all(&answer.body)?;
        }
        stream.flush()
    }

    /// The answer to a request, and whether its body is wanted.
    fn respond(&self, head: &str) -> (Answer, bool) {
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let &[method, target, version] = &words[..] else {
            return (Answer::plain("400 Bad Request"), true);
        };
        if !version.starts_with("HTTP/1.") {
            return (Answer::plain("400 Bad Request"), true);
        }
        let with_body = method != "HEAD";
        if !matches!(method, "GET" | "HEAD") {
            return (Answer::plain("405 Method Not Allowed"), true);
        }
        let hosts = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then_some(value.trim())
        });
        let mut hosts = hosts.peekable();
        if self.is_loopback && (hosts.peek().is_none() || !hosts.all(is_own_host)) {
            return (Answer::plain("421 Misdirected Request"), with_body);
        }
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let name = match path.strip_prefix('/') {
            Some("") => site::INDEX,
            Some(name) => name,
            None => return (Answer::plain("400 Bad Request"), with_body),
        };
        let page = self
            .names
            .get(name)
            .map(|name| fs::read(self.dir.join(name)));
        let answer = match page {
            Some(Ok(body)) => Answer {
                status: "200 OK",
                body,
            },
            _ => Answer::plain("404 Not Found"),
        };
        (answer, with_body)
    }
}

/// The head of a request; `None` where the connection ends before it, or it is too long.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 2048];
    loop {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece[..len]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            bytes.truncate(end);
            return Ok(String::from_utf8(bytes).ok());
        }
        if bytes.len() > MAX_HEAD {
            return Ok(None);
        }
    }
}

/// Whether a `Host` is an address or `localhost`: only a name can be made to lead here.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(dir: &Path) -> Pages {
        let names = ["index.html", "image/one.html"].map(str::to_owned);
        fs::create_dir(dir.join("image")).unwrap();
        for name in &names {
            fs::write(dir.join(name), name).unwrap();
        }
        fs::write(dir.join("secret.html"), "not on the list").unwrap();
        Pages {
            dir: dir.to_owned(),
            names: BTreeSet::from(names),
            is_loopback: true,
        }
    }

    #[test]
    fn only_pages_of_the_list_are_served() {
        let room = tempfile::tempdir().unwrap();
        let mut pages = pages(room.path());
        for (line, status) in [
            ("GET / HTTP/1.1", "200 OK"),
            ("HEAD /index.html HTTP/1.0", "200 OK"),
            ("GET /image/one.html?x=1 HTTP/1.1", "200 OK"),
            ("GET /secret.html HTTP/1.1", "404 Not Found"),
            ("GET /image/../secret.html HTTP/1.1", "404 Not Found"),
            ("GET /../../etc/passwd HTTP/1.1", "404 Not Found"),
            ("GET //etc/passwd HTTP/1.1", "404 Not Found"),
            ("GET /%2e%2e/etc/passwd HTTP/1.1", "404 Not Found"),
            ("GET index.html HTTP/1.1", "400 Bad Request"),
            ("POST / HTTP/1.1", "405 Method Not Allowed"),
            ("GET / HTTP/2", "400 Bad Request"),
            ("GET /", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            let (answer, _) = pages.respond(&format!("{line}\r\nHost: 127.0.0.1:80"));
            assert_eq!(answer.status, status, "{line}");
        }
        let (answer, with_body) = pages.respond("HEAD / HTTP/1.1\r\nhost: localhost");
        assert_eq!((&answer.body[..], with_body), (&b"index.html"[..], false));
        for host in [
            "Host: images.example",
            "Host: localhost\r\nHost: evil.example",
            "X: y",
        ] {
            let (answer, _) = pages.respond(&format!("GET / HTTP/1.1\r\n{host}"));
            assert_eq!(answer.status, "421 Misdirected Request", "{host}");
        }
        // Whoever serves a network has a name there.
        pages.is_loopback = false;
        let (answer, _) = pages.respond("GET / HTTP/1.1\r\nHost: images.example");
        assert_eq!(answer.status, "200 OK");
    }

    #[test]
    fn addresses_are_hosts_of_our_own() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "LocalHost:1",
            "10.0.0.1",
        ] {
            assert!(is_own_host(host), "{host}");
        }
        for host in [
            "",
            "localhost.evil.example",
            "[evil.example]",
            "127.0.0.1.example",
        ] {
            assert!(!is_own_host(host), "{host}");
        }
    }
}
