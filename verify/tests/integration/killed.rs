//! The real `imgnode`, interrupted: killed at chosen moments, and by Ctrl-C.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Farm;
use rustix::process::{Pid, Signal, kill_process};

/// Starts an install, waits for a moment, sends a signal; how the process ended.
fn interrupted(farm: &Farm, moment: &dyn Fn() -> bool, signal: Signal) -> std::process::ExitStatus {
    let words = farm.install_words();
    let mut child = farm
        .command(&words.each_ref().map(String::as_str))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !moment() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let _ = kill_process(Pid::from_child(&child), signal);
    child.wait().unwrap()
}

#[test]
fn kill_dash_nine_at_any_moment_is_undone_or_finished_by_the_next_command() {
    let farm = Farm::new("killed");
    let system = farm.system.clone();
    let home = farm.path("images").join(&system);
    let staged = home.join(".staging/data");
    let count = |least: usize| fs::read_dir(&staged).is_ok_and(|entries| entries.count() >= least);
    let moments: [(&str, &dyn Fn() -> bool); 9] = [
        ("state", &|| farm.path("state/trust").exists()),
        ("journal", &|| farm.journal().exists()),
        ("home", &|| home.exists()),
        ("staging", &|| home.join(".staging").exists()),
        ("first files", &|| count(1)),
        ("half", &|| count(200)),
        ("all files", &|| count(400)),
        ("placed", &|| home.join("1").exists()),
        ("registered", &|| farm.chroot_file().exists()),
    ];
    let (mut undone, mut finished) = (0, 0);
    for (name, moment) in moments {
        interrupted(&farm, moment, Signal::KILL);
        // Any changing command cleans up first, whatever it then says.
        let said = farm.run(&["stop", &system]).stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(!farm.journal().exists(), "{name}: {said}");
        assert!(!home.join(".staging").exists(), "{name}");
        if farm.status()["systems"].as_array().unwrap().is_empty() {
            farm.assert_nothing_installed();
            undone += 1;
        } else {
            farm.ok(&["verify", &system]);
            farm.ok(&["start", &system]);
            farm.ok(&["stop", &system]);
            farm.ok(&["uninstall", &system]);
            finished += 1;
        }
    }
    assert!(
        undone >= 4,
        "the moments are too late: {undone} undone, {finished} finished"
    );
    farm.install();
    farm.close();
}

#[test]
fn a_killed_install_of_the_next_release_leaves_the_active_generation_serving() {
    let farm = Farm::new("next");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    farm.release(2);
    let staged = farm.path("images").join(&system).join(".staging/data");
    let half = || fs::read_dir(&staged).is_ok_and(|entries| entries.count() >= 100);
    let ended = interrupted(&farm, &half, Signal::KILL);
    assert_eq!(ended.signal(), Some(9));
    farm.ok(&["reload", &system]);
    assert_eq!(farm.status()["systems"][0]["generation"], 1);
    assert_eq!(farm.status()["systems"][0]["session"]["state"], "running");
    farm.ok(&["verify", &system]);
    farm.ok(&["stop", &system]);
    farm.install();
    assert_eq!(farm.status()["systems"][0]["generation"], 2);
    farm.close();
}

#[test]
fn ctrl_c_cleans_up_by_itself() {
    let farm = Farm::new("ctrlc");
    let staged = farm.path("images").join(&farm.system).join(".staging/data");
    let begun = || fs::read_dir(&staged).is_ok_and(|entries| entries.count() >= 20);
    let ended = interrupted(&farm, &begun, Signal::INT);
    assert_eq!(ended.code(), Some(130));
    farm.assert_nothing_installed();
    farm.install();
    farm.close();
}

/// How many kills before the end: a few, or all of them in the soak tier.
fn kills() -> u64 {
    if std::env::var_os("IMGBUILD_SOAK").is_some() {
        200
    } else {
        5
    }
}

/// Everything on disk is what the record says, and nothing of a dead attempt is left.
fn assert_settled(farm: &Farm, system: &str, round: &str) {
    let status = farm.status();
    let systems = status["systems"].as_array().unwrap();
    let record = systems.iter().find(|one| one["system"] == system);
    let numbers = record.map_or_else(Vec::new, |record| {
        let generations = record["generations"].as_array().unwrap();
        assert_eq!(record["registered"], true, "{round}: {status}");
        generations
            .iter()
            .map(|one| one["generation"].to_string())
            .collect()
    });
    let home = farm.path("images").join(system);
    let mut found: Vec<_> = fs::read_dir(&home)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".imgnode.json")
        .collect();
    found.sort_by_key(|name| name.parse::<u64>().unwrap_or(0));
    assert_eq!(found, numbers, "{round}: {status}");
    assert_eq!(home.exists(), record.is_some(), "{round}");
    assert!(status["pending"].is_null(), "{round}: {status}");
}

#[test]
fn killed_at_random_moments_of_everything() {
    let farm = Farm::new("random");
    let (system, other) = (farm.system.clone(), format!("{}-b", farm.system));
    farm.install();
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    let mut random = u64::from(std::process::id()) << 20 | 1;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below.max(1)
    };
    // Milliseconds that each took when it was not killed in time.
    let acts = [
        "upgrade",
        "switch",
        "rollback",
        "gc",
        "install",
        "uninstall",
    ];
    let mut long = [900, 300, 300, 300, 900, 300];
    let (mut version, mut killed) = (2, 0);
    for round in 0.. {
        if killed == kills() {
            eprintln!("{killed} of {round} were killed in time");
            break;
        }
        assert!(
            round < 5 * kills(),
            "only {killed} of {round} were killed in time"
        );
        let act = next(acts.len() as u64) as usize;
        let status = farm.status();
        let kept = status["systems"][0]["generations"]
            .as_array()
            .unwrap()
            .clone();
        let number = kept[next(kept.len() as u64) as usize]["generation"].to_string();
        let target = farm.target();
        let words: Vec<&str> = match acts[act] {
            "upgrade" => {
                version += 1;
                farm.release(version);
                vec!["upgrade", &system]
            }
            "switch" => vec!["switch", &system, &number],
            "rollback" => vec!["rollback", &system],
            "gc" => vec!["gc", &system],
            "install" => vec!["install", "web", "--as", &other, "--target", &target],
            _ => vec!["uninstall", &other],
        };
        let moment = next(long[act]);
        let name = format!("round {round}: {words:?} killed after {moment} ms");
        let begun = std::time::Instant::now();
        let mut child = farm
            .command(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while begun.elapsed().as_millis() < u128::from(moment)
            && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        if child.wait().unwrap().signal() == Some(9) {
            killed += 1;
        } else {
            long[act] = u64::try_from(begun.elapsed().as_millis()).unwrap() + 20;
        }
        // The next command, whatever it is, cleans up.
        let said = farm.run(&["reload", &system]).stderr;
        let name = format!("{name}: {}", String::from_utf8_lossy(&said));
        assert_settled(&farm, &system, &name);
        if farm.status()["systems"].as_array().unwrap().len() > 1 {
            assert_settled(&farm, &other, &name);
        }
        farm.ok(&["start", &system]);
        farm.ok(&["stop", &system]);
        if matches!(acts[act], "upgrade" | "install") || round % 10 == 9 {
            farm.ok(&["verify", &system]);
        }
    }
    if farm.status()["systems"].as_array().unwrap().len() > 1 {
        farm.ok(&["uninstall", &other]);
    }
    farm.close();
}

/// A file system in memory, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: &Path) -> Self {
        let words = ["-t", "tmpfs", "tmpfs"];
        let mounted = Command::new("mount").args(words).arg(place).status();
        assert!(mounted.unwrap().success());
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_cannot_be_undone_keeps_no_other_system_from_running() {
    let farm = Farm::new("beside");
    let (system, other) = (farm.system.clone(), format!("{}-b", farm.system));
    farm.install();
    let target = farm.target();
    farm.ok(&["install", "web", "--as", &other, "--target", &target]);
    farm.release(2);
    let journal = farm.path(&format!("state/journals/{other}.json"));
    let mut child = farm.command(&["upgrade", &other]);
    let mut child = child.stderr(Stdio::null()).spawn().unwrap();
    while !journal.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(journal.exists());
    // Nobody can remove what is mounted.
    let staging = farm.path("images").join(&other).join(".staging");
    fs::create_dir_all(&staging).unwrap();
    let mounted = Mounted::at(&staging);
    for words in [
        &["start", &system][..],
        &["reload", &system],
        &["stop", &system],
        &["upgrade", &system],
    ] {
        let output = farm.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let why = format!("note: cannot undo the interrupted install of {other}: ");
        assert!(said.contains(&why), "{said}");
    }
    assert_eq!(farm.status()["pending"]["system"], other);
    let failing = farm.fails(&["start", &other], 1);
    drop(mounted);
    assert!(failing.contains("error: cannot undo"), "{failing}");
    farm.ok(&["uninstall", &other]);
    farm.close();
}
