//! The kernel's side: a filter that asks before some calls, and the answers.
//!
//! seccomp(2) and `seccomp_unotify(2)` have no safe wrapper; the unsafe calls of
//! `reach` are here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF, SECCOMP_SET_MODE_FILTER,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog,
};

/// The instruction set that calls are numbered for (linux/audit.h). Programs
/// of another one are not watched.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;

/// Offsets in `struct seccomp_data`; of an argument the lower half.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}
/// Longer messages are no queries (RFC 1035, 4.2.1).
const MAX_QUERY: u32 = 512;

/// A call that waits for an answer.
pub(super) struct Call {
    id: u64,
    /// The thread, as our /proc knows it.
    pub(super) pid: u32,
    /// Which call.
    pub(super) number: libc::c_long,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// Where the kernel's questions arrive.
pub(super) struct Listener(OwnedFd);

/// Puts the filter over this thread and all that it starts.
pub(super) fn install() -> io::Result<Listener> {
    let mut program = program();
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // Since Linux 5.19 signals do not interrupt a call that is being looked at.
    let attempt = |flags: libc::c_ulong| {
        // SAFETY: the program and what it points to outlive the call, which
        // copies them; nothing else is passed.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us (close-on-exec).
        Ok(Listener(unsafe { OwnedFd::from_raw_fd(fd) }))
    };
    attempt(flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV).or_else(|_| attempt(flags))
}

impl Listener {
    /// Waits for the next call; `None` when there is nobody left to ask.
    pub(super) fn next(&self) -> Option<Call> {
        loop {
            // SAFETY: all-zero is a valid value of this plain C struct, and what
            // the kernel wants to find.
            let mut question: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the descriptor is a listener, and the struct is the one
            // that this request fills.
            let result = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    SECCOMP_IOCTL_NOTIF_RECV,
                    &raw mut question,
                )
            };
            if result == 0 {
                return Some(Call {
                    id: question.id,
                    pid: question.pid,
                    number: question.data.nr.into(),
                    arguments: question.data.args,
                });
            }
            match io::Error::last_os_error().raw_os_error() {
                // The asking process was killed meanwhile.
                Some(libc::ENOENT | libc::EINTR) => {}
                _ => return None,
            }
        }
    }

    /// Lets the call happen as if nobody had asked.
    pub(super) fn go_on(&self, call: &Call) {
        let mut answer = seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: 0,
            flags: SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        // SAFETY: the descriptor is a listener, and the struct is the one that
        // this request reads. It fails when the process is gone: fine.
        unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
    }
}

/// The first piece, address and length, of the first two messages of a
/// sendmmsg(2) call: name lookups ask for both kinds of address at once.
pub(super) fn first_pieces(
    messages: u64,
    count: u64,
    bytes: &dyn Fn(u64, u64) -> Option<Vec<u8>>,
) -> Vec<(u64, u64)> {
    let word = |at: u64| -> Option<u64> {
        let word = bytes(at, 8)?;
        Some(u64::from_ne_bytes(word.try_into().ok()?))
    };
    let pieces = std::mem::offset_of!(libc::msghdr, msg_iov) as u64;
    let size = size_of::<libc::mmsghdr>() as u64;
    (0..count.min(2))
        .filter_map(|n| {
            let piece = word(messages.checked_add(n * size + pieces)?)?;
            Some((word(piece)?, word(piece.checked_add(8)?)?))
        })
        .collect()
}

/// Asks about connect, sendmmsg, and of sendto those that name a receiver or
/// may be a query: short, and without SIGPIPE, as resolvers send them.
fn program() -> Vec<sock_filter> {
    let load = |offset| step(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let end = |action| step(BPF_RET | BPF_K, action, 0, 0);
    let equal = |value, yes, no| step(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no);
    let call = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    vec![
        load(ARCHITECTURE),
        equal(NATIVE, 0, 12),
        load(NUMBER),
        equal(call(libc::SYS_connect), 11, 0),
        equal(call(libc::SYS_sendmmsg), 10, 0),
        equal(call(libc::SYS_sendto), 0, 8),
        load(argument(4)),
        equal(0, 0, 7),
        load(argument(4) + 4),
        equal(0, 0, 5),
        load(argument(3)),
        step(BPF_JMP | BPF_JSET | BPF_K, libc::MSG_NOSIGNAL as u32, 0, 2),
        load(argument(2)),
        step(BPF_JMP | BPF_JGT | BPF_K, MAX_QUERY, 0, 1),
        end(SECCOMP_RET_ALLOW),
        end(SECCOMP_RET_USER_NOTIF),
    ]
}

fn step(code: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k,
    }
}
