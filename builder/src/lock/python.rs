//! The Python distributions of a lock.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use store::Sha256;

use super::proof::Unproven;
use super::{LockRequest, Stale};
use crate::atomic_file::remove;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layers::Key;
use crate::lock::resolve::git;
use crate::lock::resolve::python::{Pip, SourceTree, Sources};
use crate::lock::resolve::scheme::{self, Scheme};
use crate::lockfile::{self, Described, Lock};
use crate::recipe::Virtualenv;
use crate::recipe::requirements_file::repository;
use crate::run::{self, PlannedStep, Runner};
use crate::steps;
use crate::tree::unpack;
use crate::ui::{self, Ui};

impl LockRequest<'_> {
    /// Runs steps that are not done yet, and keeps their layers.
    pub(super) fn run_steps(
        &self,
        lock: &Lock,
        planned: &[PlannedStep],
        ui: &mut Ui,
    ) -> Result<()> {
        self.work.keep_layers(&run::all_keys(planned))?;
        let runner = Runner {
            layers: &self.work.layers,
            work: &self.settings.work,
            scratch: &self.work.scratch.join("run"),
            lock,
            inputs: self.inputs,
            images: self.images.store(),
            recipe: None,
            vary: false,
        };
        runner.run(planned, ui)
    }

    /// Makes the packages' layers and lends their pip, for one virtualenv, to `work`.
    pub(super) fn with_pip<T>(
        &self,
        lock: &Lock,
        virtualenv: &Virtualenv,
        ui: &mut Ui,
        work: impl FnOnce(&Pip<'_>, &mut Ui) -> Result<T>,
    ) -> Result<T> {
        let steps = steps::resolving(self.recipe, lock, virtualenv);
        let planned = run::plan_steps(steps, &self.work.layers)?;
        self.run_steps(lock, &planned, ui)?;
        let pip = Pip {
            layers: &self.work.layers,
            keys: &run::tree_layers(&planned),
            scratch: self.work.scratch.join("pip"),
            settings: &self.settings.pip,
            beside: self.beside(),
            inputs: self.inputs,
            tools: &self.settings.work.join("tools"),
            uv: OnceCell::new(),
            warnings: RefCell::default(),
        };
        let result = work(&pip, ui);
        for warning in pip.warnings.take() {
            ui.note(&warning);
        }
        remove(&self.work.scratch.join("pip"))?;
        result
    }

    /// The layers in which the recipe's virtualenvs are resolved, above those of the packages.
    pub fn resolving_layers(&self, lock: &Lock) -> Result<Vec<Key>> {
        let virtualenvs = self.recipe.virtualenvs.iter();
        let tops = virtualenvs.filter(|v| !v.is_empty()).map(|virtualenv| {
            let steps = steps::resolving(self.recipe, lock, virtualenv);
            let planned = run::plan_steps(steps, &self.work.layers)?;
            Ok(planned.into_iter().last().map(|planned| planned.key))
        });
        tops.filter_map(Result::transpose).collect()
    }

    pub(super) fn resolve_virtualenvs(
        &self,
        lock: &mut Lock,
        old: Option<&Lock>,
        stale: &Stale,
        virtualenvs_from: BTreeMap<String, Sha256>,
        ui: &mut Ui,
    ) -> Result<Vec<Unproven>> {
        let mut unproven = Vec::new();
        lock.python.clear();
        lock.git.clear();
        for virtualenv in &self.recipe.virtualenvs {
            let path = virtualenv.path.to_string();
            let old_python = || {
                let all = old.into_iter().flat_map(|old| &old.python);
                all.filter(|p| p.virtualenv == path)
            };
            if virtualenv.is_empty() {
                continue;
            }
            if !stale.virtualenvs.contains(&path) {
                lock.python.extend(old_python().cloned());
                let git = old.into_iter().flat_map(|old| &old.git);
                let own = git.filter(|g| g.virtualenv == path);
                lock.git.extend(own.cloned());
                continue;
            }
            let kept: Vec<lockfile::Python> = old_python()
                .filter(|p| !self.upgrade.takes(&p.name))
                .cloned()
                .collect();
            let variable = |name: &str| self.settings.variable(name);
            for (index, source) in virtualenv.git.iter().enumerate() {
                let kept = old.into_iter().flat_map(|old| &old.git).find(|g| {
                    g.virtualenv == path
                        && g.url == source.url.as_str()
                        && g.reference == git::reference(source)
                        && !self.upgrade.takes(&g.name())
                });
                let Some(kept) = kept else {
                    let terms = git::Terms {
                        is_told: is_told(virtualenv),
                        may_be_branch: false,
                        reach: &|_| true,
                    };
                    let place = (path.as_str(), index);
                    let found = git::resolve(source, place, &terms, &variable, self.inputs)?;
                    lock.git.push(found);
                    continue;
                };
                let mut kept = kept.clone();
                kept.index = index;
                kept.subdirectory = None;
                if !self.inputs.has(&kept.sha256) {
                    self.fetch_git(&kept)?;
                }
                if let Some(said) = git::moved(source, &kept, &variable) {
                    ui.note(&said);
                }
                lock.git.push(kept);
            }
            let sources = self.unpack_sources(virtualenv, lock)?;
            for tree in &sources.trees {
                let scheme = Scheme::of_directory(&sources.dir.join(&tree.path));
                if let Some(said) = scheme.note(&tree.origin) {
                    ui.note(&said);
                }
            }
            let required = Required {
                request: self,
                virtualenv,
                old,
                found: RefCell::default(),
                first: (virtualenv.git.len(), sources.trees.len()),
            };
            let found = self.with_pip(lock, virtualenv, ui, |pip, ui| {
                let mut phase = ui.phase("resolve python");
                let repositories =
                    &mut |address: &str, reach: Option<git::Reach<'_>>, dir: &Path| {
                        required.get(address, reach, dir)
                    };
                let listen = &mut |line: &str| phase.output(line);
                let found = pip.resolve(virtualenv, &sources, &kept, repositories, listen)?;
                let bytes: u64 = found.files.iter().map(|p| p.size).sum();
                phase.finish(&format!("{} files, {}", found.files.len(), ui::size(bytes)));
                Ok(found)
            })?;
            lock.python.extend(found.files);
            lock.git.extend(required.found.take());
            unproven.push(Unproven {
                virtualenv: path,
                built_with: found.built_with,
            });
        }
        lock.virtualenvs_from = virtualenvs_from;
        remove(&self.work.scratch.join("sources"))?;
        Ok(unproven)
    }

    /// Refuses local packages whose version would be missing or made up.
    pub(super) fn check_versions(&self, files: &[lockfile::LocalFile]) -> Result<()> {
        for virtualenv in self.recipe.virtualenvs.iter().filter(|v| !is_told(v)) {
            for local in &virtualenv.local {
                let file = files.iter().find(|f| f.path == local.as_str());
                let described = file.and_then(|f| f.described.as_ref());
                let dir = self.beside().join(local.as_path());
                let scheme = Scheme::of_directory(&dir);
                let shallow = match described {
                    None if scheme.is_git() => scheme::shallow_checkout(&dir),
                    _ => None,
                };
                scheme.check(local.as_str(), true, described, shallow.as_deref())?;
            }
        }
        Ok(())
    }

    /// The trees of a virtualenv's local and Git packages.
    pub(super) fn unpack_sources(&self, virtualenv: &Virtualenv, lock: &Lock) -> Result<Sources> {
        let dir = self.work.scratch.join("sources");
        remove(&dir)?;
        let locals = virtualenv.local.iter().filter_map(|local| {
            lock.files
                .iter()
                .find(|f| f.path == local.as_str())
                .map(|f| (f.sha256, None, f.path.clone(), f.described.as_ref()))
        });
        let gits = lock
            .git
            .iter()
            .filter(|g| g.virtualenv == virtualenv.path.as_str())
            .map(|g| {
                let below = match virtualenv.git.get(g.index) {
                    Some(source) => source.subdirectory.as_ref().map(AsRef::as_ref),
                    None => g.subdirectory.as_deref(),
                };
                (
                    g.sha256,
                    below.map(PathBuf::from),
                    g.commit.clone(),
                    g.described.as_ref(),
                )
            });
        let mut trees = Vec::new();
        for (index, (digest, below, origin, described)) in locals.chain(gits).enumerate() {
            trees.push(self.unpack_tree(&dir, index, digest, (below, described), origin)?);
        }
        Ok(Sources { dir, trees })
    }

    fn unpack_tree(
        &self,
        dir: &Path,
        index: usize,
        digest: Sha256,
        (below, described): (Option<PathBuf>, Option<&Described>),
        origin: String,
    ) -> Result<SourceTree> {
        let path = PathBuf::from(index.to_string());
        unpack(&self.inputs.path(&digest), &dir.join(&path))?;
        let root = dir.join(&path);
        let tree = below
            .as_ref()
            .map_or(root.clone(), |below| root.join(below));
        let scheme = Scheme::of_directory(&tree);
        if let Some(described) = described {
            say_version(described, &root, &tree)?;
        }
        let mut variables = described.map_or_else(Vec::new, Described::variables);
        variables.retain(|(name, _)| scheme.is_pbr() || !name.starts_with("PBR"));
        let content = format!("{digest} {below:?} {described:?}");
        Ok(SourceTree {
            content,
            variables,
            path: below.map_or(path.clone(), |b| path.join(b)),
            origin,
        })
    }

    /// Fetches locked Python files that the store lacks.
    pub(super) fn fetch_python(&self, lock: &Lock, ui: &mut Ui) -> Result<()> {
        let missing: Vec<&lockfile::Python> = lock
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
        let sources: Vec<String> = lock.git.iter().map(|g| g.commit.clone()).collect();
        for virtualenv in &self.recipe.virtualenvs {
            let own = |p: &&lockfile::Python| p.virtualenv == virtualenv.path.as_str();
            let own: Vec<&lockfile::Python> = missing.iter().copied().filter(own).collect();
            if own.is_empty() {
                continue;
            }
            self.with_pip(lock, virtualenv, ui, |pip, ui| {
                let mut phase = ui.phase("fetch python");
                pip.fetch(virtualenv, &own, &sources, &mut |line| phase.output(line))?;
                phase.finish(&format!("{} files", own.len()));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn fetch_git(&self, locked: &lockfile::Git) -> Result<()> {
        let url = if locked.url.is_empty() {
            let mut virtualenvs = self.recipe.virtualenvs.iter();
            let source = virtualenvs
                .find(|v| v.path.as_str() == locked.virtualenv)
                .and_then(|v| v.git.get(locked.index));
            let source = source.map(|source| source.url.as_str());
            source
                .ok_or_else(|| Error::failed("the lock names a Git source that the recipe lacks"))?
        } else {
            &locked.url
        };
        let variable = |name: &str| self.settings.variable(name);
        let found = git::fetch(url, locked, &variable, self.inputs)?;
        if found == locked.sha256 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Refused,
            format!("{url} at {} is not what the lock names", locked.reference),
        )
        .detail(format!("locked tree {}, now {found}", locked.sha256))
        .hint("run `imgbuild lock --upgrade` to lock the tree as this git writes it"))
    }
}

/// What packages require from repositories, as pip reads it: `NAME @ git+URL`.
struct Required<'a> {
    request: &'a LockRequest<'a>,
    virtualenv: &'a Virtualenv,
    old: Option<&'a Lock>,
    found: RefCell<Vec<lockfile::Git>>,
    /// The numbers of the first in the lock and among the trees: the recipe's own are before.
    first: (usize, usize),
}

impl Required<'_> {
    /// The tree of one, unpacked below a directory. A locked commit stays, as the recipe's do.
    /// Without a bound on where its submodules are, the recipe itself names it.
    fn get(&self, address: &str, reach: Option<git::Reach<'_>>, dir: &Path) -> Result<SourceTree> {
        let refuse = |why: &str| {
            let what = format!("a package requires {address}, which cannot be locked: {why}");
            Error::usage(what).hint("bring the package itself, under `local` or `git`")
        };
        let source = repository(address).map_err(|why| refuse(&why))?;
        if reach.is_some() && source.url.as_str().starts_with("file:") {
            return Err(refuse("it is a directory of one machine"));
        }
        let path = self.virtualenv.path.as_str();
        let below = source.subdirectory.as_ref().map(ToString::to_string);
        let is_it = |git: &&lockfile::Git| {
            let same = git.virtualenv == path && git.url == source.url.as_str();
            same && git.reference == git::reference(&source) && git.subdirectory == below
        };
        let request = self.request;
        let mut found = self.found.borrow_mut();
        let number = found
            .iter()
            .position(|git| is_it(&git))
            .unwrap_or(found.len());
        if number == found.len() {
            let kept = self.old.into_iter().flat_map(|old| &old.git).find(is_it);
            let index = self.first.0 + number;
            let variable = |name: &str| request.settings.variable(name);
            let mut git = match kept.filter(|git| !request.upgrade.takes(&git.name())) {
                Some(kept) if request.inputs.has(&kept.sha256) => kept.clone(),
                Some(kept) => {
                    request.fetch_git(kept)?;
                    kept.clone()
                }
                None => {
                    let terms = git::Terms {
                        is_told: is_told(self.virtualenv),
                        may_be_branch: true,
                        reach: reach.unwrap_or(&|_| true),
                    };
                    git::resolve(&source, (path, index), &terms, &variable, request.inputs)?
                }
            };
            git.index = index;
            git.subdirectory = below;
            found.push(git);
        }
        let git = &found[number];
        let below = git.subdirectory.as_ref().map(PathBuf::from);
        let about = (below, git.described.as_ref());
        let origin = address.to_owned();
        request.unpack_tree(dir, self.first.1 + number, git.sha256, about, origin)
    }
}

/// Writes the files that say a version into the tree of a repository and of its package.
fn say_version(described: &Described, root: &Path, tree: &Path) -> Result<()> {
    let failed = || format!("cannot write into {}", tree.display());
    // A link of theirs must not lead the way.
    let (root, tree) = (
        fs::canonicalize(root).context(failed)?,
        fs::canonicalize(tree).context(failed)?,
    );
    if !tree.starts_with(&root) {
        return Err(Error::usage(
            "the `subdirectory` of a Git source is a link out of its repository",
        ));
    }
    for place in [&root, &tree] {
        for (name, text) in described.files() {
            let file = place.join(name);
            if fs::symlink_metadata(&file).is_ok() {
                fs::remove_file(&file).context(failed)?;
            }
            fs::write(&file, text).context(failed)?;
        }
    }
    Ok(())
}

/// Whether the recipe itself names the versions of what is built.
fn is_told(virtualenv: &Virtualenv) -> bool {
    const VARIABLES: [&str; 4] = ["_PRETEND_VERSION", "_BYPASS", "PBR_VERSION", "SCM_VERSION"];
    let mut names = virtualenv.environment.keys();
    names.any(|name| VARIABLES.iter().any(|v| name.as_str().contains(v)))
}

/// The interpreters that a lock installs, by minor version: what a locked wheel
/// fits to.
pub(super) fn interpreters(lock: &Lock) -> BTreeSet<&str> {
    let minor = |name: &&str| {
        name.strip_prefix("python").is_some_and(|version| {
            let mut parts = version.splitn(2, '.');
            let number = |part: Option<&str>| {
                part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
            };
            number(parts.next()) && number(parts.next())
        })
    };
    let names = lock.debs.iter().map(|deb| deb.name.as_str());
    names.filter(minor).collect()
}
