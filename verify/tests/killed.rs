//! The real `imgnode`, interrupted: killed at chosen moments, and by Ctrl-C.

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use support::Farm;

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
        ("journal", &|| farm.path("state/journal.json").exists()),
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
        assert!(!farm.path("state/journal.json").exists(), "{name}: {said}");
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
