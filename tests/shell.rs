//! Lines of shell in the directory of a benchmark, with the programs of this workspace at hand, and
//! what they cost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries::{imgbuild, imgnode};

/// What a command took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From start to exit.
    pub seconds: f64,
    /// The most memory that one of its processes had, in MiB.
    pub memory: f64,
    /// Bytes that its processes read from files, wherever these were: proc(5), `rchar`.
    pub read: u64,
}

/// A directory in which scripts run. They have `$imgbuild` and `$imgnode`; store, work and keys
/// are in the directory.
#[derive(Debug)]
pub struct Shell {
    /// The directory.
    pub dir: PathBuf,
}

impl Shell {
    /// In this directory.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn command(&self, program: &str) -> Command {
        let dir = |name: &str| self.dir.join(name);
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env("imgbuild", imgbuild())
            .env("imgnode", imgnode())
            .env("IMGBUILD_STORE", dir("store"))
            .env("IMGBUILD_WORK", dir("work"))
            .env("IMGBUILD_KEYS", dir("keys"))
            .env("BORG_BASE_DIR", dir("cache"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .stdin(Stdio::null());
        command
    }

    /// Runs lines of shell; what they print.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        finish(self.command("sh").args(["-euc", script]), script)
    }

    /// Runs lines of shell that print a number.
    #[track_caller]
    pub fn number(&self, script: &str) -> u64 {
        let text = self.run(script);
        let number = text.trim().parse();
        number.unwrap_or_else(|_| panic!("{script} printed no number: {text}"))
    }

    /// Runs lines of shell, measured by a parent that waits for them: getrusage(2), proc(5).
    #[track_caller]
    pub fn measure(&self, script: &str) -> Cost {
        // What a process has read is known until somebody has waited for it.
        const PARENT: &str = "import os, resource, subprocess, sys, time\n\
            start = time.monotonic()\n\
            ran = subprocess.Popen(['sh', '-euc', sys.argv[1]], stdout=sys.stderr)\n\
            os.waitid(os.P_PID, ran.pid, os.WEXITED | os.WNOWAIT)\n\
            took = time.monotonic() - start\n\
            io = dict(line.split(': ') for line in open('/proc/%d/io' % ran.pid))\n\
            code = ran.wait()\n\
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n\
            print(took, most / 1024, int(io['rchar']))\n\
            sys.exit(code)\n";
        // Nothing is left to write by those before it.
        rustix::fs::sync();
        let text = finish(self.command("python3").args(["-c", PARENT, script]), script);
        let words: Vec<_> = text.split_whitespace().collect();
        let [seconds, memory, read] = words[..] else {
            panic!("it prints three numbers, not {text}");
        };
        Cost {
            seconds: seconds.parse().expect("seconds"),
            memory: memory.parse().expect("MiB"),
            read: read.parse().expect("bytes"),
        }
    }
}

#[track_caller]
fn finish(command: &mut Command, script: &str) -> String {
    let out = command.output();
    let out = out.unwrap_or_else(|e| panic!("{script}: {e}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{script}: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}
