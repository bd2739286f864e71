//! A virtualenv from the machine's own package index: locked with hashes, installed without
//! network, and the same image again from the store alone.

use tests::bench::bench;

/// Pure Python, without requirements of its own.
const RECIPE: &str = r#"
[[packages]]
install = ["python3-venv"]
[[user]]
name = "web"
uid = 1000
[[virtualenv]]
path = "/home/web/venv"
owner = "web"
requirements = ["itsdangerous==2.2.0"]
[[test]]
name = "it signs"
command = ["/home/web/venv/bin/python", "-c", """
from itsdangerous import Signer
assert Signer('key').unsign(Signer('key').sign('text')) == b'text'
"""]
user = "web"
"#;

#[test]
fn a_virtualenv_is_locked_installed_and_made_again() {
    let bench = bench();
    bench.write("app", RECIPE);
    let built = bench.imgbuild(&["app.toml"]).expect(0);
    let lock = std::fs::read_to_string(bench.path("app.lock")).unwrap();
    let wheel = "itsdangerous-2.2.0-py3-none-any.whl";
    assert!(lock.contains(wheel), "{lock}");
    let shown = bench.imgbuild(&["show", "app"]).expect(0).stdout;
    assert!(shown.contains("itsdangerous"), "{shown}");
    // Another work directory, no network, the same bytes.
    let work = bench.path("again").display().to_string();
    let program = tests::binaries::imgbuild().to_str().unwrap();
    let words = [
        "--net", "--", program, "--frozen", "--work", &work, "app.toml",
    ];
    let again = tests::binaries::Ran::of(&mut bench.command("unshare", &words)).expect(0);
    assert_eq!(again.stdout, built.stdout);
}

/// Two projects whose build needs differ, and one dependency.
const PROJECTS: &str = r#"
[[packages]]
install = ["python3-venv"]
[[virtualenv]]
path = "/srv/venv"
local = ["one", "two"]
[[test]]
name = "all are there"
command = ["/srv/venv/bin/python", "-c", "import itsdangerous, one, two"]
"#;

/// A build backend of the project itself, which asks for more than `pyproject.toml` says.
const BACKEND: &str = "from setuptools import build_meta\n\
from setuptools.build_meta import *\n\
def get_requires_for_build_wheel(settings=None):\n    \
return build_meta.get_requires_for_build_wheel(settings) + ['flit_core']\n\
def build_wheel(*words, **named):\n    \
import flit_core\n    return build_meta.build_wheel(*words, **named)\n";

#[test]
fn local_projects_bring_what_they_depend_on_and_what_building_them_needs() {
    let bench = bench();
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
    let plain = "requires = [\"setuptools==68.2.2\"]\nbuild-backend = \"setuptools.build_meta\"";
    project("one", plain, "\"itsdangerous==2.2.0\"");
    let own =
        "requires = [\"setuptools==77.0.3\"]\nbuild-backend = \"backend\"\nbackend-path = [\".\"]";
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
    // The dependency changes, and with it what is locked; what builds them stays.
    project("one", plain, "\"itsdangerous==2.1.2\"");
    let stale = bench.imgbuild(&["projects.toml", "--locked"]).expect(3);
    assert!(
        stale.stderr.contains("virtualenv /srv/venv"),
        "{}",
        stale.stderr
    );
    bench.imgbuild(&["lock", "projects.toml"]).expect(0);
    let moved = std::fs::read_to_string(bench.path("projects.lock")).unwrap();
    assert!(moved.contains("itsdangerous-2.1.2") && !moved.contains("itsdangerous-2.2.0"));
    assert!(moved.contains("setuptools-68.2.2") && moved.contains("setuptools-77.0.3"));
    assert!(!built.stdout.is_empty());
}
