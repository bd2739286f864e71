//! Files that are decided before pip is asked: by the lock of another tool, by an address
//! with a digest, or by a line with digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use store::Sha256;

use super::names::{name_of, normalise};
use super::project::Project;
use super::run::{Described, Downloads, PipRun, Work};
use super::wanted::{Foreign, Wanted, WantedFile};
use super::{Pip, Sources, download};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::Python;
use crate::recipe::Virtualenv;

/// Those files, and what they speak for.
#[derive(Default)]
pub(super) struct Fixed {
    pub(super) files: Vec<Python>,
    /// Local packages and Git commits whose dependencies are among them.
    covered: Vec<String>,
    /// Extras and groups that the locks know.
    extras: BTreeSet<String>,
    groups: BTreeSet<String>,
}

/// What is asked of the script that reads other tools' locks.
#[derive(Serialize)]
struct Question<'a> {
    locks: &'a [Foreign],
    extras: Vec<&'a str>,
    groups: Vec<&'a str>,
    local: Vec<&'a str>,
    git: Vec<&'a str>,
    urls: Vec<&'a str>,
    /// What the recipe itself requires.
    own: Vec<String>,
    projects: Vec<toml::Value>,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    files: Vec<Chosen>,
    covered: Vec<String>,
    extras: BTreeSet<String>,
    groups: BTreeSet<String>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Chosen {
    name: String,
    version: Option<String>,
    file: String,
    sha256: String,
    /// Of a file beside the recipe.
    path: Option<String>,
}

impl Fixed {
    /// Whether another tool's lock has what this package needs.
    pub(super) fn covers(&self, origin: &str) -> bool {
        self.covered.iter().any(|c| c == origin)
    }
}

impl Pip<'_> {
    /// Refuses extras and groups that nothing of the virtualenv knows. Of `lax` ones, which only
    /// requirements files name, it warns as pip does. `described` is what the sources said when
    /// they were asked.
    pub(super) fn check_names(
        &self,
        virtualenv: &Virtualenv,
        fixed: &Fixed,
        (projects, lax): (&[Project], &BTreeSet<String>),
        described: Option<&BTreeMap<String, Described>>,
    ) -> Result<()> {
        let extras = virtualenv.extras.iter().map(|e| ("extra", e.as_str()));
        let groups = virtualenv.groups.iter().map(|g| ("group", g.as_str()));
        for (kind, name) in extras.chain(groups) {
            let is_extra = kind == "extra";
            let of_locks = if is_extra {
                &fixed.extras
            } else {
                &fixed.groups
            };
            let mut known = of_locks.clone();
            for project in projects {
                known.extend(project.names(is_extra));
            }
            let mut opaque = is_extra && projects.iter().any(Project::says_extras_elsewhere);
            if let Some(described) = described.filter(|_| is_extra) {
                let said = |project: &Project| {
                    let said = described.get(&format!("file://{}", project.source));
                    said.map(|said| said.extras.iter().map(|extra| normalise(extra)))
                };
                opaque = projects
                    .iter()
                    .any(|project| project.says_extras_elsewhere() && said(project).is_none());
                known.extend(projects.iter().filter_map(said).flatten());
            }
            let wanted = normalise(name);
            if opaque || known.contains(&wanted) {
                continue;
            }
            let known: Vec<String> = known.into_iter().collect();
            let path = &virtualenv.path;
            let what = format!("nothing in the virtualenv {path} has the {kind} `{name}`");
            let there = if known.is_empty() {
                format!("no source or lock of it has any {kind}")
            } else {
                format!("there are {}", known.join(", "))
            };
            if is_extra && lax.contains(&wanted) {
                let warning = format!("warning: {what}: {there}");
                self.warnings.borrow_mut().insert(warning);
                continue;
            }
            return Err(Error::usage(what).hint(there));
        }
        Ok(())
    }

    /// Fetches and keeps the files that are decided already, and takes from `wanted` what
    /// pip need not be asked any more.
    pub(super) fn fixed(
        &self,
        virtualenv: &Virtualenv,
        (sources, projects): (&Sources, &[Project]),
        wanted: &mut Wanted,
        texts: &mut Vec<(String, String)>,
        locked: &[Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<Fixed> {
        let mut fixed = Fixed::default();
        let beside = self.distributions(virtualenv, wanted)?;
        if !wanted.locks.is_empty() || !wanted.files.is_empty() {
            let origins = sources.trees.iter().map(|tree| tree.origin.as_str());
            let (extras, groups) = (&virtualenv.extras, &virtualenv.groups);
            let mut stated = Vec::new();
            for (project, tree) in projects.iter().zip(&sources.trees) {
                stated.extend(project.stated(&tree.origin, extras, groups)?);
            }
            let run = PipRun {
                files: questions(virtualenv, origins, stated, wanted, None)?,
                retained: beside.iter().chain(locked).collect(),
                building: Vec::new(),
                direct: Vec::new(),
                uv: None,
                sources: None,
                work: Work::Fetch {
                    choose: !wanted.locks.is_empty(),
                },
            };
            let out = self.run(virtualenv, &run, listen)?;
            let answer = answer(&out)?;
            fixed.files = self.keep_chosen(virtualenv, &out, &answer.files)?;
            for file in &wanted.files {
                let sha256 = Sha256::from_hex(&file.sha256).ok();
                // Not wanted by this Python.
                if file.marker.is_some() && out.file(&file.file).is_none() {
                    continue;
                }
                if !fixed.files.iter().any(|f| Some(f.sha256) == sha256) {
                    fixed.files.push(self.keep_fetched(
                        virtualenv,
                        &out,
                        &file.file,
                        &file.name,
                        &file.version,
                    )?);
                }
            }
            let warnings = answer.warnings.iter();
            let warnings = warnings.map(|said| format!("warning: {said}"));
            self.warnings.borrow_mut().extend(warnings);
            fixed.covered = answer.covered;
            fixed.extras = answer.extras;
            fixed.groups = answer.groups;
            texts.extend(out.sources);
        }
        let has_others = !sources.trees.is_empty() || !fixed.files.is_empty();
        if wanted.is_mixed(has_others) {
            let lines = wanted.take_hashed();
            let all = wanted.options.iter().chain(&lines);
            let all: String = all.map(|line| format!("{line}\n")).collect();
            let run = PipRun {
                files: BTreeMap::from([("requirements.txt", all)]),
                retained: Vec::new(),
                building: Vec::new(),
                direct: Vec::new(),
                uv: None,
                sources: None,
                work: download(
                    "--no-deps --require-hashes -r /run/imgbuild/pip/requirements.txt",
                    true,
                ),
            };
            let out = self.run(virtualenv, &run, listen)?;
            fixed.files.extend(self.keep(virtualenv, &out, false)?);
            texts.extend(out.sources);
            // Extras of those lines may want more than the lines do.
            wanted.lines.extend(lines.iter().map(|line| {
                let (line, _) = line.split_once("--hash=").unwrap_or((line, ""));
                line.trim().to_owned()
            }));
        }
        one_of_each(virtualenv, &fixed.files)?;
        Ok(fixed)
    }

    /// Keeps the wheels and source archives beside the recipe, and wants them.
    fn distributions(&self, virtualenv: &Virtualenv, wanted: &mut Wanted) -> Result<Vec<Python>> {
        let mut kept = Vec::new();
        for path in &virtualenv.distributions {
            let file = self.beside.join(path.as_path());
            let python = self.keep_one(virtualenv, &file, &Downloads::default(), false)?;
            wanted.add_file(&python);
            kept.push(python);
        }
        Ok(kept)
    }

    fn keep_chosen(
        &self,
        virtualenv: &Virtualenv,
        out: &Downloads,
        chosen: &[Chosen],
    ) -> Result<Vec<Python>> {
        let mut kept = Vec::new();
        for one in chosen {
            let version = one.version.as_deref().unwrap_or_default();
            let python = match &one.path {
                None => self.keep_fetched(virtualenv, out, &one.file, &one.name, version)?,
                Some(path) if Path::new(path).extension() == Some("whl".as_ref()) => {
                    self.keep_one(virtualenv, &self.beside.join(path), out, false)?
                }
                Some(path) => {
                    return Err(Error::usage(format!(
                        "the source archive {path} is a file beside a lock"
                    ))
                    .hint(
                        "make a wheel of it, or unpack it and name the directory under `local`",
                    ));
                }
            };
            if python.sha256.hex().as_str() != one.sha256 {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{} is not the file that its lock names", python.file),
                )
                .detail(format!("locked {}, found {}", one.sha256, python.sha256))
                .hint("restore that file, or let its tool write the lock again"));
            }
            kept.push(python);
        }
        Ok(kept)
    }

    fn keep_fetched(
        &self,
        virtualenv: &Virtualenv,
        out: &Downloads,
        file: &str,
        name: &str,
        version: &str,
    ) -> Result<Python> {
        let path = out
            .file(file)
            .ok_or_else(|| Error::failed(format!("{file} was not fetched")))?;
        let mut python = self.keep_one(virtualenv, path, out, false)?;
        // The lock knows them better than the name of a file.
        name.clone_into(&mut python.name);
        if !version.is_empty() {
            version.clone_into(&mut python.version);
        }
        Ok(python)
    }

    /// Fetches locked files that the store lacks.
    pub fn fetch(
        &self,
        virtualenv: &Virtualenv,
        missing: &[&Python],
        origins: &[String],
        listen: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let wanted = Wanted::read(virtualenv, self.beside)?;
        let origins = origins.iter().map(String::as_str);
        let run = PipRun {
            files: questions(virtualenv, origins, Vec::new(), &wanted, Some(missing))?,
            retained: Vec::new(),
            building: Vec::new(),
            direct: Vec::new(),
            uv: None,
            sources: None,
            work: Work::Fetch {
                choose: !wanted.locks.is_empty(),
            },
        };
        let out = self.run(virtualenv, &run, listen)?;
        self.keep(virtualenv, &out, false)?;
        Ok(())
    }
}

/// The files that say what to choose and to fetch.
fn questions<'a>(
    virtualenv: &'a Virtualenv,
    origins: impl Iterator<Item = &'a str>,
    projects: Vec<toml::Value>,
    wanted: &'a Wanted,
    missing: Option<&[&Python]>,
) -> Result<BTreeMap<&'static str, String>> {
    let (git, _): (Vec<&str>, Vec<&str>) =
        origins.partition(|o| o.len() == 40 && o.bytes().all(|b| b.is_ascii_hexdigit()));
    let question = Question {
        locks: &wanted.locks,
        extras: virtualenv.extras.iter().map(AsRef::as_ref).collect(),
        groups: virtualenv.groups.iter().map(AsRef::as_ref).collect(),
        local: virtualenv.local.iter().map(AsRef::as_ref).collect(),
        git,
        own: wanted.lines.iter().map(|line| name_of(line)).collect(),
        urls: virtualenv.git.iter().map(|git| git.url.as_str()).collect(),
        projects,
    };
    let json = |value: serde_json::Result<String>| {
        value.context(|| "cannot describe what to fetch".into())
    };
    let missing = missing.map(|missing| {
        let one = |p: &&Python| WantedFile {
            name: p.name.clone(),
            version: p.version.clone(),
            file: p.file.clone(),
            sha256: p.sha256.hex(),
            url: p.url.clone(),
            marker: None,
        };
        missing.iter().map(one).collect::<Vec<_>>()
    });
    let mut files = serde_json::json!({ "files": wanted.files });
    if let Some(missing) = missing {
        files["missing"] = serde_json::json!(missing);
    }
    Ok(BTreeMap::from([
        ("locks.json", json(serde_json::to_string(&question))?),
        ("files.json", files.to_string()),
    ]))
}

fn answer(out: &Downloads) -> Result<Answer> {
    match &out.chosen {
        Some(text) => {
            serde_json::from_str(text).context(|| "cannot read what was chosen from a lock".into())
        }
        None => Ok(Answer {
            files: Vec::new(),
            covered: Vec::new(),
            extras: BTreeSet::new(),
            groups: BTreeSet::new(),
            warnings: Vec::new(),
        }),
    }
}

/// Refuses two versions of a project, which two files of the recipe may want.
fn one_of_each(virtualenv: &Virtualenv, files: &[Python]) -> Result<()> {
    let mut seen: BTreeMap<&str, (&str, Sha256)> = BTreeMap::new();
    for python in files {
        let one = (python.file.as_str(), python.sha256);
        let (other, digest) = *seen.entry(&python.name).or_insert(one);
        if digest != python.sha256 {
            return Err(Error::usage(format!(
                "two files of {} are wanted in the virtualenv {}: {other} and {}",
                python.name, virtualenv.path, python.file
            ))
            .hint("leave one of them out of the requirements files"));
        }
    }
    Ok(())
}
