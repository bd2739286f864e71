//! The node on real volumes, in a virtual machine: every kind of them, full ones, and the power goes.
//!
//! An ordinary run lets two systems live on volumes and pulls the plug once. The soak tier does so
//! twenty times, and runs the suite of every kind of target and what happens when volumes fill up.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::binaries::{imgbuild, imgnode, is_soak, repository};
use tests::fixtures::{self, scratch};
use tests::vm::Machine;

/// For what takes a minute, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(600);

/// A job: a script of this directory, the node program, and what else there is.
fn job(script: &str) -> tempfile::TempDir {
    let dir = scratch();
    fs::write(dir.path().join("run"), script).unwrap();
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(imgnode(), dir.path().join("imgnode")).unwrap();
    dir
}

/// A store with so many versions of a small image, for a job.
fn plant(job: &Path, versions: usize, files: usize) {
    let dir = scratch();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/vm/tree.sh");
    let planted = Command::new("sh")
        .arg("-eu")
        .arg(script)
        .arg(dir.path())
        .args([versions.to_string(), files.to_string()])
        .env("imgbuild", imgbuild())
        .env("IMGBUILD_STORE", dir.path().join("store"))
        .env("IMGBUILD_WORK", dir.path().join("work"))
        .env("IMGBUILD_KEYS", dir.path().join("keys"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&planted.stderr);
    assert!(planted.status.success(), "{said}");
    let parts = (1..=versions).map(|version| format!("env-{version}"));
    for part in parts.chain(["store".to_owned()]) {
        fs::rename(dir.path().join(&part), job.join(&part)).unwrap();
    }
}

/// The integration tests of `verify`, which run as well where they were not compiled.
fn targets_program() -> PathBuf {
    let program = std::env::var_os("TEST_PROGRAM_verify_integration");
    PathBuf::from(program.expect("run this test by tests/run, which knows the other programs"))
}

/// How often the plug is pulled.
fn rounds() -> usize {
    if is_soak() { 100 } else { 1 }
}

/// The acts of a life, which `power.sh` announces.
const ACTS: u64 = 6;
/// No act is much longer, emulated and alone.
const LONGEST_ACT: Duration = Duration::from_secs(10);

#[test]
fn the_power_goes() {
    let job = job(include_str!("power.sh"));
    plant(job.path(), rounds() + 2, 60);
    let machine = Machine::new("power");
    let mut random = u64::from(std::process::id()) << 20 | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (mut inside, mut pending) = (0, 0);
    for life in 0..=rounds() {
        let mut boot = machine.boot(job.path());
        boot.wait_for("\nacts begin ", PATIENCE);
        if life > 0 {
            let said = boot.said();
            let (before, after) = said.split_once("\nsettled\n").unwrap();
            pending += usize::from(interrupted(before));
            assert_settled(after, life);
        }
        if life == rounds() {
            // After all cuts everything still works: a volume is upgraded, and one is made.
            boot.wait_for("\nact 3\n", PATIENCE);
            boot.cut();
            break;
        }
        let act = next() % ACTS + 1;
        boot.wait_for(&format!("\nact {act}\n"), PATIENCE);
        // Any moment will do.
        let moment = LONGEST_ACT / 1000 * u32::try_from(next() % 1000).unwrap();
        std::thread::sleep(moment);
        let said = boot.cut();
        inside += usize::from(!said.contains("\nacts end "));
        println!(
            "life {life}: cut {:.1} s after act {act} began",
            moment.as_secs_f64()
        );
    }
    println!(
        "{inside} of {} cuts came before the last act ended, {pending} left a journal",
        rounds()
    );
}

/// Whether a dead attempt left a journal.
fn interrupted(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("journal /"))
}

/// Volumes are what the node says it has, and nothing of a dead attempt is left.
fn assert_settled(said: &str, round: usize) {
    let said = said.split("\nacts begin ").next().unwrap();
    let line = |start: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(start));
        found
            .unwrap_or_else(|| panic!("life {round}: no {start}: {said}"))
            .trim()
    };
    let status: Value = serde_json::from_str(line("status ")).unwrap();
    let mut known = BTreeSet::new();
    let systems = status["systems"].as_array().unwrap();
    assert_eq!(systems.len(), 2, "life {round}: {status}");
    for system in systems {
        assert_eq!(system["registered"], true, "life {round}: {status}");
        for generation in system["generations"].as_array().unwrap() {
            known.insert(generation["directory"].as_str().unwrap());
        }
    }
    let volumes: BTreeSet<_> = line("volumes ").split_whitespace().collect();
    assert_eq!(volumes, known, "life {round}: {said}");
    for (what, wanted) in [("mounts", "0"), ("sessions", ""), ("journal", "")] {
        assert_eq!(line(what), wanted, "life {round}: {what}: {said}");
    }
}

mod soak {
    use super::*;

    #[test]
    fn every_kind_of_volume() {
        let program = targets_program();
        let job = job(include_str!("kinds.sh"));
        fs::copy(program, job.path().join("targets")).unwrap();
        let machine = Machine::new("kinds");
        let said = machine.boot(job.path()).end(PATIENCE);
        assert!(said.contains("1 passed"), "{said}");
    }

    /// An application in the life of a machine that systemd runs: fenced, with a secret that is encrypted
    /// for this machine, and again after a boot.
    #[test]
    fn a_machine_that_systemd_runs() {
        let bench = tests::bench::bench();
        bench.write("fenced", include_str!("fenced.toml"));
        bench.imgbuild(&["fenced.toml"]).expect(0);
        let run = bench.path("run");
        fs::write(&run, include_str!("systemd.sh")).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(imgnode(), bench.path("imgnode")).unwrap();
        let units = bench.path("systemd");
        fixtures::copy(&repository().join("verify/systemd"), &units);
        let machine = Machine::new("systemd");
        for _ in 0..2 {
            println!("{}", machine.boot(bench.dir()).end(PATIENCE));
        }
    }

    #[test]
    fn a_pool_that_fills_up() {
        let job = job(include_str!("full.sh"));
        plant(job.path(), 2, 300);
        let machine = Machine::new("full");
        let said = machine.boot(job.path()).end(PATIENCE);
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        for error in errors {
            println!("{error}");
        }
    }
}
