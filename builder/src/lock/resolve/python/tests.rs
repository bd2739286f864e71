//! The scripts, in a virtualenv of this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

const READ_LOCK: &str = include_str!("read_lock.py");

const UV: &str = r#"
version = 1
requires-python = ">=3.8"
resolution-markers = ["python_full_version >= '3.7'", "python_full_version < '3.7'"]

[[package]]
name = "app"
version = "0.1"
source = { editable = "." }
dependencies = [
    { name = "alpha", version = "2.0", source = { registry = "https://x.example/simple" }, marker = "python_full_version >= '3.7'" },
    { name = "alpha", version = "1.0", source = { registry = "https://x.example/simple" }, marker = "python_full_version < '3.7'" },
    { name = "windows", marker = "sys_platform == 'win32' or (os_name == 'nt' and python_version > '2')" },
    { name = "beta", extra = ["More"] },
]
[package.optional-dependencies]
pg = [{ name = "gamma" }]
[package.dev-dependencies]
dev = [{ name = "delta" }]

[[package]]
name = "alpha"
version = "1.0"
source = { registry = "https://x.example/simple" }
sdist = { url = "https://x.example/alpha-1.0.tar.gz", hash = "sha256:HASH" }
[[package]]
name = "alpha"
version = "2.0"
source = { registry = "https://x.example/simple" }
sdist = { url = "https://x.example/alpha-2.0.tar.gz", hash = "sha256:HASH" }
wheels = [
    { url = "https://x.example/alpha-2.0-cp27-cp27m-win32.whl", hash = "sha256:HASH" },
    { url = "https://x.example/alpha-2.0-py2.py3-none-any.whl", hash = "sha256:HASH" },
    { url = "https://x.example/alpha-2.0-1-py3-none-any.whl", hash = "sha256:HASH" },
]
[[package]]
name = "beta"
version = "1.0"
source = { registry = "https://x.example/simple" }
sdist = { url = "https://x.example/beta-1.0.tar.gz", hash = "sha256:HASH" }
wheels = [{ url = "https://x.example/beta-1.0-cp27-cp27m-win32.whl", hash = "sha256:HASH" }]
[package.optional-dependencies]
more = [{ name = "zip" }]
[[package]]
name = "zip"
version = "3.0"
source = { url = "https://x.example/archive/v3.zip" }
sdist = { hash = "sha256:HASH" }
[[package]]
name = "gamma"
version = "1.0"
source = { registry = "https://x.example/simple" }
wheels = [{ url = "https://x.example/gamma-1.0-cp27-cp27m-win32.whl", hash = "sha256:HASH" }]
[[package]]
name = "delta"
version = "1.0"
source = { git = "https://x.example/delta?rev=v1#1111111111111111111111111111111111111111" }
"#;

const PYLOCK: &str = r#"
lock-version = "1.0"
extras = ["pg"]
dependency-groups = ["dev"]
default-groups = ["main"]
[[packages]]
name = "alpha"
version = "1.0"
marker = "'main' in dependency_groups and sys_platform != 'win32'"
wheels = [{ name = "alpha-1.0-py3-none-any.whl", url = "https://x.example/f", hashes = { sha256 = "HASH" } }]
[[packages]]
name = "beta"
version = "1.0"
marker = "'pg' in extras"
wheels = [{ path = "wheels/beta-1.0-py3-none-any.whl", hashes = { sha256 = "HASH" } }]
[[packages]]
name = "gamma"
version = "1.0"
marker = "'dev' in dependency_groups"
wheels = [{ url = "https://x.example/gamma-1.0-py3-none-any.whl", hashes = { md5 = "x" } }]
[[packages]]
name = "common"
directory = { path = "../common" }
"#;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(dir.path().join("v"));
        assert!(venv.status().unwrap().success());
        fs::write(dir.path().join("read_lock.py"), READ_LOCK).unwrap();
        Self { dir }
    }

    /// What is chosen from a lock in the directory `sub`; `git` is a commit of the recipe.
    fn choose(
        &self,
        name: &str,
        text: &str,
        extras: &[&str],
        groups: &[&str],
        git: &[&str],
    ) -> Value {
        let text = text.replace("HASH", &"a".repeat(64));
        let data: toml::Value = toml::from_str(&text).unwrap();
        let kind = if name == "uv.lock" { "uv" } else { "pylock" };
        let spec = json!({
            "locks": [{ "name": name, "kind": kind, "dir": "sub", "data": data }],
            "extras": extras, "groups": groups, "local": ["sub", "common"], "git": git,
        });
        let path = |name: &str| self.dir.path().join(name);
        fs::write(path("spec.json"), spec.to_string()).unwrap();
        let python = Path::new("v/bin/python");
        let mut run = Command::new(self.dir.path().join(python));
        run.arg(path("read_lock.py"))
            .arg(path("spec.json"))
            .arg(path("out.json"));
        let done = run.output().unwrap();
        assert!(done.stderr.is_empty(), "{done:?}");
        serde_json::from_slice(&fs::read(path("out.json")).unwrap()).unwrap()
    }
}

fn files(answer: &Value) -> Vec<&str> {
    let files = answer["files"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    files
        .iter()
        .map(|file| file["file"].as_str().unwrap())
        .collect()
}

#[test]
fn other_tools_locks_say_which_files() {
    let place = Place::new();
    let plain = place.choose("uv.lock", UV, &[], &[], &[]);
    assert_eq!(
        files(&plain),
        [
            "alpha-2.0-1-py3-none-any.whl",
            "beta-1.0.tar.gz",
            "zip-3.0.zip"
        ]
    );
    assert_eq!(plain["covered"], json!(["sub"]));
    assert_eq!(plain["extras"], json!(["pg"]));
    let refused = |answer: &Value, error: &str, hint: &str| {
        assert!(
            answer["error"].as_str().unwrap_or_default().contains(error),
            "{answer}"
        );
        assert!(
            answer["hint"].as_str().unwrap_or_default().contains(hint),
            "{answer}"
        );
    };
    let foreign = place.choose("uv.lock", UV, &["PG"], &[], &[]);
    refused(
        &foreign,
        "gamma 1.0 only for other platforms or Pythons: gamma-1.0-cp27",
        "this Python is",
    );
    let git = "1".repeat(40);
    let without = place.choose("uv.lock", UV, &[], &["dev"], &[]);
    refused(
        &without,
        "takes delta from Git",
        &format!("git = [{{ url = \"https://x.example/delta\", commit = \"{git}\" }}]"),
    );
    let with = place.choose("uv.lock", UV, &[], &["dev"], &[&git]);
    assert_eq!(with["covered"], json!(["sub", git]));
    let future = UV.replacen("version = 1", "version = 2", 1);
    refused(
        &place.choose("uv.lock", &future, &[], &[], &[]),
        "format 2",
        "version 1",
    );
    let newer = UV.replace(">=3.8", ">=4");
    refused(
        &place.choose("uv.lock", &newer, &[], &[], &[]),
        "is for Python >=4",
        "this Python",
    );

    let plain = place.choose("pylock.toml", PYLOCK, &[], &[], &[]);
    assert_eq!(files(&plain), ["alpha-1.0-py3-none-any.whl"]);
    assert_eq!(plain["covered"], json!(["common"]));
    let extra = place.choose("pylock.toml", PYLOCK, &["pg"], &[], &[]);
    assert_eq!(
        extra["files"][1]["path"],
        "sub/wheels/beta-1.0-py3-none-any.whl"
    );
    let unhashed = place.choose("pylock.toml", PYLOCK, &[], &["dev"], &[]);
    refused(&unhashed, "no sha256 of gamma-1.0", "with hashes");
    let elsewhere = PYLOCK.replace("../common", "../other");
    refused(
        &place.choose("pylock.toml", &elsewhere, &[], &[], &[]),
        "takes common from the directory other",
        "local = [\"other\"]",
    );
}
