//! What a node says of itself: after each operation, into directories and onto web servers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::support::Farm;
use servers::nginx::Nginx;
use store::receipt::{Enrolment, Operation, Outcome, SignedReceipt};

/// What nginx needs to take new files and no others.
const PUT: &str = "location / { dav_methods PUT; create_full_put_path on; dav_access all:r; \
    set $taken $request_method; \
    if (-f $request_filename) { set $taken \"${taken}-taken\"; } \
    if ($taken = PUT-taken) { return 412; } }";

/// The receipts of a node in a directory, by name.
pub(crate) fn receipts(folder: &Path, node: &str) -> Vec<(String, SignedReceipt)> {
    let entries = fs::read_dir(folder.join("receipts").join(node));
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let receipt = SignedReceipt::read(&fs::read(entry.path()).unwrap()).unwrap();
            (name, receipt)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Operation and outcome of each.
pub(crate) fn told(found: &[(String, SignedReceipt)]) -> Vec<(Operation, Outcome)> {
    let event = |one: &(String, SignedReceipt)| {
        let event = &one.1.receipt.event;
        (event.operation, event.result)
    };
    found.iter().map(event).collect()
}

/// Makes sure that each names the one before and has the node's signature.
fn assert_chained(found: &[(String, SignedReceipt)], line: &str) {
    let enrolment: Enrolment = line.trim().parse().unwrap();
    for (_, one) in found {
        assert!(one.is_by(&enrolment.key));
        assert_eq!(one.receipt.node, enrolment.name);
    }
    for pair in found.windows(2) {
        let (before, after) = (&pair[0].1, &pair[1].1);
        assert_eq!(after.receipt.counter, before.receipt.counter + 1);
        assert_eq!(after.receipt.previous, Some(before.sha256));
    }
}

#[test]
fn each_operation_is_told_and_how_it_ended() {
    let mut farm = Farm::new("told");
    let (system, to) = (farm.system.clone(), farm.str("receipts"));
    fs::create_dir(to).unwrap();
    // Nobody asked for receipts, so there are none.
    farm.install();
    assert!(!farm.path("state/receipts").exists());
    farm.fails(&["receipts", "key"], 2);
    let root = farm.str("root.json");
    let store = farm.str("store");
    farm.ok(&[
        "init",
        "--env",
        "dev",
        "--repo",
        store,
        "--root",
        root,
        "--receipts",
        to,
    ]);
    let line = farm.ok(&["receipts", "key", "--name", "web01", "--group", "eu"]);
    let key = fs::metadata(farm.path("state/receipts/key.pem")).unwrap();
    let dir = fs::metadata(farm.path("state/receipts")).unwrap();
    assert_eq!((key.mode() & 0o777, dir.mode() & 0o777), (0o600, 0o700));

    farm.ok(&["upgrade", &system]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let taken = TcpListener::bind(&address).unwrap();
    farm.fails(&["start", &system, "--listen", &address], 1);
    drop(taken);
    farm.ok(&["start", &system, "--listen", &address]);
    farm.fails(&["start", &system], 1);
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    farm.before_switch = ["/bin/sh", "-c", "exit 4"].map(str::to_owned).into();
    farm.release(3);
    farm.fails(&["upgrade", &system], 1);
    farm.ok(&["rollback", &system]);
    farm.ok(&["verify", &system]);
    fs::write(farm.path("images").join(&system).join("1/srv/more"), "x").unwrap();
    farm.fails(&["verify", &system], 3);
    farm.ok(&["receipts", "send"]);
    farm.ok(&["stop", &system]);
    farm.fails(&["stop", &system], 1);
    // A mistyped name is nobody's operation.
    farm.fails(&["upgrade", "nosuch"], 2);
    let found = receipts(to.as_ref(), "web01");
    assert_chained(&found, &line);
    assert_eq!(
        told(&found),
        [
            (Operation::Upgrade, Outcome::Unchanged),
            (Operation::Start, Outcome::Failed),
            (Operation::Start, Outcome::Done),
            (Operation::Upgrade, Outcome::Done),
            (Operation::Upgrade, Outcome::WentBack),
            (Operation::Rollback, Outcome::Done),
            (Operation::Verify, Outcome::Done),
            (Operation::Verify, Outcome::Failed),
            (Operation::Heartbeat, Outcome::Done),
            (Operation::Stop, Outcome::Done),
        ]
    );
    let of = |at: usize| &found[at].1.receipt;
    let state = |at: usize| {
        let one = &of(at).systems[0];
        let runs = one.runs.as_ref().map(|runs| runs.seq);
        let previous = one.previous.as_ref().map(|one| one.seq);
        (one.active.seq, runs, previous)
    };
    assert_eq!(state(0), (1, None, None));
    // A session that could not be begun is said until one is.
    let last = |at: usize| of(at).systems[0].last.clone();
    assert_eq!(state(1), (1, None, None));
    assert_eq!(last(1).unwrap().operation, Operation::Start);
    assert_eq!(state(2), (1, Some(1), None));
    assert_eq!(last(2).unwrap().operation, Operation::Upgrade);
    assert_eq!(state(3), (2, Some(2), Some(1)));
    // What did not work never ran, and is said with its reason until something else is done.
    assert_eq!(state(4), (2, Some(2), Some(1)));
    assert_eq!(last(4).unwrap().result, Outcome::WentBack);
    let why = last(4).unwrap().reason.unwrap();
    assert!(why.contains("stays on generation 2"), "{why}");
    assert_eq!(state(5), (1, Some(1), Some(2)));
    assert_eq!(last(8).unwrap().operation, Operation::Rollback);
    assert_eq!(state(9), (1, None, Some(2)));
    let status = farm.status();
    let image = &status["systems"][0]["image"];
    assert_eq!(
        of(9).systems[0].active.image.to_string(),
        image.as_str().unwrap()
    );
    assert_eq!(of(9).environment.as_ref().unwrap().as_str(), "dev");
    assert_eq!(of(9).metadata.as_ref().unwrap().targets, Some(4));
    farm.ok(&["upgrade", &system, "--again"]);
    farm.ok(&["uninstall", &system]);
    let found = receipts(to.as_ref(), "web01");
    assert_chained(&found, &line);
    let last = &found.last().unwrap().1.receipt;
    assert_eq!(last.event.operation, Operation::Uninstall);
    assert!(last.systems.is_empty());
    farm.ok(&["receipts", "off"]);
    farm.install();
    assert_eq!(receipts(to.as_ref(), "web01").len(), found.len());
    farm.close();
}

/// An address at which nobody is. The upgrade is none the worse, and what waits is bounded.
#[test]
fn what_cannot_be_sent_waits_or_is_missed_aloud() {
    let farm = Farm::new("waits");
    let system = farm.system.clone();
    farm.install();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    farm.ok(&["receipts", "set", &nowhere, "--name", "web01"]);
    farm.release(2);
    let output = farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 receipt could not be sent"), "{said}");
    let shown: serde_json::Value =
        serde_json::from_str(&farm.ok(&["receipts", "show", "--json"])).unwrap();
    assert_eq!(shown["waiting"], 1);
    assert!(shown["failed"].is_string(), "{shown}");
    for _ in 0..205 {
        farm.fails(&["receipts", "send"], 1);
    }
    let to = farm.str("receipts");
    // A file system that is not mounted is not written to.
    farm.ok(&["receipts", "set", to]);
    farm.fails(&["receipts", "send"], 1);
    fs::create_dir(to).unwrap();
    let line = farm.ok(&["receipts", "key"]);
    farm.ok(&["receipts", "send"]);
    let found = receipts(to.as_ref(), "web01");
    // The operation is there, the oldest heartbeats are not, and the last of all says so.
    let first = &found[0].1.receipt;
    assert_eq!(
        (first.counter, first.event.operation),
        (1, Operation::Upgrade)
    );
    assert_eq!(found.len(), 200);
    let last = &found.last().unwrap().1.receipt;
    assert_eq!(last.counter, 208);
    let mut dropped = Vec::new();
    for (_, one) in &found {
        dropped.extend(one.receipt.dropped.iter().flat_map(|(a, b)| *a..=*b));
    }
    let missing: Vec<u64> = (1..=208)
        .filter(|n| !found.iter().any(|one| one.1.receipt.counter == *n))
        .collect();
    assert_eq!(dropped, missing);
    assert_chained(&found[1..], &line);
    // One that the disk has damaged is named, and the others go past it.
    let damaged = farm.path("state/receipts/spool/000000000100.heartbeat");
    fs::write(&damaged, "x").unwrap();
    let said = farm.fails(&["receipts", "send"], 1);
    assert!(said.contains("000000000100.heartbeat is damaged"), "{said}");
    assert_eq!(receipts(to.as_ref(), "web01").len(), found.len() + 1);
    fs::remove_file(damaged).unwrap();
    farm.ok(&["receipts", "send"]);
    // Killed before the memory knew of it, and damaged then: the next one counts on.
    let newest = receipts(to.as_ref(), "web01")
        .last()
        .unwrap()
        .1
        .receipt
        .counter
        + 1;
    let damaged = format!("state/receipts/spool/{newest:012}.heartbeat");
    fs::write(farm.path(&damaged), "").unwrap();
    let said = farm.fails(&["receipts", "send"], 1);
    assert!(said.contains("is damaged"), "{said}");
    let found = receipts(to.as_ref(), "web01");
    assert_eq!(found.last().unwrap().1.receipt.counter, newest + 1);
    farm.close();
}

#[test]
fn a_web_server_takes_receipts_and_a_copied_key_overwrites_none() {
    let farm = Farm::new("putter");
    let system = farm.system.clone();
    farm.install();
    let folder = farm.path("receipts");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(farm.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = Nginx::serve(&folder, PUT);
    farm.ok(&["receipts", "set", &server.url(), "--name", "web01"]);
    let line = farm.ok(&["receipts", "key"]);
    farm.ok(&["upgrade", &system]);
    farm.ok(&["receipts", "send"]);
    let found = receipts(&folder, "web01");
    assert_eq!(found.len(), 2, "{:?}", server.log());
    assert_chained(&found, &line);
    // A machine that was cloned with the key.
    let copied = farm.str("copied");
    let done = Command::new("cp")
        .args(["-a", farm.str("state"), copied])
        .status();
    assert!(done.unwrap().success());
    farm.ok(&["receipts", "send"]);
    let before = fs::read(folder.join("receipts/web01/000000000003.json")).unwrap();
    // Otherwise both would be the same receipt.
    farm.ok(&["--state", copied, "receipts", "key", "--group", "us"]);
    let output = farm.run(&["--state", copied, "receipts", "send"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("another receipt 3"), "{said}");
    let found = receipts(&folder, "web01");
    let counters: Vec<_> = found.iter().map(|one| one.1.receipt.counter).collect();
    assert_eq!(counters, [1, 2, 3, 3]);
    let after = fs::read(folder.join("receipts/web01/000000000003.json")).unwrap();
    assert_eq!(before, after);
    // Memory that is gone is not made up.
    fs::remove_file(farm.path("state/receipts/memory.json")).unwrap();
    let said = farm.fails(&["receipts", "send"], 1);
    assert!(said.contains("--new"), "{said}");
    let other = farm.ok(&["receipts", "key", "--new"]);
    assert_ne!(other, line);
    farm.close();
}
