//! Sockets that a system listens on, and which of two gets the next connection.
//!
//! A system gets its listening sockets from us, by the protocol of `sd_listen_fds(3)`. They are
//! `SO_REUSEPORT`, so that the next generation can have one of the same address while the first
//! still serves. Which of the two a connection goes to is decided by the kernel, for each, by a
//! program of classic BPF that they share (socket(7), `SO_ATTACH_REUSEPORT_CBPF`): the older socket
//! is number 0, the newer one number 1. So traffic moves by one system call, both ways, and a check
//! reaches the newer generation before anybody else does, by the port that it comes from.
//!
//! When the older socket is closed, the newer one is alone and gets everything, whatever the program
//! says.
//!
//! Unix sockets have neither: there the name that clients know is moved (see `socket_file`).

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname,
    sockopt,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::address::Address;
use super::processes;
use super::socket_file::SocketFile;
use crate::host::provisions::SocketAccess;

/// Connections that may wait to be accepted; the kernel has its own limit, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The most sockets of a system.
pub const MOST: usize = 16;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// The address it listens on.
    pub address: Address,
    /// The files of a Unix socket.
    pub(super) file: Option<SocketFile>,
}

/// Which of two sockets of an address gets connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The socket that was there first.
    Older,
    /// The socket that came second.
    Newer,
    /// The socket that came second gets connections from this port, the first one all others.
    NewerFrom(u16),
}

impl Listener {
    /// Opens a socket of an address that nobody has, and listens. It is shared from then on. `all` are
    /// the addresses of the same system: one of IPv6 gets connections of IPv4 as well (ipv6(7)), but
    /// not where another of them has that port.
    pub(super) fn open(
        address: &Address,
        all: &[Address],
        (session, access): (&str, &SocketAccess),
    ) -> io::Result<Self> {
        match address {
            Address::Tcp(tcp) => Self::open_tcp(*tcp, all),
            Address::Unix(path) => {
                let file = SocketFile::of(Path::new(path), session);
                let socket = file.listen_as_first(BACKLOG, access)?;
                Ok(Self::with_file(socket, address, file))
            }
        }
    }

    fn with_file(socket: OwnedFd, address: &Address, file: SocketFile) -> Self {
        Self {
            socket,
            address: address.clone(),
            file: Some(file),
        }
    }

    fn open_tcp(address: SocketAddr, all: &[Address]) -> io::Result<Self> {
        let socket = stream(address)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        let taken = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        if address.is_ipv6() && all.iter().filter_map(Address::tcp).any(|one| taken(&one)) {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // Not shared yet: another service of this machine would get half of our connections.
        bind(&socket, &address)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self {
            socket,
            address: Address::Tcp(address),
            file: None,
        })
    }

    /// Opens a second socket of the same address for another session, and listens.
    pub(super) fn beside(
        older: &Self,
        (session, access): (&str, &SocketAccess),
    ) -> io::Result<Self> {
        let address = match &older.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => {
                let file = SocketFile::of(Path::new(path), session);
                let socket = file.listen(BACKLOG, access)?;
                return Ok(Self::with_file(socket, &older.address, file));
            }
        };
        let socket = stream(address)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, sockopt::ipv6_v6only(&older.socket)?)?;
        }
        bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self {
            socket,
            address: Address::Tcp(address),
            file: None,
        })
    }

    /// The sockets of these addresses that the processes of the session `id` have; one for each address,
    /// in their order, or none for those that it does not listen on.
    pub(super) fn of_session(root: &Path, id: &str, addresses: &[Address]) -> Vec<Option<Self>> {
        let mut found: Vec<Option<Self>> = addresses.iter().map(|_| None).collect();
        let file = |address: &Address| Some(SocketFile::of(address.path()?, id));
        let files: Vec<_> = addresses.iter().map(file).collect();
        let mut seen = HashSet::new();
        for process in processes::inside(root) {
            // A process that ends meanwhile has none.
            let _ = look_into(process.pid, &mut seen, &mut |socket, bound| {
                let is_it = |(address, file): (&Address, &Option<SocketFile>)| match file {
                    Some(file) => is_bound_to(&bound, file.own()),
                    None => SocketAddr::try_from(bound.clone()).ok() == address.tcp(),
                };
                let at = addresses.iter().zip(&files).position(is_it);
                if let Some(at) = at.filter(|at| found[*at].is_none()) {
                    found[at] = Some(Self {
                        socket,
                        address: addresses[at].clone(),
                        file: files[at].clone(),
                    });
                }
            });
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found
    }

    /// Decides which of the sockets of its address gets connections. Of a Unix socket this one gets them,
    /// whichever `to` calls it, in place of that of the session `other`, unless only a port was meant.
    pub(super) fn route(&self, to: Routing, other: &str) -> io::Result<()> {
        if let Some(file) = &self.file {
            let other = SocketFile::of(file.name(), other);
            return match to {
                Routing::Older | Routing::Newer => file.take(Some(&other)),
                Routing::NewerFrom(_) => Ok(()),
            };
        }
        let mut program = program(to);
        let program = libc::sock_fprog {
            len: u16::try_from(program.len()).unwrap_or(u16::MAX),
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the option takes a sock_fprog, which names as many filters as there are; the
        // kernel copies them and keeps no pointer.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The number of connections that wait to be accepted: `rx_queue` of proc(5), `/proc/net/tcp`. Of a Unix
    /// socket it is 1 if there are any.
    pub(super) fn waiting(&self) -> io::Result<u64> {
        let table = match self.address {
            Address::Unix(_) => return self.is_asked().map(u64::from),
            Address::Tcp(SocketAddr::V4(_)) => "/proc/net/tcp",
            Address::Tcp(SocketAddr::V6(_)) => "/proc/net/tcp6",
        };
        let inode = rustix::fs::fstat(&self.socket)?.st_ino.to_string();
        let table = fs::read_to_string(table)?;
        let fields = table.lines().map(|line| line.split_ascii_whitespace());
        for mut fields in fields {
            let (queues, owner) = (fields.nth(4), fields.nth(4));
            if owner == Some(&inode) {
                let waiting = queues.and_then(|queues| queues.split_once(':'));
                let waiting = waiting.and_then(|(_, rx)| u64::from_str_radix(rx, 16).ok());
                return waiting.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
        Ok(0)
    }

    fn is_asked(&self) -> io::Result<bool> {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        Ok(poll(&mut socket, Some(&now))? != 0)
    }
}

fn is_bound_to(bound: &SocketAddrAny, path: &Path) -> bool {
    SocketAddrUnix::try_from(bound.clone())
        .is_ok_and(|bound| bound.path_bytes() == Some(path.as_os_str().as_bytes()))
}

/// A new socket for an address, neither bound nor connected.
pub(crate) fn stream(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = SocketType::STREAM;
    Ok(rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Hands out the listening sockets of a process, each once for all processes.
fn look_into(
    pid: i32,
    seen: &mut HashSet<String>,
    each: &mut dyn FnMut(OwnedFd, SocketAddrAny),
) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    for entry in fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))? {
        let entry = entry?;
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (true, Some(number)) = (target.starts_with("socket:["), number) else {
            continue;
        };
        if !seen.insert(target) {
            continue;
        }
        let Ok(socket) = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false);
        if let (true, Ok(address)) = (listens, getsockname(&socket)) {
            each(socket, address);
        }
    }
    Ok(())
}

/// The program of classic BPF that returns the number of the socket.
fn program(to: Routing) -> Vec<libc::sock_filter> {
    const NETWORK: u32 = (-0x0010_0000_i32).cast_unsigned(); // SKF_NET_OFF
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let back = |number| step(libc::BPF_RET | libc::BPF_K, 0, 0, number);
    let load = |size, mode, k| step(libc::BPF_LD | size | mode, 0, 0, k);
    let equal = |k, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, jf, k);
    match to {
        Routing::Older => vec![back(0)],
        Routing::Newer => vec![back(1)],
        Routing::NewerFrom(port) => vec![
            // The version of the packet: a socket of IPv6 may get those of IPv4 as well.
            load(libc::BPF_B, libc::BPF_ABS, NETWORK),
            step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0xf0),
            equal(0x40, 3),
            // The first field behind the header of the packet is the port it comes from.
            step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, NETWORK),
            load(libc::BPF_H, libc::BPF_IND, NETWORK),
            step(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
            load(libc::BPF_H, libc::BPF_ABS, NETWORK.wrapping_add(40)),
            equal(port.into(), 1),
            back(1),
            back(0),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn free(ip: &str) -> SocketAddr {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        listener.local_addr().unwrap()
    }

    /// How many of ten connections each of two sockets gets.
    fn shares(older: &Listener, newer: &Listener) -> (u64, u64) {
        let before = (older.waiting().unwrap(), newer.waiting().unwrap());
        let made: Vec<_> = (0..10)
            .map(|_| TcpStream::connect(older.address.tcp().unwrap()).unwrap())
            .collect();
        let got = (
            older.waiting().unwrap() - before.0,
            newer.waiting().unwrap() - before.1,
        );
        drop(made);
        got
    }

    #[test]
    fn traffic_goes_where_it_is_steered() {
        for ip in ["127.0.0.1", "::1"] {
            let address = free(ip);
            let older = Listener::open_tcp(address, &[]).unwrap();
            older.route(Routing::Older, "").unwrap();
            let taken = Listener::open_tcp(address, &[]).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            let newer = Listener::beside(&older, ("", &SocketAccess::default())).unwrap();
            assert_eq!(shares(&older, &newer), (10, 0));
            newer.route(Routing::Newer, "").unwrap();
            assert_eq!(shares(&older, &newer), (0, 10));
            // Nobody comes from the port of the server.
            older.route(Routing::NewerFrom(address.port()), "").unwrap();
            assert_eq!(shares(&older, &newer), (10, 0));
            let socket = stream(address).unwrap();
            bind(&socket, &SocketAddr::new(address.ip(), 0)).unwrap();
            let ours = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
            newer.route(Routing::NewerFrom(ours.port()), "").unwrap();
            let before = newer.waiting().unwrap();
            rustix::net::connect(&socket, &address).unwrap();
            assert_eq!(newer.waiting().unwrap(), before + 1);
            // Whoever is alone gets everything.
            newer.route(Routing::Newer, "").unwrap();
            drop(older);
            let before = newer.waiting().unwrap();
            assert!(Listener::open_tcp(address, &[]).is_err());
            let _made: Vec<_> = (0..10).map(|_| TcpStream::connect(address)).collect();
            assert_eq!(newer.waiting().unwrap(), before + 10);
        }
    }

    #[test]
    fn sockets_are_found_in_processes() {
        let root = fs::read_link("/proc/self/root").unwrap();
        let (one, other) = (free("127.0.0.1"), free("127.0.0.1"));
        let ours = Listener::open_tcp(one, &[]).unwrap();
        let found = Listener::of_session(&root, "", &[other, one].map(Address::Tcp));
        assert!(found[0].is_none(), "{found:?}");
        let found = found[1].as_ref().unwrap();
        assert_eq!(found.address, Address::Tcp(one));
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(&found.socket), inode(&ours.socket));
    }
}
