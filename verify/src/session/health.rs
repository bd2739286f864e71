//! Whether a session that was started works, before it gets any traffic.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketAddrUnix, SocketFlags, bind, connect, getsockname};
use store::manifest::Health;

use super::address::Address;
use super::app::App;
use super::further;
use super::record::Session;
use super::socket_file::unix_stream;
use super::sockets::{Listener, Routing, stream};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest line with a status that is read.
const LINE: u64 = 1024;

/// Asks until the session works, at most as long as the manifest allows. `listeners` are its own sockets, which are the
/// newer ones where another session has the same addresses.
pub(super) fn wait(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    listeners: &[Listener],
) -> Result<()> {
    let to: Vec<_> = listeners.iter().map(Door::Past).collect();
    wait_at(node, session, app, to.first())
}

/// Asks a session that has the traffic already, as everybody reaches it.
pub(super) fn wait_running(node: &Node<'_>, session: &Session, app: &App) -> Result<()> {
    let to = session.listen.first().map(Door::Traffic);
    wait_at(node, session, app, to.as_ref())
}

/// Asks a session that has the traffic each second, for as long as its image wants that after a switch.
pub(super) fn bake(node: &Node<'_>, session: &Session, app: &App) -> Result<()> {
    let Some(bake) = app.service.health.as_ref().and_then(|health| health.bake) else {
        return Ok(());
    };
    node.observer.event(Event::Phase(&format!(
        "watching generation {} of {} for {bake} s",
        session.generation, session.system
    )));
    let until = Instant::now() + Duration::from_secs(bake);
    let door = session.listen.first().map(Door::Traffic);
    while Instant::now() < until {
        if !session.is_alive() {
            let (number, system) = (session.generation, &session.system);
            let died = Error::failed(format!("generation {number} of {system} died"));
            return Err(died.hint(format!("imgnode logs {system}")));
        }
        further::check(app, session)?;
        try_at(node, session, app, door.as_ref())?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The socket at which a health check asks.
enum Door<'l> {
    /// The session's own, past the traffic.
    Past(&'l Listener),
    /// The address that everybody asks.
    Traffic(&'l Address),
}

impl Door<'_> {
    fn address(&self) -> &Address {
        match self {
            Self::Past(listener) => &listener.address,
            Self::Traffic(address) => address,
        }
    }

    /// Connects a socket; each read and write takes at most `timeout`.
    fn connect(&self, timeout: Duration) -> std::io::Result<OwnedFd> {
        let within = |socket: &OwnedFd| set_socket_timeout(socket, Timeout::Send, Some(timeout));
        let to = match self.address() {
            Address::Tcp(address) => reachable(*address),
            Address::Unix(path) => {
                let path = match self {
                    Self::Past(Listener {
                        file: Some(file), ..
                    }) => file.own(),
                    _ => Path::new(path),
                };
                let socket = unix_stream(SocketFlags::empty())?;
                within(&socket)?;
                connect(&socket, &SocketAddrUnix::new(path)?)?;
                return Ok(socket);
            }
        };
        let socket = stream(to)?;
        bind(&socket, &SocketAddr::new(to.ip(), 0))?;
        let ours = SocketAddr::try_from(getsockname(&socket)?)?;
        if let Self::Past(listener) = self {
            listener.route(Routing::NewerFrom(ours.port()), "")?;
        }
        within(&socket)?;
        connect(&socket, &to)?;
        Ok(socket)
    }
}

fn wait_at(node: &Node<'_>, session: &Session, app: &App, door: Option<&Door<'_>>) -> Result<()> {
    if app.service.health.is_some() {
        node.observer.event(Event::Phase(&format!(
            "asking generation {} of {} whether it works",
            session.generation, session.system
        )));
    }
    try_at(node, session, app, door)
}

fn try_at(node: &Node<'_>, session: &Session, app: &App, door: Option<&Door<'_>>) -> Result<()> {
    let Some(health) = &app.service.health else {
        return Ok(());
    };
    let within = Duration::from_secs(health.within);
    let begun = Instant::now();
    let mut attempts = 0;
    loop {
        node.check_cancelled()?;
        attempts += 1;
        let why = match attempt(node, session, app, health, door) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        let dead = session.processes().is_empty();
        if dead || begun.elapsed() + PAUSE > within {
            let how = if dead {
                "has no process any more".to_owned()
            } else {
                format!(
                    "did not work within {} s ({attempts} attempts)",
                    within.as_secs()
                )
            };
            return Err(Error::failed(format!(
                "generation {} of {} {how}",
                session.generation, session.system
            ))
            .cause(why)
            .hint(format!("imgnode logs {}", session.system)));
        }
        thread::sleep(PAUSE);
    }
}

fn attempt(
    node: &Node<'_>,
    session: &Session,
    app: &App,
    health: &Health,
    door: Option<&Door<'_>>,
) -> std::result::Result<(), String> {
    let timeout = Duration::from_secs(health.timeout.max(1));
    if health.http.is_empty() {
        let run = app.enter(session, &health.command);
        let run = run.map_err(|error| error.to_string())?.timeout(timeout);
        let ended = run
            .finish(node.observer)
            .map_err(|error| error.to_string())?;
        return if ended.success() {
            Ok(())
        } else {
            Err(ended.error().to_string())
        };
    }
    let Some(door) = door else {
        return Err("it was started without --listen, so nobody knows where to ask".to_owned());
    };
    let status = ask(door, &request(door.address(), health), timeout);
    match status.map_err(|error| format!("GET {}: {error}", health.http))? {
        200..=399 => Ok(()),
        status => Err(format!("GET {} answered {status}", health.http)),
    }
}

/// The request that is sent (RFC 9112), each header on one line whatever is in it.
fn request(address: &Address, health: &Health) -> String {
    let clean = |text: &str| text.replace(['\r', '\n'], " ");
    let mut request = format!("GET {} HTTP/1.0\r\n", clean(&health.http));
    let own = [("User-Agent", "imgnode"), ("Connection", "close")];
    for (name, value) in own {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    let names_host = |line: &String| line.to_ascii_lowercase().starts_with("host:");
    if !health.headers.iter().any(names_host) {
        let _ = match address {
            Address::Tcp(address) => write!(request, "Host: {address}\r\n"),
            Address::Unix(_) => write!(request, "Host: localhost\r\n"),
        };
    }
    for line in &health.headers {
        let _ = write!(request, "{}\r\n", clean(line));
    }
    request + "\r\n"
}

/// The status that answers a request, from the newer of the sockets of an address.
fn ask(door: &Door<'_>, request: &str, timeout: Duration) -> std::io::Result<u16> {
    let until = Instant::now() + timeout;
    // Reading and writing, a Unix socket is the same.
    let mut stream = TcpStream::from(door.connect(timeout)?);
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') && (line.len() as u64) < LINE {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 256];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => line.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // HTTP/1.0 200 OK
    let text = String::from_utf8_lossy(&line);
    let mut words = text.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.trim().parse().ok());
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(std::io::Error::other("what answered is no web server")),
    }
}

/// The address by which this machine reaches one that may stand for all of its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::provisions::SocketAccess;

    fn opened() -> Listener {
        let address = "127.0.0.1:0".parse().unwrap();
        Listener::open(&address, &[], ("", &SocketAccess::default())).unwrap()
    }

    #[test]
    fn only_the_status_of_a_web_server_counts() {
        let answers: [(&str, Option<u16>); 5] = [
            ("HTTP/1.0 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.1 503\r\n\r\n", Some(503)),
            ("SSH-2.0-x 200\r\n", None),
            ("", None),
            ("HTTP/1.1 two\r\n", None),
        ];
        for (answer, expected) in answers {
            let listener = opened();
            let address = SocketAddr::try_from(getsockname(&listener.socket).unwrap()).unwrap();
            let socket = std::net::TcpListener::from(listener.socket.try_clone().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = socket.accept().unwrap();
                let mut request = [0; 512];
                let len = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..len]).into_owned()
            });
            let listener = Listener {
                address: Address::Tcp(address),
                ..listener
            };
            let health = Health {
                http: "/up?x=1".to_owned(),
                headers: vec!["X-A: b\r\nc".to_owned()],
                command: Vec::new(),
                within: 1,
                timeout: 1,
                bake: None,
            };
            let text = request(&listener.address, &health);
            let status = ask(&Door::Past(&listener), &text, Duration::from_secs(5));
            assert_eq!(
                status.as_ref().ok(),
                expected.as_ref(),
                "{answer}: {status:?}"
            );
            let request = server.join().unwrap();
            assert_eq!(request, text);
            assert!(request.starts_with("GET /up?x=1 HTTP/1.0\r\n"), "{request}");
            assert!(request.ends_with("\r\nX-A: b  c\r\n\r\n"), "{request}");
        }
    }

    #[test]
    fn one_that_says_nothing_is_given_up() {
        let listener = opened();
        let address = SocketAddr::try_from(getsockname(&listener.socket).unwrap()).unwrap();
        let listener = Listener {
            address: Address::Tcp(address),
            ..listener
        };
        let begun = Instant::now();
        let door = Door::Past(&listener);
        assert!(ask(&door, "GET / HTTP/1.0\r\n\r\n", Duration::from_secs(1)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
