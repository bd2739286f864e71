//! `imgbuild rebuild` through the real binary: what it needs, and an image into which three packages
//! wrote what no lock can say. One that is what its lock says is rebuilt in `shared`, from a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::bench::Bench;
use tests::binaries::{Ran, imgbuild};
use tests::host::Host;

/// A bench, and what rebuilding needs besides.
struct Rebuilds {
    bench: Bench,
    /// The image of the recipe `base`.
    base: String,
}

fn bench() -> Rebuilds {
    let bench = tests::bench::bench();
    let base = bench.imgbuild(&["--frozen", "base.toml"]).expect(0).stdout;
    Rebuilds { bench, base }
}

impl Rebuilds {
    fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    fn imgbuild(&self, arguments: &[&str]) -> Ran {
        self.bench.imgbuild(arguments)
    }

    /// Rebuilds far from any recipe and without a network.
    fn rebuild(&self, arguments: &[&str]) -> Ran {
        let mut command = self.bench.command("unshare", &["--net", "--"]);
        command.current_dir("/").arg(imgbuild()).arg("rebuild");
        Ran::of(command.args(arguments))
    }

    /// Every file of the store with its size, but for the locks.
    fn stored(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.path("store")];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() && entry.file_name() != "locks" {
                    pending.push(entry.path());
                } else if meta.is_file() {
                    found.insert(entry.path(), meta.len());
                }
            }
        }
        found
    }

    /// Makes a package with files of the given names below /usr/share/NAME.
    fn package(&self, name: &str, files: &[&str], postinst: &str) {
        let tree = self.path(&format!("tree-{name}"));
        let share = tree.join("usr/share").join(name);
        fs::create_dir_all(&share).unwrap();
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        for file in files {
            fs::create_dir_all(share.join(file).parent().unwrap()).unwrap();
            fs::write(share.join(file), "as shipped\n").unwrap();
        }
        let control = format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@host.example>\n\
             Description: what a lock cannot say\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let script = tree.join("DEBIAN/postinst");
        fs::write(
            &script,
            format!("#!/bin/sh\nset -eu\ncd /usr/share/{name}\n{postinst}\n"),
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let made = Command::new("dpkg-deb")
            .args(["--build", "--root-owner-group", "-Znone"])
            .args([&tree, &self.path(&format!("{name}.deb"))])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
}

/// The file of an input of the store, by the digest that a manifest has.
fn input(bench: &Rebuilds, digest: &Value) -> PathBuf {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    bench.path("store/inputs/sha256").join(hex)
}

#[test]
fn what_a_rebuild_lacks_is_named() {
    let bench = bench();
    let shown = bench.imgbuild(&["show", "--json", "base"]).expect(0).stdout;
    let manifest: Value = serde_json::from_str(&shown).unwrap();
    let image = bench.base.trim();

    let lock = input(&bench, &manifest["lock"]);
    let text = fs::read_to_string(&lock).unwrap();
    let bash = &text[text.find("name = \"bash\"").unwrap()..];
    let digest = bash
        .lines()
        .find_map(|l| l.strip_prefix("sha256 = "))
        .unwrap();
    let deb = input(&bench, &Value::String(digest.trim_matches('"').to_owned()));
    let aside = bench.path("aside");
    fs::rename(&deb, &aside).unwrap();
    let ran = bench.rebuild(&["base"]);
    fs::rename(&aside, &deb).unwrap();
    assert_eq!(ran.code, 1);
    let expected =
        format!("error: the store retains 1 of the inputs of {image} no more\n  for example bash ");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);

    for (what, digest) in [("recipe", &manifest["recipe"]), ("lock", &manifest["lock"])] {
        let path = input(&bench, digest);
        let good = fs::read(&path).unwrap();
        fs::rename(&path, &aside).unwrap();
        let missing = bench.rebuild(&["base"]);
        fs::write(&path, &good[1..]).unwrap();
        let damaged = bench.rebuild(&["base"]);
        fs::rename(&aside, &path).unwrap();
        let sentence = format!("error: the store has no {what} of {image}\n");
        for ran in [missing, damaged] {
            assert_eq!(ran.code, 1);
            assert!(ran.stderr.starts_with(&sentence), "{}", ran.stderr);
        }
    }
    let unknown = bench.rebuild(&["nothing"]).expect(1);
    assert!(
        unknown
            .stderr
            .starts_with("error: the store has no image `nothing`\n"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn planted_differences_are_found_and_named() {
    let bench = bench();
    bench.package(
        "plant-time",
        &["stamp"],
        "date +%s > stamp; date > \"in-$(date +%Y)\"",
    );
    let names: Vec<String> = (0..12).map(|n| format!("d/file-{n}")).collect();
    let mut files: Vec<&str> = names.iter().map(String::as_str).collect();
    files.push("list");
    bench.package("plant-order", &files, "ls -U d > list");
    // The one place where a step could see it; the path itself would be refused
    // by the leak gate, so its digest is what gets through.
    bench.package(
        "plant-path",
        &["path"],
        "sed -n 's/.*upperdir=\\([^,]*\\).*/\\1/p' /proc/self/mountinfo > /run/path
         grep -q /layers/ /run/path; sha256sum < /run/path > path",
    );
    bench.bench.write(
        "planted",
        "[[packages]]\ndebs = [\"plant-time.deb\", \"plant-order.deb\", \"plant-path.deb\"]\n",
    );
    let built = bench.imgbuild(&["planted.toml"]).expect(0);
    // The recipe is not needed any more.
    fs::remove_file(bench.path("planted.toml")).unwrap();
    fs::remove_file(bench.path("planted.lock")).unwrap();
    for name in ["time", "order", "path"] {
        fs::remove_file(bench.path(&format!("plant-{name}.deb"))).unwrap();
    }

    let (before, stored) = (Host::look(), bench.stored());
    let digits = built.stdout.trim().strip_prefix("blake3:").unwrap();
    let ran = bench
        .rebuild(&["--json", "--keep", &digits[..12]])
        .expect(3);
    assert_eq!(bench.stored(), stored);
    Host::look().assert_clean_since(&before);
    let events = ran
        .stdout
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let events: Vec<Value> = events.collect();
    let report = events.iter().find(|e| e["event"] == "rebuilt").unwrap();
    assert_eq!(report["equal"], false);
    assert_eq!(report["image"], built.stdout.trim());
    let files = report["differences"]["files"].as_array().unwrap();
    let file = |path: &str| {
        let found = files.iter().find(|f| f["path"] == path);
        found.unwrap_or_else(|| panic!("{path} is not in {report:#}"))
    };
    for (name, path, kind) in [
        ("plant-time", "stamp", "content"),
        ("plant-order", "list", "order"),
        ("plant-path", "path", "content"),
    ] {
        let found = file(&format!("usr/share/{name}/{path}"));
        assert_eq!(found["owner"]["package"], name, "{found:#}");
        assert_eq!(found["change"], "changed", "{found:#}");
        let kinds = found["kinds"].as_array().unwrap();
        assert!(kinds.iter().any(|k| k == kind), "{found:#}");
    }
    let stamp = file("usr/share/plant-time/stamp")["text"].as_str().unwrap();
    let lines = |sign: char| {
        stamp
            .lines()
            .filter(|l| l.starts_with(sign) && l.len() < 20)
            .count()
    };
    assert_eq!((lines('-'), lines('+')), (1, 1), "{stamp}");
    // Two years: one file went, another came.
    let years: Vec<&Value> = files
        .iter()
        .filter(|f| {
            f["path"]
                .as_str()
                .unwrap()
                .starts_with("usr/share/plant-time/in-")
        })
        .map(|f| &f["change"])
        .collect();
    assert!(years.contains(&&Value::from("added")) && years.contains(&&Value::from("removed")));
    // The directory's own time is the epoch in both, and nothing else differs.
    assert_eq!(files.len(), 5, "{report:#}");

    // What was kept is a store like any other.
    let kept = report["kept"].as_str().unwrap();
    let listed = bench.imgbuild(&["list", "--store", kept]).expect(0);
    let rebuilt = report["rebuilt"].as_str().unwrap();
    assert!(listed.stdout.contains(rebuilt), "{}", listed.stdout);
    let error = events.iter().find(|e| e["event"] == "error").unwrap();
    assert_eq!(
        error["error"],
        "planted is not reproducible: 5 entries differ"
    );
}
