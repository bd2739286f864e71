//! Upgrade, rollback and switch under requests, at an address and at a Unix socket.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{Clients, Served, get};

#[test]
fn no_request_fails_through_upgrade_rollback_and_switch() {
    goes_back_and_forth(Served::new("served"));
}

#[test]
fn no_request_fails_at_a_unix_socket_either() {
    let served = Served::at_a_file("filed");
    let (farm, system, path) = (&served.farm, served.farm.system.clone(), served.path());
    assert!(
        farm.ok(&["status"])
            .contains(&format!("listens    {}", served.address))
    );
    // Whoever serves the web may connect, unless the operator says who.
    let access = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(access(&path), (0, 0, 0o666));
    assert_eq!(access(path.parent().unwrap()), (0, 0, 0o755));
    // A name that somebody removed comes back.
    fs::remove_file(&path).unwrap();
    farm.ok(&["reload", &system]);
    served.get("/").unwrap();
    let directory = path.parent().unwrap().to_owned();
    let stopped = goes_back_and_forth(served);
    // What is stopped leaves no file.
    assert_eq!(stopped, Some(0), "{}", directory.display());
}

/// Says how many files there were beside the Unix socket when the system was stopped.
fn goes_back_and_forth(served: Served) -> Option<usize> {
    let system = served.farm.system.clone();
    let clients = Clients::of(&served);
    served.release(3, "well");
    // One that is underway when the traffic moves.
    let address = served.address.clone();
    let slow = thread::spawn(move || get(&address, "/slow"));
    thread::sleep(Duration::from_millis(200));
    let said = served.farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("generation 2 has the traffic"), "{said}");
    assert_eq!(slow.join().unwrap().unwrap(), "2");
    assert_eq!(served.get("/").unwrap(), "3");
    assert_eq!(served.generations(), (2, 2));
    served.farm.ok(&["rollback", &system]);
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(served.generations(), (1, 1));
    served.farm.ok(&["switch", &system, "2"]);
    assert_eq!(served.get("/").unwrap(), "3");
    // One that is told to wait does.
    served.farm.ok(&["rollback", &system, "--keep-session"]);
    assert_eq!(served.get("/").unwrap(), "3");
    assert_eq!(served.generations(), (1, 2));
    served.farm.ok(&["switch", &system, "1"]);
    assert_eq!(served.get("/").unwrap(), "2");
    let answers = clients.end();
    assert!(answers["2"] > 10 && answers["3"] > 10, "{answers:?}");
    // As it was started last, without saying it again.
    served.farm.ok(&["stop", &system]);
    assert!(served.get("/").is_err());
    let path = served.address.strip_prefix("unix:").map(Path::new);
    let left = path.map(|path| fs::read_dir(path.parent().unwrap()).unwrap().count());
    served.farm.ok(&["start", &system]);
    assert_eq!(served.get("/").unwrap(), "2");
    served.close();
    left
}
