//! Projects that take their version from Git.

use tests::bench::python_bench;
use tests::binaries::Ran;

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
