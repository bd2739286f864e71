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

    /// Runs lines of shell, measured by a parent that waits for them: getrusage(2).
    #[track_caller]
    pub fn measure(&self, script: &str) -> Cost {
        const PARENT: &str = "import resource, subprocess, sys, time\n\
            start = time.monotonic()\n\
            ran = subprocess.run(['sh', '-euc', sys.argv[1]], stdout=sys.stderr)\n\
            most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n\
            print(time.monotonic() - start, most / 1024)\n\
            sys.exit(ran.returncode)\n";
        // Nothing is left to write by those before it.
        rustix::fs::sync();
        let text = finish(self.command("python3").args(["-c", PARENT, script]), script);
        let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
        let mut next = || numbers.next().flatten().expect("it prints two numbers");
        Cost {
            seconds: next(),
            memory: next(),
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
