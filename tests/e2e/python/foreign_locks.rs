//! Locks of uv, requirements files with digests, and source archives that look for credentials.

use tests::bench::python_bench;
use tests::binaries::{Ran, is_soak};
use tests::index::{self, Packages};

use super::{lock_from, locked, write_virtualenv};

const SECRET: &str = "geheim-4711-geheim";

/// What a source archive does while its metadata is asked for.
const NOSY: &str = r#"
import glob
if os.getuid() == 0:
    raise SystemExit("FOUND: root's rights")
with open("/proc/net/tcp") as sockets:
    if sum(line.split()[3] == "0A" for line in sockets.readlines()[1:]) > 1:
        raise SystemExit("FOUND: the index itself, on loopback")
for place in glob.glob("/run/imgbuild/**", recursive=True) + glob.glob("/proc/[0-9]*/environ"):
    try:
        text = open(place, "rb").read()
    except OSError:
        continue
    if b"geheim" in text:
        raise SystemExit("FOUND: the secret in " + place)
"#;

/// A source archive that keeps where it was built, as compilers do.
const PLACED: &str = r#"
_plain = _files
def _files():
    info, files = _plain()
    files[NAME + ".py"] += "PLACE = %r\n" % os.getcwd()
    return info, files
"#;

/// A lock of uv's about `alpha` and the project beside it.
fn uv_lock(digest: &str) -> String {
    let source = "source = { registry = \"https://gone.example/simple\" }";
    format!(
        "version = 1\nrequires-python = \">=3.8\"\n[[package]]\nname = \"app\"\nversion = \"1.0\"\n\
         source = {{ editable = \".\" }}\ndependencies = [{{ name = \"alpha\" }}]\n\
         [[package]]\nname = \"alpha\"\nversion = \"1.0\"\n{source}\nwheels = [{{ url = \
         \"https://gone.example/alpha-1.0-py3-none-any.whl\", hash = \"sha256:{digest}\" }}]\n"
    )
}

#[test]
fn other_locks_stand_and_sources_see_no_credentials() {
    let bench = python_bench();
    let mut packages = Packages::default();
    let alpha = packages.wheel("alpha", "1.0", &[]);
    packages.wheel("alpha", "2.0", &[]);
    packages.wheel("beta", "1.0", &["alpha"]);
    packages.wheel("gamma", "1.0", &[]);
    packages.wheel("delta", "1.0", &[]);
    let hashed = packages.wheel("epsilon", "1.0", &[]);
    // What lies beside the recipe and in no index.
    packages.wheel("own", "1.0", &["gamma"]);
    packages.source("vendored", "1.0", "");
    std::fs::create_dir(bench.path("vendor")).unwrap();
    for file in ["own-1.0-py3-none-any.whl", "vendored-1.0.tar.gz"] {
        std::fs::write(bench.path("vendor").join(file), packages.take(file)).unwrap();
    }
    let files = "./own-1.0-py3-none-any.whl\n./vendored-1.0.tar.gz\n";
    std::fs::write(bench.path("vendor/requirements.txt"), files).unwrap();
    packages.source("nosy", "1.0", NOSY);
    packages.source("placed", "1.0", PLACED);
    let known = tests::server::base64(&format!("user:{SECRET}"));
    let server = packages.serve(Some(format!("Basic {known}")));
    let project = bench.path("app");
    index::project(
        &project,
        "app",
        &["alpha", "gamma; extra == 'more'", "delta; extra == 'less'"],
        "[project]\nname = \"app\"\nversion = \"1.0\"\n[project.optional-dependencies]\nmore = []\nless = []\n\
         [dependency-groups]\nprod = [\"gamma\"]\n",
    );
    std::fs::write(project.join("uv.lock"), uv_lock(&alpha)).unwrap();
    let home = bench.path("home");
    std::fs::create_dir(&home).unwrap();
    let netrc = format!("machine 127.0.0.1 login user password {SECRET}\n");
    std::fs::write(home.join(".netrc"), netrc).unwrap();
    let imgbuild = |arguments: &[&str]| lock_from(&bench, &server, arguments);
    let write = |name: &str, keys: &str| write_virtualenv(&bench, name, keys);
    let locked = |name: &str| locked(&bench, name);
    // The lock says alpha 1.0, whatever the index has by now; what it does not name is decided
    // around it.
    write(
        "uv",
        "local = [\"app\"]\nrequirements-files = [\"app/uv.lock\", \"vendor/requirements.txt\"]\n\
         requirements = [\"beta\", \"placed\"]\n\
         [[test]]\nname = \"it is the locked one\"\ncommand = [\"/srv/venv/bin/python\", \"-c\", \
         \"import alpha, app, beta, own, vendored; assert alpha.VERSION == '1.0'\"]\n\
         [[test]]\nname = \"the same place each time\"\ncommand = [\"/srv/venv/bin/python\", \"-c\", \
         \"import placed; assert 'placed_00000000000040008' in placed.PLACE, placed.PLACE\"]",
    );
    let built = imgbuild(&["uv.toml"]).expect(0);
    assert_eq!(
        locked("uv"),
        "alpha-1.0-py3-none-any.whl beta-1.0-py3-none-any.whl gamma-1.0-py3-none-any.whl \
         own-1.0-py3-none-any.whl placed-1.0.tar.gz vendored-1.0.tar.gz"
    );
    if is_soak() {
        // Another work directory, no network, the same bytes.
        let work = bench.copy_of_work("again").display().to_string();
        let program = tests::binaries::imgbuild().to_str().unwrap();
        let words = [
            "--net", "--", program, "--frozen", "--work", &work, "uv.toml",
        ];
        let again = Ran::of(&mut bench.command("unshare", &words)).expect(0);
        assert_eq!(again.stdout, built.stdout);
    }
    // An extra by name, a group by name, and lines with digests beside a project.
    // What another platform has from an address is not for this one.
    let lines = format!(
        "epsilon==1.0 \\\n    --hash=sha256:{hashed}\nwin @ https://h.example/win-1-py3-none-any.whl \
         ; sys_platform == 'win32' --hash=sha256:{hashed}\n"
    );
    std::fs::write(bench.path("hashed.txt"), lines).unwrap();
    write(
        "extras",
        "local = [\"app\"]\nextras = [\"more\"]\nrequirements-files = [\"hashed.txt\"]\n",
    );
    imgbuild(&["lock", "extras.toml"]).expect(0);
    assert_eq!(
        locked("extras"),
        "alpha-2.0-py3-none-any.whl epsilon-1.0-py3-none-any.whl gamma-1.0-py3-none-any.whl"
    );
    write("unknown", "local = [\"app\"]\ngroups = [\"production\"]\n");
    std::fs::remove_file(bench.path("unknown.lock")).unwrap();
    let refused = imgbuild(&["lock", "unknown.toml"]).expect(2).stderr;
    assert!(
        refused.contains("has the group `production`") && refused.contains("there are prod"),
        "{refused}"
    );
    // What the project requires by now and the lock does not have is refused.
    let text = std::fs::read_to_string(project.join("pyproject.toml")).unwrap();
    let stale = text.replace(
        "version = \"1.0\"",
        "version = \"1.0\"\ndependencies = [\"gamma\"]",
    );
    std::fs::write(project.join("pyproject.toml"), stale).unwrap();
    let refused = imgbuild(&["lock", "uv.toml"]).expect(2).stderr;
    assert!(
        refused.contains("app requires gamma, which app/uv.lock"),
        "{refused}"
    );
    std::fs::write(project.join("pyproject.toml"), text).unwrap();
    // What apt resolved before that is not resolved again.
    let again = imgbuild(&["lock", "unknown.toml"]).expect(2).stderr;
    assert!(again.contains("as the last try resolved them"), "{again}");
    let plan = |name: &str| imgbuild(&["plan", name]).expect(0).stdout;
    assert!(!plan("extras.toml").contains("does not fit"));
    std::fs::write(bench.path("hashed.txt"), "epsilon\n").unwrap();
    let planned = plan("extras.toml");
    assert!(
        planned.contains("changed since: virtualenv /srv/venv"),
        "{planned}"
    );
    // Metadata of a source archive is asked for by nobody.
    write(
        "nosy",
        "requirements = [\"nosy\"]\nowner = \"web\"\n[[user]]\nname = \"web\"\nuid = 1000",
    );
    let ran = imgbuild(&["lock", "nosy.toml"]).expect(0);
    assert!(!ran.stderr.contains("FOUND"), "{}", ran.stderr);
    assert_eq!(locked("nosy"), "nosy-1.0.tar.gz");
    // Another digest than the index has is not replaced by what the index has.
    std::fs::write(project.join("uv.lock"), uv_lock(&"0".repeat(64))).unwrap();
    let refused = imgbuild(&["lock", "uv.toml"]).expect(1).stderr;
    assert!(
        refused.contains("has the locked alpha-1.0-py3-none-any.whl"),
        "{refused}"
    );
}
