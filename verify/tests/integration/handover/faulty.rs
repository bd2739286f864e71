//! Generations that do not work, at once or later, and what is not given to them.

use std::io::Read;
use std::process::{Command, Stdio};

use super::{Clients, Served, servers};
use crate::support::wait_for;

#[test]
fn a_generation_that_does_not_work_never_answers() {
    never_answers(Served::new("sick"));
}

#[test]
fn a_generation_that_does_not_work_never_answers_at_a_unix_socket() {
    never_answers(Served::at_a_file("sickfile"));
}

fn never_answers(served: Served) {
    let system = served.farm.system.clone();
    let clients = Clients::of(&served);
    for (version, mode, why) in [
        (3, "sick", "GET /up answered 500"),
        (4, "crash", "ended with exit code 3"),
    ] {
        served.release(version, mode);
        let said = served.farm.fails(&["upgrade", &system], 1);
        assert!(said.contains("stays on generation 1"), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(served.generations(), (1, 1), "{mode}");
        // Nobody goes back to what never worked.
        let previous = served.farm.status()["systems"][0]["previous"].clone();
        assert!(previous.is_null(), "{mode}: {previous}");
    }
    // The next good one is not in their way.
    served.release(5, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.get("/").unwrap(), "5");
    let answers = clients.end();
    let versions: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert_eq!(versions, ["2", "5"], "{answers:?}");
    served.close();
}

#[test]
fn what_is_not_given_or_not_prepared_gets_no_traffic() {
    let mut served = Served::new("needy");
    let system = served.farm.system.clone();
    served.farm.needs.settings = vec!["SITE".to_owned()];
    served.release(3, "well");
    let said = served.farm.fails(&["upgrade", &system], 2);
    assert!(said.contains("SITE has no value"), "{said}");
    // Nothing was written: there is no second generation.
    assert_eq!(served.generations(), (1, 1));
    served.farm.fails(&["switch", &system, "2"], 2);
    served.farm.needs.settings.clear();
    served.farm.before_switch = ["/bin/sh", "-c", "echo no table >&2; exit 5"]
        .map(str::to_owned)
        .to_vec();
    served.release(4, "well");
    let said = served.farm.fails(&["upgrade", &system], 1);
    assert!(
        said.contains("the before-switch command of") && said.contains("no table"),
        "{said}"
    );
    assert_eq!(served.generations(), (1, 1));
    assert!(served.get("/").is_ok());
    served.farm.before_switch = ["/bin/sh", "-c", ":"].map(str::to_owned).to_vec();
    served.release(5, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.generations(), (3, 3));
    served.close();
}

#[test]
fn a_generation_that_breaks_while_it_is_watched_goes_back_by_itself() {
    let mut served = Served::new("tired");
    let system = served.farm.system.clone();
    served.farm.health.as_mut().unwrap().bake = Some(3600);
    served.release(3, "tires");
    let said = served.farm.fails(&["upgrade", &system], 1);
    assert!(said.contains("went back to generation 1"), "{said}");
    assert_eq!(served.generations(), (1, 1));
    assert_eq!(served.get("/up").unwrap(), "2");
    // It is remembered, and not tried again by itself.
    let status = served.farm.status();
    assert_eq!(status["systems"][0]["failed_release"]["seq"], 3, "{status}");
    served.farm.health.as_mut().unwrap().bake = Some(2);
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.generations(), (3, 3));
    served.close();
}

#[test]
fn a_release_that_did_not_work_is_remembered() {
    let served = Served::new("tried");
    let (farm, system) = (&served.farm, served.farm.system.clone());
    served.release(3, "sick");
    farm.fails(&["upgrade", &system], 1);
    let failed = farm.status()["systems"][0]["failed_release"].clone();
    assert_eq!(failed["seq"], 3, "{failed}");
    assert!(
        failed["why"].as_str().unwrap().contains("generation 1"),
        "{failed}"
    );
    // The timer tries it no more; who wants to, does.
    let asked = farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        said.contains("--again") && !said.contains("asking generation"),
        "{said}"
    );
    assert_eq!(served.generations(), (1, 1));
    farm.fails(&["upgrade", &system, "--again"], 1);
    served.release(4, "well");
    farm.ok(&["upgrade", &system]);
    assert_eq!(served.get("/").unwrap(), "4");
    // What does not run is asked by nobody, and that is said.
    farm.ok(&["stop", &system]);
    served.release(5, "well");
    let asked = farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");
    assert!(said.contains("nobody asked this generation"), "{said}");
    farm.ok(&["start", &system]);
    assert_eq!(served.get("/").unwrap(), "5");
    served.close();
}

#[test]
fn what_does_not_work_after_a_reload_is_an_error() {
    let served = Served::new("turns");
    let system = served.farm.system.clone();
    served.release(3, "turns");
    served.farm.ok(&["upgrade", &system]);
    let said = served.farm.fails(&["reload", &system], 1);
    assert!(said.contains("GET /up answered 500"), "{said}");
    // One that a signal ends.
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    let said = served.farm.fails(&["reload", &system], 1);
    assert!(said.contains("did not survive its reload"), "{said}");
    served.farm.ok(&["start", &system]);
    served.close();
}

#[test]
fn when_both_fail_the_old_one_is_started_again() {
    let served = Served::new("both");
    let system = served.farm.system.clone();
    served.release(3, "sick");
    let old = served.farm.path("images").join(&system).join("1");
    let upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = { upgrade }.stderr(Stdio::piped()).spawn().unwrap();
    // While the new one is asked.
    wait_for("two servers", || servers(&system).len() == 2);
    let first = servers(&system)[0];
    Command::new("kill")
        .args(["-KILL", &first.to_string()])
        .status()
        .unwrap();
    let mut said = String::new();
    upgrade
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(upgrade.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("had died, and was started again"), "{said}");
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(served.generations(), (1, 1));
    assert!(old.exists());
    served.close();
}
