//! The files of Unix sockets.
//!
//! `/run/app.sock` is what clients connect to. Each session binds its socket to a file of its own beside
//! it, `/run/.app.sock.UNIQUE`, and the name that clients know is a hard link to the file of the session
//! that has the traffic: one rename(2) moves all new connections, both ways, and at no moment the name is
//! missing. Whether a session works can be asked at its own file before it has that name.
//!
//! Whether somebody serves a file that is there already is found out by connecting to it. Who looks and
//! then makes or removes files holds a lock on the directory (flock(2)), so two systems that want the same
//! name do not both find it free.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect};

use crate::error::{Context, Error, Result};
use crate::host::provisions::SocketAccess;
use crate::storage::safe_path;

/// How long another imgnode may be at work on sockets of the same directory.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file to which a session binds, and the name that clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketFile {
    name: PathBuf,
    own: PathBuf,
}

impl SocketFile {
    /// The files of an address in the session `id`.
    pub(super) fn of(path: &Path, id: &str) -> Self {
        let unique = id.rsplit('-').next().unwrap_or(id);
        Self {
            name: path.to_owned(),
            own: path.with_file_name(format!("{}{unique}", own_prefix(path))),
        }
    }

    /// The name that clients know.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The file of this session.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Makes the file, and a socket that listens there; no client knows it yet.
    pub(super) fn listen(&self, backlog: i32, access: &SocketAccess) -> io::Result<OwnedFd> {
        let _lock = self.lock()?;
        self.bind(backlog, access)
    }

    /// Listens, and gives the socket the name that clients know, which nobody may serve yet.
    pub(super) fn listen_as_first(
        &self,
        backlog: i32,
        access: &SocketAccess,
    ) -> io::Result<OwnedFd> {
        let _lock = self.lock()?;
        self.check_free(None)?;
        self.remove_dead_ones()?;
        let socket = self.bind(backlog, access)?;
        self.link()?;
        Ok(socket)
    }

    fn bind(&self, backlog: i32, access: &SocketAccess) -> io::Result<OwnedFd> {
        let socket = unix_stream(SocketFlags::CLOEXEC)?;
        bind(&socket, &SocketAddrUnix::new(&self.own)?)?;
        // Nobody but root can change the directory: it is the file that was made.
        lchown(&self.own, Some(access.uid), Some(access.gid))?;
        fs::set_permissions(&self.own, Permissions::from_mode(access.mode))?;
        rustix::net::listen(&socket, backlog)?;
        Ok(socket)
    }

    /// Lets clients reach the socket of this session from now on, in place of that of `other`. What
    /// somebody else serves stays.
    pub(super) fn take(&self, other: Option<&Self>) -> io::Result<()> {
        let _lock = self.lock()?;
        if same_file(&self.name, &self.own) {
            return Ok(());
        }
        if !is_socket(&self.own) {
            let gone = format!("{} is gone; stop and start the system", self.own.display());
            return Err(io::Error::other(gone));
        }
        self.check_free(other)?;
        self.link()
    }

    fn link(&self) -> io::Result<()> {
        let new = self.new_name();
        remove_if_there(&new)?;
        fs::hard_link(&self.own, &new)?;
        fs::rename(&new, &self.name)
    }

    /// Removes what there is of this session, and the name if no other has it.
    pub(super) fn remove(&self) -> io::Result<()> {
        // Where others than root can change it, there is nothing of ours.
        if safe_path::check(self.directory()).is_err() {
            return Ok(());
        }
        let _lock = self.lock()?;
        remove_if_there(&self.new_name())?;
        // One with two names is another session's.
        let single = || fs::symlink_metadata(&self.name).is_ok_and(|found| found.nlink() == 1);
        let dead = || is_socket(&self.name) && single() && !is_served(&self.name);
        if same_file(&self.name, &self.own) || dead() {
            remove_if_there(&self.name)?;
        }
        remove_if_there(&self.own)
    }

    /// Refuses a name that somebody other than `other` serves, or that no socket has.
    fn check_free(&self, other: Option<&Self>) -> io::Result<()> {
        match fs::symlink_metadata(&self.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            found => {
                if !found?.file_type().is_socket() {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                let is_theirs = other.is_some_and(|other| same_file(&self.name, &other.own));
                if !is_theirs && is_served(&self.name) {
                    return Err(ErrorKind::AddrInUse.into());
                }
                Ok(())
            }
        }
    }

    /// Removes what sessions of dead nodes left beside it.
    fn remove_dead_ones(&self) -> io::Result<()> {
        let prefix = own_prefix(&self.name);
        for entry in fs::read_dir(self.directory())?.flatten() {
            let name = entry.file_name();
            let unique = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let ours = unique.is_some_and(|unique| {
                let unique = unique.strip_suffix(".new").unwrap_or(unique);
                !unique.is_empty() && unique.bytes().all(|byte| byte.is_ascii_hexdigit())
            });
            let path = entry.path();
            if ours && is_socket(&path) && !is_served(&path) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn new_name(&self) -> PathBuf {
        let mut new = self.own.clone().into_os_string();
        new.push(".new");
        new.into()
    }

    fn directory(&self) -> &Path {
        self.name.parent().unwrap_or_else(|| Path::new("/"))
    }

    fn lock(&self) -> io::Result<File> {
        let directory = File::open(self.directory())?;
        let until = Instant::now() + PATIENCE;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(directory),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(ErrorKind::ResourceBusy.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// Makes the directory of a socket where it is missing, as systemd does, and refuses one that others
/// than root can change.
pub(super) fn prepare_directory(path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut there = directory;
    while let (false, Some(parent)) = (there.exists(), there.parent()) {
        there = parent;
    }
    let check = |directory: &Path| {
        safe_path::check(directory)
            .map_err(|why| why.into_error(directory, "hold sockets of root's"))
    };
    check(there)?;
    if there != directory {
        let failed = || format!("cannot make {}", directory.display());
        let missing = directory.ancestors().take_while(|part| *part != there);
        let missing: Vec<_> = missing.collect();
        for part in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o755).create(part) {
                // Whatever the umask, clients pass through it.
                Ok(()) => {
                    fs::set_permissions(part, Permissions::from_mode(0o755)).context(failed)?;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::failed(failed()).source(&error)),
            }
        }
        check(directory)?;
    }
    Ok(())
}

/// A new Unix socket, neither bound nor connected.
pub(super) fn unix_stream(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// What all own files of a name begin with.
fn own_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!(".{}.", name.to_string_lossy())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| {
        let found = fs::symlink_metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// Whether a process listens there. What cannot be found out counts as if one did.
fn is_served(path: &Path) -> bool {
    let attempt = || -> io::Result<()> {
        let socket = unix_stream(SocketFlags::NONBLOCK)?;
        Ok(connect(&socket, &SocketAddrUnix::new(path)?)?)
    };
    !attempt().is_err_and(|error| {
        let errno = Errno::from_io_error(&error);
        errno == Some(Errno::CONNREFUSED) || errno == Some(Errno::NOENT)
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn ours() -> SocketAccess {
        SocketAccess {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o660,
        }
    }

    /// Whether the socket that listens has a connection that waits.
    fn is_asked(socket: &OwnedFd) -> bool {
        let listener = UnixListener::from(socket.try_clone().unwrap());
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_ok()
    }

    #[test]
    fn the_name_moves_both_ways_and_is_never_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let (older, newer) = (
            SocketFile::of(&path, "web-1-a"),
            SocketFile::of(&path, "web-2-b"),
        );
        let one = older.listen_as_first(8, &ours()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let other = newer.listen(8, &ours()).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(is_asked(&one) && !is_asked(&other));
        // Somebody else's is not taken.
        let error = newer.take(None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(is_asked(&one));
        for _ in 0..2 {
            newer.take(Some(&older)).unwrap();
            UnixStream::connect(&path).unwrap();
            assert!(!is_asked(&one) && is_asked(&other));
            older.take(Some(&newer)).unwrap();
            older.take(Some(&newer)).unwrap();
            UnixStream::connect(&path).unwrap();
            assert!(is_asked(&one) && !is_asked(&other));
        }
        // Somebody removed one of them.
        fs::remove_file(&path).unwrap();
        older.take(None).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(is_asked(&one));
        fs::remove_file(newer.own()).unwrap();
        let error = newer.take(Some(&older)).unwrap_err().to_string();
        assert!(error.contains(".app.sock.b is gone"), "{error}");
        newer.remove().unwrap();
        UnixStream::connect(&path).unwrap();
        older.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        older.remove().unwrap();
    }

    #[test]
    fn of_many_at_once_one_gets_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        drop(SocketFile::of(&path, "web-1-ff").listen_as_first(8, &ours()));
        let attempt = |number: u32| {
            let file = SocketFile::of(&path, &format!("web-1-{number:x}"));
            thread::spawn(move || file.listen_as_first(8, &ours()))
        };
        let threads: Vec<_> = (0..8).map(attempt).collect();
        let all: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
    }

    #[test]
    fn only_what_nobody_serves_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let file = SocketFile::of(&path, "web-1-c");
        let kind = |file: &SocketFile| file.listen_as_first(8, &ours()).unwrap_err().kind();
        // What a dead node left.
        drop(SocketFile::of(&path, "web-1-a").listen_as_first(8, &ours()));
        fs::hard_link(&path, directory.path().join(".app.sock.a.new")).unwrap();
        let kept = directory.path().join(".app.sock.note");
        fs::write(&kept, "").unwrap();
        let socket = file.listen_as_first(8, &ours()).unwrap();
        let left = fs::read_dir(directory.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".app.sock.c", ".app.sock.note", "app.sock"]);
        // A system that lives.
        assert_eq!(
            kind(&SocketFile::of(&path, "other-1-d")),
            ErrorKind::AddrInUse
        );
        UnixStream::connect(&path).unwrap();
        drop(socket);
        file.remove().unwrap();
        // Another program.
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(kind(&file), ErrorKind::AddrInUse);
        drop(listener);
        drop(file.listen_as_first(8, &ours()).unwrap());
        file.remove().unwrap();
        fs::write(&path, "text").unwrap();
        assert_eq!(kind(&file), ErrorKind::AlreadyExists);
        file.remove().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }
}
