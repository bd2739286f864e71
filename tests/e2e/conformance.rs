//! The TUF client, from outside: every case of `conformance/cases.py` passes.
//!
//! The public suite of The Update Framework drives the same binary through the same
//! interface; it is not on a package index, so what it asks for is asked here again,
//! from the specification, with python-tuf as the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// python-tuf, and the keys of other kinds than ours.
const PACKAGES: [&str; 2] = ["tuf==7.0.1", "securesystemslib[crypto]==1.6.0"];

fn run(command: &mut Command, package: &str) -> String {
    let output = command.output().unwrap_or_else(|e| {
        panic!("{command:?} cannot be started ({e}): apt-get install {package}")
    });
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?} failed:\n{said}");
    said
}

/// A python that has both packages.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-venv");
    let python = venv.join("bin/python");
    let ready = Command::new(&python)
        .args(["-c", "import tuf.api.metadata, cryptography"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !ready {
        let make = ["-m", "venv", "--clear"];
        run(
            Command::new("python3").args(make).arg(&venv),
            "python3-venv",
        );
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        run(
            Command::new(&python).args(install).args(PACKAGES),
            "python3-venv",
        );
    }
    python
}

#[test]
fn the_client_conforms() {
    run(Command::new("faketime").arg("--version"), "faketime");
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/cases.py");
    let said = run(
        Command::new(python())
            .arg(cases)
            .arg(env!("CARGO_BIN_EXE_tuf-client")),
        "faketime",
    );
    assert!(said.contains(" cases, 0 failed"), "{said}");
}

/// Linked so that a library that is loaded before it can shift its clock.
#[test]
fn the_client_is_linked_dynamically() {
    let said = run(
        Command::new("ldd").arg(env!("CARGO_BIN_EXE_tuf-client")),
        "libc-bin",
    );
    assert!(said.contains("libc.so"), "{said}");
}
