//! Sessions of a node: who runs in them, how they end, and what is theirs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Farm, wait_for};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_command_runs_in_the_session_as_a_user_of_the_image() {
    let farm = Farm::new("exec");
    let system = farm.system.clone();
    farm.install();
    let exec = |words: &[&str]| farm.ok(&[&["exec", &system], words].concat());
    // Nothing runs: in a session of its own, of which nothing stays.
    assert_eq!(exec(&["--", "id", "-u"]), "4242\n");
    farm.ok(&["start", &system]);
    assert_eq!(exec(&["--user", "root", "--", "id", "-u"]), "0\n");
    assert_eq!(exec(&["--", "cat", "/home/op/app.pid"]).lines().count(), 1);
    let said = exec(&["--", "sh", "-c", "echo $GREETING in $PWD"]);
    assert_eq!(said, "good day in /home/op\n");
    farm.fails(&["exec", &system, "--", "sh", "-c", "exit 7"], 7);
    let said = farm.fails(&["exec", &system, "--user", "web", "--", "id"], 2);
    assert!(said.contains("it has: op"), "{said}");
    // Shared memory is the session's, whoever has the same number on the host.
    let name = format!("/dev/shm/{system}");
    exec(&["--", "sh", "-c", &format!("echo here > {name}")]);
    assert_eq!(exec(&["--", "cat", &name]), "here\n");
    assert!(!Path::new(&name).exists());
    farm.fails(&["exec", &system, "--fresh", "--", "cat", &name], 1);
    let mut beside = farm.command(&["exec", &system, "--", "sleep", "1000"]);
    let mut beside = beside.spawn().unwrap();
    let mut places = BTreeSet::new();
    wait_for("the command", || {
        let status = farm.status();
        let processes = status["systems"][0]["session"]["processes"].as_array();
        places = processes
            .unwrap()
            .iter()
            .filter_map(|one| fs::read_link(format!("/proc/{}/ns/ipc", one["pid"])).ok())
            .collect();
        let is_there = |one: &serde_json::Value| one["command"] == "sleep 1000";
        processes.unwrap().iter().any(is_there)
    });
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(!places.contains(&fs::read_link("/proc/self/ns/ipc").unwrap()));
    farm.ok(&["stop", &system]);
    beside.wait().unwrap();
    farm.ok(&["status", "--check"]);
    farm.close();
}

#[test]
fn a_session_survives_the_shell_that_started_it() {
    let farm = Farm::new("detached");
    farm.install();
    let mut shell = std::process::Command::new("setsid");
    shell.args([
        "sh",
        "-c",
        "\"$0\" start \"$1\"; kill -9 -$$",
        env!("CARGO_BIN_EXE_imgnode"),
        &farm.system,
    ]);
    let ended = shell
        .env("IMGNODE_STATE", farm.path("state"))
        .output()
        .unwrap();
    assert_eq!(
        ended.status.signal(),
        Some(9),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(farm.status()["systems"][0]["session"]["state"], "running");
    farm.ok(&["stop", &farm.system]);
    farm.close();
}

#[test]
fn apps_that_die_hang_or_will_not_stop() {
    let farm = Farm::new("unruly");
    let system = farm.system.clone();
    farm.install();
    let said = farm.fails(&["start", &system, "--", "crash"], 1);
    assert!(
        said.contains("ended with exit code 7") && said.contains("cannot bind: address in use"),
        "{said}"
    );
    let said = farm.fails(&["start", &system, "--", "quit"], 1);
    assert!(said.contains("ended at once"), "{said}");
    assert_eq!(
        farm.status()["systems"][0]["session"],
        serde_json::Value::Null
    );

    farm.ok(&["start", &system, "--", "stubborn"]);
    let said = farm.fails(&["stop", &system, "--timeout", "1"], 75);
    assert!(
        said.contains("/srv/app") && said.contains("--force"),
        "{said}"
    );
    let stopped = farm.run(&["stop", &system, "--timeout", "1", "--force"]);
    assert!(stopped.status.success());
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(
        said.contains("killed ") && said.contains("/srv/app"),
        "{said}"
    );
    farm.close();
}

#[test]
fn an_image_without_commands_gets_signals() {
    let mut farm = Farm::new("signals");
    farm.signals = true;
    farm.release(2);
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    farm.ok(&["reload", &system]);
    wait_for("a reload", || {
        farm.ok(&["logs", &system]).contains("reloaded")
    });
    farm.ok(&["stop", &system]);
    let log = farm.ok(&["logs", &system]);
    assert_eq!(log.matches("reloaded").count(), 1, "{log}");
    assert_eq!(log.matches("stopping").count(), 1, "{log}");
    farm.close();
}

#[test]
fn a_session_whose_app_was_killed_is_cleaned_up_by_the_next_start() {
    let farm = Farm::new("dead");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    let status = farm.status();
    for process in status["systems"][0]["session"]["processes"]
        .as_array()
        .unwrap()
    {
        let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    wait_for("the death", || {
        farm.status()["systems"][0]["session"]["state"] == "dead"
    });
    let said = farm.fails(&["status", "--check"], 1);
    assert!(said.contains(&format!("{system} is dead")), "{said}");
    assert!(
        farm.fails(&["reload", &system], 1)
            .contains("is not running")
    );
    farm.ok(&["start", &system]);
    assert_eq!(farm.status()["systems"][0]["session"]["state"], "running");
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn a_process_in_a_chroot_of_its_own_is_one_of_the_app() {
    let farm = Farm::new("jail");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    let status = farm.status();
    let id = status["systems"][0]["session"]["id"].as_str().unwrap();
    // What a server of root's does by itself, with a copy of what it needs.
    let root = std::path::Path::new("/run/schroot/mount").join(id);
    let jail = root.join("tmp/jail");
    fs::create_dir(&jail).unwrap();
    crate::support::install_program(&jail, std::path::Path::new("/usr/bin/sleep"));
    let mut child = Command::new("chroot")
        .arg(&jail)
        .args(["/usr/bin/sleep", "300"])
        .spawn()
        .unwrap();
    let pid = child.id();
    wait_for("it to be seen", || {
        let processes = &farm.status()["systems"][0]["session"]["processes"];
        let all = processes.as_array().unwrap();
        all.iter().any(|process| process["pid"] == pid)
    });
    farm.ok(&["stop", &system]);
    assert!(!child.wait().unwrap().success());
    farm.close();
}

#[test]
fn what_the_caller_has_open_is_not_the_apps() {
    let farm = Farm::new("open");
    let system = farm.system.clone();
    farm.install();
    let lock = farm.path("callers.lock");
    let start = farm.command(&["start", &system]);
    // flock(1) passes its lock on to what it runs.
    let status = Command::new("flock")
        .arg(&lock)
        .arg(start.get_program())
        .args(start.get_args())
        .env("IMGNODE_STATE", farm.path("state"))
        .status();
    assert!(status.unwrap().success());
    let free = fs::File::open(&lock).unwrap().try_lock().is_ok();
    farm.ok(&["stop", &system]);
    assert!(free, "the app holds it");
    farm.close();
}

#[test]
fn only_root_enters_a_system_until_the_operator_lets_others_in() {
    let farm = Farm::new("access");
    farm.install();
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(farm.chroot_file()).unwrap();
        let users = text.lines().filter(|line| line.contains("users="));
        users.map(str::to_owned).collect()
    };
    let root_only = [
        "users=root",
        "root-users=root",
        "source-users=root",
        "source-root-users=root",
    ];
    assert_eq!(lines(), root_only);
    let said = farm.ok(&["access", &farm.system, "--users", "anna,bert"]);
    assert!(said.contains("root anna bert"), "{said}");
    let opened = [
        "users=root,anna,bert",
        "root-users=root",
        "source-users=root",
        "source-root-users=root",
    ];
    assert_eq!(lines(), opened);
    // The next generation is entered by the same.
    farm.release(2);
    farm.ok(&["upgrade", &farm.system]);
    assert_eq!(lines(), opened);
    farm.fails(&["access", &farm.system, "--root-users", "a\nb"], 2);
    assert_eq!(lines(), opened);
    // Killed where the file is written and the record is not: a schroot that ends who asks it.
    let bin = farm.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("schroot"), "#!/bin/sh\nkill -9 $PPID\n").unwrap();
    fs::set_permissions(bin.join("schroot"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut close = farm.command(&["access", &farm.system, "--users"]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let killed = close.env("PATH", path).status().unwrap();
    assert_eq!(killed.signal(), Some(9));
    assert_eq!(farm.status()["pending"]["operation"], "access");
    farm.ok(&["gc", &farm.system]);
    assert_eq!(lines(), root_only);
    let said = farm.ok(&["access", &farm.system]);
    assert!(!said.contains("anna"), "{said}");
    assert!(farm.status()["pending"].is_null());
    farm.close();
}
