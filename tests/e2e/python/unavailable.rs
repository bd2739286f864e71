//! Projects that an index does not have, that were withdrawn, or that do not build.

use tests::bench::python_bench;
use tests::binaries::Ran;
use tests::index::Packages;

use super::{lock_from, locked, write_virtualenv};

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
