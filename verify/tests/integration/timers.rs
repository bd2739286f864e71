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
        limit: None,
    }
}

/// Begins `imgnode run`, which is ready when this returns.
fn watch(farm: &Farm) -> Child {
    watch_with(farm, &[])
}

fn watch_with(farm: &Farm, words: &[&str]) -> Child {
    let errors = farm.path("run.log");
    let mut run = farm.command(&[&["run", &farm.system], words].concat());
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

#[test]
fn one_that_hangs_is_ended_at_its_limit_and_runs_again() {
    let mut farm = Farm::new("limit");
    let system = farm.system.clone();
    let limited = |name, script, limit| Timer {
        limit: Some(limit),
        ..timer(name, script, 1)
    };
    let hangs = "trap '' TERM; echo begins; sleep 100001 & sleep 100001; sleep 100001";
    let asked = "trap 'echo asked; exit 0' TERM; echo begins; while :; do sleep 1 & wait $!; done";
    farm.timers = vec![
        limited("hangs", hangs, 1),
        limited("asked", asked, 1),
        limited("quick", "echo done", 3600),
    ];
    farm.release(2);
    farm.install();
    // By hand it counts too.
    let output = farm.run(&["exec", &system, "--timer", "asked"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("has reached its limit of 1s"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "begins\nasked\n");
    assert_eq!(shown(&farm, "asked")["exit"], 124);
    let mut run = watch_with(&farm, &["--timeout", "1"]);
    let times = |name: &str| log(&farm).matches(&format!("timer.{name}: begins")).count();
    wait_for("the next ones", || times("hangs") > 1 && times("asked") > 1);
    wait_for("their end", || {
        shown(&farm, "hangs")["timed_out"] == true && shown(&farm, "asked")["timed_out"] == true
    });
    for name in ["hangs", "asked"] {
        assert_eq!(shown(&farm, name)["exit"], 124);
        let schedule = shown(&farm, name)["schedule"].clone();
        assert_eq!(schedule, "every 1s, for at most 1s");
    }
    assert!(log(&farm).contains("timer.asked: asked"), "{}", log(&farm));
    // Nothing of it lives on: there are the two of one run, or none.
    let status = farm.status();
    let processes = status["systems"][0]["session"]["processes"].clone();
    let sleeps = processes.to_string().matches("\"sleep 100001\"").count();
    assert!(sleeps <= 2, "{processes}");
    wait_for("a good one", || shown(&farm, "quick")["exit"] == 0);
    let said = farm.fails(&["status", "--check"], 1);
    let fault = format!("the timer hangs of {system} reached its limit and was ended");
    assert!(said.contains(&fault), "{said}");
    assert!(farm.ok(&["status"]).contains("reached its limit"));
    let errors = fs::read_to_string(farm.path("run.log")).unwrap();
    assert!(
        errors.contains("hangs of") && errors.contains("has reached its limit"),
        "{errors}"
    );
    farm.ok(&["stop", &system, "--force", "--timeout", "2"]);
    assert!(run.wait().unwrap().success());
    farm.close();
}

#[test]
fn a_limit_counts_on_when_another_watches() {
    let mut farm = Farm::new("handed");
    let system = farm.system.clone();
    farm.timers = vec![Timer {
        limit: Some(4),
        ..timer("hangs", "echo begins; sleep 100002", 1)
    }];
    farm.release(2);
    farm.install();
    let mut run = watch(&farm);
    wait_for("its begin", || log(&farm).contains("timer.hangs: begins"));
    run.kill().unwrap();
    run.wait().unwrap();
    let pid = shown(&farm, "hangs")["pid"].as_i64().unwrap();
    let mut run = watch(&farm);
    wait_for("its end", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    wait_for("what is noted", || {
        shown(&farm, "hangs")["timed_out"] == true
    });
    farm.ok(&["stop", &system, "--timeout", "4"]);
    assert!(run.wait().unwrap().success());
    farm.close();
}

#[test]
fn a_clock_that_jumps_costs_at_most_one_run() {
    let mut farm = Farm::new("jumps");
    let system = farm.system.clone();
    let year = 365 * 24 * 3600;
    farm.timers = vec![
        timer("often", "echo ran", 1),
        timer("seldom", "echo ran", 7 * 24 * 3600),
    ];
    farm.release(2);
    farm.install();
    let mut run = watch(&farm);
    wait_for("a job", || log(&farm).contains("timer.often: ran"));
    farm.ok(&["stop", &system]);
    assert!(run.wait().unwrap().success());
    let path = farm.path(&format!("state/timers/{system}.json"));
    let note = |jump: &dyn Fn(u64) -> u64| {
        let text = fs::read_to_string(&path).unwrap();
        let mut noted: serde_json::Value = serde_json::from_str(&text).unwrap();
        for name in ["often", "seldom"] {
            let since = &mut noted["timers"][name]["since"];
            *since = jump(since.as_u64().unwrap()).into();
        }
        fs::write(&path, noted.to_string()).unwrap();
    };
    let often = || log(&farm).matches("timer.often: ran").count();
    // It was a year ahead when they were noted, and was put back.
    note(&|since| since + year);
    let before = often();
    let mut run = watch(&farm);
    wait_for("jobs", || often() > before + 1);
    let next = shown(&farm, "seldom")["next"].as_str().unwrap().to_owned();
    let limit = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(8 * 24);
    assert!(next < limit.to_string(), "{next}");
    assert!(!log(&farm).contains("timer.seldom: ran"));
    farm.ok(&["stop", &system]);
    assert!(run.wait().unwrap().success());
    // It was a year behind.
    note(&|since| since - year);
    let mut run = watch(&farm);
    let before = often();
    wait_for("jobs", || often() > before + 2);
    assert_eq!(log(&farm).matches("timer.seldom: ran").count(), 1);
    farm.ok(&["stop", &system]);
    assert!(run.wait().unwrap().success());
    farm.close();
}
