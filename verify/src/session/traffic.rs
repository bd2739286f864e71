//! Which of two sessions with sockets of the same addresses gets connections.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::address::Address;
use super::record::Session;
use super::socket_file::{SocketFile, prepare_directory};
use super::sockets::{Listener, Routing};
use crate::error::{Context, Error, Result};
use crate::event::Event;
use crate::host::provisions::SocketAccess;
use crate::node::Node;

/// How long a connection that was being made when the traffic moved may take to reach the old one.
const UNDERWAY: Duration = Duration::from_millis(500);

/// The longest wait for the old one to accept what waits.
const ACCEPT: Duration = Duration::from_secs(10);

/// The sockets of a session, if it has all of them.
pub(super) fn listeners(session: &Session) -> Option<Vec<Listener>> {
    let found = Listener::of_session(&session.root(), &session.id, &session.listen);
    found.into_iter().collect()
}

/// Sockets of the addresses of a session, which nobody may have yet.
pub(super) fn open_first(session: &Session, access: &SocketAccess) -> Result<Vec<Listener>> {
    let all = &session.listen;
    for path in all.iter().filter_map(Address::path) {
        prepare_directory(path)?;
    }
    let open = |address: &Address| {
        Listener::open(address, all, (&session.id, access))
            .map_err(|error| cannot_listen(address, &error))
    };
    all.iter().map(open).collect()
}

/// Second sockets of the addresses of the session `old`, which get nothing yet.
pub(super) fn open(
    olders: &[Listener],
    (old, new): (&Session, &Session),
    access: &SocketAccess,
) -> Result<Vec<Listener>> {
    route(olders, Routing::Older, old)?;
    let open = |older: &Listener| {
        Listener::beside(older, (&new.id, access))
            .map_err(|error| cannot_listen(&older.address, &error))
    };
    olders.iter().map(open).collect()
}

/// Decides for all addresses which session gets connections, that of `listeners` or the `other`. The
/// listeners are those of the session that is to get them.
pub(super) fn route(listeners: &[Listener], to: Routing, other: &Session) -> Result<()> {
    let failed = |at: &Address| format!("cannot decide who answers on {at}");
    let each = |one: &Listener| one.route(to, &other.id).context(|| failed(&one.address));
    listeners.iter().try_for_each(each)
}

/// Gives a session's Unix sockets the names again that clients know, if somebody removed them.
pub(super) fn restore_names(node: &Node<'_>, session: &Session) {
    for path in session.listen.iter().filter_map(Address::path) {
        if let Err(error) = SocketFile::of(path, &session.id).take(None) {
            let what = format!("clients cannot reach {}: {error}", path.display());
            node.observer.event(Event::Note(&what));
        }
    }
}

/// Removes the files of a session's Unix sockets, and what clients know them by if no other session has it.
pub(super) fn remove_files(node: &Node<'_>, session: &Session) {
    for path in session.listen.iter().filter_map(Address::path) {
        if let Err(error) = SocketFile::of(path, &session.id).remove() {
            // The next start replaces what nobody serves.
            let what = format!("cannot remove the socket {}: {error}", path.display());
            node.observer.event(Event::Note(&what));
        }
    }
}

/// Waits until the app has accepted all connections that came before the traffic moved.
pub(super) fn drain(olders: &[Listener]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut waiting = 0;
        for older in olders {
            waiting += older.waiting().context(|| "cannot find out who waits")?;
        }
        let elapsed = begun.elapsed();
        if (waiting == 0 && elapsed >= UNDERWAY) || elapsed >= ACCEPT {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The error of an address that cannot be listened on.
fn cannot_listen(address: &Address, error: &std::io::Error) -> Error {
    let failed = Error::failed(format!("cannot listen on {address}"));
    match (address, error.kind()) {
        (Address::Tcp(_), ErrorKind::AddrNotAvailable) => failed
            .source(error)
            .hint("this machine has no such address; see those it has: ip address"),
        (Address::Tcp(address), _) => failed.source(error).hint(format!(
            "see who does: ss -ltnp 'sport = {}'",
            address.port()
        )),
        (Address::Unix(path), ErrorKind::AddrInUse) => failed
            .cause(format!("another program, or another system, serves {path}"))
            .hint("see who does: ss -lxp, and imgnode status"),
        (Address::Unix(path), ErrorKind::AlreadyExists) => {
            failed.cause(format!("{path} is there and is not a socket"))
        }
        (Address::Unix(path), ErrorKind::ResourceBusy) => {
            let directory = Path::new(path).parent().unwrap_or_else(|| Path::new("/"));
            let directory = directory.display();
            failed
                .cause(format!("another process has a lock on {directory}"))
                .hint(format!("see which: fuser -v {directory}"))
        }
        (Address::Unix(_), _) => failed.source(error),
    }
}
