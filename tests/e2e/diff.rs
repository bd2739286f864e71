//! Two images that differ in known ways, through the real binary: what `diff`,
//! `show --sbom` and `log` say about them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tests::binaries::{Ran, imgbuild, run};
use tests::fixtures::{copy, copy_places, fixture, process_scratch};

/// A directory with a store that has the images `one` and `two`.
struct Bench {
    dir: PathBuf,
}

/// Differences are in the lines that name them.
const RECIPE: &str = r#"
name = "NAME"
[bootstrap]
suite = "bookworm"
[[packages]]
debs = ["greeting.deb"]
[[user]]
name = "op"
uid = 1000
shell = "SHELL"
[[file]]
path = "/etc/app.conf"
content = "one\nCONTENT\nthree\n"
[[file]]
path = "/etc/app.key"
content = "public"
mode = "MODE"
owner = "OWNER"
[[run]]
name = "install the tool"
script = "install -m TOOL /bin/true /usr/local/bin/tool; echo the tool has mode TOOL"
"#;

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let both = fixture("diff", |dir| {
            let base = tests::bench::bench();
            for places in ["store", "work"] {
                copy_places(&base.path(places), &dir.join(places));
            }
            copy(&base.path("keys"), &dir.join("keys"));
            let bench = Bench {
                dir: dir.to_owned(),
            };
            // On the same base: only what is new is resolved.
            fs::copy(base.path("base.lock"), bench.path("one.lock")).unwrap();
            bench.greeting("1.0");
            bench.write("one", ["/bin/sh", "two", "0600", "root:root", "0755"]);
            bench.imgbuild(&["one.toml"]).expect(0);
            bench.greeting("1.1");
            bench.write("two", ["/bin/bash", "2", "0640", "root:op", "4755"]);
            fs::copy(bench.path("one.lock"), bench.path("two.lock")).unwrap();
            bench.imgbuild(&["two.toml"]).expect(0);
            // What follows needs the store alone.
            fs::remove_dir_all(bench.path("work")).unwrap();
        });
        let dir = process_scratch().join("diff");
        fs::create_dir(&dir).unwrap();
        for entry in fs::read_dir(&both).unwrap().flatten() {
            let to = dir.join(entry.file_name());
            if entry.file_name() == "store" {
                copy_places(&entry.path(), &to);
            } else {
                copy(&entry.path(), &to);
            }
        }
        Bench { dir }
    })
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn write(&self, name: &str, values: [&str; 5]) {
        let mut text = RECIPE.replace("NAME", name);
        for (key, value) in ["SHELL", "CONTENT", "MODE", "OWNER", "TOOL"]
            .iter()
            .zip(values)
        {
            text = text.replace(key, value);
        }
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    /// Makes the package `greeting`.
    fn greeting(&self, version: &str) {
        let root = self.path("greeting");
        let control = format!(
            "Package: greeting\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Nobody <nobody@example.org>\nDescription: says hello\n"
        );
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        fs::create_dir_all(root.join("usr/share/greeting")).unwrap();
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        fs::write(
            root.join("usr/share/greeting/text"),
            format!("hello {version}\n"),
        )
        .unwrap();
        let deb = self.path("greeting.deb");
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &deb])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
    }

    fn imgbuild(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(&self.dir)
            .env("IMGBUILD_STORE", self.path("store"))
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path("keys"))
            .args(arguments);
        Ran::of(&mut command)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.imgbuild(arguments).expect(0);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stdout))
    }
}

#[test]
fn diff_names_each_difference() {
    let ran = bench()
        .imgbuild(&["diff", "one", "dev/two", "--text"])
        .expect(0);
    let said = &ran.stdout;
    for line in [
        "packages  0 added, 0 removed, 1 in another version\n",
        "\npackages\n  ~ greeting:all 1.0 -> 1.1  (",
        "\nusers\n  ~ op  1000:1000 /home/op /bin/sh -> 1000:1000 /home/op /bin/bash\n",
        "\nprivileges\n  + usr/local/bin/tool  4755 0:0\n",
        "  ~ etc/app.conf  content, size -2 B\n        @@ -1,3 +1,3 @@\n         one\n        \
         -two\n        +2\n         three\n",
        "  ~ etc/app.key  mode 0600 -> 0640, owner 0:0 -> 0:1000\n",
        "  ~ usr/local/bin/tool  mode 0755 -> 4755\n",
        "  ~ etc/passwd  content, size +2 B\n",
        " files of the packages above (--files lists them)\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert!(!said.contains("usr/share/greeting"), "{said}");
    let files = bench()
        .imgbuild(&["diff", "one", "two", "--files"])
        .expect(0);
    assert!(
        files
            .stdout
            .contains("  ~ usr/share/greeting/text  content  [greeting]\n"),
        "{}",
        files.stdout
    );
}

#[test]
fn diff_is_data_too_and_can_be_asked_for_its_exit_code() {
    let report = bench().json(&["diff", "one", "two", "--json"]);
    assert_eq!(
        (&report["schema"], &report["equal"]),
        (&1.into(), &false.into())
    );
    let files = report["files"].as_array().unwrap();
    let file = |path: &str| {
        let found = files.iter().find(|file| file["path"] == path);
        found.unwrap_or_else(|| panic!("{path} is not in {files:#?}"))
    };
    let tool = file("usr/local/bin/tool");
    assert_eq!(tool["kinds"], serde_json::json!(["mode"]));
    assert_eq!(
        (&tool["old"]["mode"], &tool["new"]["mode"]),
        (&0o755.into(), &0o4755.into())
    );
    let text = file("usr/share/greeting/text");
    assert_eq!(text["owner"], serde_json::json!({ "package": "greeting" }));
    // Nothing but what was changed, and what keeps record of that.
    let expected = |path: &str| {
        path.starts_with("var/lib/dpkg/")
            || path.starts_with("usr/share/greeting/")
            || [
                "etc/app.conf",
                "etc/app.key",
                "etc/passwd",
                "usr/local/bin/tool",
            ]
            .contains(&path)
    };
    for file in files {
        assert!(expected(file["path"].as_str().unwrap()), "{file:#}");
    }
    let package = &report["packages"][0];
    assert_eq!(
        (&package["old"], &package["new"]),
        (&"1.0".into(), &"1.1".into())
    );
    assert_eq!(report["users"][0]["new"]["shell"], "/bin/bash");

    let differ = bench()
        .imgbuild(&["diff", "one", "two", "--exit-code"])
        .expect(3);
    assert_eq!(differ.stderr, "error: the images differ\n");
    let image = report["old"]["image"].as_str().unwrap();
    let prefix = &image["blake3:".len()..][..12];
    let same = bench()
        .imgbuild(&["diff", prefix, "dev/one", "--exit-code"])
        .expect(0);
    assert!(
        same.stdout
            .starts_with(&format!("{image}: the same image\n")),
        "{}",
        same.stdout
    );
    for (what, why) in [
        ("three", "the store has no image `three`"),
        ("dev/three", "nothing called `three` is released in dev"),
        ("prod/one", "cannot read the environment prod"),
        ("00000000", "the store has no image `00000000`"),
    ] {
        let ran = bench().imgbuild(&["diff", "one", what]).expect(1);
        assert!(
            ran.stderr.starts_with(&format!("error: {why}\n")),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn the_bill_of_materials_lists_every_locked_package() {
    let bill = bench().json(&["show", "one", "--sbom"]);
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"]),
        (&"CycloneDX".into(), &"1.6".into())
    );
    let again = bench()
        .imgbuild(&["show", "dev/one", "--sbom", "--json"])
        .expect(0);
    assert_eq!(bill, serde_json::from_str::<Value>(&again.stdout).unwrap());
    let manifest = bench().json(&["show", "one", "--json"]);
    let hashes = bill["metadata"]["component"]["hashes"].as_array().unwrap();
    let image = manifest["image"].as_str().unwrap();
    assert!(
        hashes
            .iter()
            .any(|hash| image.ends_with(hash["content"].as_str().unwrap()))
    );

    let components = bill["components"].as_array().unwrap();
    let lock = fs::read_to_string(bench().path("one.lock")).unwrap();
    let debs: Vec<&str> = lock.split("[[deb]]\n").skip(1).collect();
    assert!(debs.len() > 50, "{lock}");
    for deb in debs {
        let value = |key: &str| {
            let line = deb
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(" = "));
            line.unwrap_or_else(|| panic!("{key}: {deb}"))
                .trim_matches('"')
        };
        let (name, digest) = (value("name"), value("sha256"));
        let found = components.iter().find(|c| c["name"] == name);
        let found = found.unwrap_or_else(|| panic!("{name} is not in the bill"));
        assert_eq!(found["version"], value("version"));
        assert_eq!(
            format!("sha256:{}", found["hashes"][0]["content"].as_str().unwrap()),
            digest
        );
        let known = deb.contains("archive = ");
        let purl = found["purl"].as_str().unwrap_or_default();
        assert_eq!(known, purl.starts_with("pkg:deb/debian/"), "{found:#}");
        assert_eq!(known, purl.contains("&distro=debian-12"), "{found:#}");
    }
    // Advisories are about sources.
    let libc = components.iter().find(|c| c["name"] == "libc6").unwrap();
    assert!(
        libc["purl"].as_str().unwrap().ends_with("&upstream=glibc"),
        "{libc:#}"
    );
    // Everything hangs on the image or on its system.
    let depends = bill["dependencies"].as_array().unwrap().iter();
    let depends = depends.flat_map(|d| d["dependsOn"].as_array().unwrap());
    let mut depends: Vec<&str> = depends.map(|d| d.as_str().unwrap()).collect();
    let references = components.iter().map(|c| c["bom-ref"].as_str().unwrap());
    let mut references: Vec<&str> = references.collect();
    depends.sort_unstable();
    references.sort_unstable();
    assert_eq!(depends, references);
}

#[test]
fn a_built_image_keeps_its_log() {
    let names = |log: &Value| -> Vec<String> {
        let steps = log["steps"].as_array().unwrap().iter();
        steps
            .map(|step| step["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let log = bench().json(&["log", "two", "--json"]);
    let steps = names(&log);
    assert_eq!(
        (steps[0].as_str(), steps.last().unwrap().as_str()),
        ("bootstrap", "clean and normalise")
    );
    let number = steps
        .iter()
        .position(|name| name == "run: install the tool")
        .unwrap()
        + 1;
    let one = bench()
        .imgbuild(&["log", "dev/two", &number.to_string()])
        .expect(0);
    assert_eq!(one.stdout, "the tool has mode 4755\n");
    assert_eq!(one.stderr, "--- run: install the tool\n");
    let all = bench().imgbuild(&["log", "two"]).expect(0).stdout;
    assert!(
        all.contains("Configuring base-passwd") && all.contains("Setting up greeting (1.1)"),
        "{all}"
    );
    let none = bench().imgbuild(&["log", "two", "99"]).expect(2);
    assert!(
        none.stderr
            .starts_with("error: there is no step 99: the image has "),
        "{}",
        none.stderr
    );
    // Of the recipe nothing is left on this machine.
    let gone = bench().imgbuild(&["log", "two.toml"]).expect(1);
    assert!(
        gone.stderr.starts_with("error: no such step has run"),
        "{}",
        gone.stderr
    );
    // A log is not part of the image: gone or damaged, the image is whole.
    let logs = bench().path("store/logs");
    let image = log_file(
        &logs,
        bench().json(&["show", "one", "--json"])["image"]
            .as_str()
            .unwrap(),
    );
    fs::write(&image, "damaged").unwrap();
    let damaged = bench().imgbuild(&["log", "one"]).expect(1);
    assert!(
        damaged.stderr.contains("the log is damaged"),
        "{}",
        damaged.stderr
    );
    fs::remove_file(&image).unwrap();
    let none = bench().imgbuild(&["log", "one"]).expect(1);
    assert!(
        none.stderr.contains("the store keeps no log of "),
        "{}",
        none.stderr
    );
    bench().imgbuild(&["show", "one"]).expect(0);
}

fn log_file(logs: &std::path::Path, image: &str) -> PathBuf {
    logs.join(format!("{}.json.zst", &image["blake3:".len()..]))
}

/// The whole address space is held to the budget, so what is resident is below it.
#[test]
fn comparing_needs_little_memory() {
    let bench = bench();
    let command = format!(
        "ulimit -v 262144; exec {} diff one two --text --store {}",
        imgbuild().display(),
        bench.path("store").display()
    );
    let ran = run("sh".as_ref(), ["-c", &command]).expect(0);
    assert!(
        ran.stdout.contains("greeting:all 1.0 -> 1.1"),
        "{}",
        ran.stdout
    );
}
