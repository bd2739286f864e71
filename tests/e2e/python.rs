//! A virtualenv from the machine's own package index: locked with hashes, installed without
//! network, and the same image again from the store alone.

use std::collections::BTreeMap;

use tests::bench::{Bench, python_bench};
use tests::binaries::{Ran, is_soak};
use tests::index::{self, Packages};
use tests::server::{Answer, Server};

/// Two projects whose build needs differ, and one dependency.
const PROJECTS: &str = r#"
[[user]]
name = "web"
uid = 1000
[[virtualenv]]
path = "/home/web/venv"
owner = "web"
local = ["one", "two", "old"]
[[test]]
name = "all are there"
command = ["/home/web/venv/bin/python", "-c", """
import old, one, two
from itsdangerous import Signer
assert Signer('key').unsign(Signer('key').sign('text')) == b'text'
"""]
user = "web"
"#;

/// A build backend of the project itself, which asks for more than `pyproject.toml` says.
const BACKEND: &str = "from setuptools import build_meta\n\
from setuptools.build_meta import *\n\
def get_requires_for_build_wheel(settings=None):\n    \
return build_meta.get_requires_for_build_wheel(settings) + ['flit_core']\n\
def build_wheel(*words, **named):\n    \
import flit_core\n    return build_meta.build_wheel(*words, **named)\n";

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

/// Runs `imgbuild` with an index of the test's own, and its logins in a home.
fn lock_from(bench: &Bench, server: &Server, arguments: &[&str]) -> Ran {
    let mut command = bench.command(tests::binaries::imgbuild().to_str().unwrap(), arguments);
    command
        .env("HOME", bench.path("home"))
        .env("PIP_INDEX_URL", format!("{}/simple", server.url()))
        .env("PIP_TRUSTED_HOST", "127.0.0.1")
        .env("PIP_RETRIES", "0")
        .env_remove("PIP_FIND_LINKS");
    Ran::of(&mut command)
}

/// Writes a recipe with one virtualenv.
fn write_virtualenv(bench: &Bench, name: &str, keys: &str) {
    bench.write(
        name,
        &format!("[[virtualenv]]\npath = \"/srv/venv\"\n{keys}\n"),
    );
}

/// The Python files in a lock.
fn locked(bench: &Bench, name: &str) -> String {
    let lock = std::fs::read_to_string(bench.path(&format!("{name}.lock"))).unwrap();
    let files = lock.lines().filter_map(|l| l.strip_prefix("file = \""));
    let files = files.map(|f| f.trim_end_matches('"').to_owned());
    files.collect::<Vec<_>>().join(" ")
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

/// What a source archive does when it is looked at, and what it says when that fails.
const CALLS: &str = r#"
import subprocess
try:
    subprocess.call(["gfortran", "--version"])
except OSError:
    raise SystemExit("SSL: CERTIFICATE_VERIFY_FAILED, Could not find a version, 401")
if subprocess.call(["gfortran", "--version"]):
    raise SystemExit(1)
"#;

/// What fetches a toolchain in the middle of a build.
const FETCHES: &str = r#"
def build_wheel(place, settings=None, metadata=None):
    import urllib.request
    urllib.request.urlopen("http://toolchain.example/").read()
"#;

/// What says only when it is built that it requires something more.
const LACKS: &str = r#"
own = build_wheel


def build_wheel(place, settings=None, metadata=None):
    REQUIRES.append("said_late")
    return own(place)
"#;

#[test]
fn what_cannot_be_had_or_built_is_named() {
    let bench = python_bench();
    let mut packages = Packages::default();
    packages.wheel("alpha", "1.0", &[]);
    packages.wheel("alpha", "2.0", &[]);
    packages.mark(
        "alpha-1.0-py3-none-any.whl",
        "data-yanked='it eats &quot;files&quot;'",
    );
    packages.wheel("gamma", "1.0", &[]);
    packages.source("postver", "1.0.post1", "");
    packages.rename("postver-1.0.post1.tar.gz", "postver-1.0-1.tar.gz");
    packages.wheel("beta", "1.0", &["foreign>=1"]);
    packages.wheel("foreign", "0.9", &[]);
    packages.wheel("foreign", "1.0", &[]);
    packages.rename(
        "foreign-1.0-py3-none-any.whl",
        "foreign-1.0-cp311-cp311-win_amd64.whl",
    );
    packages.source("caller", "1.0", CALLS);
    packages.source("fetcher", "1.0", FETCHES);
    packages.source("lacking", "1.0", LACKS);
    let server = packages.serve(None);
    std::fs::create_dir(bench.path("home")).unwrap();
    let lock = |name: &str, keys: &str| {
        write_virtualenv(&bench, name, keys);
        lock_from(&bench, &server, &["lock", &format!("{name}.toml")])
    };
    let said = |ran: Ran, code: i32, phrases: &[&str]| {
        let said = ran.expect(code).stderr;
        for phrase in phrases {
            assert!(said.contains(phrase), "{phrase}: {said}");
        }
        said
    };
    let warned = "alpha 1.0 was yanked from its index (it eats \"files\")";
    let first = lock("first", "requirements = [\"alpha==1.0\", \"postver\"]");
    said(first, 0, &[warned, "virtualenvs "]);
    let files = "alpha-1.0-py3-none-any.whl postver-1.0-1.tar.gz";
    assert_eq!(locked(&bench, "first"), files);
    let text = std::fs::read_to_string(bench.path("first.lock")).unwrap();
    assert!(text.contains("version = \"1.0.post1\""), "{text}");
    // What was built without network once is not built again for another wheel.
    let second = lock(
        "second",
        "requirements = [\"alpha\", \"gamma\", \"postver\"]",
    );
    let second = said(second, 0, &[]);
    assert!(!second.contains("virtualenvs "), "{second}");
    let foreign = lock("foreign", "requirements = [\"beta\"]");
    said(
        foreign,
        1,
        &[
            "foreign 1.0 has no source and wheels for win_amd64 only; this tree is manylinux",
            "(beta 1.0 requires foreign>=1)",
        ],
    );
    let frozen = lock(
        "frozen",
        "requirements = [\"alpha\", \"pkg_resources==0.0.0\"]",
    );
    said(
        frozen,
        1,
        &[
            "no index of this machine has pkg-resources==0.0.0",
            "leave the line out: `pip freeze` of older Debian and Ubuntu",
        ],
    );
    let caller = lock("caller", "requirements = [\"alpha\", \"caller\"]");
    let caller = said(
        caller,
        1,
        &[
            "caller-1.0.tar.gz does not build",
            "it calls gfortran, which the tree does not have",
            "add \"gfortran\" to `install`",
        ],
    );
    assert!(!caller.contains("is not trusted"), "{caller}");
    // It says what it is, and is built all the same before the lock is written.
    let fetcher = lock("fetcher", "requirements = [\"fetcher\"]");
    said(
        fetcher,
        1,
        &[
            "fetcher-1.0.tar.gz does not build",
            "it tried to reach toolchain.example",
            "builds have no network",
        ],
    );
    assert!(!locked(&bench, "fetcher").contains("fetcher"));
    let lacking = lock("lacking", "requirements = [\"lacking\"]");
    said(
        lacking,
        2,
        &[
            "lacking requires said_late",
            "name said_late under `requirements`",
        ],
    );
}

/// A server with files and with a repository for a git that knows nothing of servers.
fn elsewhere(bench: &Bench) -> (Server, String) {
    let mut packages = Packages::default();
    let archives = [
        ("zeta", "1.5", "zeta/archive/refs/tags/v1.0.tar.gz"),
        ("theta", "0.1", "theta/tarball/v1.0"),
    ];
    let mut files = BTreeMap::new();
    for (name, version, path) in archives {
        packages.source(name, version, "");
        let bytes = packages.take(&format!("{name}-{version}.tar.gz"));
        files.insert(format!("/{path}"), bytes);
    }
    let eta = "eta-1.0-py3-none-any.whl";
    packages.wheel("eta", "1.0", &[]);
    files.insert(format!("/{eta}"), packages.take(eta));
    let repository = bench.path("kappa");
    index::project(&repository.join("py"), "kappa", &["alpha"], "");
    let git = |words: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let mut git = bench.command("git", &who);
        Ran::of(git.arg("-C").arg(&repository).args(words))
            .expect(0)
            .stdout
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "x"]);
    git(&["update-server-info"]);
    let commit = git(&["rev-parse", "HEAD"]).trim().to_owned();
    let bare = repository.join(".git");
    let server = Server::start(move |request| {
        if let Some(path) = request.path.strip_prefix("/kappa.git/") {
            let path = path.split('?').next().unwrap_or_default();
            return std::fs::read(bare.join(path)).map_or(Answer::Status(404), Answer::Bytes);
        }
        let file = files.get(&request.path).cloned();
        file.map_or(Answer::Status(404), Answer::Bytes)
    });
    (server, commit)
}

#[test]
fn what_requirements_take_from_addresses_is_locked() {
    let bench = python_bench();
    let (server, commit) = elsewhere(&bench);
    let url = server.url();
    let mut packages = Packages::default();
    packages.wheel("alpha", "1.0", &[]);
    packages.wheel("gamma", "1.0", &[]);
    packages.wheel(
        "beta",
        "1.0",
        &[&format!("eta @ {url}/eta-1.0-py3-none-any.whl")],
    );
    packages.wheel("leads", "1.0", &["x @ http://h.example"]);
    packages.wheel("clones", "1.0", &["x @ git+http://g.example"]);
    let index = packages.serve(None);
    std::fs::create_dir(bench.path("home")).unwrap();
    let imgbuild = |arguments: &[&str]| lock_from(&bench, &index, arguments);
    // What it requires, only its backend says.
    let zeta = format!("zeta @ {url}/zeta/archive/refs/tags/v1.0.tar.gz");
    let kappa = format!("kappa @ git+{url}/kappa.git@{commit}#subdirectory=py");
    let never = format!("never @ {url}/gone.zip ; python_version < '3'");
    let app = bench.path("app");
    let more = "gamma ; extra == 'more'";
    index::project(&app, "app", &[&zeta, &kappa, &never, "beta", more], "");
    let lines = format!(
        "{url}/theta/tarball/v1.0#egg=theta\n./app[nope]\n\
         nowhere @ git+https://gone.example/x@v1 ; python_version < '3.8'\n"
    );
    std::fs::write(bench.path("lines.txt"), lines).unwrap();
    let keys = "requirements-files = [\"lines.txt\"]\n[[test]]\nname = \"all are there\"\n\
                command = [\"/srv/venv/bin/python\", \"-c\", \
                \"import alpha, app, beta, eta, kappa, theta, zeta; assert zeta.VERSION == '1.5'\"]";
    write_virtualenv(&bench, "first", keys);
    let built = imgbuild(&["first.toml"]).expect(0);
    assert!(
        built
            .stderr
            .contains("has the extra `nope`: there are more"),
        "{}",
        built.stderr
    );
    let files = "alpha-1.0-py3-none-any.whl beta-1.0-py3-none-any.whl \
                 eta-1.0-py3-none-any.whl theta-0.1.tar.gz zeta-1.5.tar.gz";
    assert_eq!(locked(&bench, "first"), files);
    let text = std::fs::read_to_string(bench.path("first.lock")).unwrap();
    assert!(text.contains(&commit), "{text}");
    // Nobody's advisory is about the project and the repository; what has an address was published.
    let bill = imgbuild(&["show", "first", "--sbom"]).expect(0).stdout;
    for purl in [
        "pkg:generic/app@1.0",
        "pkg:generic/kappa@1.0",
        "pkg:pypi/alpha@1.0",
        "pkg:pypi/eta@1.0",
        "pkg:pypi/pip@",
    ] {
        assert!(
            bill.contains(&format!("\"purl\": \"{purl}")),
            "{purl}: {bill}"
        );
    }
    // Another requirement moves none of them, also when nobody has them any more.
    drop(server);
    let keys = keys.replace("[[test]]", "requirements = [\"gamma\"]\n[[test]]");
    write_virtualenv(&bench, "first", &keys);
    std::fs::write(bench.path("first.lock"), text).unwrap();
    imgbuild(&["lock", "first.toml"]).expect(0);
    let with_gamma = files.replace("theta", "gamma-1.0-py3-none-any.whl theta");
    assert_eq!(locked(&bench, "first"), with_gamma);
    // The recipe's own word is taken at its word.
    let refused = |name: &str, keys: &str, code: i32, said: &str| {
        write_virtualenv(&bench, name, keys);
        let ran = imgbuild(&["lock", &format!("{name}.toml")]).expect(code);
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    };
    index::project(&app, "app", &[more], "");
    let keys = "local = [\"app\"]\nextras = [\"nope\"]";
    refused("nope", keys, 2, "there are more");
    let gone = format!("gone @ {url}/gone.zip");
    index::project(&app, "app", &[&gone], "");
    let keys = "local = [\"app\"]";
    refused("gone", keys, 1, "/gone.zip is required and cannot be had");
    let inside = format!("gone @ {url}/gone.zip#subdirectory=py");
    index::project(&app, "app", &[&inside], "");
    let said = "gone.zip#subdirectory=py is required, a directory inside an archive";
    refused("inside", keys, 1, said);
    // Where only a package of an index leads, nobody goes: neither for a file nor for a repository.
    for (name, file) in [("leads", "h.example"), ("clones", "g.example")] {
        let requirements = format!("requirements = [\"{name}\"]");
        refused(
            name,
            &requirements,
            1,
            &format!("{file}, at a host that neither"),
        );
    }
    // Two projects that only their backends name.
    index::project(&app, "app", &[], "");
    index::project(&bench.path("same"), "app", &[], "");
    let said = "are called app: app and same";
    refused("two", "local = [\"app\", \"same\"]", 2, said);
}

/// Three projects that say what Git says, one of the directory and two of commits; the first commit
/// has a tag.
const VERSIONS: &str = r#"
[[virtualenv]]
path = "/srv/venv"
local = ["repository/here"]
git = [
    { url = "URL", commit = "FIRST", subdirectory = "tagged" },
    { url = "URL", commit = "SECOND", subdirectory = "later" },
]
[[test]]
name = "versions"
command = ["/bin/sh", "-c", """
for one in here tagged later; do
    /srv/venv/bin/python -c "import importlib.metadata as m; print(m.version('$one'))"
done >/tmp/versions
diff - /tmp/versions <<X
1.2
1.2
1.3.dev1+gSHORT
X
"""]
"#;

#[test]
fn versions_come_from_git() {
    let bench = python_bench();
    let repository = bench.path("repository");
    std::fs::create_dir(&repository).unwrap();
    let git = |words: &[&str]| {
        let mut git = bench.command(
            "git",
            &["-c", "user.name=a", "-c", "user.email=a@example.org"],
        );
        let ran = Ran::of(git.arg("-C").arg(&repository).args(words)).expect(0);
        ran.stdout.trim().to_owned()
    };
    git(&["init", "--quiet"]);
    let file = |name: &str, text: &str| std::fs::write(repository.join(name), text).unwrap();
    for project in ["here", "tagged", "later"] {
        std::fs::create_dir(repository.join(project)).unwrap();
        file(
            &format!("{project}/pyproject.toml"),
            &format!(
                "[build-system]\nrequires = [\"setuptools==77.0.3\", \"setuptools-scm==8.1.0\"]\n\
                 build-backend = \"setuptools.build_meta\"\n[project]\nname = \"{project}\"\n\
                 dynamic = [\"version\"]\n[tool.setuptools]\npy-modules = [\"{project}\"]\n\
                 [tool.setuptools_scm]\nroot = \"..\"\n"
            ),
        );
        file(&format!("{project}/{project}.py"), "");
        file(
            &format!("{project}/.git_archival.txt"),
            "node: $Format:%H$\ndescribe-name: $Format:%(describe)$\n",
        );
        file(
            &format!("{project}/.gitattributes"),
            ".git_archival.txt export-subst\n",
        );
    }
    let commit = |tag: Option<&str>| {
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "x"]);
        if let Some(tag) = tag {
            git(&["tag", tag]);
        }
        git(&["rev-parse", "HEAD"])
    };
    let first = commit(Some("v1.2"));
    file("later/later.py", "# later\n");
    let second = commit(None);
    git(&["checkout", "--quiet", &first]);
    let recipe = VERSIONS
        .replace("URL", &format!("file://{}", repository.display()))
        .replace("FIRST", &first)
        .replace("SECOND", &second)
        .replace("SHORT", &second[..7]);
    bench.write("versions", &recipe);
    bench.imgbuild(&["versions.toml"]).expect(0);
    // Further commits, of the lock itself for one, change nothing while the project is the same.
    file("other", "");
    commit(None);
    bench.imgbuild(&["versions.toml", "--frozen"]).expect(0);
    // A shallow checkout does for what the lock has, and says no other version.
    std::fs::rename(repository.join(".git"), bench.path("hidden")).unwrap();
    let whole = format!("file://{}", bench.path("hidden").display());
    let clone = ["clone", "--quiet", "--depth=1", &whole, "shallow"];
    Ran::of(&mut bench.command("git", &clone)).expect(0);
    std::fs::rename(bench.path("shallow/.git"), repository.join(".git")).unwrap();
    bench.imgbuild(&["versions.toml", "--frozen"]).expect(0);
    file("here/here.py", "# changed\n");
    let refused = bench.imgbuild(&["lock", "versions.toml"]).expect(2).stderr;
    assert!(
        refused.contains("is a shallow checkout") && refused.contains("git fetch --unshallow"),
        "{refused}"
    );
    // No repository, no version that would be made up.
    std::fs::remove_dir_all(repository.join(".git")).unwrap();
    let refused = bench.imgbuild(&["lock", "versions.toml"]).expect(2).stderr;
    assert!(
        refused.contains("repository/here takes its version from Git, but no repository has it"),
        "{refused}"
    );
}

mod soak {
    use super::*;

    #[test]
    fn local_projects_bring_what_they_depend_on_and_what_building_them_needs() {
        let bench = python_bench();
        bench.write("projects", PROJECTS);
        let project = |name: &str, build: &str, dependencies: &str| {
            let dir = bench.path(name);
            std::fs::create_dir_all(&dir).unwrap();
            let text = format!(
                "[build-system]\n{build}\n[project]\nname = \"{name}\"\nversion = \"1.0\"\n\
                 dependencies = [{dependencies}]\n[tool.setuptools]\npy-modules = [\"{name}\"]\n"
            );
            std::fs::write(dir.join("pyproject.toml"), text).unwrap();
            std::fs::write(dir.join(format!("{name}.py")), "").unwrap();
        };
        let plain =
            "requires = [\"setuptools==68.2.2\"]\nbuild-backend = \"setuptools.build_meta\"";
        project("one", plain, "\"itsdangerous==2.2.0\"");
        // As projects were before pyproject.toml; this pip would fetch what such a one needs.
        std::fs::create_dir_all(bench.path("old")).unwrap();
        let setup = "from setuptools import setup\nsetup(name='old', version='1.0', \
                     py_modules=['old'], setup_requires=['flit_core'])\n";
        std::fs::write(bench.path("old/setup.py"), setup).unwrap();
        std::fs::write(bench.path("old/old.py"), "").unwrap();
        let own = "requires = [\"setuptools==77.0.3\"]\nbuild-backend = \"backend\"\nbackend-path = [\".\"]";
        project("two", own, "");
        std::fs::write(bench.path("two").join("backend.py"), BACKEND).unwrap();
        let built = bench.imgbuild(&["projects.toml"]).expect(0);
        let lock = std::fs::read_to_string(bench.path("projects.lock")).unwrap();
        for file in [
            "itsdangerous-2.2.0-py3-none-any.whl",
            "setuptools-68.2.2-py3-none-any.whl",
            "setuptools-77.0.3-py3-none-any.whl",
            "flit_core-",
        ] {
            assert!(lock.contains(&format!("file = \"{file}")), "{file}: {lock}");
        }
        let shown = bench.imgbuild(&["show", "projects"]).expect(0).stdout;
        assert!(shown.contains("itsdangerous"), "{shown}");
        // A dependency changes, and with it what is locked; what builds its project stays.
        let one = PROJECTS.replace("[\"one\", \"two\", \"old\"]", "[\"one\"]");
        let (one, _) = one.split_once("[[test]]").unwrap();
        bench.write("projects", one);
        bench.imgbuild(&["lock", "projects.toml"]).expect(0);
        project("one", plain, "\"itsdangerous==2.1.2\"");
        let stale = bench.imgbuild(&["projects.toml", "--locked"]).expect(3);
        assert!(
            stale.stderr.contains("virtualenv /home/web/venv"),
            "{}",
            stale.stderr
        );
        bench.imgbuild(&["lock", "projects.toml"]).expect(0);
        let moved = std::fs::read_to_string(bench.path("projects.lock")).unwrap();
        assert!(moved.contains("itsdangerous-2.1.2") && !moved.contains("itsdangerous-2.2.0"));
        assert!(moved.contains("setuptools-68.2.2") && !moved.contains("setuptools-77.0.3"));
        assert!(!built.stdout.is_empty());
    }
}
