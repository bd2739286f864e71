//! Which Python distributions: the tree's own pip decides.
//!
//! In a scratch layer on top of the finished packages, with the network and
//! this machine's index settings lent to it, pip downloads what a virtualenv
//! needs. The files are the result: each is kept in the store and locked by its
//! digest. Local directories and Git sources take part: what they depend on is decided
//! with everything else. What building each source needs is asked of its `pyproject.toml`
//! and of its build backend (PEP 517, 518), and locked as well: a set for each source,
//! as pip builds each in an environment of its own. The layer is thrown away.

mod keep;
mod project;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use store::Inputs;
use store::digest::Sha256;

use crate::error::{Context, Error, Result};
use crate::host::PipSettings;
use crate::layers::{Key, Layers, remove};
use crate::lockfile::Python;
use crate::mirror::link_or_copy;
use crate::process::{Output, quote};
use crate::recipe::{Virtualenv, variables};
use crate::sandbox::{Bind, Command, Sandbox};
use crate::steps::{CREATE_VIRTUALENV, base_environment};

use keep::{Kept, RETAINED};
use project::Build;

/// How long pip may take for one virtualenv.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Writes the `pyproject.toml` of each source archive beside it.
const READ_SOURCES: &str = r#"
import os, sys, tarfile, zipfile
out, meta = sys.argv[1], sys.argv[2]
for name in sorted(os.listdir(out)):
    path, text = os.path.join(out, name), None
    if name.endswith(".whl"):
        continue
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as z:
            for member in z.namelist():
                if member.count("/") == 1 and member.endswith("/pyproject.toml"):
                    text = z.read(member)
    else:
        with tarfile.open(path) as t:
            for member in t.getmembers():
                if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
                    text = t.extractfile(member).read()
    with open(os.path.join(meta, name + ".toml"), "wb") as f:
        f.write(text or b"")
"#;

/// Downloads what building each source needs.
const BUILD_SETS: &str = include_str!("build_sets.py");
/// Where the sandbox has the trees of local and Git packages.
const SOURCES: &str = "/run/imgbuild/sources";
/// Asks the indexes themselves, after pip failed.
const ASK_INDEX: &str = include_str!("ask_index.py");
/// Where its answers go, among what is written about source archives.
const FACTS: &str = "facts";

/// A network-side pip on top of some layers.
pub struct Pip<'a> {
    /// The layers of the packages.
    pub layers: &'a Layers,
    /// Their keys, lowest first.
    pub keys: &'a [Key],
    /// A directory for the scratch layer and the downloads.
    pub scratch: PathBuf,
    /// What this machine says about its index.
    pub settings: &'a PipSettings,
    /// The recipe's directory.
    pub beside: &'a Path,
    /// Where the files are kept.
    pub inputs: &'a Inputs,
}

impl Pip<'_> {
    /// Decides and keeps everything that one virtualenv needs. `locked` is what an older
    /// lock has for it and what stays unless something is in its way.
    pub fn resolve(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        locked: &[Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<Vec<Python>> {
        let mut requirements = String::new();
        for line in &virtualenv.requirements {
            let _ = writeln!(requirements, "{line}");
        }
        requirements.push_str(&self.read_files(&virtualenv.requirements_files)?);
        let mut constraints = String::new();
        for line in &virtualenv.constraints {
            let _ = writeln!(constraints, "{line}");
        }
        constraints.push_str(&self.read_files(&virtualenv.constraints_files)?);
        let mut builds = Vec::new();
        for path in &sources.paths {
            let file = sources.dir.join(path).join("pyproject.toml");
            let text = fs::read_to_string(&file).unwrap_or_default();
            let place = format!("{SOURCES}/{}", path.display());
            builds.push(Build::read(&text, &place)?);
        }
        let mut found = Vec::new();
        if !requirements.trim().is_empty() || !builds.is_empty() {
            for build in &builds {
                let _ = writeln!(requirements, "{}", build.source);
            }
            let decided = self.decide(
                virtualenv,
                sources,
                &requirements,
                &constraints,
                locked,
                listen,
            )?;
            for (text, name) in &decided.sources {
                if decided.found.iter().any(|python| python.file == *name) {
                    builds.push(Build::read(text, &format!("{RETAINED}/{name}"))?);
                }
            }
            found.extend(decided.found);
            if decided.other_file {
                // What a locked source needs to be built is what was locked for it.
                found.extend(locked.iter().filter(|p| p.build_only).cloned());
            }
        }
        if !builds.is_empty() && !is_python2(virtualenv) {
            found.extend(self.build_sets(virtualenv, sources, &builds, &found, locked, listen)?);
        }
        // What is installed anyway also serves for building.
        let mut seen = BTreeSet::new();
        found.retain(|p| seen.insert(p.file.clone()));
        Ok(found)
    }

    /// Lets pip decide, until nothing locked is in its way.
    fn decide(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        wanted: &str,
        constraints: &str,
        locked: &[Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<Decided> {
        let mut kept = Kept::new(locked, false, wanted);
        let out = loop {
            let mut requirements = String::new();
            if !kept.is_empty() {
                // A line of the file, so that the machine's own links stay.
                let _ = writeln!(requirements, "--find-links {RETAINED}");
            }
            requirements.push_str(wanted);
            let constraints = format!("{constraints}\n{}", kept.constraints());
            let run = PipRun {
                files: BTreeMap::from([
                    ("requirements.txt", requirements),
                    ("constraints.txt", constraints),
                ]),
                retained: kept.files().collect(),
                sources: Some(sources),
                script: download(
                    "-r /run/imgbuild/pip/requirements.txt -c /run/imgbuild/pip/constraints.txt",
                ),
            };
            match self.run(virtualenv, &run, listen) {
                Ok(out) => break out,
                Err(error) if kept.give_way(&error) => {
                    listen("a locked version is in the way: asking pip again without it");
                }
                Err(error) => return Err(error),
            }
        };
        let mut found = self.keep(virtualenv, &out.files, false)?;
        let mut other_file = false;
        for python in &mut found {
            if let Some(same) = kept.same(python, self.inputs) {
                other_file |= same.sha256 != python.sha256;
                python.clone_from(same);
            }
        }
        Ok(Decided {
            found,
            other_file,
            sources: out.sources,
        })
    }

    /// What building each source needs, each set decided by itself. Locked versions stay
    /// where there is one of a name and nothing wants another.
    fn build_sets(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        builds: &[Build],
        found: &[Python],
        locked: &[Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<Vec<Python>> {
        let spec = serde_json::to_string(builds).context(|| "cannot describe sources".into())?;
        let mut kept = Kept::new(locked, true, "");
        loop {
            let is_archive =
                |one: &&Python| Path::new(&one.file).extension() != Some("whl".as_ref());
            let archives = found.iter().filter(is_archive);
            let constraints = kept.constraints();
            let run = PipRun {
                files: BTreeMap::from([
                    ("sets.json", spec.clone()),
                    ("sets.py", BUILD_SETS.to_owned()),
                    ("constraints.txt", constraints),
                    ("requirements.txt", String::new()),
                ]),
                retained: kept.files().chain(archives).collect(),
                sources: Some(sources),
                script: format!(
                    "/tmp/imgbuild/bin/python /run/imgbuild/pip/sets.py \
                     /run/imgbuild/pip/sets.json /run/imgbuild/out /tmp/imgbuild-tree \
                     --find-links {RETAINED} -c /run/imgbuild/pip/constraints.txt"
                ),
            };
            match self.run(virtualenv, &run, listen) {
                Ok(out) => return self.keep(virtualenv, &out.files, true),
                Err(_) if !kept.is_empty() => {
                    listen("what building needs has changed: asking pip afresh");
                    kept.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches locked files that the store lacks.
    pub fn fetch(
        &self,
        virtualenv: &Virtualenv,
        missing: &[&Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut requirements = String::new();
        for python in missing {
            let hash = python.sha256.hex();
            let _ = writeln!(
                requirements,
                "{}=={} --hash=sha256:{hash}",
                python.name, python.version
            );
        }
        let run = PipRun {
            files: BTreeMap::from([("requirements.txt", requirements)]),
            retained: Vec::new(),
            sources: None,
            script: download("--no-deps --require-hashes -r /run/imgbuild/pip/requirements.txt"),
        };
        let out = self.run(virtualenv, &run, listen)?;
        let kept = self.keep(virtualenv, &out.files, false)?;
        for python in missing {
            if !kept.iter().any(|k| k.sha256 == python.sha256) {
                return Err(Error::failed(format!(
                    "the package index no longer has {}",
                    python.file
                ))
                .hint("take it from a store that retains it, or run `imgbuild lock --upgrade`"));
            }
        }
        Ok(())
    }

    fn read_files<T: AsRef<str>>(&self, names: &[T]) -> Result<String> {
        let mut text = String::new();
        for name in names {
            let path = self.beside.join(name.as_ref());
            text.push_str(
                &fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?,
            );
            text.push('\n');
        }
        Ok(text)
    }

    fn run(
        &self,
        virtualenv: &Virtualenv,
        run: &PipRun<'_>,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Downloads> {
        let lent = self.scratch.join("pip");
        let (out, meta) = (self.scratch.join("out"), self.scratch.join("meta"));
        for dir in [&lent, &out, &meta] {
            remove(dir)?;
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut environment = base_environment(0);
        environment.remove("SOURCE_DATE_EPOCH");
        environment.extend(variables(&virtualenv.environment));
        self.settings.lend(&lent)?;
        environment.insert("PIP_NO_CACHE_DIR".into(), "1".into());
        for (name, text) in &run.files {
            put(&lent.join(name), text)?;
        }
        put(&lent.join("sources.py"), READ_SOURCES)?;
        put(&lent.join("ask_index.py"), ASK_INDEX)?;
        self.lay_out(&run.retained, &lent.join("retained"))?;
        let mounted = self
            .layers
            .scratch(&self.scratch.join("layer"), self.keys)?;
        let site = if virtualenv.system_site_packages {
            "--system-site-packages"
        } else {
            ""
        };
        let script = format!(
            "{CREATE_VIRTUALENV}\n. /run/imgbuild/pip/environment\n\
             create_virtualenv {} /tmp/imgbuild {site}\n\
             {{ {} ; }} || {{ code=$?; /tmp/imgbuild/bin/python \
             /run/imgbuild/pip/ask_index.py /run/imgbuild/pip/requirements.txt \
             /run/imgbuild/meta/{FACTS} >/dev/null 2>&1 || :; exit $code; }}\n\
             /tmp/imgbuild/bin/python /run/imgbuild/pip/sources.py /run/imgbuild/out /run/imgbuild/meta\n",
            quote(virtualenv.python.as_str()),
            run.script
        );
        let bind = |source: &Path, name: &str, writable| Bind {
            source: source.to_owned(),
            name: name.into(),
            writable,
        };
        let mut binds = vec![
            bind(&lent, "pip", false),
            bind(&out, "out", true),
            bind(&meta, "meta", true),
        ];
        if let Some(sources) = run.sources.filter(|sources| !sources.paths.is_empty()) {
            // Backends write into what they build.
            binds.push(bind(&sources.dir, "sources", true));
        }
        let sandbox = Sandbox {
            root: mounted.root().to_owned(),
            binds,
            environment,
            network: true,
            vary: false,
            command: Command::Chroot {
                argv: vec!["sh".into(), "-eu".into(), "-c".into(), script],
                user: "root".into(),
                directory: "/tmp".into(),
            },
        };
        let ran = sandbox.run(TIMEOUT, Output { log: None, listen })?;
        ran.map_err(|failure| {
            let facts = fs::read_to_string(meta.join(FACTS)).unwrap_or_default();
            explain(virtualenv, &failure.into_error(), &facts)
        })?;
        drop(mounted);
        Downloads::read(&out, &meta)
    }

    /// Lays retained files where pip looks for them first.
    fn lay_out(&self, files: &[&Python], dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        for python in files.iter().filter(|p| self.inputs.has(&p.sha256)) {
            link_or_copy(&self.inputs.path(&python.sha256), &dir.join(&python.file))?;
        }
        Ok(())
    }

    /// Keeps downloaded files in the store and names them as the lock does.
    fn keep(
        &self,
        virtualenv: &Virtualenv,
        files: &[PathBuf],
        build_only: bool,
    ) -> Result<Vec<Python>> {
        let mut kept = Vec::new();
        for path in files {
            let file = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let (name, version) = split_name(&file).ok_or_else(|| {
                Error::failed(format!(
                    "pip downloaded a file with an unknown kind of name: {file}"
                ))
            })?;
            let mut reader =
                fs::File::open(path).context(|| format!("cannot read {}", path.display()))?;
            let (sha256, size): (Sha256, u64) = self
                .inputs
                .insert(&mut reader, None)
                .context(|| format!("cannot keep {file} in the store"))?;
            kept.push(Python {
                virtualenv: virtualenv.path.to_string(),
                name,
                version,
                file,
                build_only,
                size,
                sha256,
            });
        }
        Ok(kept)
    }
}

/// The unpacked trees of a virtualenv's local and Git packages.
pub struct Sources {
    /// The directory that they are in.
    pub dir: PathBuf,
    /// Where each package is, below it.
    pub paths: Vec<PathBuf>,
}

/// One run of pip in the tree.
struct PipRun<'a> {
    /// Files that are lent to it, by name.
    files: BTreeMap<&'a str, String>,
    /// Retained files that pip may take.
    retained: Vec<&'a Python>,
    sources: Option<&'a Sources>,
    /// What the shell runs.
    script: String,
}

/// The command that downloads what `options` say.
fn download(options: &str) -> String {
    format!(
        "/tmp/imgbuild/bin/python -m pip download --disable-pip-version-check \
         -d /run/imgbuild/out {options}"
    )
}

/// What it decided.
struct Decided {
    found: Vec<Python>,
    /// Whether the index has other files of locked versions by now.
    other_file: bool,
    sources: Vec<(String, String)>,
}

struct Downloads {
    files: Vec<PathBuf>,
    /// Text of a source's pyproject.toml (may be empty), name of the source.
    sources: Vec<(String, String)>,
}

impl Downloads {
    fn read(out: &Path, meta: &Path) -> Result<Self> {
        let list = |dir: &Path| -> Result<Vec<PathBuf>> {
            let mut paths = fs::read_dir(dir)
                .and_then(|entries| {
                    entries
                        .map(|e| Ok(e?.path()))
                        .collect::<std::io::Result<Vec<_>>>()
                })
                .context(|| format!("cannot read {}", dir.display()))?;
            paths.sort();
            Ok(paths)
        };
        let mut sources = Vec::new();
        for path in list(meta)? {
            let text =
                fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
            sources.push((
                text,
                path.file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            ));
        }
        Ok(Self {
            files: list(out)?,
            sources,
        })
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

/// Python 2's pip builds sources with the virtualenv's own setuptools.
fn is_python2(virtualenv: &Virtualenv) -> bool {
    virtualenv
        .python
        .as_str()
        .rsplit('/')
        .next()
        .is_some_and(|n| n.starts_with("python2"))
}

/// Project and version from the name of a wheel or source archive.
fn split_name(file: &str) -> Option<(String, String)> {
    let (name, version) = if let Some(stem) = file.strip_suffix(".whl") {
        let mut parts = stem.split('-');
        (parts.next()?.to_owned(), parts.next()?.to_owned())
    } else {
        let endings = [".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip"];
        let stem = endings.iter().find_map(|e| file.strip_suffix(e))?;
        // A version starts with a digit; names may have dashes and digits too.
        let (at, _) = stem
            .match_indices('-')
            .rfind(|(i, _)| stem.as_bytes().get(i + 1).is_some_and(u8::is_ascii_digit))?;
        let (name, version) = (&stem[..at], &stem[at + 1..]);
        match name.rsplit_once('-') {
            // `1.0-1` is how PEP 440 lets `1.0.post1` be written.
            Some((name, release))
                if version.bytes().all(|b| b.is_ascii_digit())
                    && release.contains('.')
                    && release.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
            {
                (name.to_owned(), format!("{release}.post{version}"))
            }
            _ => (name.to_owned(), version.to_owned()),
        }
    };
    (!name.is_empty() && !version.is_empty()).then(|| (normalise(&name), version))
}

/// PEP 503.
fn normalise(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = if matches!(c, '-' | '_' | '.') {
            '-'
        } else {
            c.to_ascii_lowercase()
        };
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    out
}

/// What pip says is evidence; what to do about it follows from the facts, which
/// the indexes told us.
fn explain(virtualenv: &Virtualenv, error: &Error, facts: &str) -> Error {
    let path = &virtualenv.path;
    let mut explained = Error::failed(format!("pip cannot resolve the virtualenv {path}"));
    explained = explained.detail(error.to_string());
    for line in error.causes() {
        explained = explained.detail(line.clone());
    }
    let has = |fact: &str| facts.lines().any(|line| line == fact);
    let absent = facts.lines().find_map(|line| line.strip_prefix("absent "));
    if let Some(absent) = absent {
        explained = explained.detail(format!("no index of this machine has {absent}"));
    }
    explained.hint(if absent.is_some() {
        "check the requirement's name and version, and that the index has it for this Python"
    } else if has("certificate") {
        "the index's certificate is not trusted here: name a CA bundle in PIP_CERT or pip.conf"
    } else if has("credentials") {
        "the index wants other credentials: see PIP_INDEX_URL or pip.conf of this machine"
    } else if has("unreachable") {
        "the index cannot be reached; its address comes from this machine's pip configuration"
    } else {
        "read pip's last lines above; the index comes from this machine's pip configuration"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_project_and_version() {
        for (file, name, version) in [
            (
                "zope.interface-5.5.2-cp27-cp27mu-linux_x86_64.whl",
                "zope-interface",
                "5.5.2",
            ),
            ("msgpack-python-0.4.8.tar.gz", "msgpack-python", "0.4.8"),
            (
                "backports.shutil_get_terminal_size-1.0.0-py2.py3-none-any.whl",
                "backports-shutil-get-terminal-size",
                "1.0.0",
            ),
            ("ujson-1.35.tar.gz", "ujson", "1.35"),
            ("linesman-0.3.2.zip", "linesman", "0.3.2"),
            ("foo-2-bar-1.0rc1.tar.gz", "foo-2-bar", "1.0rc1"),
            ("postver-1.0-1.tar.gz", "postver", "1.0.post1"),
            ("foo-2-1.tar.gz", "foo-2", "1"),
        ] {
            assert_eq!(
                split_name(file),
                Some((name.into(), version.into())),
                "{file}"
            );
        }
        assert_eq!(split_name("README"), None);
        assert_eq!(split_name("noversion.tar.gz"), None);
    }
}
