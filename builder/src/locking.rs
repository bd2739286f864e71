//! Brings the lock of a recipe up to date: resolves what changed, no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use store::{Inputs, Sha256};

use crate::build::{Workplace, all_keys};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fetch;
use crate::host::{self, acquire_settings};
use crate::layers::remove;
use crate::lock::{self, Lock};
use crate::process::Tool;
use crate::recipe::{Recipe, Virtualenv, canonical_json};
use crate::resolve::apt::{Apt, packages_of};
use crate::resolve::python::Pip;
use crate::resolve::{git, local};
use crate::runner::{self, Runner};
use crate::settings::Settings;
use crate::steps;
use crate::tree::unpack;
use crate::ui::{self, Ui, Unit};

/// How strictly a build sticks to what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// The lock must fit the recipe as it is.
    pub locked: bool,
    /// Besides, everything must be in the store.
    pub frozen: bool,
    /// The network is not used at all.
    pub offline: bool,
}

/// Everything that locking works with.
pub struct Locking<'a> {
    /// The recipe and where it lies.
    pub recipe: &'a Recipe,
    /// Its path.
    pub path: &'a Path,
    /// Places and addresses.
    pub settings: &'a Settings,
    /// Retained inputs.
    pub inputs: &'a Inputs,
    /// Step results and a directory of this build alone.
    pub place: &'a Workplace,
    /// What is allowed.
    pub strictness: Strictness,
    /// Resolve everything afresh.
    pub upgrade: bool,
}

/// Which parts of a lock no longer fit.
struct Stale {
    packages: bool,
    virtualenvs: Vec<String>,
    files: bool,
}

impl Locking<'_> {
    fn beside(&self) -> &Path {
        beside(self.path)
    }

    /// The lock that fits the recipe, with every input in the store.
    pub fn run(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Lock> {
        let files = local::read(self.recipe, self.beside(), None)?;
        let packages_from = self.packages_from(&files);
        let virtualenvs_from: BTreeMap<String, Sha256> = self
            .recipe
            .virtualenvs
            .iter()
            .map(|v| Ok((v.path.to_string(), self.virtualenv_from(v, &files)?)))
            .collect::<Result<_>>()?;

        let stale = match old {
            None => Stale {
                packages: true,
                virtualenvs: virtualenvs_from.keys().cloned().collect(),
                files: true,
            },
            Some(lock) => {
                let packages = self.upgrade || lock.packages_from != packages_from;
                let changed = |path: &&String| {
                    packages || lock.virtualenvs_from.get(*path) != virtualenvs_from.get(*path)
                };
                let virtualenvs = virtualenvs_from.keys().filter(changed).cloned().collect();
                Stale {
                    packages,
                    virtualenvs,
                    files: lock.files != files,
                }
            }
        };
        let gone = old.is_some_and(|l| l.virtualenvs_from.len() != virtualenvs_from.len());
        let fits = !stale.packages && stale.virtualenvs.is_empty() && !stale.files && !gone;
        if !fits {
            self.allow_change(&stale, old.is_some(), ui)?;
        }
        if stale.files || !self.has_files(&files) {
            local::read(self.recipe, self.beside(), Some(self.inputs))?;
        }

        let mut lock = match old {
            Some(lock) if !stale.packages => lock.clone(),
            _ => self.resolve_packages(packages_from, ui)?,
        };
        lock.files.clone_from(&files);
        lock.sort();
        self.fetch_debs(&lock, ui)?;
        self.resolve_virtualenvs(&mut lock, old, &stale, virtualenvs_from, ui)?;
        lock.sort();
        self.fetch_python(&lock, ui)?;

        let path = Lock::path_for(self.path);
        if old != Some(&lock) {
            if let Some(old) = old {
                report_changes(old, &lock, ui);
            }
            lock.save(&path)?;
            ui.note(&format!("wrote {}", path.display()));
        }
        Ok(lock)
    }

    fn allow_change(&self, stale: &Stale, exists: bool, ui: &Ui) -> Result<()> {
        let mut parts = Vec::new();
        if stale.packages {
            parts.push("packages".to_owned());
        }
        parts.extend(stale.virtualenvs.iter().map(|v| format!("virtualenv {v}")));
        if stale.files {
            parts.push("files beside the recipe".to_owned());
        }
        let lock = Lock::path_for(self.path);
        if self.strictness.locked || self.strictness.frozen {
            let what = if exists {
                format!("{} does not fit the recipe any more", lock.display())
            } else {
                format!("there is no {}", lock.display())
            };
            let mut error = Error::new(ErrorKind::Refused, what);
            if exists {
                error = error.detail(format!("changed since: {}", parts.join(", ")));
            }
            return Err(error.hint("run `imgbuild lock`, look at the difference, and commit it"));
        }
        if self.strictness.offline && (stale.packages || !stale.virtualenvs.is_empty()) {
            return Err(
                Error::failed("resolving needs the network, which --offline forbids")
                    .detail(format!("to resolve: {}", parts.join(", "))),
            );
        }
        if exists {
            ui.note(&format!(
                "the recipe changed: resolving {}",
                parts.join(", ")
            ));
        }
        Ok(())
    }

    fn has_files(&self, files: &[lock::LocalFile]) -> bool {
        files.iter().all(|f| self.inputs.has(&f.sha256))
    }

    /// What decides about Debian packages.
    fn packages_from(&self, files: &[lock::LocalFile]) -> Sha256 {
        let digest = |path: &str| files.iter().find(|f| f.path == path).map(|f| f.sha256);
        let recipe = self.recipe;
        let mut parts = vec![
            canonical_json(&recipe.bootstrap),
            canonical_json(&recipe.sources),
            canonical_json(&recipe.apt),
            canonical_json(&packages_of(recipe)),
        ];
        let keys = recipe.sources.iter().filter_map(|s| s.key.as_ref());
        let debs = recipe.packages.iter().flat_map(|p| &p.debs);
        for path in keys.chain(debs) {
            parts.push(format!("{path} {:?}", digest(path.as_str())).into_bytes());
        }
        Sha256::of(&parts.join(&b'\n'))
    }

    /// What decides about Python distributions. The app's own sources do not,
    /// except by what they need to be built.
    fn virtualenv_from(
        &self,
        virtualenv: &Virtualenv,
        files: &[lock::LocalFile],
    ) -> Result<Sha256> {
        let mut parts = vec![canonical_json(virtualenv)];
        for path in virtualenv
            .requirements_files
            .iter()
            .chain(&virtualenv.constraints_files)
        {
            let found = files.iter().find(|f| f.path == path.as_str());
            parts.push(format!("{:?}", found.map(|f| f.sha256)).into_bytes());
        }
        for local in &virtualenv.local {
            let path = self.beside().join(local.as_path()).join("pyproject.toml");
            match std::fs::read(&path) {
                Ok(text) => parts.push(text),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => parts.push(Vec::new()),
                Err(e) => {
                    return Err(
                        Error::failed(format!("cannot read {}", path.display())).because(&e)
                    );
                }
            }
        }
        Ok(Sha256::of(&parts.join(&b'\n')))
    }

    fn resolve_packages(&self, packages_from: Sha256, ui: &mut Ui) -> Result<Lock> {
        let architecture = self.recipe.bootstrap.architecture.to_string();
        let own = host::architecture()?;
        if architecture != own {
            return Err(Error::failed(format!(
                "the recipe is for {architecture}, this machine runs {own}"
            ))
            .hint("build on a machine of that architecture"));
        }
        let mut phase = ui.phase("resolve packages");
        let dir = self.place.scratch.join("apt");
        remove(&dir)?;
        let apt = Apt::new(
            self.recipe,
            self.beside(),
            &architecture,
            &self.settings.archives,
            &acquire_settings()?,
            &dir,
        )?;
        let resolution = apt.resolve(&mut |line| phase.output(line))?;
        remove(&dir)?;
        let bytes: u64 = resolution.debs.iter().map(|d| d.size).sum();
        phase.finish(&format!(
            "{} packages, {}",
            resolution.debs.len(),
            ui::size(bytes)
        ));
        Ok(Lock {
            version: lock::VERSION,
            epoch: resolution.epoch(),
            architecture,
            bootstrapper: bootstrapper()?,
            packages_from,
            virtualenvs_from: BTreeMap::new(),
            releases: resolution.releases,
            debs: resolution.debs,
            python: Vec::new(),
            git: Vec::new(),
            files: Vec::new(),
        })
    }

    fn fetch_debs(&self, lock: &Lock, ui: &mut Ui) -> Result<()> {
        let missing = fetch::missing_debs(lock, self.inputs);
        if missing.is_empty() {
            return Ok(());
        }
        let total: u64 = missing.iter().map(|d| d.size).sum();
        let example = format!("{} {}", missing[0].name, missing[0].version);
        self.allow_fetch(missing.len(), &example)?;
        let mut phase = ui.phase("fetch packages");
        let mut done = 0;
        fetch::debs(
            &missing,
            &self.settings.archives,
            &acquire_settings()?,
            self.beside(),
            self.inputs,
            &self.place.scratch.join("fetch"),
            &mut |bytes| {
                done += bytes;
                phase.progress(done, total, Unit::Bytes);
            },
        )?;
        phase.finish(&format!("{} packages, {}", missing.len(), ui::size(total)));
        Ok(())
    }

    fn allow_fetch(&self, count: usize, example: &str) -> Result<()> {
        let Strictness {
            frozen, offline, ..
        } = self.strictness;
        if !frozen && !offline {
            return Ok(());
        }
        let flag = if frozen { "--frozen" } else { "--offline" };
        Err(Error::new(
            ErrorKind::Refused,
            format!("the store lacks {count} locked inputs, and {flag} forbids fetching"),
        )
        .detail(format!("for example {example}"))
        .hint("run the build once without that flag, or use a store that retains them"))
    }

    /// Makes the packages' layers and lends their pip to `work`.
    fn with_pip<T>(
        &self,
        lock: &Lock,
        ui: &mut Ui,
        work: impl FnOnce(&Pip<'_>, &mut Ui) -> Result<T>,
    ) -> Result<T> {
        let planned = runner::plan(steps::foundation(self.recipe, lock), &self.place.layers)?;
        self.place.keep_layers(&all_keys(&planned))?;
        let runner = Runner {
            layers: &self.place.layers,
            work: &self.settings.work,
            scratch: &self.place.scratch.join("run"),
            lock,
            inputs: self.inputs,
            recipe: self.path,
        };
        runner.run(&planned, ui)?;
        let pip = Pip {
            layers: &self.place.layers,
            keys: &runner::tree_layers(&planned),
            scratch: self.place.scratch.join("pip"),
            settings: &self.settings.pip,
            beside: self.beside(),
            inputs: self.inputs,
        };
        let result = work(&pip, ui);
        remove(&self.place.scratch.join("pip"))?;
        result
    }

    fn resolve_virtualenvs(
        &self,
        lock: &mut Lock,
        old: Option<&Lock>,
        stale: &Stale,
        virtualenvs_from: BTreeMap<String, Sha256>,
        ui: &mut Ui,
    ) -> Result<()> {
        let fresh = |virtualenv: &str| !stale.virtualenvs.iter().any(|v| v == virtualenv);
        let known = |virtualenv: &str| virtualenvs_from.contains_key(virtualenv);
        lock.python.clear();
        lock.git.clear();
        if let Some(old) = old {
            lock.python.extend(
                old.python
                    .iter()
                    .filter(|p| fresh(&p.virtualenv) && known(&p.virtualenv))
                    .cloned(),
            );
            lock.git.extend(
                old.git
                    .iter()
                    .filter(|g| fresh(&g.virtualenv) && known(&g.virtualenv))
                    .cloned(),
            );
        }
        let due: Vec<&Virtualenv> = self
            .recipe
            .virtualenvs
            .iter()
            .filter(|v| !fresh(v.path.as_str()))
            .collect();
        for virtualenv in due {
            let path = virtualenv.path.to_string();
            let variable = |name: &str| self.settings.variable(name);
            for (index, source) in virtualenv.git.iter().enumerate() {
                lock.git
                    .push(git::resolve(source, &path, index, &variable, self.inputs)?);
            }
            let sources = self.unpack_sources(virtualenv, lock)?;
            let found = self.with_pip(lock, ui, |pip, ui| {
                let mut phase = ui.phase("resolve python");
                let found = pip.resolve(virtualenv, &sources, &mut |line| phase.output(line))?;
                let bytes: u64 = found.iter().map(|p| p.size).sum();
                phase.finish(&format!("{} files, {}", found.len(), ui::size(bytes)));
                Ok(found)
            })?;
            lock.python.extend(found);
        }
        lock.virtualenvs_from = virtualenvs_from;
        remove(&self.place.scratch.join("sources"))
    }

    /// The trees of a virtualenv's local and Git packages.
    fn unpack_sources(&self, virtualenv: &Virtualenv, lock: &Lock) -> Result<Vec<PathBuf>> {
        let dir = self.place.scratch.join("sources");
        remove(&dir)?;
        let locals = virtualenv.local.iter().filter_map(|local| {
            lock.files
                .iter()
                .find(|f| f.path == local.as_str())
                .map(|f| (f.sha256, None))
        });
        let gits = lock
            .git
            .iter()
            .filter(|g| g.virtualenv == virtualenv.path.as_str())
            .map(|g| {
                let below = virtualenv
                    .git
                    .get(g.index)
                    .and_then(|s| s.subdirectory.as_ref());
                (g.sha256, below.map(|b| PathBuf::from(b.as_str())))
            });
        let mut sources = Vec::new();
        for (index, (digest, below)) in locals.chain(gits).enumerate() {
            let path = dir.join(index.to_string());
            unpack(&self.inputs.path(&digest), &path)?;
            sources.push(below.map_or(path.clone(), |b| path.join(b)));
        }
        Ok(sources)
    }

    /// Fetches locked Python files that the store lacks.
    fn fetch_python(&self, lock: &Lock, ui: &mut Ui) -> Result<()> {
        let missing: Vec<&lock::Python> = lock
            .python
            .iter()
            .filter(|p| !self.inputs.has(&p.sha256))
            .collect();
        let lost_git = lock
            .git
            .iter()
            .filter(|g| !self.inputs.has(&g.sha256))
            .count();
        if missing.is_empty() && lost_git == 0 {
            return Ok(());
        }
        let example = missing.first().map_or("a Git source", |p| p.file.as_str());
        self.allow_fetch(missing.len() + lost_git, example)?;
        for git in lock.git.iter().filter(|g| !self.inputs.has(&g.sha256)) {
            self.fetch_git(git)?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.with_pip(lock, ui, |pip, ui| {
            let mut phase = ui.phase("fetch python");
            for virtualenv in &self.recipe.virtualenvs {
                let own: Vec<&lock::Python> = missing
                    .iter()
                    .copied()
                    .filter(|p| p.virtualenv == virtualenv.path.as_str())
                    .collect();
                if !own.is_empty() {
                    pip.fetch(virtualenv, &own, &mut |line| phase.output(line))?;
                }
            }
            phase.finish(&format!("{} files", missing.len()));
            Ok(())
        })
    }

    fn fetch_git(&self, locked: &lock::Git) -> Result<()> {
        let source = self
            .recipe
            .virtualenvs
            .iter()
            .find(|v| v.path.as_str() == locked.virtualenv)
            .and_then(|v| v.git.get(locked.index))
            .ok_or_else(|| Error::failed("the lock names a Git source that the recipe lacks"))?;
        let variable = |name: &str| self.settings.variable(name);
        let found = git::resolve(
            source,
            &locked.virtualenv,
            locked.index,
            &variable,
            self.inputs,
        )?;
        if found.sha256 == locked.sha256 {
            return Ok(());
        }
        let mut error = Error::new(
            ErrorKind::Refused,
            format!(
                "{} at {} is not what the lock names",
                source.url, locked.reference
            ),
        );
        if found.commit != locked.commit {
            error = error.detail(format!(
                "locked commit {}, now {}",
                locked.commit, found.commit
            ));
        }
        Err(error.hint("a tag that moved: look at it, then run `imgbuild lock --upgrade`"))
    }
}

/// The directory in which a recipe lies.
pub fn beside(recipe: &Path) -> &Path {
    recipe
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// `debootstrap` and its version.
fn bootstrapper() -> Result<String> {
    let out = Tool::new("debootstrap").arg("--version").output()?;
    let text = String::from_utf8(out).context(|| "debootstrap names no version".into())?;
    Ok(text.trim().to_owned())
}

/// What differs between two locks, package by package.
fn report_changes(old: &Lock, new: &Lock, ui: &Ui) {
    let list = |lock: &Lock| -> BTreeMap<String, (String, u64)> {
        let debs = lock
            .debs
            .iter()
            .map(|d| (d.name.clone(), (d.version.clone(), d.size)));
        let python = lock
            .python
            .iter()
            .filter(|p| !p.build_only)
            .map(|p| (format!("{} (Python)", p.name), (p.version.clone(), p.size)));
        debs.chain(python).collect()
    };
    let (old, new) = (list(old), list(new));
    for (name, (version, size)) in &new {
        match old.get(name) {
            None => ui.note(&format!(
                "  added    {name} {version} ({})",
                ui::size(*size)
            )),
            Some((before, _)) if before != version => {
                ui.note(&format!("  changed  {name} {before} -> {version}"));
            }
            _ => {}
        }
    }
    for (name, (version, _)) in &old {
        if !new.contains_key(name) {
            ui.note(&format!("  removed  {name} {version}"));
        }
    }
}
