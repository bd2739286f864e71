//! Which of two sessions with sockets of the same addresses gets connections.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::record::Session;
use super::sockets::{Listener, Routing};
use crate::error::{Context, Error, Result};

/// How long a connection that was being made when the traffic moved may take to reach the old one.
const UNDERWAY: Duration = Duration::from_millis(500);

/// The longest wait for the old one to accept what waits.
const ACCEPT: Duration = Duration::from_secs(10);

/// The sockets of a session, if it has all of them.
pub(super) fn listeners(session: &Session) -> Option<Vec<Listener>> {
    let found = Listener::of_session(&session.root(), &session.listen);
    found.into_iter().collect()
}

/// Second sockets of the same addresses, which get nothing yet.
pub(super) fn open(olders: &[Listener]) -> Result<Vec<Listener>> {
    route(olders, Routing::Older)?;
    let open = |older: &Listener| {
        Listener::beside(older).map_err(|error| cannot_listen(older.address, &error))
    };
    olders.iter().map(open).collect()
}

/// Decides for all addresses which session gets connections.
pub(super) fn route(listeners: &[Listener], to: Routing) -> Result<()> {
    let failed = |at| format!("cannot decide who answers on {at}");
    let each = |one: &Listener| one.route(to).context(|| failed(one.address));
    listeners.iter().try_for_each(each)
}

/// Waits until the app has accepted all connections that came before the traffic moved.
pub(super) fn drain(olders: &[Listener]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut waiting = 0;
        for older in olders {
            waiting += older.waiting().context(|| "cannot read /proc/net/tcp")?;
        }
        let elapsed = begun.elapsed();
        if (waiting == 0 && elapsed >= UNDERWAY) || elapsed >= ACCEPT {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The error of an address that cannot be listened on.
pub(super) fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; see those it has: ip address".to_owned()
        }
        _ => format!("see who does: ss -ltnp 'sport = {}'", address.port()),
    };
    Error::failed(format!("cannot listen on {address}"))
        .source(error)
        .hint(hint)
}
