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

/// Where cargo builds, and how: a program of tests or benchmarks lies in `TARGET/PROFILE/deps`.
fn target_and_profile() -> (PathBuf, String) {
    let own = std::env::current_exe().expect("a program knows where it is");
    let mut above = own.ancestors().skip(2);
    let profile = above
        .next()
        .and_then(Path::file_name)
        .expect("TARGET/PROFILE");
    let target = above.next().expect("TARGET").to_owned();
    (target, profile.to_string_lossy().into_owned())
}

/// A program that is built like this one: optimised for benchmarks, quickly for tests.
fn program(package: &str, name: &str, triple: Option<&str>) -> PathBuf {
    let (target, profile) = target_and_profile();
    let path = target
        .join(triple.unwrap_or_default())
        .join(&profile)
        .join(name);
    // tests/run has compiled everything before it begins.
    if std::env::var_os("IMGBUILD_TEST_FIXTURES").is_some() {
        assert!(path.exists(), "{}: run tests/run", path.display());
        return path;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Build scripts that watch what cargo sets for tests would run again, and with them
    // everything that depends on them.
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" {
            cargo.env_remove(&variable);
        }
    }
    cargo
        .current_dir(repository())
        .args(["build", "--locked", "--package", package, "--bin", name])
        .arg("--target-dir")
        .arg(&target);
    if profile == "release" {
        cargo.arg("--release");
    }
    if let Some(triple) = triple {
        cargo.args(["--target", triple]);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "{cargo:?} failed; run tests/run, which installs what it needs"
    );
    path
}

/// Whether this is a run of the soak tier: with what takes long, in place of what says the same sooner.
pub fn is_soak() -> bool {
    std::env::var_os("IMGBUILD_SOAK").is_some()
}

/// The program `imgbuild`.
pub fn imgbuild() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| program("builder", "imgbuild", None))
}

/// The program `imgnode`: static as it is released, but in an ordinary run. There it is the one that its
/// own tests run; another C library would have all that it needs compiled once more.
pub fn imgnode() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if std::env::var_os("IMGBUILD_TEST_FIXTURES").is_some() && !is_soak() {
            return program("verify", "imgnode", None);
        }
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        program("verify", "imgnode", Some(&triple))
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
