//! Changing a generation in place, as operators do, and what every command says about it then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{Farm, install_program, wait_for};

/// An app that reads its greeting again when it is told to reload.
const APP: &str = r#"#!/bin/sh
case "$1" in
    start)
        trap 'cat /srv/greeting' HUP
        trap 'exit 0' TERM
        echo $$ > /home/op/app.pid
        cat /srv/greeting
        while :; do sleep 1 & wait $!; done
        ;;
    stop) kill -TERM $(cat /home/op/app.pid) ;;
    reload) kill -HUP $(cat /home/op/app.pid) ;;
esac
"#;

fn farm(name: &str) -> Farm {
    let farm = Farm::new(name);
    let app = farm.path("tree/srv/app");
    fs::remove_file(&app).unwrap();
    fs::write(&app, APP).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
    install_program(&farm.path("tree"), Path::new("/usr/bin/mv"));
    fs::write(farm.path("tree/srv/greeting"), "good morning\n").unwrap();
    farm.release(2);
    farm.install();
    // What changed in the second of the install counts as part of it.
    thread::sleep(Duration::from_millis(1100));
    farm
}

/// What a command says on stderr.
fn said(farm: &Farm, words: &[&str]) -> String {
    let output = farm.run(words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "imgnode {words:?}\n{said}");
    said
}

/// Runs a line in the source chroot of the system.
fn in_source(farm: &Farm, line: &str) {
    let chroot = format!("source:{}", farm.system);
    let words = [
        "-c", &chroot, "-u", "root", "-d", "/", "--", "sh", "-c", line,
    ];
    let output = Command::new("schroot").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
}

#[test]
fn a_change_in_the_source_chroot_is_live_after_a_reload_and_named_ever_after() {
    let farm = farm("inplace");
    let system = farm.system.clone();
    farm.ok(&["start", &system]);
    farm.ok(&["verify", &system]);
    // As dpkg does: a new file, and a rename over the one that the session knows by name.
    in_source(
        &farm,
        "echo good evening > /srv/new; /usr/bin/mv /srv/new /srv/greeting",
    );
    let told = said(&farm, &["reload", &system]);
    assert!(
        told.contains("was changed in place (") && told.contains("until it is stopped"),
        "{told}"
    );
    wait_for("the new greeting", || {
        farm.ok(&["logs", &system]).contains("good evening")
    });
    let output = farm.run(&["verify", &system]);
    assert_eq!(output.status.code(), Some(3));
    let differences = String::from_utf8(output.stdout).unwrap();
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(differences.contains("/srv/greeting has "), "{differences}");
    assert!(
        note.contains(&format!("generation 1 of {system} has drifted")),
        "{note}"
    );

    // The same release again is nothing to do, and not a word less.
    let again = said(&farm, &["upgrade", &system]);
    assert!(
        again.contains("was changed in place (") && again.contains("--again"),
        "{again}"
    );
    // What the next generation is made of is what was signed.
    farm.release(3);
    let next = said(&farm, &["upgrade", &system]);
    assert!(
        next.contains("/srv/greeting") && next.contains("generation 2 will have none of that"),
        "{next}"
    );
    farm.ok(&["verify", &system]);
    assert_eq!(
        farm.run(&["verify", &system, "--generation", "1"])
            .status
            .code(),
        Some(3)
    );
    farm.fails(&["verify", &system, "--generation", "7"], 2);
    let back = said(&farm, &["rollback", &system]);
    assert!(
        back.contains("generation 1 of") && back.contains("becomes active as it is now"),
        "{back}"
    );
    // And forward: nothing was changed there.
    let forward = said(&farm, &["switch", &system, "2"]);
    assert!(!forward.contains("changed in place"), "{forward}");
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn a_generation_is_written_anew_to_undo_what_was_changed_in_it() {
    let farm = farm("again");
    let system = farm.system.clone();
    let tree = farm.path("images").join(&system);
    fs::remove_file(tree.join("1/srv/greeting")).unwrap();
    fs::write(tree.join("1/data/000"), "short").unwrap();
    let output = farm.run(&["verify", &system]);
    let differences = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        differences.contains("/srv/greeting is missing"),
        "{differences}"
    );
    let done = said(&farm, &["upgrade", &system, "--again"]);
    assert!(
        done.contains("generation 2 will have none of that"),
        "{done}"
    );
    farm.ok(&["verify", &system]);
    assert_eq!(
        fs::read_to_string(tree.join("2/srv/greeting")).unwrap(),
        "good morning\n"
    );
    // Without a word about it in the record, every byte is read.
    let record = farm.path(&format!("state/systems/{system}.json"));
    let text = fs::read_to_string(&record).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    for generation in old["generations"].as_array_mut().unwrap() {
        let settled = generation.as_object_mut().unwrap().remove("settled");
        assert!(settled.is_some_and(|at| at.is_u64()), "{text}");
    }
    fs::write(&record, old.to_string()).unwrap();
    let back = said(&farm, &["rollback", &system]);
    assert!(back.contains("it is not the image any more"), "{back}");
    let forward = said(&farm, &["rollback", &system]);
    assert!(!forward.contains("changed in place"), "{forward}");
    farm.close();
}
