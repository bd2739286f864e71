//! Processes beside the main one of an app.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Farm, wait_for};

fn kill(pid: i64) {
    let pid = pid.to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    assert!(killed.success());
}

/// The lines of the log that are said by workers.
fn said(farm: &Farm) -> Vec<String> {
    let log = farm.ok(&["logs", &farm.system, "--lines", "1000"]);
    let lines = log.lines().filter(|line| line.starts_with("worker."));
    lines.map(str::to_owned).collect()
}

fn waits_for_line(farm: &Farm, line: &str) {
    wait_for(&format!("`{line}` in {:?}", said(farm)), || {
        said(farm).iter().any(|one| one.contains(line))
    });
}

#[test]
fn they_come_after_the_main_one_and_go_before_it() {
    let mut farm = Farm::new("workers");
    let system = farm.system.clone();
    farm.workers(2, "well");
    // Another user, who reads no secrets.
    farm.processes.push(store::manifest::Process {
        name: "clock".to_owned(),
        user: "root".to_owned(),
        count: 1,
        reload_signal: None,
        ..farm.processes[0].clone()
    });
    farm.release(2);
    farm.install();
    farm.ok(&["start", &system]);
    let running = farm.further();
    assert_eq!(
        running.keys().collect::<Vec<_>>(),
        ["clock.1", "worker.1", "worker.2"]
    );
    assert!(running.values().all(Option::is_some), "{running:?}");
    farm.ok(&["status", "--check"]);
    waits_for_line(
        &farm,
        "worker.2: works in 2: worker.2 4242 /srv good day mail",
    );
    let log = farm.ok(&["logs", &system]);
    assert!(log.contains("clock.1: works in 2: clock.1 0 "), "{log}");
    // The main one has its own reload, and each other one its signal or none.
    farm.ok(&["reload", &system]);
    waits_for_line(&farm, "worker.1: reloads");
    assert_eq!(farm.further(), running);
    assert!(!farm.ok(&["logs", &system]).contains("clock.1: reloads"));
    // One that ends is missed, and the rest goes on.
    kill(running["worker.2"].unwrap());
    wait_for("its end", || farm.further()["worker.2"].is_none());
    let fault = farm.fails(&["status", "--check"], 1);
    assert!(fault.contains("the process worker.2 of"), "{fault}");
    assert!(farm.ok(&["status"]).contains("worker.2   not running"));
    let metrics = farm.path("imgnode.prom");
    farm.ok(&["status", "--prometheus", metrics.to_str().unwrap()]);
    let text = fs::read_to_string(&metrics).unwrap();
    for line in ["process=\"worker.1\"} 1\n", "process=\"worker.2\"} 0\n"] {
        assert!(text.contains(line), "{text}");
    }
    farm.ok(&["start", &system]);
    let again = farm.further();
    assert_eq!(again["worker.1"], running["worker.1"]);
    assert!(again["worker.2"].is_some_and(|pid| Some(pid) != running["worker.2"]));
    // Nothing is missing: it runs already.
    farm.fails(&["start", &system], 1);
    // Whatever waits for one is no part of it.
    farm.ok(&["stop", &system]);
    let log = farm.ok(&["logs", &system, "--lines", "1000"]);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("worker.1: ends in 2") < at("stopping"), "{log}");
    assert!(at("hello from op") < at("worker.1: works"), "{log}");
    farm.close();
}

#[test]
fn one_that_ends_at_once_is_a_failed_start() {
    let mut farm = Farm::new("nowork");
    let system = farm.system.clone();
    farm.workers(1, "crash");
    farm.release(2);
    farm.install();
    let fault = farm.fails(&["start", &system], 1);
    for part in [
        "the process worker.1 of generation 1 of",
        "ended with exit code 5",
        "worker.1: no queue",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    farm.close();
}

#[test]
fn whoever_watches_starts_them_again() {
    let mut farm = Farm::new("again");
    let system = farm.system.clone();
    farm.workers(1, "well");
    farm.release(2);
    farm.install();
    let errors = farm.path("run.log");
    let mut run = farm.command(&["run", &system]);
    let file = fs::File::create(&errors).unwrap();
    let mut run = run.stderr(file).stdout(Stdio::null()).spawn().unwrap();
    let worker = || farm.further().get("worker.1").copied().flatten();
    let said = |text: &str| fs::read_to_string(&errors).unwrap().contains(text);
    wait_for("the app", || said("runs in the session"));
    let killed = || {
        let before = worker().unwrap();
        kill(before);
        wait_for("another worker", || {
            worker().is_some_and(|now| now != before)
        });
    };
    killed();
    if said("does not run; it will be started") {
        // That one died before `run` looked for the first time.
        killed();
    }
    for part in ["the process worker.1 of", "it is started again in 1 s"] {
        assert!(said(part), "{part}");
    }
    // Killed, and another takes all of it on.
    let second = worker().unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    let file = fs::File::create(&errors).unwrap();
    let mut run = farm.command(&["run", &system]);
    let mut run = run.stderr(file).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the app", || said("it runs already"));
    assert_eq!(worker(), Some(second));
    farm.ok(&["stop", &system]);
    assert!(run.wait().unwrap().success());
    farm.close();
}
