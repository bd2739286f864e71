//! The runner on a program that stands for one of tests: what it reports, and what is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Lists three tests as libtest does. The first leaves whatever a test can leave.
const PROGRAM: &str = r#"#!/bin/sh
[ "$1" = --list ] && { printf 'one::leaves: test\nfails: test\none::passes: test\nb: benchmark\n'; exit; }
case "$2" in
one::leaves)
    mount -t tmpfs tmpfs /mnt
    setsid sleep 4711 &
    echo mine > /etc/schroot/chroot.d/left.conf
    echo "$TMPDIR" > "$PLACE/where"; echo mine > "$TMPDIR/left"
    trap - INT; kill -INT $$; echo 'Ctrl-C is ignored'; exit 1 ;;
fails) echo 'why it fails'; exit 7 ;;
one::passes) [ "$$" -lt 100 ] && ! grep -q ' /mnt ' /proc/self/mounts ;;
esac
"#;

fn run(dir: &Path, names: &[&str]) -> (bool, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_test-runner"))
        .args(["run", "--phase", "before=12", "--messages"])
        .arg(dir.join("messages"))
        .arg("--")
        .args(names)
        .env("PLACE", dir)
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    (
        ran.status.success(),
        said + &String::from_utf8_lossy(&ran.stderr),
    )
}

#[test]
fn each_test_has_a_machine_of_its_own_and_failures_are_explained() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runner");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("crate")).unwrap();
    let program = dir.join("program");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let message = format!(
        r#"{{"reason":"compiler-artifact","manifest_path":"{0}/crate/Cargo.toml","profile":{{"test":true}},"target":{{"kind":["test"],"name":"it"}},"executable":"{0}/program"}}"#,
        dir.display()
    );
    fs::write(dir.join("messages"), format!("no JSON\n{message}\n")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();

    let (passed, said) = run(&dir, &["passes"]);
    assert!(
        passed && said.contains("1 tests passed, 0 failed"),
        "{said}"
    );
    assert!(said.contains("12.0 s  before"), "{said}");
    let (passed, said) = run(&dir, &[]);
    assert!(
        !passed && said.contains("1 tests passed, 2 failed"),
        "{said}"
    );
    for part in [
        "== failed: crate/it::fails [",
        "\nwhy it fails\nrepeat it alone: tests/run 'crate/it::fails'",
        "== failed: crate/it::one::leaves [",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!said.contains("Ctrl-C is ignored"), "{said}");
    let (passed, said) = run(&dir, &["nothing"]);
    assert!(
        !passed && said.contains("no test has a name with nothing"),
        "{said}"
    );

    assert_eq!(fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
    let place = fs::read_to_string(dir.join("where")).unwrap();
    assert!(place.trim_end().ends_with("/tmp") && !Path::new(place.trim_end()).exists());
    for left in [
        "/etc/schroot/chroot.d/left.conf",
        "/tmp/left",
        "/var/tmp/left",
    ] {
        assert!(!Path::new(left).exists(), "{left}");
    }
    let sleeps = Command::new("pgrep").args(["-f", "sleep 4711"]).status();
    assert!(!sleeps.unwrap().success(), "a process is left");
    fs::remove_dir_all(dir).unwrap();
}
