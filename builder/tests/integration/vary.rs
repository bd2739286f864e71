//! The varied world of a step, through the first process of a sandbox itself.
//!
//! Each test starts `imgbuild sandbox-init` in fresh namespaces, as a build
//! does, with a program of this machine as its command. That needs root.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use builder::sandbox::vary::AHEAD;
use builder::sandbox::{self, Sandbox};

/// A sandbox that runs `script` with sh, beside an empty tree.
fn sandboxed(dir: &Path, script: &str, vary: bool) -> Command {
    let sandbox = Sandbox {
        root: dir.to_owned(),
        binds: Vec::new(),
        environment: BTreeMap::from([("DIR".to_owned(), dir.display().to_string())]),
        network: false,
        vary,
        command: sandbox::Command::Host {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
        },
    };
    let spec = dir.join("spec.json");
    fs::write(&spec, serde_json::to_vec(&sandbox).unwrap()).unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--kill-child=KILL",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--net",
        ])
        .args([
            "--fork",
            "--mount-proc",
            "--",
            env!("CARGO_BIN_EXE_imgbuild"),
        ])
        .arg(sandbox::INIT_COMMAND)
        .arg(&spec);
    command
}

/// A directory that the sandbox sees: /run is its own, /tmp may be small.
fn directory() -> tempfile::TempDir {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests enter namespaces: run them as root"
    );
    tempfile::tempdir_in("/var/tmp").unwrap()
}

fn run(script: &str, vary: bool) -> Output {
    let dir = directory();
    sandboxed(dir.path(), script, vary).output().unwrap()
}

/// What a script prints in the varied world.
#[track_caller]
fn varied(script: &str) -> String {
    let output = run(script, true);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn has(program: &str) -> bool {
    let found = Command::new("which").arg(program).output();
    found.is_ok_and(|output| output.status.success())
}

/// Whether seconds since 1970 are ahead by what a varied clock is, and not more.
#[track_caller]
fn assert_ahead(seconds: &str) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // Some say it with a fraction.
    let whole = seconds.split('.').next().unwrap_or_default();
    let shown: u64 = whole.parse().unwrap_or_else(|_| panic!("{seconds}"));
    let off = shown.abs_diff(now + AHEAD.as_secs());
    assert!(off < 30, "{shown} is {off} s off");
}

/// Compiles a program of C.
fn compile(dir: &Path, name: &str, source: &str, flags: &[&str]) {
    let file = dir.join(format!("{name}.c"));
    fs::write(&file, source).unwrap();
    let mut cc = Command::new("cc");
    cc.arg("-o").arg(dir.join(name)).arg(file).args(flags);
    assert!(cc.status().expect("a C compiler").success());
}

#[test]
fn every_way_to_ask_for_the_time_says_later() {
    assert_ahead(&varied("date +%s"));
    if has("perl") {
        assert_ahead(&varied("perl -e 'print time'"));
        assert_ahead(&varied(
            "perl -MTime::HiRes=gettimeofday -e 'print scalar gettimeofday'",
        ));
    }
    // No other world sees it.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let plain: u64 = String::from_utf8(run("date +%s", false).stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(plain - now < 30);
}

/// Prints the time as each call says it: `clock_gettime`, gettimeofday, time and,
/// from a thread of a child of vfork's kind, time again.
const ASKS: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static void *ask(void *unused) {
    struct timespec t; clock_gettime(CLOCK_REALTIME, &t); printf("%ld\n", (long)t.tv_sec);
    clock_gettime(CLOCK_REALTIME_COARSE, &t); printf("%ld\n", (long)t.tv_sec);
    struct timeval v; gettimeofday(&v, 0); printf("%ld\n", (long)v.tv_sec);
    printf("%ld\n", (long)time(0));
    time_t s; time(&s); printf("%ld\n", (long)s);
#ifdef SYS_time
    printf("%ld\n", (long)syscall(SYS_time, &s)); printf("%ld\n", (long)s);
#endif
    fflush(stdout);
    return 0;
}
int main(int argc, char **argv) {
    ask(0);
    pthread_t thread;
    pthread_create(&thread, 0, ask, 0);
    pthread_join(thread, 0);
    if (argc > 1) return 0;
    char *again[] = { argv[0], "again", 0 };
    pid_t pid; int status;
    if (posix_spawn(&pid, argv[0], 0, 0, again, environ)) return 1;
    waitpid(pid, &status, 0);
    pid = vfork();
    if (!pid) { execv(argv[0], again); _exit(9); }
    waitpid(pid, &status, 0);
    return status != 0;
}
"#;

#[test]
fn static_programs_threads_and_vforks_see_it_too() {
    let dir = directory();
    for (name, flags) in [
        ("shared", &["-pthread"][..]),
        ("static", &["-pthread", "-static"]),
    ] {
        compile(dir.path(), name, ASKS, flags);
        let output = sandboxed(dir.path(), &format!("exec \"$DIR\"/{name}"), true)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.lines().count() >= 30, "{name}: {said}");
        said.lines().for_each(assert_ahead);
    }
}

/// Waits one second of the time of day in four ways; a deadline of a moved clock
/// that the kernel took at its word would be over a year away.
const WAITS: &str = r"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec t, kept;
    clock_gettime(CLOCK_REALTIME, &t); t.tv_sec++; kept = t;
    sem_t sem; sem_init(&sem, 0, 0);
    if (sem_timedwait(&sem, &t) != -1 || errno != ETIMEDOUT) return 1;
    if (t.tv_sec != kept.tv_sec) return 2;
    pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    clock_gettime(CLOCK_REALTIME, &t); t.tv_sec++;
    pthread_mutex_lock(&m);
    if (pthread_cond_timedwait(&c, &m, &t) != ETIMEDOUT) return 3;
    clock_gettime(CLOCK_REALTIME, &t); t.tv_sec++; kept = t;
    if (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0)) return 4;
    if (t.tv_sec != kept.tv_sec) return 5;
    struct itimerspec i = {{0}}; clock_gettime(CLOCK_REALTIME, &i.it_value); i.it_value.tv_sec++;
    int fd = timerfd_create(CLOCK_REALTIME, 0); uint64_t n;
    if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &i, 0) || read(fd, &n, 8) != 8) return 6;
    clock_gettime(CLOCK_MONOTONIC, &t); t.tv_sec++;
    if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0)) return 7;
    return 0;
}
";

#[test]
fn a_deadline_of_the_moved_clock_comes_in_time() {
    let dir = directory();
    compile(dir.path(), "waits", WAITS, &["-pthread"]);
    let started = Instant::now();
    let output = sandboxed(dir.path(), "exec timeout 20 \"$DIR\"/waits", true)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(started.elapsed() >= Duration::from_secs(4));
}

#[test]
fn directories_are_read_in_reverse() {
    let dir = directory();
    fs::create_dir(dir.path().join("d")).unwrap();
    for n in 0..100 {
        fs::write(dir.path().join(format!("d/{n}")), "").unwrap();
    }
    let list = |vary| -> Vec<String> {
        let output = sandboxed(dir.path(), "ls -U \"$DIR\"/d", vary)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().map(str::to_owned).collect()
    };
    let (plain, mut varied) = (list(false), list(true));
    assert_eq!(plain.len(), 100);
    varied.reverse();
    assert_eq!(plain, varied);
}

#[test]
fn there_is_one_processor() {
    assert_eq!(varied("nproc"), "1");
}

#[test]
fn exit_codes_and_signals_are_the_programs_own() {
    assert_eq!(run("exit 7", true).status.code(), Some(7));
    assert_eq!(run("kill -TERM $$", true).status.code(), Some(128 + 15));
    assert_eq!(run("no-such-program", true).status.code(), Some(127));
    // Handlers run, a stopped process stays stopped until it is told to go on.
    let script = "trap 'echo caught' USR1; kill -USR1 $$
        sleep 30 & kill -STOP $!
        until grep -q '^State:.[Tt]' /proc/$!/status; do :; done
        kill -CONT $!; until grep -q '^State:.S' /proc/$!/status; do :; done
        kill -TERM $!; wait $!; echo $?";
    assert_eq!(varied(script), "caught\n143");
}

#[test]
fn a_daemon_ends_with_its_step_and_orphans_are_reaped() {
    let script = "(setsid sh -c 'sleep 4327.1; :' </dev/null >/dev/null 2>&1 &)
        (sleep 0.2 & echo $! > \"$DIR\"/pid); sleep 1
        if kill -0 \"$(cat \"$DIR\"/pid)\" 2>/dev/null; then echo zombie; exit 1; fi";
    assert_eq!(varied(script), "");
    assert!(!running("4327.1"));
}

#[test]
fn an_interpreter_with_threads_and_children_works() {
    if !has("python3") {
        return;
    }
    let script = "
import subprocess, sys, threading, time, concurrent.futures as f
with f.ThreadPoolExecutor(8) as pool:
    said = list(pool.map(lambda n: subprocess.check_output(['date', '+%s']), range(24)))
e = threading.Event(); assert not e.wait(0.3)
l = threading.Lock(); l.acquire(); assert not l.acquire(timeout=0.3)
assert all(abs(int(s) - time.time()) < 60 for s in said), said
print(int(time.time()))
";
    let dir = directory();
    fs::write(dir.path().join("it.py"), script).unwrap();
    let path = std::env::var("PATH").unwrap();
    let line = format!("PATH='{path}' HOME=/root exec timeout 60 python3 \"$DIR\"/it.py");
    let output = sandboxed(dir.path(), &line, true).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ahead(String::from_utf8(output.stdout).unwrap().trim());
}

#[test]
fn kill_9_of_the_tracer_ends_all_that_it_traced() {
    let dir = directory();
    let mut command = sandboxed(
        dir.path(),
        "(setsid sleep 4327.2 &) ; echo up; sleep 4327.3",
        true,
    );
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "up\n");
    // The tracer is the only child of unshare(1).
    let own = format!("/proc/{0}/task/{0}/children", child.id());
    let tracer = fs::read_to_string(own).unwrap();
    let killed = Command::new("kill").arg("-9").arg(tracer.trim()).status();
    assert!(killed.unwrap().success());
    // Ends when nobody holds the pipe any more.
    std::io::Read::read_to_end(&mut stdout, &mut Vec::new()).unwrap();
    child.wait().unwrap();
    assert!(!running("4327.2") && !running("4327.3"));
}

/// Whether a process has this word in its arguments.
fn running(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        arguments.split(|b| *b == 0).any(|w| w == word.as_bytes())
    })
}
