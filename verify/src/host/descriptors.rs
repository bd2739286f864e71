//! Descriptors that programs of the host inherit: sockets that are passed on, and nothing else.

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::fcntl_dupfd_cloexec;

/// The first descriptor that is passed on: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// A descriptor above all that are passed on.
const ABOVE: RawFd = 64;

/// Keeps the descriptors that this process was started with from the programs that it starts: an app
/// would hold the lock of flock(1), or the pipe, of the script that started it for as long as it runs.
pub fn keep_descriptors() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        if let Some(number @ FIRST..) = number {
            // SAFETY: fcntl takes numbers; one that is closed by now is an error without a meaning.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes a command start with these sockets as its descriptors 3, 4 and so on. What it returns must
/// live until the command was started.
pub(crate) fn pass_on(command: &mut Command, sockets: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    let above = |socket: &OwnedFd| fcntl_dupfd_cloexec(socket, ABOVE);
    let mut kept = sockets.iter().map(above).collect::<Result<Vec<_>, _>>()?;
    let numbers: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let last = numbers.iter().fold(FIRST, |next, _| next + 1);
    // The numbers must be taken here: the standard library opens a pipe of its own to the child.
    loop {
        let taken = fcntl_dupfd_cloexec(&kept[0], FIRST)?;
        let number = taken.as_raw_fd();
        kept.push(taken);
        if number >= last {
            break;
        }
    }
    let arrange = move || {
        for (to, from) in (FIRST..).zip(&numbers) {
            // SAFETY: dup2 takes two numbers, and may be called between fork and exec.
            if unsafe { libc::dup2(*from, to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `arrange` calls dup2 alone, and neither allocates nor locks.
    unsafe { command.pre_exec(arrange) };
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Stdio;

    #[test]
    fn a_child_gets_them_as_three_and_four() {
        let sockets = ["127.0.0.1", "::1"].map(|ip| {
            let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
            OwnedFd::from(listener)
        });
        let mut command = Command::new("sh");
        command
            .args(["-c", "ls -l /proc/self/fd/"])
            .stdout(Stdio::piped());
        let kept = pass_on(&mut command, &sockets).unwrap();
        let mut child = command.spawn().unwrap();
        drop(kept);
        let mut text = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(child.wait().unwrap().success());
        for (number, socket) in (3..).zip(&sockets) {
            let inode = rustix::fs::fstat(socket).unwrap().st_ino;
            let line = format!(" {number} -> socket:[{inode}]");
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert_eq!(text.matches("socket:").count(), 2, "{text}");
    }
}
