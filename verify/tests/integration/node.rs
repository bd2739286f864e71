//! The real `imgnode` on this machine: real schroot, real sessions, real damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Farm, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn log(farm: &Farm) -> String {
    farm.ok(&["logs", &farm.system])
}

#[test]
fn each_system_has_a_lock_of_its_own() {
    let farm = Farm::new("locks");
    let (one, other) = (farm.system.clone(), format!("{}-b", farm.system));
    farm.install();
    let target = farm.target();
    let words = ["install", "web", "--as", &other, "--target", &target];
    farm.ok(&words);
    // As if an install of one took its time.
    let path = farm.path(&format!("state/locks/{one}"));
    let held = fs::File::create(&path).unwrap();
    held.lock().unwrap();
    farm.release(2);
    farm.ok(&["start", &other]);
    farm.ok(&["upgrade", &other]);
    farm.ok(&["stop", &other]);
    farm.status();
    let said = farm.fails(&["start", &one], 75);
    assert!(said.contains(&format!("at work on {one}")), "{said}");
    farm.fails(&["gc"], 75);
    drop(held);
    // Whoever stands in the way is named.
    let install = farm.command(&["upgrade", &one]).spawn();
    let mut install = install.unwrap();
    let mut said = None;
    while install.try_wait().unwrap().is_none() {
        let stop = farm.run(&["stop", &one]);
        if stop.status.code() == Some(75) {
            said = Some(String::from_utf8(stop.stderr).unwrap());
        }
    }
    let owner = format!("at work on {one}: upgrade, process {}", install.id());
    assert!(said.is_none_or(|said| said.contains(&owner)));
    // Both at once, again and again: they share schroot, trust, manifests and the target.
    for version in 3..6 {
        farm.release(version);
        let both = [&one, &other].map(|system| farm.command(&["upgrade", system]).spawn().unwrap());
        for mut one in both {
            assert!(one.wait().unwrap().success(), "{version}");
        }
    }
    for system in [&one, &other] {
        farm.ok(&["gc", system, "--keep", "0"]);
        farm.ok(&["verify", system]);
    }
    farm.ok(&["uninstall", &other]);
    farm.close();
}

#[test]
fn install_start_reload_stop_uninstall() {
    let farm = Farm::new("ordinary");
    let system = farm.system.clone();
    let said = farm.install();
    assert!(
        said.starts_with(&format!("{system} generation 1 is blake3:")),
        "{said}"
    );
    let tree = farm.path("images").join(&system).join("1");
    assert_eq!(
        fs::metadata(tree.join("usr/bin/suid"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o4755
    );
    assert_eq!(
        fs::metadata(farm.path("images").join(&system))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );

    let again = farm.run(&farm.install_words().each_ref().map(String::as_str));
    assert!(
        again.status.success()
            && String::from_utf8_lossy(&again.stderr).contains("installed already")
    );

    farm.ok(&["start", &system, "--", "--log-level", "debug"]);
    let hello = "hello from op (4242:4242) in /home/op, GREETING=good day, words=--log-level debug";
    assert!(log(&farm).contains(hello), "{}", log(&farm));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let lost = farm.command(&["status"]).stdout(full).output().unwrap();
    assert_eq!(lost.status.code(), Some(1), "{lost:?}");
    let status = farm.status();
    let session = &status["systems"][0]["session"];
    assert_eq!(session["state"], "running", "{status}");
    assert!(!session["processes"].as_array().unwrap().is_empty());
    assert_eq!(status["schema"], 1);
    assert_eq!(status["systems"][0]["registered"], true);
    assert!(
        farm.fails(&["start", &system], 1)
            .contains("already running")
    );
    assert!(
        farm.fails(&["uninstall", &system], 1)
            .contains("is running")
    );

    farm.ok(&["reload", &system]);
    wait_for("the reload", || log(&farm).contains("reloaded"));
    farm.ok(&["stop", &system]);
    assert!(log(&farm).contains("stopping"));
    assert!(farm.fails(&["stop", &system], 1).contains("is not running"));
    assert!(
        farm.fails(&["reload", &system], 1)
            .contains("is not running")
    );
    // The session wrote into its own overlay, not into the generation.
    assert!(!tree.join("home/op/app.pid").exists());
    farm.ok(&["verify", &system]);
    farm.close();
}

#[test]
fn a_new_release_is_a_new_generation_and_leaves_the_running_one_alone() {
    let farm = Farm::new("upgrade");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    farm.release(2);
    farm.install();
    let status = farm.status();
    assert_eq!(status["systems"][0]["generation"], 2);
    assert_eq!(status["systems"][0]["previous"], 1);
    assert_eq!(status["systems"][0]["session"]["generation"], 1);
    assert_eq!(status["systems"][0]["session"]["state"], "running");
    farm.ok(&["stop", &system]);
    farm.ok(&["start", &system]);
    assert_eq!(farm.status()["systems"][0]["session"]["generation"], 2);
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn drift_is_named_with_its_package() {
    let farm = Farm::new("drift");
    let system = farm.system.clone();
    farm.install();
    let tree = farm.path("images").join(&system).join("1");
    fs::write(tree.join("srv/new"), b"").unwrap();
    let app = fs::read_to_string(tree.join("srv/app")).unwrap();
    fs::write(tree.join("srv/app"), app.replace("hello", "jello")).unwrap();
    let output = farm.run(&["verify", &system]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("/srv/new is not part of the image"), "{said}");
    let line = said
        .lines()
        .find(|line| line.starts_with("/srv/app "))
        .unwrap();
    assert!(
        line.contains("has other content") && line.ends_with("[app]"),
        "{line}"
    );
    let output = farm.run(&["verify", &system, "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["intact"]),
        (Some(3), &serde_json::Value::Bool(false))
    );
    farm.close();
}

/// Flips one byte in the middle of the largest file below a directory of the store.
fn flip(farm: &Farm, directory: &str, ending: &str) -> impl FnOnce() {
    let mut files: Vec<_> = walk(&farm.path("store").join(directory));
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort_by_key(|path| path.metadata().unwrap().len());
    let victim = files
        .pop()
        .unwrap_or_else(|| panic!("no {ending} in {directory}"));
    let mode = victim.metadata().unwrap().permissions();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o644)).unwrap();
    let whole = fs::read(&victim).unwrap();
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    fs::write(&victim, broken).unwrap();
    move || {
        fs::write(&victim, whole).unwrap();
        fs::set_permissions(&victim, mode).unwrap();
    }
}

pub(crate) fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .flatten()
        .flat_map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect()
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    let farm = Farm::without_init("flipped");
    let init = [
        "init",
        "--env",
        "dev",
        "--repo",
        farm.str("store"),
        "--root",
        farm.str("root.json"),
    ];
    let one_error = |said: &str| {
        assert_eq!(
            said.lines()
                .filter(|line| line.starts_with("error: "))
                .count(),
            1,
            "{said}"
        );
    };
    for file in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let mend = flip(&farm, "env/dev/metadata", file);
        one_error(&farm.fails(&init, 3));
        mend();
    }
    farm.ok(&init);
    for (directory, ending) in [
        ("packs", ".pack"),
        ("env/dev/metadata", "timestamp.json"),
        // What is trusted already is not fetched again, but looked at.
        ("env/dev/metadata", "1.root.json"),
        ("env/dev/metadata", "2.snapshot.json"),
        ("env/dev/metadata", "2.targets.json"),
        ("env/dev/targets", ".json"),
    ] {
        let mend = flip(&farm, directory, ending);
        one_error(&farm.install_fails(3));
        farm.assert_nothing_installed();
        mend();
    }
    farm.install();
    farm.close();
}

#[test]
fn a_missing_or_truncated_pack_refuses_the_install() {
    let farm = Farm::new("missing");
    let pack = walk(&farm.path("store/packs"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "pack"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let whole = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    // It may be on its way there.
    let said = farm.install_fails(75);
    assert!(said.contains("try again later"), "{said}");
    farm.assert_nothing_installed();
    fs::write(&pack, &whole[..whole.len() / 2]).unwrap();
    farm.install_fails(3);
    farm.assert_nothing_installed();
    fs::write(&pack, &whole).unwrap();
    farm.install();
    farm.close();
}

#[test]
fn foreign_things_are_never_touched() {
    let farm = Farm::new("foreign");
    fs::write(
        farm.chroot_file(),
        format!("[{}]\ntype=plain\ndirectory=/srv\n", farm.system),
    )
    .unwrap();
    assert!(farm.install_fails(3).contains("was not written by imgnode"));
    assert!(farm.chroot_file().exists());
    fs::remove_file(farm.chroot_file()).unwrap();

    let home = farm.path("images").join(&farm.system);
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("precious"), b"x").unwrap();
    assert!(
        farm.install_fails(3)
            .contains("is not a directory of this imgnode")
    );
    assert_eq!(fs::read(home.join("precious")).unwrap(), b"x");
    fs::remove_dir_all(farm.path("images")).unwrap();

    fs::create_dir(farm.path("real")).unwrap();
    std::os::unix::fs::symlink("real", farm.path("images")).unwrap();
    assert!(farm.install_fails(3).contains("symbolic link"));
    fs::remove_file(farm.path("images")).unwrap();
    fs::create_dir(farm.path("images")).unwrap();
    fs::set_permissions(farm.path("images"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(farm.install_fails(3).contains("others than root can write"));
    fs::remove_dir(farm.path("images")).unwrap();
    farm.assert_nothing_installed();
}

#[test]
fn the_second_of_two_installs_is_told_to_wait() {
    let farm = Farm::new("busy");
    let words = farm.install_words();
    let words = words.each_ref().map(String::as_str);
    let mut first = farm
        .command(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first install", || farm.journal().exists());
    // Stopped, so that it cannot be done before the second one looks.
    kill_process(Pid::from_child(&first), Signal::STOP).unwrap();
    let said = farm.fails(&words, 75);
    kill_process(Pid::from_child(&first), Signal::CONT).unwrap();
    assert!(said.contains("another imgnode is at work"), "{said}");
    assert!(first.wait().unwrap().success());
    farm.close();
}

#[test]
fn mistakes_and_damaged_state_are_told_apart() {
    let farm = Farm::without_init("mistakes");
    assert!(farm.install_fails(2).contains("hint: imgnode init"));
    farm.fails(
        &[
            "init",
            "--env",
            "dev",
            "--repo",
            "ftp://localhost/store",
            "--root",
            farm.str("root.json"),
        ],
        2,
    );
    assert!(
        farm.fails(
            &[
                "init",
                "--env",
                "prod",
                "--repo",
                farm.str("store"),
                "--root",
                farm.str("root.json")
            ],
            3
        )
        .contains("dev")
    );
    farm.ok(&[
        "init",
        "--env",
        "dev",
        "--repo",
        &format!("file://{}", farm.str("store")),
        "--root",
        farm.str("root.json"),
    ]);
    assert!(
        farm.fails(&["start", "nothing"], 2)
            .contains("no system `nothing`")
    );
    assert!(
        farm.fails(&["install", "other", "--target", &farm.target()], 1)
            .contains("no image called other")
    );
    farm.fails(&["frobnicate"], 2);
    fs::write(farm.path("state/node.json"), b"{").unwrap();
    assert!(farm.fails(&["status"], 1).contains("node.json is damaged"));
    farm.assert_clean();
}

#[test]
fn an_environment_moves_and_the_trust_stays() {
    let farm = Farm::new("moves");
    let init = |store: &'static str| {
        let root = farm.str("root.json");
        ["init", "--env", "dev", "--repo", store, "--root", root]
    };
    let follows = |store: &str| {
        let status = farm.status();
        status["repository"]
            .as_str()
            .is_some_and(|now| now.ends_with(store))
    };
    assert!(follows("/store"));
    farm.install();
    let (now, older) = (farm.path("store"), farm.path("older"));
    let copied = Command::new("cp").arg("-a").args([now, older]).status();
    assert!(copied.unwrap().success());
    farm.release(2);
    farm.ok(&["upgrade", &farm.system]);
    fs::rename(farm.path("store"), farm.path("new")).unwrap();
    // The root file is not asked again: it may be gone.
    fs::rename(farm.path("root.json"), farm.path("root")).unwrap();
    farm.ok(&init(farm.str("new")));
    assert!(follows("/new"));
    farm.ok(&["upgrade", &farm.system]);
    // An older copy, and an environment of the same name with other keys.
    let said = farm.fails(&init(farm.str("older")), 3);
    assert!(said.contains("--reset"), "{said}");
    assert!(follows("/new"));
    fs::rename(farm.path("keys"), farm.path("old-keys")).unwrap();
    farm.release(1);
    let said = farm.fails(&init(farm.str("store")), 3);
    assert!(said.contains("--reset"), "{said}");
    assert!(follows("/new"));
    // Without its trust a node begins again.
    fs::remove_dir_all(farm.path("state/trust")).unwrap();
    farm.ok(&init(farm.str("store")));
    assert!(follows("/store"));
    farm.close();
}

#[test]
fn a_node_that_lost_its_records_says_what_is_in_the_way() {
    let farm = Farm::new("amnesia");
    farm.install();
    fs::remove_file(farm.path(&format!("state/systems/{}.json", farm.system))).unwrap();
    fs::remove_file(farm.chroot_file()).unwrap();
    let said = farm.install_fails(1);
    assert!(
        said.contains("images") && said.contains("is there already"),
        "{said}"
    );
    assert!(said.contains("hint: it is one of this system"), "{said}");
}

#[test]
fn a_log_that_was_set_aside_goes_with_its_system() {
    let farm = Farm::new("longlog");
    let system = farm.system.clone();
    farm.install();
    let log = farm.path("state/logs").join(format!("{system}.log"));
    let file = fs::File::create(&log).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    farm.ok(&["start", &system]);
    let older = log.with_extension("log.1");
    assert!(older.exists());
    // Nobody watches: whatever works on the system looks.
    for words in [&["reload", &system][..], &["upgrade", &system]] {
        fs::remove_file(&older).unwrap();
        file_of(&log, (16 << 20) + 1);
        farm.ok(words);
        assert!(fs::metadata(&older).unwrap().len() > 16 << 20, "{words:?}");
        assert!(fs::metadata(&log).unwrap().len() < 1 << 20, "{words:?}");
    }
    // The app goes on with its file.
    farm.ok(&["reload", &system]);
    wait_for("its words", || {
        farm.ok(&["logs", &system]).contains("reloaded")
    });
    // One that another command is at is left alone.
    file_of(&log, (16 << 20) + 1);
    fs::remove_file(&older).unwrap();
    let held = fs::File::open(&log).unwrap();
    held.lock().unwrap();
    farm.ok(&["reload", &system]);
    assert!(!older.exists());
    drop(held);
    farm.ok(&["stop", &system]);
    farm.close();
}

fn file_of(path: &Path, size: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(size).unwrap();
}
