//! The command line through the real binary, as far as nothing is built: exact
//! words and exit codes. No network, no root.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use builder::lock::packages_from;
use builder::recipe::Recipe;
use serde_json::Value;

use crate::support::Ran;

const RECIPE: &str =
    "name = \"small\"\n[bootstrap]\nsuite = \"bookworm\"\narchitecture = \"amd64\"\n";

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        bench.write("small.toml", RECIPE);
        bench
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            .env("IMGBUILD_STORE", self.dir.path().join("store"))
            .env("IMGBUILD_WORK", self.dir.path().join("work"))
            .env("IMGBUILD_KEYS", self.dir.path().join("keys"))
            .env("IMGBUILD_ARCHIVE_DEBIAN", "http://127.0.0.1:1/debian");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        output.into()
    }

    /// Fails unless the run ended with this code and said exactly this.
    #[track_caller]
    fn refused(&self, code: i32, stderr: &str) {
        assert_eq!((self.code, self.stderr.as_str()), (code, stderr));
        assert_eq!(self.stdout, "");
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// A lock of `RECIPE` without packages, which is enough to plan.
fn lock() -> String {
    let recipe = Recipe::parse(RECIPE, Path::new("small.toml")).unwrap();
    format!(
        "version = 1\nepoch = 1700000000\narchitecture = \"amd64\"\n\
         bootstrapper = \"debootstrap 1\"\npackages_from = \"{}\"\n",
        packages_from(&recipe, &[])
    )
}

#[test]
fn help_names_every_command_and_exit_code() {
    let help = Bench::new().run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for word in [
        "build", "lock", "plan", "shell", "doctor", "list", "show", "audit", "diff", "page",
        "store", "log",
    ] {
        let line = format!("\n  {word} ");
        assert!(help.stdout.contains(&line), "{word}: {}", help.stdout);
        assert_eq!(Bench::new().run(&[word, "--help"]).code, 0, "{word}");
    }
    for code in [
        "0 done",
        "1 failed",
        "2 usage",
        "4 an audit found something",
        "75 busy",
        "130 interrupted",
    ] {
        assert!(help.stdout.contains(code), "{code}: {}", help.stdout);
    }
}

#[test]
fn flags_of_every_command_stand_before_or_after_it() {
    let bench = Bench::new();
    bench.write("small.lock", &lock());
    let after = bench.run(&["plan", "small.toml", "--json"]).expect(0);
    for arguments in [
        &["--json", "plan", "small.toml"][..],
        &["--store", "elsewhere", "--json", "plan", "small.toml"],
        &["--work=other", "plan", "--json", "small.toml"],
    ] {
        let before = bench.run(arguments).expect(0);
        assert_eq!(before.json(), after.json(), "{arguments:?}");
    }
    let nested = bench.run(&["--json", "env", "-v", "root", "--help"]);
    assert_eq!((nested.code, nested.stderr.as_str()), (0, ""));
    let bad = bench.run(&["--archive", "x", "plan", "small.toml"]);
    assert!(bad.stderr.starts_with("error: --archive x is not NAME=URL"));
}

#[test]
fn two_recipes_of_one_name_are_refused_before_anything_is_built() {
    let bench = Bench::new();
    bench.write("other.toml", RECIPE);
    bench.run(&["small.toml", "other.toml"]).refused(
        2,
        "error: small.toml and other.toml both make the image `small`\n\
         hint: give each recipe a name of its own\n",
    );
}

#[test]
fn usage_errors_end_with_2() {
    let bench = Bench::new();
    for arguments in [
        &[][..],
        &["--nonsense"],
        &["show"],
        &["lock"],
        &["plan", "small.toml", "extra"],
        &["shell", "small.toml", "--step", "x"],
    ] {
        assert_eq!(bench.run(arguments).code, 2, "{arguments:?}");
    }
    bench.run(&["gone.toml"]).refused(
        2,
        "error: gone.toml: there is no such recipe\nhint: a recipe is a .toml file\n",
    );
    bench.run(&["--offline", "doctor"]).refused(
        2,
        "error: doctor: there is no such recipe\n\
         hint: the flags of a command come after it: imgbuild doctor ...\n",
    );
    bench
        .run(&["plan", "small.toml", "--archive", "x"])
        .refused(
            2,
            "error: --archive x is not NAME=URL\n\
         hint: for example --archive debian=http://mirror.example/debian\n",
        );
    bench
        .run(&[
            "plan",
            "small.toml",
            "--store",
            "https://me:geheim@store.example/",
        ])
        .refused(
            2,
            "error: https://store.example can only be read\n\
         hint: this command changes a store, or looks at all of it: name the directory that is \
         served, or a bucket, with --store\n",
        );
    bench
        .run(&["list", "--store", "ftp://store.example/"])
        .refused(
            2,
            "error: the store or the way to it cannot be used\n  \
         stores are not read over `ftp`\n\
         hint: name a directory, or a folder of a web server as https://HOST/PATH, or \
         s3://BUCKET/PREFIX\n",
        );
}

#[test]
fn a_recipe_error_shows_the_line() {
    let bench = Bench::new();
    bench.write("bad.toml", &RECIPE.replace("suite", "siute"));
    let ran = bench.run(&["plan", "bad.toml"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.starts_with("error: bad.toml:3:1: "),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("siute"), "{}", ran.stderr);
}

#[test]
fn a_plan_says_what_would_be_done_and_why() {
    let bench = Bench::new();
    let plan = bench.run(&["plan", "small.toml"]).expect(0);
    let first = "small: resolve and lock first: there is no small.lock\n";
    assert_eq!((plan.stdout.as_str(), plan.stderr.as_str()), (first, ""));
    let json = bench.run(&["plan", "--json", "small.toml"]).json();
    assert_eq!(json["plan"], "lock");
    assert_eq!(json["why"], "there is no small.lock");
    assert_eq!(json["steps"], serde_json::json!([]));
    bench.write("small.lock", &lock());
    let plan = bench.run(&["plan", "small.toml"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (0, ""));
    assert_eq!(
        plan.stdout,
        "small: run 3 steps, 0 are cached: dev has not released an image of this recipe and \
         lock, and no cache offers one\n\
         \x20 1  run     bootstrap    bootstrap\n\
         \x20 2  run     configure    locale and time zone\n\
         \x20 3  run     finish       clean and normalise\n"
    );
    let json = bench.run(&["plan", "--json", "small.toml"]).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["name"], "small");
    assert_eq!(json["plan"], "build");
    assert_eq!(json["image"], Value::Null);
    let steps = json["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 3);
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], index + 1);
        assert_eq!(step["cached"], false);
        assert_eq!(step["key"].as_str().unwrap().len(), 40);
    }
    // Looking leaves nothing.
    assert!(!Path::new(&bench.path("work")).exists());
    assert!(!Path::new(&bench.path("store")).exists());
    bench.run(&["log", "small.toml"]).refused(
        1,
        "error: no such step has run on this machine\nhint: build it first: imgbuild small.toml\n",
    );
    bench.run(&["log", "small.toml", "9"]).refused(
        2,
        "error: there is no step 9: the recipe has 3\nhint: `imgbuild plan RECIPE` counts them\n",
    );
    let more = format!("{RECIPE}[[packages]]\ninstall = [\"git\"]\n");
    bench.write("small.toml", &more);
    let plan = bench.run(&["plan", "small.toml"]).expect(0);
    assert_eq!(
        plan.stdout,
        "small: resolve and lock first: small.lock does not fit the recipe any more; \
         changed since: packages\n"
    );
}

#[test]
fn a_damaged_lock_is_refused_with_its_line() {
    let bench = Bench::new();
    let hint = "hint: restore it from version control, or remove it to resolve afresh\n";
    for (from, to, why) in [
        (
            "version = 1",
            "version = 2",
            "it has version 2, this imgbuild knows version 1",
        ),
        ("epoch", "apoch", "line 2: unknown field `apoch`"),
        ("version = 1", "version = ", "line 1: "),
    ] {
        bench.write("small.lock", &lock().replace(from, to));
        let ran = bench.run(&["plan", "small.toml"]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let start = format!("error: small.lock is not a valid lock\n  {why}");
        assert!(ran.stderr.starts_with(&start), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
    }
}

#[test]
fn an_error_in_json_is_one_event() {
    let bench = Bench::new();
    let ran = bench.run(&["log", "--json", "small.toml"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stdout,
        "{\"schema\":1,\"event\":\"error\",\"exit_code\":1,\"error\":\"there is no small.lock\",\
         \"causes\":[],\"hint\":\"run `imgbuild lock small.toml` first\"}\n"
    );
}

#[test]
fn the_doctor_names_each_check_and_its_fix() {
    let bench = Bench::new();
    let ran = bench.run(&["doctor", "--json"]);
    let line = ran.stdout.lines().next().unwrap();
    let json: Value = serde_json::from_str(line).unwrap();
    assert_eq!(json["schema"], 1);
    let checks = json["checks"].as_array().unwrap();
    for what in [
        "root",
        "unshare",
        "apt-get",
        "architecture",
        "overlayfs in the kernel",
    ] {
        assert!(
            checks
                .iter()
                .any(|c| c["what"].as_str().unwrap().starts_with(what)),
            "{what}: {line}"
        );
    }
    let all = checks.iter().all(|c| c["ok"] == true);
    assert_eq!(json["ok"], all);
    assert_eq!(ran.code, i32::from(!all));
    for check in checks {
        // The architecture alone cannot be fixed.
        let fixed = check["fix"].is_string() || check["what"] == "architecture";
        assert!(check["ok"] == true || fixed, "{check}");
    }
}

#[test]
fn an_empty_machine_has_no_images() {
    let bench = Bench::new();
    let store = bench.path("store");
    let missing = format!(
        "error: cannot read the store {store}\n  there is no store at {store}\n\
         hint: name the store with --store PATH or --store URL, or build an image first\n"
    );
    bench.run(&["list"]).refused(1, &missing);
    bench.run(&["show", "small"]).refused(1, &missing);
    store::WritableStore::open_or_create(Path::new(&store)).unwrap();
    let list = bench.run(&["list"]);
    assert_eq!(
        (list.code, list.stdout.as_str(), list.stderr.as_str()),
        (0, "", "")
    );
    assert_eq!(
        bench.run(&["list", "--json"]).stdout,
        "{\"schema\":1,\"images\":[]}\n"
    );
    let show = bench.run(&["show", "small"]);
    assert_eq!(show.code, 1);
    assert!(
        show.stderr
            .starts_with("error: the store has no image `small`\n"),
        "{}",
        show.stderr
    );
    assert!(
        show.stderr.ends_with("hint: `imgbuild list` shows them\n"),
        "{}",
        show.stderr
    );
}

#[test]
fn an_environment_of_other_encodings_is_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let mut command = bench.command(&["plan", "small.toml"]);
    command.env("ODD", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(Ran::of(&mut command).code, 0);
}

/// As root these are the words of a build; anybody else is told about root.
#[test]
fn a_build_checks_its_places_first() {
    let bench = Bench::new();
    bench.write("small.lock", &lock());
    if !is_root() {
        bench.run(&["small.toml"]).refused(
            1,
            "error: building needs root: it mounts and enters a chroot\n\
             hint: run the same command with sudo\n",
        );
        return;
    }
    bench
        .run(&["small.toml", "--store", "/proc/version"])
        .refused(
            1,
            "error: cannot open the store /proc/version\n  could not create /proc/version\n  \
         File exists (os error 17)\nhint: choose another one with --store PATH\n",
        );
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap();
    uid.split_whitespace().nth(1) == Some("0")
}

/// Two stores, one directory of keys: both environments are the same person's.
#[test]
fn two_stores_share_their_keys_and_time_runs_out() {
    let bench = Bench::new();
    let at = |store: &str, words: &[&str]| bench.run(&[words, &["--store", store]].concat());
    let init = ["env", "init", "staging", "--plain", "--timestamp-days"];
    for (store, days) in [("one", "7"), ("two", "6")] {
        at(store, &[&init[..], &[days]].concat()).expect(0);
    }
    let trusted = fs::read_to_string(bench.path("keys/staging.trust")).unwrap();
    assert_eq!(trusted.lines().count(), 2, "{trusted}");
    for store in ["one", "two"] {
        at(store, &["env", "refresh", "staging"]).expect(0);
        let status = at(store, &["env", "status"]).expect(0).stdout;
        assert!(
            trusted.lines().any(|root| status.contains(root)),
            "{status}"
        );
    }
    // A change of the one, signed where the environment is not.
    let change = ["env", "root", "propose", "staging", "--root-days", "300"];
    at("one", &[&change[..], &["-o", "change.json"]].concat()).expect(0);
    let said = at("three", &["env", "root", "sign", "change.json"]).expect(3);
    let hint = "hint: this store has no environment of that name";
    assert!(said.stderr.contains(hint), "{}", said.stderr);
    let mut later = Command::new("faketime");
    later
        .args(["-f", "+400d", env!("CARGO_BIN_EXE_imgbuild")])
        .args(["env", "status", "--json", "--store", "one"])
        .current_dir(bench.dir.path());
    let later = Ran::of(&mut later).expect(3);
    let said = later.stdout;
    assert!(said.contains("\"expired\":true"), "{said}");
    assert!(said.contains("metadata of staging ran out"), "{said}");
}

/// What cannot be is refused before a key is made; a root that is gone is not called absent.
#[test]
fn an_environment_is_founded_whole_or_not_at_all() {
    let bench = Bench::new();
    let init = ["env", "init", "staging", "--plain", "--store", "one"];
    for more in [
        &["--root-threshold", "0"][..],
        &["--root-threshold", "2"],
        &["--targets-threshold", "0"],
    ] {
        let said = bench.run(&[&init[..], more].concat()).expect(2).stderr;
        assert!(said.contains(more[0]), "{said}");
        assert!(!Path::new(&bench.path("keys")).exists(), "{more:?}");
    }
    bench.run(&init).expect(0);
    let root = bench.path("one/env/staging/metadata/1.root.json");
    fs::remove_file(root).unwrap();
    let status = ["env", "status", "staging", "--store", "one"];
    let said = bench.run(&status).stderr;
    assert!(said.contains("1.root.json"), "{said}");
    assert!(
        said.contains("--repair-from") && !said.contains("env init"),
        "{said}"
    );
}

/// What `doctor` finds out about a store has the store's address.
#[test]
fn doctor_looks_at_a_store_that_is_named() {
    let bench = Bench::new();
    bench
        .run(&["env", "init", "staging", "--plain", "--store", "one"])
        .expect(0);
    let check = |store: &str| {
        let ran = bench.run(&["doctor", "--json", "--store", store]);
        let said: serde_json::Value =
            serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
        let checks = said["checks"].as_array().unwrap();
        let about = |check: &&serde_json::Value| {
            let what = check["what"].as_str().unwrap();
            what.contains(store)
        };
        let mut about = checks.iter().filter(about);
        about.next().map(|check| check["ok"].clone())
    };
    assert_eq!(check("one"), Some(true.into()));
    // Nobody listens there.
    assert_eq!(check("http://127.0.0.1:9"), Some(false.into()));
}
