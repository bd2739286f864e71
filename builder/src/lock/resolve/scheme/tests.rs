use super::*;

/// The scheme of a package with these files.
fn of(files: &[(&str, &str)]) -> Scheme {
    Scheme::of(&|name| {
        let found = files.iter().find(|(path, _)| *path == name);
        found.map(|(_, text)| (*text).to_owned())
    })
}

fn project(text: &str) -> Scheme {
    of(&[("pyproject.toml", text)])
}

/// The build system that most have, with a tool that nothing sets up.
const COPIED: &str = "[build-system]\nrequires = [\"setuptools>=42\", \"setuptools_scm[toml]>=3.4\"]\n\
                      build-backend = \"setuptools.build_meta\"\n";
const HATCH: &str = "[build-system]\nrequires = [\"hatchling\", \"hatch-vcs\"]\n\
                     build-backend = \"hatchling.build\"\n\
                     [project]\nname = \"a\"\ndynamic = [\"version\"]\n";
const POETRY: &str = "[build-system]\nrequires = [\"poetry-core\", \"poetry-dynamic-versioning\"]\n\
                      build-backend = \"poetry_dynamic_versioning.backend\"\n\
                      [tool.poetry]\nname = \"a\"\nversion = \"0.0.0\"\n";

#[test]
fn a_version_that_is_stated_needs_no_git() {
    let plain = "[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n\
                 [project]\nname = \"a\"\ndynamic = [\"version\"]\ndependencies = [\"dunamai\"]\n\
                 [tool.hatch.version]\npath = \"a.py\"\n";
    let hatch = format!("{HATCH}[tool.hatch.version]\npath = \"a.py\"\n");
    let poetry = format!("{POETRY}[tool.poetry-dynamic-versioning]\nenable = false\n");
    let attr =
        format!("{COPIED}[tool.setuptools.dynamic]\nversion = {{ attr = \"a.__version__\" }}\n");
    let list = format!("{COPIED}[tool.setuptools.dynamic]\nversion = {{ file = [\"VERSION\"] }}\n");
    let own = format!("{COPIED}[project]\nname = \"a\"\nversion = \"1\"\n[tool.setuptools_scm]\n");
    let set_up = format!("{COPIED}[tool.setuptools_scm]\n");
    let script = "from setuptools import setup\nsetup(version=\"1.2.3\")\n";
    for files in [
        &[][..],
        &[(
            "setup.py",
            "# TODO: maybe use versioneer some day\nsetup(version=\"1.0\")\n",
        )],
        &[(
            "setup.py",
            "'''No setuptools_scm here.'''\nsetup(version=ask())\n",
        )],
        &[(
            "setup.py",
            "setup(install_requires=['pbr', 'dunamai'], version=ask())\n",
        )],
        &[("pyproject.toml", plain)],
        &[("pyproject.toml", &hatch)],
        &[("pyproject.toml", POETRY)],
        &[("pyproject.toml", &poetry)],
        &[("pyproject.toml", &own)],
        &[(
            "pyproject.toml",
            "[tool.ruff]\nexclude = [\"versioneer.py\"]\n",
        )],
        &[(
            "pyproject.toml",
            "[tool.poetry.dependencies]\ndunamai = \"1\"\n",
        )],
        &[("pyproject.toml", COPIED), ("setup.py", script)],
        &[("pyproject.toml", &set_up), ("setup.py", script)],
        &[
            ("pyproject.toml", COPIED),
            ("setup.cfg", "[metadata]\nversion = 1.2.3\n"),
        ],
        &[
            ("pyproject.toml", COPIED),
            ("setup.cfg", "[metadata]\nversion = file: V\n"),
            ("V", "1\n"),
        ],
        &[
            ("pyproject.toml", &attr),
            ("src/a/__init__.py", "__version__ = '1'\n"),
        ],
        &[("pyproject.toml", &list), ("VERSION", "1.2\n")],
        &[(
            "setup.cfg",
            "[options]\ninstall_requires =\n    pbr\n    dunamai\n# versioneer\n",
        )],
        &[
            (
                "setup.cfg",
                "[metadata]\nversion = 1\n[versioneer]\nVCS = git\n",
            ),
            ("setup.py", "setup()"),
        ],
        &[(
            "setup.py",
            "import versioneer\nsetup(version='1', cmdclass=versioneer.get_cmdclass())",
        )],
    ] {
        let scheme = of(files);
        assert!(!scheme.is_git(), "{files:?}: {scheme:?}");
        assert!(scheme.check("a", true, None, None).is_ok(), "{files:?}");
    }
}

/// Each with what the error names, and with what the hint has.
#[test]
fn what_takes_its_version_from_git_is_named() {
    let dynamic = format!("{COPIED}[project]\nname = \"a\"\ndynamic = [\"version\"]\n");
    let attr =
        format!("{COPIED}[tool.setuptools.dynamic]\nversion = {{ attr = \"a.__version__\" }}\n");
    let set_up = format!("{COPIED}[tool.setuptools_scm]\n");
    let vcs = format!("{HATCH}[tool.hatch.version]\nsource = \"vcs\"\n");
    let uv = format!("{HATCH}[tool.hatch.version]\nsource = \"uv-dynamic-versioning\"\n");
    let poetry = format!("{POETRY}[tool.poetry-dynamic-versioning]\nenable = true\n");
    let pdm = "[build-system]\nrequires = [\"pdm-backend\"]\nbuild-backend = \"pdm.backend\"\n\
               [tool.pdm.version]\nsource = \"scm\"\n";
    let scikit = "[tool.scikit-build]\n\
                  metadata.version.provider = \"scikit_build_core.metadata.setuptools_scm\"\n";
    let dunamai = "[build-system]\nrequires = [\"hatchling\", \"dunamai\"]\n";
    let pretend = "(SETUPTOOLS_SCM_PRETEND_VERSION)";
    for (files, sign, hint) in [
        (
            &[("pyproject.toml", &*dynamic)][..],
            "line 2 of pyproject.toml has `setuptools_scm[toml]>=3.4`",
            "remove",
        ),
        (
            &[("pyproject.toml", &set_up)],
            "line 4 of pyproject.toml has `[tool.setuptools_scm]`",
            pretend,
        ),
        // Versions before 9 take the one of Git.
        (
            &[
                ("pyproject.toml", &set_up),
                ("setup.cfg", "[metadata]\nversion = 1\n"),
            ],
            "`[tool.setuptools_scm]`",
            pretend,
        ),
        (
            &[("pyproject.toml", &attr), ("a.py", "__version__ = ask()\n")],
            "`setuptools_scm[toml]>=3.4`",
            "remove",
        ),
        (
            &[("pyproject.toml", &vcs)],
            "line 8 of pyproject.toml has `source = \"vcs\"`",
            pretend,
        ),
        (
            &[
                ("pyproject.toml", HATCH),
                ("setup.py", "setup(version='1')"),
            ],
            "`hatch-vcs`",
            "remove",
        ),
        (
            &[("pyproject.toml", &uv)],
            "`source = \"uv-dynamic-versioning\"`",
            "(UV_DYNAMIC_VERSIONING_BYPASS)",
        ),
        (
            &[("pyproject.toml", &poetry)],
            "`[tool.poetry-dynamic-versioning]`",
            "(POETRY_DYNAMIC_VERSIONING_BYPASS)",
        ),
        (
            &[("pyproject.toml", pdm)],
            "line 5 of pyproject.toml has `source = \"scm\"`",
            "(PDM_BUILD_SCM_VERSION)",
        ),
        (
            &[("pyproject.toml", scikit)],
            "line 2 of pyproject.toml",
            pretend,
        ),
        (&[("pyproject.toml", dunamai)], "`dunamai`", "remove"),
        (
            &[("pyproject.toml", "[tool.versioningit]\n")],
            "`[tool.versioningit]`",
            "write the version",
        ),
        (
            &[(
                "pyproject.toml",
                "[tool.setuptools-git-versioning]\nenabled = true\n",
            )],
            "line 1",
            "write the version",
        ),
        (
            &[("pyproject.toml", "[tool.versioneer]\n")],
            "`[tool.versioneer]`",
            "under `git`",
        ),
        (
            &[(
                "setup.py",
                "from setuptools import setup\nsetup(use_scm_version=True)\n",
            )],
            "line 2 of setup.py has `use_scm_version`",
            pretend,
        ),
        (
            &[("setup.py", "setup(**{'use_scm_version': True})")],
            "line 1 of setup.py",
            pretend,
        ),
        (
            &[
                ("setup.py", "setup(use_scm_version=True)"),
                ("setup.cfg", "[metadata]\nversion = 1\n"),
            ],
            "`use_scm_version`",
            pretend,
        ),
        (
            &[(
                "setup.py",
                "from setuptools_scm import get_version\nsetup(version=get_version())",
            )],
            "line 1",
            pretend,
        ),
        (
            &[(
                "setup.py",
                "\nimport versioneer\nsetup(version=versioneer.get_version())",
            )],
            "line 2",
            "under `git`",
        ),
        (
            &[("setup.py", "setup(setup_requires=['pbr>=2'], pbr=True)")],
            "`pbr=`",
            "(PBR_VERSION)",
        ),
        // For pbr, that version is the next one.
        (
            &[
                ("setup.py", "setup(pbr=True)"),
                ("setup.cfg", "[metadata]\nversion = 1\n"),
            ],
            "`pbr=`",
            "(PBR_VERSION)",
        ),
        (
            &[(
                "setup.py",
                "setup(setup_requires=['setuptools-git-versioning'])",
            )],
            "line 1",
            "write the version",
        ),
        (
            &[(
                "setup.cfg",
                "[options]\nsetup_requires =\n    setuptools_scm\n",
            )],
            "line 3 of setup.cfg has `setuptools_scm`",
            pretend,
        ),
        (
            &[(
                "setup.cfg",
                "[metadata]\nversion = attr: a.__version__\n[versioneer]\n",
            )],
            "line 3 of setup.cfg has `[versioneer]`",
            "remove",
        ),
        (
            &[(".git_archival.txt", "describe-name: $Format:%(describe)$\n")],
            ".git_archival.txt has `describe-name`",
            pretend,
        ),
    ] {
        let scheme = of(files);
        assert!(scheme.is_git(), "{files:?}");
        let error = scheme.check("a", true, None, None).unwrap_err();
        let causes = error.causes().join("\n");
        assert!(causes.contains(sign), "{files:?}: {causes}");
        let advice = error.advice().unwrap();
        assert!(advice.contains(hint), "{files:?}: {advice}");
    }
}

#[test]
fn files_say_how_a_version_is_made() {
    let scm = project(
        "[build-system]\nrequires = [\"setuptools-scm\"]\n[project]\nname = \"a\"\n\
         [tool.setuptools_scm]\ngit_describe_command = \"git describe --match 'lib-*'\"\n",
    );
    assert_eq!(scm.tags, ["lib-*"]);
    assert!(scm.check("a", true, None, None).is_err());
    let off = Described::new("lib-1-2-gabcdef1", "2026-01-01T00:00:00Z");
    assert!(scm.check("a", true, off.as_ref(), None).is_ok());
    let versioneer = project("[build-system]\nrequires = [\"versioneer\"]\n");
    assert!(versioneer.check("a", false, off.as_ref(), None).is_err());
    let on = Described::new("lib-1-0-gabcdef1", "2026-01-01T00:00:00Z");
    assert!(versioneer.check("a", false, on.as_ref(), None).is_ok());
    assert!(versioneer.check("a", true, on.as_ref(), None).is_err());
    let stubborn = project("[build-system]\nrequires = [\"versioningit\"]\n");
    assert!(stubborn.check("a", true, on.as_ref(), None).is_err());
}

#[test]
fn an_archive_says_a_version_to_who_reads_it() {
    let filled = (".git_archival.txt", "describe-name: v1\n");
    let info = ("PKG-INFO", "Version: 1\n");
    let scm = ("setup.py", "setup(use_scm_version=True)");
    let pbr = ("setup.py", "setup(pbr=True)");
    for (files, is_enough) in [
        ([scm, filled], true),
        ([scm, info], true),
        ([pbr, filled], false),
        ([pbr, info], true),
    ] {
        let checked = of(&files).check("a", true, None, None);
        assert_eq!(checked.is_ok(), is_enough, "{files:?}");
    }
}

#[test]
fn a_script_that_calls_git_is_noted() {
    let script =
        "import subprocess\nx = subprocess.check_output(['git', 'describe'])\nsetup(version=x)\n";
    let said = of(&[("setup.py", script)]).note("app").unwrap();
    assert!(
        said.contains("setup.py of app calls git (line 2)"),
        "{said}"
    );
    let stated = (
        "pyproject.toml",
        "[project]\nname = \"a\"\nversion = \"1\"\n",
    );
    assert_eq!(of(&[("setup.py", script), stated]).note("app"), None);
}

/// Settings of a checkout name programs, and an object is missing that it would fetch.
#[test]
fn a_checkout_runs_no_program_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("ran");
    let program = dir.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\n: > {}\n", marker.display())).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let checkout = dir.path().join("checkout");
    std::fs::create_dir(&checkout).unwrap();
    std::fs::write(checkout.join("pyproject.toml"), "").unwrap();
    let script = "git init -q && git config user.name a && git config user.email a@a.example\n\
                  git add . && git commit -qm first && git tag v1.2\n\
                  for key in core.fsmonitor core.hooksPath core.pager gpg.program; do\n\
                  git config $key \"$1\"\ndone\n\
                  git config log.showSignature true\n\
                  git config extensions.partialClone origin\n\
                  git config remote.origin.promisor true\n\
                  git config remote.origin.url \"ext::$1\"\n\
                  git config protocol.ext.allow always\n";
    let run = |script: &str| {
        let script = format!("cd \"$2\"\n{script}");
        let sh = Tool::new("sh").args(["-euc", &script, "sh"]);
        sh.arg(&program).arg(&checkout).output().unwrap();
    };
    run(script);
    let described = of_checkout(&checkout, &Scheme::default()).unwrap();
    assert_eq!(described.tag(), Some("v1.2"));
    run("object=$(git rev-parse HEAD)\n\
         git -c core.hooksPath=/nonexistent commit -q --allow-empty -m second\n\
         rm -f .git/objects/$(echo $object | cut -c1-2)/$(echo $object | cut -c3-)\n");
    let _ = std::fs::remove_file(&marker);
    assert!(of_checkout(&checkout, &Scheme::default()).is_none());
    assert!(!marker.exists(), "a program of the checkout ran");
}

/// A repository whose second commit of four has a tag, and a clone of it of that depth. git counts
/// in the order of dates, so that these lie apart.
fn cloned(dir: &Path, depth: &str) -> std::path::PathBuf {
    let script = "cd \"$1\"\nexport GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1\n\
                  if ! test -d whole; then git init -q whole; cd whole\n\
                  git config user.name a; git config user.email a@a.example\n\
                  for n in 1 2 3 4; do echo $n > n; git add n\n\
                  GIT_COMMITTER_DATE=2001-01-0${n}T00:00:00Z git commit -qm $n\n\
                  test $n != 2 || git tag v0.1; done; cd ..; fi\n\
                  git clone -q --depth \"$2\" \"file://$PWD/whole\" \"by $2\"\n\
                  git -C \"by $2\" config user.name a\n\
                  git -C \"by $2\" config user.email a@a.example\n";
    let sh = Tool::new("sh").args(["-euc", script, "sh"]);
    sh.arg(dir).arg(depth).output().unwrap();
    dir.join(format!("by {depth}"))
}

#[test]
fn a_shallow_checkout_says_a_version_only_from_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let scheme = project(&format!("{COPIED}[tool.setuptools_scm]\n"));
    let run = |checkout: &Path, command: &str| {
        let git = Tool::new("git").env("GIT_CONFIG_GLOBAL", "/dev/null");
        let git = git.arg("-C").arg(checkout);
        git.args(command.split(' ')).output().unwrap();
    };
    let said = |checkout: &Path| {
        let described = of_checkout(checkout, &scheme)?.to_string();
        Some(described.rsplit_once("-g").unwrap().0.to_owned())
    };
    let checkout = cloned(dir.path(), "1");
    assert_eq!(said(&checkout), None);
    // The tag is there, and what lies between is not.
    run(&checkout, "fetch -q --tags --depth 1");
    assert_eq!(said(&checkout), None);
    let place = shallow_checkout(&checkout).unwrap();
    assert_eq!(Path::new(&place), checkout.canonicalize().unwrap());
    let error = scheme.check("app", true, None, Some(&place)).unwrap_err();
    let what = format!("app takes its version from Git, but {place} is a shallow checkout");
    assert!(error.to_string().starts_with(&what), "{error}");
    let advice = error.advice().unwrap();
    let what = format!("run `git fetch --unshallow --tags` in {place}, or name");
    assert!(advice.starts_with(&what), "{advice}");
    let stated = project("[project]\nname = \"a\"\nversion = \"1\"\n");
    assert!(stated.check("app", true, None, Some(&place)).is_ok());
    // A tag on the very commit says all.
    run(&checkout, "tag v0.2");
    assert_eq!(said(&checkout).as_deref(), Some("v0.2-0"));
    run(&checkout, "tag -d v0.2");
    run(&checkout, "fetch -q --unshallow --tags");
    assert_eq!(shallow_checkout(&checkout), None);
    assert_eq!(said(&checkout).as_deref(), Some("v0.1-2"));
    // What is missing lies before the tag.
    let checkout = cloned(dir.path(), "3");
    assert!(shallow_checkout(&checkout).is_some());
    assert_eq!(said(&checkout).as_deref(), Some("v0.1-2"));
    // A branch that is merged counts as well, and only its end is there.
    let whole = dir.path().join("whole");
    run(&whole, "checkout -q -b side v0.1");
    run(&whole, "commit -q --allow-empty -m first");
    run(&whole, "commit -q --allow-empty -m second");
    run(&whole, "checkout -q -");
    run(&whole, "tag v0.3");
    run(&whole, "merge -q --no-ff -m merged side");
    let checkout = cloned(dir.path(), "2");
    assert_eq!(said(&checkout), None);
    assert_eq!(said(&whole).as_deref(), Some("v0.3-3"));
}
