//! Whose the file of a Unix socket is.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Served, servers};
use crate::support::wait_for;

#[test]
fn a_unix_socket_is_taken_only_from_the_dead() {
    let served = Served::at_a_file("taken");
    let (farm, system, path) = (&served.farm, served.farm.system.clone(), served.path());
    let listen = served.address.as_str();
    // Another system wants the same.
    let other = format!("other-{system}");
    let target = farm.target();
    farm.ok(&["install", "web", "--as", &other, "--target", &target]);
    let said = farm.fails(&["start", &other, "--listen", listen], 1);
    assert!(
        said.contains("cannot listen on unix:") && said.contains("another system"),
        "{said}"
    );
    assert_eq!(served.get("/").unwrap(), "2");
    // The machine lost its power: files of sockets, and nobody who serves them.
    let session = farm.status()["systems"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|one| {
            let id = one["session"]["id"].as_str()?;
            Some(id.to_owned())
        });
    let own = format!(".app.sock.{}", session.unwrap().rsplit('-').next().unwrap());
    assert!(path.with_file_name(&own).exists());
    for pid in servers(&system) {
        let pid = pid.to_string();
        Command::new("kill").args(["-KILL", &pid]).status().unwrap();
    }
    wait_for("its end", || served.get("/").is_err());
    assert!(path.exists());
    farm.ok(&["start", &other, "--listen", listen]);
    assert_eq!(served.get("/").unwrap(), "2");
    assert!(!path.with_file_name(&own).exists());
    // The dead one does not remove what is another's now.
    let said = farm.fails(&["start", &system], 1);
    assert!(said.contains("another system"), "{said}");
    assert_eq!(served.get("/").unwrap(), "2");
    farm.ok(&["stop", &other]);
    assert!(!path.exists());
    farm.ok(&["uninstall", &other]);
    // Another program, a file, a directory of somebody else's.
    let somebody = UnixListener::bind(&path).unwrap();
    let said = farm.fails(&["start", &system], 1);
    assert!(said.contains("another program"), "{said}");
    drop(somebody);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    let said = farm.fails(&["start", &system], 1);
    assert!(said.contains("is there and is not a socket"), "{said}");
    fs::remove_file(&path).unwrap();
    chown(path.parent().unwrap(), Some(4242), None).unwrap();
    let said = farm.fails(&["start", &system], 3);
    assert!(
        said.contains("cannot hold sockets") && said.contains("4242"),
        "{said}"
    );
    chown(path.parent().unwrap(), Some(0), None).unwrap();
    for wrong in [
        "unix:app.sock".to_owned(),
        format!("unix:/{}", "x".repeat(93)),
    ] {
        farm.fails(&["start", &system, "--listen", &wrong], 2);
        let mut run = farm.command(&["run", &system]);
        let run = run.env("IMGNODE_LISTEN", &wrong).output().unwrap();
        assert_eq!(run.status.code(), Some(2), "{run:?}");
    }
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    // Both kinds at once.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = free.local_addr().unwrap().to_string();
    drop(free);
    farm.ok(&["start", &system]);
    served.get("/").unwrap();
    farm.ok(&["stop", &system]);
    farm.fails(
        &["start", &system, "--listen", listen, "--listen", listen],
        2,
    );
    farm.fails(&["start", &system, "--listen", listen, "--listen", &tcp], 1);
    farm.ok(&["start", &system, "--listen", listen]);
    served.close();
}

#[test]
fn the_operator_says_who_may_connect_to_a_unix_socket() {
    let served = Served::at_a_file("access");
    let (farm, system, path) = (&served.farm, served.farm.system.clone(), served.path());
    let mode = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.gid(), found.mode() & 0o7777)
    };
    let file = PathBuf::from(format!("/etc/imgnode/{system}.toml"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[sockets]\ngroup = \"no-such-group\"\n").unwrap();
    served.release(3, "well");
    let said = farm.fails(&["upgrade", &system], 2);
    assert!(
        said.contains("this host has no group `no-such-group`"),
        "{said}"
    );
    assert_eq!(mode(&path), (0, 0o666));
    fs::write(&file, "[sockets]\ngroup = \"daemon\"\nmode = \"0660\"\n").unwrap();
    farm.ok(&["upgrade", &system]);
    assert_eq!(mode(&path), (1, 0o660));
    assert_eq!(served.get("/").unwrap(), "3");
    fs::remove_file(&file).unwrap();
    served.close();
}
