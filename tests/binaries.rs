//! The real programs, built once, and their runs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
}

fn cargo(arguments: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = target_dir();
    let status = Command::new(cargo)
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", &target)
        .args(arguments)
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "cargo {arguments:?} failed; run tests/run, which installs what it needs"
    );
    target
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// The release build of `imgbuild`.
pub fn imgbuild() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        cargo(&["build", "--release", "--locked", "-p", "builder"]).join("release/imgbuild")
    })
}

/// The release build of the static `imgnode`.
pub fn imgnode() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        cargo(&[
            "build",
            "--release",
            "--locked",
            "-p",
            "verify",
            "--target",
            &triple,
        ])
        .join(triple)
        .join("release/imgnode")
    })
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code; -1 after a signal.
    pub code: i32,
}

impl Ran {
    /// Waits for a command and takes its output.
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("the program starts");
        Self {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code: status.code().unwrap_or(-1),
        }
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use)] // a check in itself
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// Runs a program with arguments.
pub fn run<S: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(Command::new(program).args(arguments))
}
