//! The kernel's side of tracing: ptrace(2), seccomp(2), `process_vm_readv(2)`.
//!
//! Neither rustix nor the standard library has them, so their unsafe calls
//! are here. All of them act on another process and check what they
//! are given: a wrong address or a process that is gone is an error, never
//! damage here.
#![allow(unsafe_code)]

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use libc::{c_int, c_long, c_void, pid_t};

use super::filter;

/// What the kernel stops a traced process at, besides signals.
const OPTIONS: c_int = libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACESYSGOOD;
/// A stop that is neither a signal nor a call (linux/ptrace.h).
const EVENT_STOP: c_int = 128;
/// What `TRACESYSGOOD` adds to the signal of a call's stop.
const CALL_MARK: c_int = 0x80;

/// A traced thread; threads are what the kernel traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tracee(pid_t);

/// What happened to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It ended, with this exit code, or 128+n by signal n.
    Ended(u8),
    /// A program replaced it and stands before its first instruction.
    Exec,
    /// It stands before a watched call.
    Call,
    /// It stands behind the call after [`Resume::UntilReturn`].
    Returned,
    /// It is about to receive a signal.
    Signal(c_int),
    /// It was stopped as a whole process is, by SIGSTOP or the terminal.
    Stopped,
    /// It is new, or has a new child.
    Other,
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// To the next watched call.
    Run,
    /// To the end of the call that it stands before.
    UntilReturn,
    /// With this signal.
    Deliver(c_int),
    /// Not: it stays stopped until a SIGCONT.
    Listen,
}

/// The stack of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    pub(super) pointer: u64,
    /// Whether its program is of our own architecture.
    pub(super) native: bool,
}

/// Starts the command, traced from before its first instruction, under the
/// filter.
pub(super) fn start(
    mut command: Command,
    mut program: Vec<libc::sock_filter>,
) -> io::Result<Tracee> {
    let (mut announced, announce) = io::pipe()?;
    let (gate, mut opener) = io::pipe()?;
    let pass = move || pass_gate(&announce, &gate, &mut program);
    // SAFETY: between fork and exec the closure makes system calls on what was
    // prepared before; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(pass) };
    std::thread::scope(|scope| {
        // Returns only after the exec, for which it needs us to trace it first.
        // The command, and with it its end of the pipe, is gone afterwards.
        let spawned = scope.spawn(move || command.spawn());
        let mut pid = [0; size_of::<pid_t>()];
        let seized = announced.read_exact(&mut pid).and_then(|()| {
            let tracee = Tracee(pid_t::from_ne_bytes(pid));
            let seized = tracee.request(libc::PTRACE_SEIZE, 0, OPTIONS.cast_unsigned() as usize);
            seized
                .and_then(|_| opener.write_all(b"!"))
                .inspect_err(|_| {
                    // It waits at a gate that nobody opens.
                    // SAFETY: kill(2) takes two numbers.
                    unsafe { libc::kill(tracee.0, libc::SIGKILL) };
                })?;
            Ok(tracee)
        });
        let died = || io::Error::other("the thread that starts programs died");
        // The child is ours to wait for, under its number.
        spawned.join().map_err(|_| died())??;
        seized
    })
}

/// In the child: says who it is, waits until it is traced, puts on the filter.
fn pass_gate(
    mut announce: &PipeWriter,
    mut gate: &PipeReader,
    program: &mut [libc::sock_filter],
) -> io::Result<()> {
    // SAFETY: getpid(2) has no arguments and cannot fail.
    let pid = unsafe { libc::getpid() };
    announce.write_all(&pid.to_ne_bytes())?;
    gate.read_exact(&mut [0])?;
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program and its length belong together and outlive the call,
    // which copies them. Root needs no "no new privileges", with which setuid
    // programs would not work.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    check(c_long::from(result)).map(drop)
}

/// Waits for the next event of any traced thread or orphan.
pub(super) fn next() -> io::Result<(Tracee, Event)> {
    let mut status = 0;
    let pid = loop {
        // SAFETY: the status is ours and outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        match check(c_long::from(pid)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break pid,
        }
    };
    Ok((Tracee(pid), event(status)))
}

fn event(status: c_int) -> Event {
    if libc::WIFEXITED(status) {
        return Event::Ended(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(1));
    }
    if libc::WIFSIGNALED(status) {
        return Event::Ended(u8::try_from(128 + libc::WTERMSIG(status)).unwrap_or(1));
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_EXEC => Event::Exec,
        libc::PTRACE_EVENT_SECCOMP => Event::Call,
        EVENT_STOP if signal == libc::SIGTRAP => Event::Other,
        EVENT_STOP => Event::Stopped,
        0 if signal == libc::SIGTRAP | CALL_MARK => Event::Returned,
        0 => Event::Signal(signal),
        _ => Event::Other,
    }
}

impl Tracee {
    /// Lets the thread go on; one that is gone meanwhile needs no help.
    pub(super) fn resume(self, how: Resume) {
        let _ = match how {
            Resume::Run => self.request(libc::PTRACE_CONT, 0, 0),
            Resume::UntilReturn => self.request(libc::PTRACE_SYSCALL, 0, 0),
            Resume::Deliver(signal) => {
                self.request(libc::PTRACE_CONT, 0, signal.cast_unsigned() as usize)
            }
            Resume::Listen => self.request(libc::PTRACE_LISTEN, 0, 0),
        };
    }

    /// The filter's verdict and the arguments of the call that it stands before.
    pub(super) fn call(self) -> Option<(u32, [u64; 6])> {
        let info = self.info()?;
        (info.op == libc::PTRACE_SYSCALL_INFO_SECCOMP).then_some(())?;
        // SAFETY: `op` says which member the kernel has filled.
        let call = unsafe { info.u.seccomp };
        Some((call.ret_data, call.args))
    }

    /// What the call returned that it stands behind; an error is negative.
    pub(super) fn result(self) -> Option<i64> {
        let info = self.info()?;
        (info.op == libc::PTRACE_SYSCALL_INFO_EXIT).then_some(())?;
        // SAFETY: `op` says which member the kernel has filled.
        Some(unsafe { info.u.exit }.sval)
    }

    /// Its stack.
    pub(super) fn stack(self) -> Option<Stack> {
        let info = self.info()?;
        Some(Stack {
            pointer: info.stack_pointer,
            native: info.arch == filter::NATIVE,
        })
    }

    /// Changes what the call returned that it stands behind. Only amd64 has a
    /// call that returns a time.
    pub(super) fn write_result(self, value: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            let at = std::mem::offset_of!(libc::user_regs_struct, rax);
            let _ = self.request(libc::PTRACE_POKEUSER, at, value as usize);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (self, value);
    }

    /// Some of its memory.
    pub(super) fn read(self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mine = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: length,
        };
        let theirs = remote(at, length);
        // SAFETY: the kernel writes to `bytes`, up to its length; the other
        // address is one of the other process, where the kernel checks it.
        let read =
            unsafe { libc::process_vm_readv(self.0, &raw const mine, 1, &raw const theirs, 1, 0) };
        (usize::try_from(read).ok()? == length).then_some(bytes)
    }

    /// Changes some of its memory.
    pub(super) fn write(self, at: u64, bytes: &[u8]) {
        let mine = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let theirs = remote(at, bytes.len());
        // SAFETY: the kernel only reads `bytes`; the other address is one of the
        // other process, where the kernel checks it.
        unsafe { libc::process_vm_writev(self.0, &raw const mine, 1, &raw const theirs, 1, 0) };
    }

    /// A word of its memory.
    pub(super) fn read_word(self, at: u64) -> Option<u64> {
        let bytes = self.read(at, 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// Changes a word of its memory, also where the process itself may not.
    pub(super) fn write_word(self, at: u64, word: u64) {
        let _ = self.request(libc::PTRACE_POKEDATA, at as usize, word as usize);
    }

    /// Where it stands (Linux 5.3).
    fn info(self) -> Option<libc::ptrace_syscall_info> {
        // SAFETY: all-zero is a valid value of this plain C struct.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        let data = (&raw mut info) as usize;
        self.request(libc::PTRACE_GET_SYSCALL_INFO, size, data)
            .ok()?;
        Some(info)
    }

    fn request(self, request: libc::c_uint, address: usize, data: usize) -> io::Result<c_long> {
        // SAFETY: of the requests above only GET_SYSCALL_INFO writes to our
        // memory: to `data`, at most `address` bytes, which `info` has.
        check(unsafe {
            libc::ptrace(
                request,
                self.0,
                ptr::without_provenance_mut::<c_void>(address),
                data as *mut c_void,
            )
        })
    }
}

fn remote(at: u64, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: ptr::without_provenance_mut(at as usize),
        iov_len: length,
    }
}

fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
