//! The scripts, in a virtualenv of this machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::why::{Told, confused};
use crate::recipe::Virtualenv;
use crate::recipe::requirements_file::{self, Purpose};

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
        self.choose_for(&[], name, text, extras, groups, git)
    }

    /// The same where the project in `sub` says what it requires.
    fn choose_for(
        &self,
        requires: &[&str],
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
            "projects": [{ "origin": "sub", "dependencies": requires }],
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
    let current = ["Alpha>1", "missing ; python_version < '3'"];
    let current = place.choose_for(&current, "uv.lock", UV, &[], &[], &[]);
    assert_eq!(files(&current), files(&plain));
    for (line, said) in [
        ("alpha<2", "uv.lock has alpha 2.0"),
        ("new", "sub requires new"),
    ] {
        let stale = place.choose_for(&["alpha", line], "uv.lock", UV, &[], &[], &[]);
        refused(&stale, said, "write the lock again");
    }
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
        &format!("git = [..., {{ url = \"https://x.example/delta\", commit = \"{git}\" }}]"),
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
        "installs common from the directory other",
        "local = [..., \"other\"]",
    );
    for (name, known, unknown) in [
        ("uv.lock", "version 1 is read", "version = \"x\""),
        (
            "pylock.toml",
            "lock-version 1.x is read",
            "lock-version = \"2.0\"",
        ),
    ] {
        for (text, said) in [
            ("# nothing", "is empty"),
            ("requires-python = \">=3\"", "has no `"),
            (unknown, "has the format "),
        ] {
            let answer = place.choose(name, text, &[], &[], &[]);
            refused(&answer, &format!("{name} {said}"), known);
        }
    }
    // Of a workspace, all at once.
    let members = "[[package]]\nname = \"cart\"\nversion = \"1\"\nsource = { editable = \"libs/cart\" }\n\
                   dependencies = [{ name = \"shop\" }]\n\
                   [[package]]\nname = \"shop\"\nversion = \"1\"\nsource = { directory = \"../shop\" }\n\
                   dependencies = [{ name = \"cart\" }]\n";
    let wanting = UV.replacen(
        "    { name = \"beta\"",
        "    { name = \"cart\" },\n    { name = \"beta\"",
        1,
    );
    let workspace = place.choose("uv.lock", &(wanting + members), &[], &[], &[]);
    refused(
        &workspace,
        "uv.lock installs cart from the directory sub/libs/cart, shop from shop",
        "add them in the recipe: local = [..., \"shop\", \"sub/libs/cart\"]",
    );
    let pylock = elsewhere + "[[packages]]\nname = \"own\"\ndirectory = { path = \"own\" }\n";
    refused(
        &place.choose("pylock.toml", &pylock, &[], &[], &[]),
        "installs common from the directory other, own from sub/own",
        "local = [..., \"other\", \"sub/own\"]",
    );
}

/// The pip of this machine and the reader of constraints agree.
#[test]
fn what_pip_takes_for_no_limit_is_refused() {
    let place = Place::new();
    fs::create_dir(place.dir.path().join("app")).unwrap();
    fs::write(place.dir.path().join("app/setup.py"), "").unwrap();
    for (line, is_limit) in [
        ("requests==2.32.5", true),
        ("requests[]==2.32.5", true),
        ("requests[socks]==2.32.5", false),
        ("requests [socks, http2] ; python_version < '3'", false),
        ("./app", false),
        ("-e ./app", false),
    ] {
        fs::write(place.dir.path().join("limits.txt"), line).unwrap();
        let mut pip = Command::new(place.dir.path().join("v/bin/python"));
        pip.current_dir(place.dir.path())
            .args(["-m", "pip", "--isolated", "install", "--no-index"])
            .args(["--dry-run", "-c", "limits.txt", "pip"]);
        let done = pip.output().unwrap();
        assert_eq!(done.status.success(), is_limit, "{line}: {done:?}");
        let read = requirements_file::read(line, Purpose::Constraints);
        assert_eq!(read.is_ok(), is_limit, "{line}");
    }
}

/// Looks at pages as the gateway has them.
const ASK: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
import offers
import indexes as real
from indexes import Page, last_part, written

class Indexes(object):
    def __init__(self, *indexes):
        self.pages = {}
        for number, texts in enumerate(indexes):
            for name, text in texts.items():
                host = "index%d.example" % number
                page = self.pages[name, number] = Page(200 if text else 404, host, None)
                page.url, page.text = "https://%s/%s/" % (host, name), text

    def known(self, name):
        return [self.pages.get((name, number)) or Page(404, None, None) for number in (0, 1)]

spec = json.load(sys.stdin)
indexes = Indexes(spec["pages"], spec["second"])
print(json.dumps({
    "problems": offers.problems(indexes, spec["lines"], spec["limits"]),
    "below": offers.problems_below(indexes, spec["described"]),
    "taken": offers.taken(indexes, set(spec["taken"])),
    "shared": offers.shared(indexes, set(spec["taken"])),
    "chosen": [getattr(offers.choice(indexes, *one), "file", None) for one in spec["choices"]],
    "served": [written(page.files(), lambda url: url) for page in indexes.pages.values()],
    "kept": [sorted(last_part(url) for url, said in page.files() if offers.may_fit(url, said))
             for page in indexes.pages.values()],
    "lacking": offers.lacking_extras(spec["lines"], spec["described"]),
    "bound": [[number for number in (0, 1, 2) if real.Indexes(spec["bound"]).serves(number, name)]
              for name in spec["names"]],
}))
"#;

impl Place {
    /// What there is to say about these pages.
    fn ask(&self, pages: &Value, more: &Value) -> Value {
        use std::io::Write as _;
        for (name, text) in super::run::SCRIPTS {
            fs::write(self.dir.path().join(name), text).unwrap();
        }
        let mut spec = json!({ "pages": pages, "lines": [], "limits": [], "described": [], "taken": [], "second": {}, "bound": {}, "names": [], "choices": [] });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let mut run = Command::new(self.dir.path().join("v/bin/python"));
        run.args(["-c", ASK]).arg(self.dir.path());
        run.stdin(std::process::Stdio::piped());
        run.stdout(std::process::Stdio::piped());
        let mut child = run.spawn().unwrap();
        let text = spec.to_string();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

fn page(files: &[(&str, &str)]) -> String {
    let link = |(file, more): &(&str, &str)| format!("<a href='../{file}' {more}>x</a><br>");
    files.iter().map(link).collect()
}

#[test]
fn what_an_index_lacks_follows_from_its_page() {
    let place = Place::new();
    let pages = json!({
        "foreign": page(&[("foreign-1.0-cp311-cp311-win_amd64.whl", ""), ("foreign-0.9-py3-none-any.whl", "")]),
        "future": page(&[("future-2.0.tar.gz", "data-requires-python='&gt;=4'"), ("future-1.0.tar.gz", "data-requires-python='>=3'")]),
        "tagged": page(&[("tagged-1.0-cp27-cp27mu-manylinux1_x86_64.whl", ""), ("tagged-1.0-cp26-none-win32.whl", "")]),
        "gone": page(&[("gone-1.0.tar.gz", "data-yanked"), ("gone-1.1.tar.gz", "data-yanked=\"bad\"")]),
        "a-b": page(&[("a.b-1.0-1.tar.gz#sha256=0", ""), ("A_B-1.0rc1.zip", ""), ("a-b-c-9.tar.gz", "")]),
        "absent": "",
    });
    let problem = |line: &str, limit: &str| {
        let more = json!({ "lines": ["-r x", line], "limits": [limit] });
        let answer = place.ask(&pages, &more);
        answer["problems"][0].clone()
    };
    for (line, limit, fact, key, value) in [
        (
            "foreign==1.0",
            "",
            "other-platform",
            "offers",
            json!(["win_amd64"]),
        ),
        ("foreign>=1", "", "other-platform", "newest", json!("0.9")),
        (
            "foreign",
            "Foreign==1.0",
            "other-platform",
            "version",
            json!("1.0"),
        ),
        (
            "future==2.0 --hash=sha256:0",
            "",
            "other-python",
            "offers",
            json!([">=4"]),
        ),
        ("future>=2", "", "other-python", "newest", json!("1.0")),
        (
            "tagged",
            "",
            "other-python",
            "offers",
            json!(["cp27-cp27mu"]),
        ),
        ("gone>=1", "", "all-yanked", "reason", json!("bad")),
        ("a.b[x]>=2", "", "no-version", "newest", json!("1.0.post1")),
        ("absent", "", "absent", "requirement", json!("absent")),
        (
            "never-heard-of",
            "",
            "absent",
            "requirement",
            json!("never-heard-of"),
        ),
    ] {
        let found = problem(line, limit);
        assert_eq!(found["fact"], fact, "{line}: {found}");
        assert_eq!(found[key], value, "{line}: {found}");
    }
    // What pip can take, or what no index is asked for.
    for line in [
        "foreign",
        "gone==1.0",
        "a-b==1.0.post1",
        "absent ; python_version < '3'",
        "absent @ https://x.example/absent-1.tar.gz",
        "--hash=sha256:0",
    ] {
        assert_eq!(problem(line, ""), Value::Null, "{line}");
    }
    let described =
        "Name: b\nVersion: 2\nRequires-Dist: foreign (>=1)\nRequires-Dist: absent; extra == 'x'\n";
    let answer = place.ask(
        &pages,
        &json!({ "described": [described], "taken": ["gone-1.1.tar.gz", "a.b-1.0-1.tar.gz"] }),
    );
    assert_eq!(answer["below"][0]["by"], "b 2");
    assert_eq!(answer["below"].as_array().unwrap().len(), 1, "{answer}");
    let taken = answer["taken"].as_array().unwrap();
    let named = |fact: &str| taken.iter().filter(|one| one["fact"] == fact).count();
    assert_eq!((named("of"), named("yanked")), (2, 1), "{answer}");

    // A mirror has the same file; another project of that name has not.
    let pages = json!({ "a": page(&[("a-1.tar.gz#sha256=0", "")]) });
    for (second, hosts) in [
        (page(&[("a-1.tar.gz#sha256=0", "")]), json!([])),
        (
            page(&[("a-2.tar.gz#sha256=0", "")]),
            json!(["index0.example"]),
        ),
        (
            page(&[("a-1.tar.gz#sha256=1", "")]),
            json!(["index0.example", "index1.example"]),
        ),
        (String::new(), json!([])),
    ] {
        let answer = place.ask(
            &pages,
            &json!({ "second": { "a": second }, "taken": ["a-1.tar.gz"] }),
        );
        let shared = answer["shared"].as_array().unwrap();
        let found: Vec<&Value> = shared.iter().map(|fact| &fact["host"]).collect();
        assert_eq!(json!(found), hosts, "{answer}");
    }
}

/// pip has the last word: it is asked for the same, with these files in a directory.
#[test]
fn of_a_version_the_file_is_taken_that_pip_takes() {
    let place = Place::new();
    let files = [
        "many-1.0.tar.gz",
        "many-1.0-py3-none-any.whl",
        "many-1.0-2-py3-none-any.whl",
        "many-1.0-10-py3-none-any.whl",
        "many-1.0-py2-none-any.whl",
        "many-2.0-py3-none-any.whl",
        "many-2.0-cp34-abi3-manylinux1_x86_64.manylinux1_aarch64.whl",
        "many-2.0-cp27-cp27mu-manylinux1_x86_64.whl",
        "many-3.0.zip",
        "many-3.0.tar.gz",
        "many-4.0-cp27-cp27mu-win32.whl",
    ];
    let links: Vec<(&str, &str)> = files.iter().map(|file| (*file, "")).collect();
    let choices = json!([
        ["many", "1.0", false],
        ["many", "2.0.0", true],
        ["many", "3", false],
        ["many", "3.0", true],
        ["many", "4.0", false],
        ["none", "1.0", false],
    ]);
    let answer = place.ask(
        &json!({ "many": page(&links) }),
        &json!({ "choices": choices }),
    );
    assert_eq!(
        answer["chosen"],
        json!([
            "many-1.0-10-py3-none-any.whl",
            "many-2.0-cp34-abi3-manylinux1_x86_64.manylinux1_aarch64.whl",
            "many-3.0.tar.gz",
            null,
            null,
            null
        ])
    );
    let dir = place.dir.path().join("links");
    fs::create_dir(&dir).unwrap();
    // Without a reader, pip says which file it would take before it finds that this is none.
    fs::write(dir.join("index.html"), page(&links)).unwrap();
    for (version, file) in [
        ("1.0", "many-1.0-10-py3-none-any.whl"),
        (
            "2.0",
            "many-2.0-cp34-abi3-manylinux1_x86_64.manylinux1_aarch64.whl",
        ),
        ("3.0", "many-3.0.tar.gz"),
    ] {
        let mut pip = Command::new(place.dir.path().join("v/bin/python"));
        pip.args([
            "-m",
            "pip",
            "--isolated",
            "download",
            "--no-deps",
            "--no-index",
        ])
        .arg("--find-links")
        .arg(dir.join("index.html"))
        .arg(format!("many=={version}"))
        .arg("-d")
        .arg(place.dir.path());
        let done = pip.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert!(said.contains(file), "{file}: {said}");
    }
}

#[test]
fn a_page_is_served_with_what_it_says_about_files_that_fit() {
    let place = Place::new();
    let text = "<base href='https://files.example/d/'>\
        <a href=\"m-1.tar.gz#sha256=ab\" data-yanked='it \"breaks\" &amp; fails'>m</a>\n\
        <a data-requires-python='&gt;=3' HREF='m-2.tar.gz?a=1&amp;b=2'>m</a>\n\
        <a href='m-3.tar.gz' data-requires-python='<3'>m</a>\n\
        <a href='m-4-cp27-cp27mu-win32.whl'>m</a><a href='odd'>odd</a><a name=none>none</a>";
    let answer = place.ask(&json!({ "m": text }), &json!({}));
    let served = answer["served"][0].as_str().unwrap();
    for element in [
        "<a data-yanked=\"it &quot;breaks&quot; &amp; fails\" \
         href=\"https://files.example/d/m-1.tar.gz#sha256=ab\">m-1.tar.gz</a>",
        "<a data-requires-python=\"&gt;=3\" \
         href=\"https://files.example/d/m-2.tar.gz?a=1&amp;b=2\">m-2.tar.gz</a>",
    ] {
        assert!(served.contains(element), "{element}: {served}");
    }
    assert_eq!(answer["kept"], json!([["m-1.tar.gz", "m-2.tar.gz", "odd"]]));
}

#[test]
fn an_extra_that_a_package_lacks_is_named() {
    let place = Place::new();
    let described =
        "Metadata-Version: 2.1\nName: A_b\nVersion: 1\nProvides-Extra: one\nProvides-Extra: two\n";
    let answer = place.ask(
        &json!({}),
        &json!({ "described": [described], "lines": ["a-b[Two,three]>=1", "other[x]"] }),
    );
    let lacking =
        json!([{ "fact": "no-extra", "name": "a-b", "extra": "three", "has": ["one", "two"] }]);
    assert_eq!(answer["lacking"], lacking);
}

#[test]
fn a_project_comes_from_the_index_that_the_recipe_means() {
    let place = Place::new();
    let answer = place.ask(
        &json!({}),
        &json!({
            "bound": { "Torch": "extra", "acme-*": "extra", "acme.main": "main",
                       "acme-mai*": "extra" },
            "names": ["torch", "torchvision", "acme-x", "acme-main"],
        }),
    );
    assert_eq!(answer["bound"], json!([[1, 2], [0, 1, 2], [1, 2], [0]]));
    let told = |others: Vec<&str>| -> Vec<Told> {
        let fact = json!({ "fact": "shared-name", "host": "a.example", "others": others, "names": ["torch"] });
        vec![serde_json::from_value(fact).unwrap()]
    };
    let virtualenv: Virtualenv = toml::from_str("path = \"/v\"").unwrap();
    let error = confused(&virtualenv, &told(vec!["b.example"])).unwrap();
    let said = format!("{error} {:?} {:?}", error.causes(), error.advice());
    assert!(
        said.contains("torch") && said.contains("b.example"),
        "{said}"
    );
    assert!(said.contains("index = { torch ="), "{said}");
    assert!(confused(&virtualenv, &[]).is_none());
}
