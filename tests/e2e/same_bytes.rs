//! Same lock, same bytes: each recipe of `recipes/`, built twice.
//!
//! Once as anybody would, with the network. Then with `--vary` (another clock,
//! another directory order) as somebody else would on another machine: in another
//! directory, under another host name, in another language and time zone, with a
//! umask of 077, on one CPU, without any network, with an empty work directory;
//! all that the two have in common are recipe, lock and store.
//!
//! An ordinary run takes the smallest recipe, the soak tier the others: ten minutes, and a package
//! index with everything that `recipes/fanery.toml` needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::bench::base_work;
use tests::binaries::{Ran, imgbuild, repository};
use tests::fixtures::{copy_places, scratch};

/// The first CPU that we may run on.
fn a_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("Cpus_allowed_list:"));
    let list = line.unwrap().split_whitespace().nth(1).unwrap();
    list.split([',', '-']).next().unwrap().to_owned()
}

/// A copy of the recipes, without locks: the test locks for itself.
fn recipes(to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .args(["-R", "--"])
        .arg(repository().join("recipes"))
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
    let recipes = to.join("recipes");
    for entry in fs::read_dir(&recipes).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "lock") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    recipes
}

#[track_caller]
fn same_bytes(name: &str, dir: &tempfile::TempDir) {
    let path = |name: &str| dir.path().join(name);
    let recipe = format!("{name}.toml");

    let here = recipes(&path("here"));
    let plain = Ran::of(
        Command::new(imgbuild())
            .current_dir(&here)
            .env("IMGBUILD_STORE", path("store"))
            .env("IMGBUILD_WORK", path("work"))
            .env("IMGBUILD_KEYS", path("keys"))
            .arg(&recipe),
    )
    .expect(0);

    let there = recipes(&path("there/with/a longer/path"));
    let lock = format!("{name}.lock");
    fs::copy(here.join(&lock), there.join(&lock)).unwrap();
    let varied = Ran::of(
        Command::new("taskset")
            .args(["-c", &a_cpu(), "unshare", "--net", "--uts", "sh", "-c"])
            .arg("umask 077; hostname far-away; exec \"$@\"")
            .arg("sh")
            .arg(imgbuild())
            .args(["build", "--vary", "--frozen", &recipe])
            .current_dir(&there)
            .env_clear()
            .envs([
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("LANG", "tr_TR.UTF-8"),
                ("LC_ALL", "tr_TR.UTF-8"),
                ("TZ", "Asia/Kathmandu"),
                ("HOME", "/nonexistent"),
            ])
            .env("IMGBUILD_STORE", path("store"))
            .env("IMGBUILD_WORK", path("there/w"))
            .env("IMGBUILD_KEYS", path("no-keys")),
    )
    .expect(0);
    assert!(varied.stderr.contains("bootstrap"), "{}", varied.stderr);
    assert!(varied.stderr.contains("not released"), "{}", varied.stderr);
    assert_eq!(
        plain.stdout, varied.stdout,
        "{name}: `imgbuild rebuild` says where"
    );
    println!("{name}: {}", plain.stdout.trim());
    // Not even a key was needed, and no layer is left to be taken for a plain one.
    assert!(!path("no-keys").exists());
    let image = fs::read_dir(path("there/w/varied")).unwrap().next();
    let layers = image.unwrap().unwrap().path().join("layers");
    assert_eq!(fs::read_dir(layers).unwrap().count(), 0);
}

#[test]
fn the_smallest_recipe_gives_the_same_bytes_in_a_varied_world() {
    let dir = scratch();
    // Bootstrapped before, as anybody would.
    copy_places(&base_work(), &dir.path().join("work"));
    same_bytes("minbase", &dir);
}

mod soak {
    #[test]
    fn the_other_recipes_give_the_same_bytes_in_a_varied_world() {
        for name in ["python-web", "django", "fanery"] {
            super::same_bytes(name, &super::scratch());
        }
        // Two stand on the first.
        let farm = super::scratch();
        for name in ["debian", "site", "api"] {
            super::same_bytes(name, &farm);
        }
    }
}
