//! Processes beside the main one, which follow the traffic.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Clients, Served};
use crate::support::wait_for;

/// What workers said, in order.
fn said_by_workers(served: &Served) -> Vec<String> {
    let log = served
        .farm
        .ok(&["logs", &served.farm.system, "--lines", "1000"]);
    let lines = log
        .lines()
        .filter_map(|line| line.strip_prefix("worker.1: "));
    let words = lines.map(|line| line.split(':').next().unwrap_or_default().to_owned());
    words.collect()
}

#[test]
fn workers_follow_the_traffic_one_generation_at_a_time() {
    let mut served = Served::new("follow");
    let system = served.farm.system.clone();
    served.farm.workers(1, "well");
    // One that may run in two generations at once.
    let both = store::manifest::Process {
        name: "both".to_owned(),
        overlap: true,
        ..served.farm.processes[0].clone()
    };
    served.farm.processes.push(both);
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let clients = Clients::of(&served);
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    let said = ["works in 3", "ends in 3", "works in 4"];
    assert_eq!(said_by_workers(&served), said);
    let log = served.farm.ok(&["logs", &system, "--lines", "1000"]);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("both.1: works in 4") < at("both.1: ends in 3"), "{log}");
    assert!(
        at("both.1: works in 4") < at("worker.1: works in 4"),
        "{log}"
    );
    // One that ends at once takes all back, with the traffic.
    served.farm.workers(1, "crash");
    served.release(5, "well");
    let fault = served.farm.fails(&["upgrade", &system], 1);
    for part in [
        "stays on generation 3",
        "the process worker.1 of generation 4",
        "no queue",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(served.generations(), (3, 3));
    assert_eq!(served.get("/").unwrap(), "4");
    let answers = clients.end();
    assert!(answers.contains_key("4"), "{answers:?}");
    let said = said_by_workers(&served);
    assert_eq!(said[3..], ["ends in 4", "no queue", "works in 4"]);
    assert!(served.farm.further()["worker.1"].is_some());
    assert_eq!(
        served.farm.status()["systems"][0]["failed_release"]["seq"],
        5
    );
    served.close();
}

#[test]
fn a_worker_that_ends_while_its_generation_is_watched_takes_it_back() {
    let mut served = Served::new("tiring");
    let system = served.farm.system.clone();
    served.farm.workers(1, "well");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    served.farm.workers(1, "tires");
    served.farm.health.as_mut().unwrap().bake = Some(3600);
    served.release(4, "well");
    let clients = Clients::of(&served);
    let fault = served.farm.fails(&["upgrade", &system], 1);
    for part in [
        "went back to generation 2",
        "the process worker.1 of generation 3",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(served.generations(), (2, 2));
    clients.end();
    assert!(served.farm.further()["worker.1"].is_some());
    served.close();
}

#[test]
fn a_switch_that_is_interrupted_between_two_workers_goes_back() {
    let mut served = Served::new("turnback");
    let system = served.farm.system.clone();
    served.farm.workers(1, "stubborn");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let before = served.farm.further();
    let clients = Clients::of(&served);
    served.release(4, "well");
    let words = ["upgrade", &system, "--timeout", "3"];
    let mut upgrade = served.farm.command(&words);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    wait_for("its word", || {
        said_by_workers(&served).contains(&"does not end".to_owned())
    });
    let pid = upgrade.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(!upgrade.wait().unwrap().success());
    assert_eq!(served.generations(), (2, 2));
    assert_eq!(served.get("/").unwrap(), "3");
    clients.end();
    let after = served.farm.further();
    assert!(after["worker.1"].is_some() && after != before, "{after:?}");
    served.close();
}

#[test]
fn a_switch_that_is_killed_between_two_workers_is_made_whole() {
    let mut served = Served::new("halfway");
    let system = served.farm.system.clone();
    served.farm.workers(1, "stubborn");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let before = served.farm.further();
    served.farm.workers(1, "well");
    served.release(4, "well");
    let mut upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    // The old one was told to end, and does not.
    wait_for("its word", || {
        said_by_workers(&served).contains(&"does not end".to_owned())
    });
    upgrade.kill().unwrap();
    upgrade.wait().unwrap();
    assert_eq!(served.get("/").unwrap(), "4");
    let fault = served.farm.fails(&["status", "--check"], 1);
    assert!(fault.contains("the process worker.1 of"), "{fault}");
    // The next command ends it and starts the new one, never both.
    served.farm.ok(&["upgrade", &system, "--timeout", "2"]);
    assert_eq!(served.generations(), (3, 3));
    let after = served.farm.further();
    assert!(after["worker.1"].is_some() && after != before, "{after:?}");
    let old = before["worker.1"].unwrap();
    assert!(!Path::new(&format!("/proc/{old}/root/srv/worker")).exists());
    served.farm.ok(&["status", "--check"]);
    served.close();
}
