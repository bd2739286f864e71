//! Which system calls stop a process: a program of classic BPF over seccomp's
//! description of a call (seccomp(2), `struct seccomp_data`).
//!
//! It lets everything pass but the calls of [`WATCHED`], and of those only what
//! can matter: a clock that is not moved, a wait without a deadline cost nothing.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};

use super::call::Call;

/// The instruction set that system calls are numbered for (linux/audit.h).
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: u32 = 0xC000_00B7;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The clocks that show the time of day: `CLOCK_REALTIME`, `_COARSE`, `_ALARM`
/// and `CLOCK_TAI` (linux/time.h).
const CLOCKS: [u32; 4] = [0, 5, 8, 11];
/// `TIMER_ABSTIME` and `TFD_TIMER_ABSTIME`.
const ABSOLUTE: u32 = 1;

/// When a call is of interest.
#[derive(Clone, Copy)]
enum If {
    Always,
    /// The first argument is a clock of [`CLOCKS`].
    Clock,
    /// The first argument is a clock of [`CLOCKS`], and the second has the bit [`ABSOLUTE`].
    ClockAndAbsolute,
    /// The second argument has the bit [`ABSOLUTE`].
    Absolute,
    /// A futex operation with a deadline of the time of day.
    FutexDeadline,
}

/// The calls that are stopped at.
const WATCHED: &[(libc::c_long, If, Call)] = &[
    (
        libc::SYS_clock_gettime,
        If::Clock,
        Call::Time { argument: 1 },
    ),
    (
        libc::SYS_gettimeofday,
        If::Always,
        Call::Time { argument: 0 },
    ),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_time, If::Always, Call::TimeReturned),
    (libc::SYS_getdents64, If::Always, Call::Directory),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_getdents, If::Always, Call::Directory),
    (
        libc::SYS_futex,
        If::FutexDeadline,
        Call::Deadline {
            argument: 3,
            offset: 0,
        },
    ),
    (
        libc::SYS_clock_nanosleep,
        If::ClockAndAbsolute,
        Call::Deadline {
            argument: 2,
            offset: 0,
        },
    ),
    // The time itself is the second half of an itimerspec.
    (
        libc::SYS_timerfd_settime,
        If::Absolute,
        Call::Deadline {
            argument: 2,
            offset: 16,
        },
    ),
    (
        libc::SYS_timer_settime,
        If::Absolute,
        Call::Deadline {
            argument: 2,
            offset: 16,
        },
    ),
    (
        libc::SYS_mq_timedsend,
        If::Always,
        Call::Deadline {
            argument: 4,
            offset: 0,
        },
    ),
    (
        libc::SYS_mq_timedreceive,
        If::Always,
        Call::Deadline {
            argument: 4,
            offset: 0,
        },
    ),
];

/// The call that the filter's verdict names.
pub(super) fn call(verdict: u32) -> Option<Call> {
    let index = usize::try_from(verdict).ok()?;
    WATCHED.get(index).map(|(_, _, call)| *call)
}

/// The filter.
pub(super) fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE),
        // Another architecture has other numbers; its calls are let pass.
        jump(BPF_JEQ, NATIVE, 1, 0),
        pass(),
    ];
    for (verdict, (number, condition, _)) in (0u32..).zip(WATCHED) {
        let body = body(*condition, verdict);
        program.push(load(NUMBER));
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        program.push(jump(BPF_JEQ, number, 0, length(&body)));
        program.extend(body);
    }
    program.push(pass());
    program
}

/// What is looked at once the number fits; every path ends in a verdict.
fn body(condition: If, verdict: u32) -> Vec<libc::sock_filter> {
    let stop = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_TRACE | verdict);
    let mut body = match condition {
        If::Always => Vec::new(),
        If::Clock => one_of(0, &CLOCKS),
        If::ClockAndAbsolute => {
            let mut body = one_of(0, &CLOCKS);
            body.extend(absolute());
            body
        }
        If::Absolute => absolute(),
        If::FutexDeadline => {
            // linux/futex.h: FUTEX_CLOCK_REALTIME, or FUTEX_LOCK_PI, which knows
            // no other clock.
            let mut body = vec![
                load(argument(1)),
                jump(BPF_JSET, 256, 3, 0),
                statement(BPF_ALU | BPF_AND | BPF_K, 127),
                jump(BPF_JEQ, 6, 1, 0),
                pass(),
            ];
            // A null pointer means to wait for ever.
            body.extend([
                load(argument(3)),
                jump(BPF_JEQ, 0, 0, 3),
                load(argument(3) + 4),
                jump(BPF_JEQ, 0, 0, 1),
                pass(),
            ]);
            body
        }
    };
    body.push(stop);
    body
}

/// Goes on when the argument is one of the values.
fn one_of(index: u32, values: &[u32]) -> Vec<libc::sock_filter> {
    let mut body = vec![load(argument(index))];
    for (at, value) in values.iter().enumerate() {
        // Over the remaining comparisons and the verdict behind them.
        let left = u8::try_from(values.len() - at).unwrap_or(u8::MAX);
        body.push(jump(BPF_JEQ, *value, left, 0));
    }
    body.push(pass());
    body
}

fn absolute() -> Vec<libc::sock_filter> {
    vec![load(argument(1)), jump(BPF_JSET, ABSOLUTE, 1, 0), pass()]
}

/// The low half of an argument: both architectures are little-endian.
const fn argument(index: u32) -> u32 {
    ARGUMENTS + 8 * index
}

fn length(body: &[libc::sock_filter]) -> u8 {
    u8::try_from(body.len()).unwrap_or(u8::MAX)
}

fn load(offset: u32) -> libc::sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn pass() -> libc::sock_filter {
    statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW)
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `yes` instructions when the comparison holds, `no` when not.
fn jump(comparison: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (BPF_JMP | comparison | BPF_K) as u16,
        jt: yes,
        jf: no,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says about a call: the index in [`WATCHED`], if it stops.
    fn verdict(number: libc::c_long, arguments: [u64; 6], architecture: u32) -> Option<u32> {
        let mut data = Vec::new();
        data.extend(u32::try_from(number).unwrap().to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        for argument in arguments {
            data.extend(argument.to_le_bytes());
        }
        let (program, mut at, mut value) = (program(), 0usize, 0u32);
        loop {
            let now = program[at];
            at += 1;
            let code = u32::from(now.code);
            let branch = |holds: bool| usize::from(if holds { now.jt } else { now.jf });
            match code & 7 {
                BPF_LD => {
                    let offset = now.k as usize;
                    value = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                BPF_ALU => value &= now.k,
                BPF_JMP if code & 0xf0 == BPF_JEQ => at += branch(value == now.k),
                BPF_JMP => at += branch(value & now.k != 0),
                _ => {
                    let stops = now.k & 0xffff_0000 == libc::SECCOMP_RET_TRACE;
                    assert!(stops || now.k == libc::SECCOMP_RET_ALLOW);
                    return stops.then_some(now.k & 0xffff);
                }
            }
        }
    }

    #[test]
    fn only_what_matters_stops() {
        let stops = |number, arguments| verdict(number, arguments, NATIVE).is_some();
        for clock in 0..12 {
            let moved = [0, 5, 8, 11].contains(&clock);
            assert_eq!(
                stops(libc::SYS_clock_gettime, [clock, 1, 0, 0, 0, 0]),
                moved
            );
        }
        // The clock of a process is a negative number.
        assert!(!stops(
            libc::SYS_clock_gettime,
            [0xffff_fffa, 1, 0, 0, 0, 0]
        ));
        assert!(stops(libc::SYS_getdents64, [3, 1, 2, 0, 0, 0]));
        assert!(!stops(libc::SYS_read, [0; 6]));
        let futex = |op, deadline| stops(libc::SYS_futex, [1, op, 0, deadline, 0, 0]);
        // WAIT_BITSET | PRIVATE | CLOCK_REALTIME, LOCK_PI | PRIVATE, WAIT, WAKE.
        assert!(futex(9 | 128 | 256, 77) && futex(9 | 256, 1 << 40) && futex(6 | 128, 77));
        assert!(!futex(9 | 256, 0) && !futex(6, 0) && !futex(0, 77) && !futex(1 | 128, 77));
        let sleep = |clock, flags| stops(libc::SYS_clock_nanosleep, [clock, flags, 5, 0, 0, 0]);
        assert!(sleep(0, 1) && !sleep(0, 0) && !sleep(1, 1));
        assert_eq!(verdict(libc::SYS_getdents64, [0; 6], 0x4000_0003), None);
    }

    #[test]
    fn each_verdict_is_the_call_of_its_number() {
        for (index, (number, _, wanted)) in WATCHED.iter().enumerate() {
            let arguments = match *wanted {
                Call::Time { argument: 1 } => [0, 9, 9, 9, 9, 9],
                _ => [0, 1 | 256, 9, 9, 9, 9],
            };
            let found = verdict(*number, arguments, NATIVE).unwrap();
            assert_eq!(found, index as u32);
            assert_eq!(call(found), Some(*wanted));
        }
    }
}
