//! Jobs that run from time to time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Child, Stdio};

use crate::support::{Farm, wait_for};
use store::manifest::Timer;

fn timer(name: &str, script: &str, every: u64) -> Timer {
    Timer {
        name: name.to_owned(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        user: "op".to_owned(),
        directory: "/srv".to_owned(),
        environment: BTreeMap::from([("WHAT".to_owned(), "mail".to_owned())]),
        every: Some(every),
        at: None,
    }
}

/// Begins `imgnode run`, which is ready when this returns.
fn watch(farm: &Farm) -> Child {
    let errors = farm.path("run.log");
    let mut run = farm.command(&["run", &farm.system]);
    run.stderr(File::create(&errors).unwrap());
    let run = run.stdout(Stdio::null()).spawn().unwrap();
    wait_for("a watcher", || {
        farm.status()["systems"][0]["watched"] == true
    });
    run
}

fn shown(farm: &Farm, name: &str) -> serde_json::Value {
    let status = farm.status();
    let timers = status["systems"][0]["timers"].as_array().unwrap();
    let one = timers.iter().find(|one| one["name"] == name);
    one.unwrap().clone()
}

fn log(farm: &Farm) -> String {
    farm.ok(&["logs", &farm.system, "--lines", "1000"])
}

#[test]
fn whoever_watches_starts_them_and_says_how_they_end() {
    let mut farm = Farm::new("timers");
    let system = farm.system.clone();
    let well = "echo $IMGNODE_PROCESS $(id -u) $PWD $GREETING $WHAT";
    farm.timers = vec![
        timer("often", well, 1),
        timer("broken", "exit 9", 1),
        timer("slow", "echo begins; sleep 100000", 1),
        timer("seldom", well, 7 * 24 * 3600),
    ];
    farm.release(2);
    farm.install();
    farm.ok(&["start", &system]);
    let said = farm.fails(&["status", "--check"], 1);
    assert!(said.contains("nobody runs the timers of"), "{said}");
    assert!(
        farm.ok(&["status"])
            .contains("nobody runs them: imgnode run")
    );
    assert_eq!(shown(&farm, "often")["next"], serde_json::Value::Null);
    let mut run = watch(&farm);
    wait_for("a few jobs", || {
        log(&farm).matches("timer.often: ").count() > 2
    });
    wait_for("a failure", || shown(&farm, "broken")["exit"] == 9);
    let line = "timer.often: timer.often 4242 /srv good day mail\n";
    assert!(log(&farm).contains(line), "{}", log(&farm));
    // Never twice at once, by hand neither.
    let slow = shown(&farm, "slow")["pid"].as_i64().unwrap();
    assert_eq!(log(&farm).matches("timer.slow: begins").count(), 1);
    let said = farm.fails(&["exec", &system, "--timer", "slow"], 75);
    assert!(said.contains("runs already"), "{said}");
    assert!(shown(&farm, "seldom")["next"].is_string());
    assert_eq!(shown(&farm, "seldom")["started"], serde_json::Value::Null);
    let said = farm.fails(&["status", "--check"], 1);
    assert!(said.contains("the timer broken of"), "{said}");
    assert!(said.contains("ended with exit code 9"), "{said}");
    let metrics = farm.path("imgnode.prom");
    farm.ok(&["status", "--prometheus", metrics.to_str().unwrap()]);
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(text.contains("timer=\"broken\"} 9\n"), "{text}");
    let errors = fs::read_to_string(farm.path("run.log")).unwrap();
    assert!(errors.contains("the timer broken of"), "{errors}");
    // Whoever watches next knows of what runs.
    run.kill().unwrap();
    run.wait().unwrap();
    let mut run = watch(&farm);
    let before = log(&farm).matches("timer.often: ").count();
    wait_for("more jobs", || {
        log(&farm).matches("timer.often: ").count() > before + 1
    });
    assert_eq!(shown(&farm, "slow")["pid"].as_i64(), Some(slow));
    assert_eq!(log(&farm).matches("timer.slow: begins").count(), 1);
    farm.ok(&["stop", &system, "--timeout", "4"]);
    assert!(run.wait().unwrap().success());
    farm.close();
}

#[test]
fn one_that_was_missed_runs_once_and_by_hand_whenever_asked() {
    let mut farm = Farm::new("missed");
    let system = farm.system.clone();
    farm.timers = vec![
        timer("daily", "echo ran; exit $(cat /home/op/code)", 24 * 3600),
        timer("other", "exit 0", 24 * 3600),
    ];
    let code = farm.path("tree/home/op/code");
    fs::write(&code, "3\n").unwrap();
    std::os::unix::fs::chown(&code, Some(4242), Some(4242)).unwrap();
    farm.release(2);
    farm.install();
    // By hand, in a session of its own.
    let output = farm.run(&["exec", &system, "--timer", "daily"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
    assert_eq!(shown(&farm, "daily")["exit"], 3);
    let said = farm.fails(&["exec", &system, "--timer", "weekly"], 2);
    assert!(said.contains("it has: daily other"), "{said}");
    // The node was off for a week.
    let path = farm.path(&format!("state/timers/{system}.json"));
    let text = fs::read_to_string(&path).unwrap();
    let mut noted: serde_json::Value = serde_json::from_str(&text).unwrap();
    let since = &mut noted["timers"]["daily"]["since"];
    *since = (since.as_u64().unwrap() - 7 * 24 * 3600).into();
    fs::write(&path, noted.to_string()).unwrap();
    let mut run = watch(&farm);
    wait_for("its end", || {
        let timer = shown(&farm, "daily");
        log(&farm).contains("timer.daily: ran") && timer["pid"].is_null() && timer["exit"] == 3
    });
    let next = shown(&farm, "daily")["next"].as_str().unwrap().to_owned();
    let started = shown(&farm, "daily")["started"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(next > started, "{next} {started}");
    // Beside the app, and what is mended is no fault any more.
    farm.ok(&["exec", &system, "--", "sh", "-c", "echo 0 > /home/op/code"]);
    farm.fails(&["status", "--check"], 1);
    assert_eq!(farm.ok(&["exec", &system, "--timer", "daily"]), "ran\n");
    farm.ok(&["status", "--check"]);
    assert_eq!(log(&farm).matches("timer.daily: ran").count(), 1);
    farm.ok(&["stop", &system]);
    assert!(run.wait().unwrap().success());
    farm.ok(&["uninstall", &system]);
    assert!(!path.exists());
}
