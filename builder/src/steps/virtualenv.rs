//! `[[virtualenv]]`: made by its owner, filled from locked files, offline.
//!
//! Two steps: first what comes from the index, which is slow and changes
//! rarely, then the app's own packages, which are quick and change often.

use std::fmt::Write as _;

use super::{Content, Locals, PARENTS, Phase, STEP_FILES, Step, user_environment};
use crate::error::{Error, Result};
use crate::lockfile::Python;
use crate::process::quote;
use crate::recipe::{Recipe, Virtualenv, variables};

/// The Python of the virtualenv in which pip resolves.
pub const RESOLVING_PYTHON: &str = "/tmp/imgbuild/bin/python";

/// `create_virtualenv PYTHON PATH [OPTION]`: with Debian's virtualenv(1) where
/// the tree has it (it knows Python 2), with the venv module elsewhere.
const CREATE_VIRTUALENV: &str = r#"create_virtualenv() {
    command -v "$1" >/dev/null || {
        echo "the tree has no interpreter $1: install its package in [[packages]]" >&2
        return 1
    }
    if command -v virtualenv >/dev/null; then
        virtualenv --quiet --python "$1" --no-periodic-update --app-data /tmp/imgbuild-app-data ${3-} "$2"
    elif "$1" -c 'import venv, ensurepip' 2>/dev/null; then
        "$1" -m venv ${3-} "$2"
    else
        echo "the tree has neither virtualenv nor the venv module of $1:" \
            "install the package virtualenv or python3-venv in [[packages]]" >&2
        return 1
    fi
    rm -rf /tmp/imgbuild-app-data
}
"#;

/// pip, with nothing but the locked files.
const PIP: &str = r#"pip_install() {
    "$venv/bin/python" -m pip --disable-pip-version-check --no-cache-dir install \
        --no-index --find-links /run/imgbuild/step/wheels --no-deps --no-compile "$@"
}
"#;

/// Makes an older pip build a source without a `pyproject.toml` as a newer one does, in an
/// environment of its own (PEP 517): `setup_requires` is asked for while locking, not fetched.
pub const IN_ITS_OWN_ENVIRONMENT: (&str, &str) = ("PIP_USE_PEP517", "1");

/// Loaded by every Python of the step, so that chance decides nothing.
const NO_CHANCE: &str = include_str!("sitecustomize.py");

pub(super) fn steps(
    recipe: &Recipe,
    virtualenv: &Virtualenv,
    locals: &Locals<'_>,
) -> Result<Vec<Step>> {
    let path = virtualenv.path.to_string();
    let locked: Vec<&Python> = locals
        .lock
        .python
        .iter()
        .filter(|p| p.virtualenv == path)
        .collect();
    let mut steps = vec![create(recipe, virtualenv, locals, &locked)];
    let mut git = locals.lock.git.iter();
    if !virtualenv.local.is_empty() || git.any(|git| git.virtualenv == path) {
        steps.push(own_packages(recipe, virtualenv, locals, &locked)?);
    }
    Ok(steps)
}

/// Makes the virtualenv in which pip resolves: a layer that is in no image, the same for all
/// virtualenvs of one Python.
pub(super) fn for_resolving(virtualenv: &Virtualenv) -> Step {
    let python = virtualenv.python.as_str();
    let mut step = Step::new(Phase::Virtualenvs, format!("pip of {python}"), 0);
    // Its byte code is of use: each run would compile all of pip again, and each source all of
    // setuptools. virtualenv(1) leaves that out; a file for another Python is no failure.
    step.environment.remove("PYTHONDONTWRITEBYTECODE");
    step.script = format!(
        "{CREATE_VIRTUALENV}create_virtualenv {} /tmp/imgbuild {}\n\
         {RESOLVING_PYTHON} -m compileall -q /tmp/imgbuild/lib > /dev/null || true\n",
        quote(python),
        site_packages(virtualenv)
    );
    step
}

fn site_packages(virtualenv: &Virtualenv) -> &'static str {
    if virtualenv.system_site_packages {
        "--system-site-packages"
    } else {
        ""
    }
}

fn create(
    recipe: &Recipe,
    virtualenv: &Virtualenv,
    locals: &Locals<'_>,
    locked: &[&Python],
) -> Step {
    let path = quote(virtualenv.path.as_str());
    let wanted: Vec<&&Python> = locked.iter().filter(|p| !p.build_only).collect();
    let name = format!("virtualenv {} ({})", virtualenv.path, wanted.len());
    let mut step = Step::new(Phase::Virtualenvs, name, locals.lock.epoch);
    let mut body = format!(
        "{CREATE_VIRTUALENV}{PIP}venv={path}\ncreate_virtualenv {} \"$venv\" {}\n",
        quote(virtualenv.python.as_str()),
        site_packages(virtualenv)
    );
    if !wanted.is_empty() {
        let mut requirements = String::new();
        for python in &wanted {
            let _ = writeln!(
                requirements,
                "{}=={} --hash=sha256:{}",
                python.name,
                python.version,
                python.sha256.hex()
            );
        }
        step.add_file("requirements.txt", Content::Text(requirements));
        let _ = writeln!(
            body,
            "pip_install --require-hashes -r {STEP_FILES}/requirements.txt"
        );
    }
    if virtualenv.wrapper && first_wrapped(recipe, virtualenv) {
        let home = virtualenv
            .path
            .as_path()
            .parent()
            .unwrap_or(std::path::Path::new("/"));
        step.add_file(
            "wrapper.sh",
            Content::Text(wrapper_lines(&home.display().to_string())),
        );
        let _ = writeln!(body, "cat {STEP_FILES}/wrapper.sh >> \"$HOME/.bashrc\"");
    }
    hand_wheels(&mut step, locked);
    let builds = wanted.iter().any(|python| !python.is_wheel());
    as_owner(recipe, virtualenv, locals, &mut step, (&body, builds));
    step
}

/// One set of lines for an owner, however many virtualenvs.
fn first_wrapped(recipe: &Recipe, virtualenv: &Virtualenv) -> bool {
    let same = recipe
        .virtualenvs
        .iter()
        .find(|v| v.wrapper && v.owner.user == virtualenv.owner.user);
    same.is_some_and(|first| first.path == virtualenv.path)
}

/// What loads virtualenvwrapper in an interactive shell.
fn wrapper_lines(home: &str) -> String {
    format!(
        "\nexport WORKON_HOME={}\nexport PIP_VIRTUALENV_BASE=\"$WORKON_HOME\"\n\
         export PIP_RESPECT_VIRTUALENV=true\nVIRTUALENVWRAPPER_PYTHON=/usr/bin/python3\n\
         . /usr/share/virtualenvwrapper/virtualenvwrapper.sh\n",
        quote(home)
    )
}

fn own_packages(
    recipe: &Recipe,
    virtualenv: &Virtualenv,
    locals: &Locals<'_>,
    locked: &[&Python],
) -> Result<Step> {
    let path = virtualenv.path.to_string();
    let name = format!("virtualenv {path}: own packages");
    let mut step = Step::new(Phase::Virtualenvs, name, locals.lock.epoch);
    let mut body = format!("{PIP}venv={}\n", quote(&path));
    let mut sources = Vec::new();
    for (index, local) in virtualenv.local.iter().enumerate() {
        let mut files = locals.lock.files.iter();
        let file = files.find(|f| f.path == local.as_str());
        sources.push((
            format!("local-{index}"),
            locals.digest(local.as_str())?,
            String::new(),
            file.and_then(|file| file.described.as_ref()),
        ));
    }
    for (index, git) in virtualenv.git.iter().enumerate() {
        let found = locals
            .lock
            .git
            .iter()
            .find(|g| g.virtualenv == path && g.index == index);
        let found = found.ok_or_else(|| {
            Error::failed(format!("the lock does not name {} of {path}", git.url))
                .hint("run `imgbuild lock` to bring it up to date")
        })?;
        let below = git
            .subdirectory
            .as_ref()
            .map_or(String::new(), |s| format!("/{s}"));
        sources.push((
            format!("git-{index}"),
            found.sha256,
            below,
            found.described.as_ref(),
        ));
    }
    // What packages require from repositories, and the recipe does not name.
    let git = locals.lock.git.iter().filter(|git| git.virtualenv == path);
    for git in git.filter(|git| git.index >= virtualenv.git.len()) {
        let below = git.subdirectory.as_ref();
        sources.push((
            format!("git-{}", git.index),
            git.sha256,
            below.map_or(String::new(), |below| format!("/{below}")),
            git.described.as_ref(),
        ));
    }
    for (handed, digest, below, described) in sources {
        step.add_file(&handed, Content::Tree(digest));
        // Builds write into their source: a copy, always at the same path.
        let _ = writeln!(
            body,
            "rm -rf /tmp/imgbuild-source && cp -R {STEP_FILES}/{handed} /tmp/imgbuild-source"
        );
        let Some(described) = described else {
            let _ = writeln!(
                body,
                "pip_install {}\nrm -rf /tmp/imgbuild-source",
                quote(&format!("/tmp/imgbuild-source{below}"))
            );
            continue;
        };
        // What the tree cannot say without its history.
        for (name, text) in described.files() {
            step.add_file(format!("{handed}.version/{name}"), Content::Text(text));
        }
        let place = quote(&format!("/tmp/imgbuild-source{below}"));
        let mut variables = String::new();
        for (name, value) in described.variables() {
            let _ = write!(variables, "export {name}={}; ", quote(&value));
        }
        let _ = writeln!(
            body,
            "for place in /tmp/imgbuild-source {place}; do\n    \
             cp --remove-destination {STEP_FILES}/{handed}.version/.git_archival.* \"$place/\"\ndone\n\
             ( {variables}pip_install {place} )\nrm -rf /tmp/imgbuild-source"
        );
    }
    hand_wheels(&mut step, locked);
    as_owner(recipe, virtualenv, locals, &mut step, (&body, true));
    Ok(step)
}

fn hand_wheels(step: &mut Step, locked: &[&Python]) {
    step.add_file(
        "wheels/README",
        Content::Text("The locked files of this virtualenv.\n".into()),
    );
    for python in locked {
        step.add_file(
            format!("wheels/{}", python.file),
            Content::Input(python.sha256),
        );
    }
}

/// Root prepares the place, the owner runs the lines of the shell, which may build sources.
fn as_owner(
    recipe: &Recipe,
    virtualenv: &Virtualenv,
    locals: &Locals<'_>,
    step: &mut Step,
    (body, builds): (&str, bool),
) {
    let owner = &virtualenv.owner;
    let mut environment = user_environment(recipe, owner.user.as_str(), locals.lock.epoch);
    environment.insert("PYTHONPATH".into(), format!("{STEP_FILES}/python"));
    if builds && !virtualenv.is_python2() {
        let (name, value) = IN_ITS_OWN_ENVIRONMENT;
        environment.insert(name.into(), value.into());
    }
    environment.extend(variables(&virtualenv.environment));
    step.environment = environment;
    step.add_file("python/sitecustomize.py", Content::Text(NO_CHANCE.into()));
    step.add_file("own.sh", Content::Text(body.to_owned()));
    let path = quote(virtualenv.path.as_str());
    let who = quote(&owner.to_string());
    let run = format!("sh -eu {STEP_FILES}/own.sh");
    let run = if owner.user.as_str() == "root" {
        run
    } else {
        format!("exec runuser -u {} -- {run}", quote(owner.user.as_str()))
    };
    step.script = format!(
        "{PARENTS}parents {path} {who}\n\
         [ -d {path} ] || {{ mkdir -m 0755 -- {path}; chown -- {who} {path}; }}\n{run}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::NO_CHANCE;
    use crate::process::Tool;

    /// Reads a directory in each of Python's ways.
    const READS: &str = r#"
import glob, os, pathlib, shutil, sys, tempfile
top = sys.argv[1]
names = sorted("n%02d" % n for n in range(60))
os.chdir(top)
assert os.listdir(top) == names == [e.name for e in os.scandir(top)]
assert os.listdir(os.fsencode(top)) == [os.fsencode(n) for n in names]
assert glob.glob("*") == names == [p.name for p in pathlib.Path(top).iterdir()]
assert next(os.walk(top))[2] == names == [p.name for p in pathlib.Path(top).glob("*")]
with os.scandir(top) as entries:
    assert next(entries).name == "n00"
made = tempfile.mkdtemp(dir=top)
assert made.endswith("00000001"), made
os.mkdir(os.path.join(made, "below"))
shutil.rmtree(made)
assert os.listdir(".") == names
import uuid
first, second = uuid.uuid4(), uuid.uuid4()
assert (first.version, str(first)) == (4, "00000000-0000-4000-8000-000000000001"), first
assert second.int == first.int + 1
"#;

    #[test]
    fn pythons_of_a_virtualenv_leave_nothing_to_chance() {
        let dir = tempfile::tempdir().unwrap();
        let (site, top) = (dir.path().join("site"), dir.path().join("top"));
        std::fs::create_dir_all(&site).unwrap();
        std::fs::create_dir_all(&top).unwrap();
        std::fs::write(site.join("sitecustomize.py"), NO_CHANCE).unwrap();
        for n in (0..60).rev() {
            std::fs::write(top.join(format!("n{n:02}")), "").unwrap();
        }
        Tool::new("python3")
            .args(["-c", READS])
            .arg(&top)
            .env("PYTHONPATH", &site)
            .output()
            .unwrap();
    }
}
