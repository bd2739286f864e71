//! Handovers that are interrupted or killed, and generations that will not stop.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Served, servers};
use crate::support::wait_for;

#[test]
fn an_interrupted_upgrade_leaves_everything_as_it_was() {
    let served = Served::new("ctrl-c");
    let system = served.farm.system.clone();
    let listen = served.address.clone();
    served.release(3, "sick");
    let mut upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    wait_for("two servers", || servers(&system).len() == 2);
    let pid = upgrade.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(!upgrade.wait().unwrap().success());
    assert_eq!(served.generations(), (1, 1));
    assert_eq!(servers(&system).len(), 1);
    assert_eq!(served.get("/").unwrap(), "2");
    // It was not the release's fault.
    let failed = &served.farm.status()["systems"][0]["failed_release"];
    assert!(failed.is_null(), "{failed}");
    // An address that somebody has is not shared with him.
    served.farm.ok(&["stop", &system]);
    let somebody = TcpListener::bind(&served.address).unwrap();
    let said = served
        .farm
        .fails(&["start", &system, "--listen", &listen], 1);
    assert!(
        said.contains("cannot listen on") && said.contains("in use"),
        "{said}"
    );
    drop(somebody);
    served.farm.ok(&["start", &system]);
    served.close();
}

#[test]
fn one_that_will_not_stop_is_named_and_waited_for() {
    let served = Served::new("stuck");
    let system = served.farm.system.clone();
    served.release(3, "stuck");
    served.farm.ok(&["upgrade", &system]);
    let stuck = servers(&system)[0];
    served.release(4, "well");
    let run = served.farm.run(&["upgrade", &system, "--timeout", "1"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    assert!(said.contains(&format!("process {stuck} goes on")), "{said}");
    assert_eq!(served.get("/").unwrap(), "4");
    // It has its socket still: a third generation would not be told apart.
    let said = served
        .farm
        .fails(&["rollback", &system, "--timeout", "1"], 75);
    assert!(said.contains(&stuck.to_string()), "{said}");
    assert_eq!(served.get("/").unwrap(), "4");
    // Trying again later is the same command.
    assert_eq!(served.generations(), (3, 3));
    Command::new("kill")
        .args(["-KILL", &stuck.to_string()])
        .status()
        .unwrap();
    wait_for("its end", || servers(&system).len() == 1);
    served.farm.ok(&["switch", &system, "1"]);
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(
        served.farm.status()["systems"][0]["ending"],
        serde_json::json!([])
    );
    served.close();
}

#[test]
fn a_killed_handover_is_put_in_order() {
    stays_in_order(Served::new("cut"));
}

#[test]
fn a_killed_handover_of_a_unix_socket_is_put_in_order() {
    stays_in_order(Served::at_a_file("cutfile"));
}

fn stays_in_order(served: Served) {
    let system = served.farm.system.clone();
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let rounds = if std::env::var_os("IMGBUILD_SOAK").is_some() {
        100
    } else {
        6
    };
    let mut random = u64::from(std::process::id()) << 20 | 1;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(random % 3000);
        let begun = Instant::now();
        let mut rollback = served.farm.command(&["rollback", &system]);
        let mut rollback = rollback
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while begun.elapsed() < moment && rollback.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        rollback.kill().unwrap();
        rollback.wait().unwrap();
        // Somebody answers, always.
        let version = served
            .get("/")
            .unwrap_or_else(|e| panic!("{round}, {moment:?}: {e}"));
        assert!(version == "2" || version == "3", "{version}");
        // The next command moves it to where the record says, and ends the rest.
        let (active, _) = served.generations();
        served.farm.ok(&["switch", &system, &active.to_string()]);
        assert_eq!(
            served.generations(),
            (active, active),
            "{round}, {moment:?}"
        );
        let expected = (active + 1).to_string();
        for _ in 0..20 {
            assert_eq!(served.get("/").unwrap(), expected, "{round}, {moment:?}");
        }
        assert_eq!(servers(&system).len(), 1, "{round}, {moment:?}");
        if let Some(path) = served.address.strip_prefix("unix:").map(Path::new) {
            // The name, and the file of the one session.
            let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(left, 2, "{round}, {moment:?}");
        }
    }
    served.close();
}
