//! What a service manager is told: `sd_notify(3)`, one datagram of lines to the socket that
//! `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};
use verify::error::{Context, Result};

/// The service manager that started this process, if there is one.
pub(crate) struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The service manager that the environment names.
    pub(crate) fn from_env() -> Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::at(&name)
                .context(|| format!("cannot use NOTIFY_SOCKET={}", name.display()))
                .map(Some),
            _ => Ok(None),
        }
        .map(Self)
    }

    fn at(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }?;
        let socket = UnixDatagram::unbound()?;
        // A manager that reads nothing must not hold us.
        socket.set_write_timeout(Some(std::time::Duration::from_secs(5)))?;
        Ok((socket, address))
    }

    /// Says that the app is ready; `status` is for people.
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Says what people should read now.
    pub(crate) fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}\n"));
    }

    /// Says that the app reloads, until it is ready again.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.say(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading\n"
        ));
    }

    /// Says that this process is about to end.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping\n");
    }

    fn say(&self, lines: &str) {
        if let Self(Some((socket, address))) = self {
            // A manager that went away has nobody to tell us to stop either.
            let _ = socket.send_to_addr(lines.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_reach_paths_and_abstract_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("imgnode-test-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}").into(),
            ),
        ];
        for (socket, name) in sockets {
            Manager(Some(Manager::at(&name).unwrap())).ready("well");
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"READY=1\nSTATUS=well\n");
        }
        assert!(Manager::at(OsStr::new("relative")).is_err());
        Manager(None).ready("nobody listens");
    }
}
