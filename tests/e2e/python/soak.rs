//! Projects beside the recipe: a backend of their own, a `setup.py` alone, needs that differ.

use tests::bench::python_bench;

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
    let plain = "requires = [\"setuptools==68.2.2\"]\nbuild-backend = \"setuptools.build_meta\"";
    project("one", plain, "\"itsdangerous==2.2.0\"");
    // As projects were before pyproject.toml; this pip would fetch what such a one needs.
    std::fs::create_dir_all(bench.path("old")).unwrap();
    let setup = "from setuptools import setup\nsetup(name='old', version='1.0', \
                 py_modules=['old'], setup_requires=['flit_core'])\n";
    std::fs::write(bench.path("old/setup.py"), setup).unwrap();
    std::fs::write(bench.path("old/old.py"), "").unwrap();
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
