//! One run of Python in the tree, with the network.
//!
//! Settings and credentials of the machine are root's alone. What runs code of packages
//! (pip, build backends) is an unprivileged process behind a gateway of ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use store::digest::Sha256;

use super::names::split_name;
use super::{Pip, Sources};
use crate::error::{Context, Error, Result};
use crate::layers::remove;
use crate::lockfile::Python;
use crate::mirror::link_or_copy;
use crate::process::{Output, quote};
use crate::recipe::{Virtualenv, variables};
use crate::sandbox::{Bind, Command, Sandbox};
use crate::steps::{CREATE_VIRTUALENV, base_environment};

/// How long it may take for one virtualenv.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Where the sandbox has what is lent to pip.
pub(super) const LENT: &str = "/run/imgbuild/pip";
/// Where the sandbox has the trees of local and Git packages.
pub(super) const SOURCES: &str = "/run/imgbuild/sources";
/// What failed, beside what was written about source archives.
const FACTS: &str = "facts";
/// What was chosen from other tools' locks, or why nothing.
const CHOSEN: &str = "chosen.json";
/// The Python of the run.
pub(super) const PYTHON: &str = "/tmp/imgbuild/bin/python";

/// Python's part of the work, as every run has it.
const SCRIPTS: [(&str, &str); 6] = [
    ("build_sets.py", include_str!("build_sets.py")),
    ("fetch.py", include_str!("fetch.py")),
    ("gateway.py", include_str!("gateway.py")),
    ("indexes.py", include_str!("indexes.py")),
    ("read_lock.py", include_str!("read_lock.py")),
    ("read_sources.py", include_str!("read_sources.py")),
];

/// What runs in the tree.
pub(super) struct PipRun<'a> {
    /// Files that are lent to it, by name.
    pub(super) files: BTreeMap<&'a str, String>,
    /// Retained files that it may take.
    pub(super) retained: Vec<&'a Python>,
    /// Trees that it may build.
    pub(super) sources: Option<&'a Sources>,
    /// What is done.
    pub(super) work: Work,
}

/// What a run does.
pub(super) enum Work {
    /// This command of the shell, which may run code of packages.
    Strange(String),
    /// Files are chosen from other tools' locks, if there are any, and fetched.
    Fetch {
        /// Whether there are such locks.
        choose: bool,
    },
}

/// What it brought.
pub(super) struct Downloads {
    pub(super) files: Vec<PathBuf>,
    /// Text of a source's pyproject.toml (may be empty), name of the source.
    pub(super) sources: Vec<(String, String)>,
    /// What was chosen from other tools' locks, as JSON.
    pub(super) chosen: Option<String>,
}

impl Pip<'_> {
    pub(super) fn run(
        &self,
        virtualenv: &Virtualenv,
        run: &PipRun<'_>,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Downloads> {
        let dir = |name: &str| self.scratch.join(name);
        let (lent, index) = (dir("pip"), dir("index"));
        let (out, meta) = (dir("out"), dir("meta"));
        for dir in [&lent, &index, &out, &meta, &meta.join("sources")] {
            remove(dir)?;
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        }
        let mut environment = base_environment(0);
        environment.remove("SOURCE_DATE_EPOCH");
        let trees = run.sources.iter().flat_map(|sources| &sources.trees);
        for (name, value) in trees.flat_map(|tree| &tree.variables) {
            environment.insert((*name).into(), value.clone());
        }
        environment.extend(variables(&virtualenv.environment));
        self.settings.lend(&index)?;
        for (name, text) in SCRIPTS {
            put(&lent.join(name), text)?;
        }
        for (name, text) in &run.files {
            put(&lent.join(name), text)?;
        }
        if let Work::Strange(command) = &run.work {
            put(&lent.join("inside.sh"), command)?;
        }
        self.lay_out(&run.retained, &lent.join("retained"))?;
        let mounted = self
            .layers
            .scratch(&self.scratch.join("layer"), self.keys)?;
        let sources = run.sources.filter(|sources| !sources.trees.is_empty());
        let script = format!(
            "{CREATE_VIRTUALENV}create_virtualenv {} /tmp/imgbuild {}\n{}\
             {PYTHON} {LENT}/read_sources.py /run/imgbuild/out /run/imgbuild/meta/sources\n",
            quote(virtualenv.python.as_str()),
            if virtualenv.system_site_packages {
                "--system-site-packages"
            } else {
                ""
            },
            command(&run.work, sources.is_some()),
        );
        let bind = |source: &Path, name: &str, writable| Bind {
            source: source.to_owned(),
            name: name.into(),
            writable,
        };
        let mut binds = vec![
            bind(&lent, "pip", false),
            bind(&index, "index", false),
            bind(&out, "out", true),
            bind(&meta, "meta", true),
        ];
        // Backends write into what they build.
        binds.extend(sources.map(|sources| bind(&sources.dir, "sources", true)));
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
        remove(&index)?;
        let chosen = fs::read_to_string(meta.join(CHOSEN)).ok();
        ran.map_err(|failure| {
            let facts = fs::read_to_string(meta.join(FACTS)).unwrap_or_default();
            refused(chosen.as_deref())
                .unwrap_or_else(|| explain(virtualenv, &failure.into_error(), &facts))
        })?;
        drop(mounted);
        Downloads::read(&out, &meta.join("sources"), chosen)
    }

    /// Lays retained files where pip looks for them first.
    fn lay_out(&self, files: &[&Python], dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        for python in files.iter().filter(|p| self.inputs.has(&p.sha256)) {
            let path = dir.join(&python.file);
            if !path.exists() {
                link_or_copy(&self.inputs.path(&python.sha256), &path)?;
            }
        }
        Ok(())
    }

    /// Keeps downloaded files in the store and names them as the lock does.
    pub(super) fn keep(
        &self,
        virtualenv: &Virtualenv,
        files: &[PathBuf],
        build_only: bool,
    ) -> Result<Vec<Python>> {
        files
            .iter()
            .map(|path| self.keep_one(virtualenv, path, build_only))
            .collect()
    }

    pub(super) fn keep_one(
        &self,
        virtualenv: &Virtualenv,
        path: &Path,
        build_only: bool,
    ) -> Result<Python> {
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
        Ok(Python {
            virtualenv: virtualenv.path.to_string(),
            name,
            version,
            file,
            build_only,
            size,
            sha256,
        })
    }
}

/// The shell's lines for what is done. The machine's settings are read by the one process
/// that asks the indexes.
fn command(work: &Work, has_sources: bool) -> String {
    let exported = "/run/imgbuild/index/environment";
    let settings = format!("( . {exported}; exec");
    let facts = format!("/run/imgbuild/meta/{FACTS}");
    match work {
        Work::Strange(_) => {
            let sources = if has_sources { SOURCES } else { "" };
            format!(
                "{settings} {PYTHON} {LENT}/gateway.py {exported} {LENT}/requirements.txt {facts} \
                 /run/imgbuild/out {sources} -- sh -eu {LENT}/inside.sh )\n"
            )
        }
        Work::Fetch { choose } => {
            let chosen = format!("/run/imgbuild/meta/{CHOSEN}");
            let (first, chosen) = if *choose {
                (
                    format!("{PYTHON} {LENT}/read_lock.py {LENT}/locks.json {chosen}\n"),
                    chosen,
                )
            } else {
                (String::new(), String::new())
            };
            format!(
                "{first}{settings} {PYTHON} {LENT}/fetch.py {LENT}/retained /run/imgbuild/out \
                 {facts} {chosen} {LENT}/files.json )\n"
            )
        }
    }
}

impl Downloads {
    fn read(out: &Path, sources: &Path, chosen: Option<String>) -> Result<Self> {
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
        let files = list(out)?;
        // Code of packages could write there.
        for path in &files {
            let is_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
            if !is_file {
                return Err(Error::failed(format!(
                    "among the downloads, {} is no file",
                    path.file_name().unwrap_or_default().display()
                )));
            }
        }
        let mut texts = Vec::new();
        for path in list(sources)? {
            let text =
                fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            texts.push((text, name.into_owned()));
        }
        Ok(Self {
            files,
            sources: texts,
            chosen,
        })
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

/// What the script that reads other tools' locks refused.
fn refused(chosen: Option<&str>) -> Option<Error> {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
        hint: String,
    }
    let refusal: Refusal = serde_json::from_str(chosen?).ok()?;
    Some(Error::usage(refusal.error).hint(refusal.hint))
}

/// What pip says is evidence; what to do about it follows from the facts, which
/// the indexes told us.
fn explain(virtualenv: &Virtualenv, error: &Error, facts: &str) -> Error {
    let path = &virtualenv.path;
    let fact = |name: &str| facts.lines().find_map(|line| line.strip_prefix(name));
    let lost = fact("lost ");
    let mut explained = match lost {
        Some(file) => Error::failed(format!("no index of this machine has the locked {file}")),
        None => Error::failed(format!("pip cannot resolve the virtualenv {path}")),
    };
    if lost.is_none() {
        explained = explained.detail(error.to_string());
        // pip names the gateway where it looks, which is nobody's address.
        let named = |line: &&String| !line.starts_with("Looking in ");
        for line in error.causes().iter().filter(named) {
            explained = explained.detail(line.clone());
        }
    }
    let has = |name: &str| facts.lines().any(|line| line == name);
    let absent = fact("absent ");
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
    } else if lost.is_some() {
        "take it from a store that retains it, or lock again: `imgbuild lock --upgrade`, \
         or the tool whose lock names it"
    } else {
        "read pip's last lines above; the index comes from this machine's pip configuration"
    })
}
