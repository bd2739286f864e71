//! The real `imgnode` on a file system that is full, or becomes so.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Farm, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// A small file system in memory, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(farm: &Farm, options: &str) -> Self {
        Self::mount_at(farm.path("small"), options)
    }

    fn mount_at(place: PathBuf, options: &str) -> Self {
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&place)
            .status();
        assert!(mounted.unwrap().success());
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_does_not_fit_is_not_begun() {
    for (options, why) in [
        ("size=30m,mode=755", "not enough space"),
        ("size=200m,nr_inodes=300,mode=755", "not enough inodes"),
    ] {
        let mut farm = Farm::new("nofit");
        let small = Small::mount(&farm, options);
        farm.target = format!("dir:{}/images", small.0.display());
        let said = farm.install_fails(1);
        assert!(
            said.contains(why) && said.contains("hint: make room"),
            "{said}"
        );
        assert!(!small.0.join("images").exists());
        farm.assert_nothing_installed();
    }
}

#[test]
fn a_disk_that_fills_up_midway_undoes_the_install_and_the_upgrade() {
    let mut farm = Farm::new("fills");
    let system = farm.system.clone();
    let small = Small::mount(&farm, "size=180m,mode=755");
    farm.target = format!("dir:{}/images", small.0.display());
    for upgrade in [false, true] {
        if upgrade {
            farm.install();
            farm.release(2);
        }
        let words = farm.install_words();
        let mut child = farm
            .command(&words.each_ref().map(String::as_str))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let staged = small.0.join("images").join(&system).join(".staging/data");
        wait_for("the first files", || {
            fs::read_dir(&staged).is_ok_and(|entries| entries.count() > 3)
        });
        // Held still while somebody else takes the rest of the disk.
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        let greedy = small.0.join("greedy");
        let mut file = fs::File::create(&greedy).unwrap();
        while file.write_all(&vec![7; 65536]).is_ok() {}
        kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.contains("No space left"), "{said}");
        drop(file);
        fs::remove_file(greedy).unwrap();
        assert!(!farm.journal().exists());
        if upgrade {
            assert_eq!(farm.status()["systems"][0]["generation"], 1);
            farm.ok(&["verify", &system]);
            farm.ok(&["upgrade", &system]);
            farm.ok(&["verify", &system]);
        } else {
            assert!(!small.0.join("images").exists());
            farm.assert_nothing_installed();
        }
    }
    farm.ok(&["uninstall", &system]);
    farm.assert_clean();
}

#[test]
fn what_runs_can_be_stopped_where_nothing_can_be_written() {
    let farm = Farm::without_init("fullstop");
    let system = farm.system.clone();
    let small = Small::mount_at(farm.path("state"), "size=2m,mode=700");
    let (store, root) = (farm.str("store"), farm.str("root.json"));
    farm.ok(&["init", "--env", "dev", "--repo", store, "--root", root]);
    farm.install();
    farm.ok(&["start", &system]);
    let filler = small.0.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let output = farm.run(&["stop", &system]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: cannot write"), "{said}");
    assert!(farm.status()["systems"][0]["session"].is_null());
    fs::remove_file(&filler).unwrap();
    farm.ok(&["uninstall", &system]);
    farm.assert_clean();
}
