//! Brings the lock of a recipe up to date: resolves what changed, no more.
//!
//! ```text
//! resolve     which versions, asked of apt, pip and Git
//! fetch       inputs whose digest is known, brought into the store
//! packages    the Debian packages of a lock
//! python      the Python distributions of a lock
//! downloads   the files of [[download]]
//! base        the image that a tree begins with
//! ids         ids of the users and groups that packages make
//! origin      what decides about each part: what changed is resolved again
//! upgrade     which locked inputs are taken anew
//! unfinished  packages of a lock that failed later, for the next try
//! proof       sources, built once before they are locked
//! acquire     what apt reports about its downloads
//! ```

pub mod acquire;
mod base;
mod downloads;
pub mod fetch;
mod ids;
mod origin;
mod packages;
mod proof;
mod python;
pub mod resolve;
mod unfinished;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use store::{Inputs, Sha256, WritableStore};

use crate::caches::Caches;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lock::resolve::local;
use crate::lock::resolve::remembered::Remembered;
use crate::lockfile::{Changes, LocalFile, Lock};
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::stores::ancestry;
use crate::stores::find::Admits;
use crate::ui::{self, Ui};
use crate::work_dir::WorkDir;

pub use origin::{packages_from, virtualenv_from};
pub use upgrade::Upgrade;

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
pub struct LockRequest<'a> {
    /// The recipe and where it lies.
    pub recipe: &'a Recipe,
    /// Its path.
    pub path: &'a Path,
    /// Places and addresses.
    pub settings: &'a Settings,
    /// Retained inputs.
    pub inputs: &'a Inputs,
    /// The store, for the image that the tree begins with.
    pub images: &'a WritableStore,
    /// Which environments its name may be of.
    pub admits: Admits<'a>,
    /// Other stores that may have them.
    pub caches: Option<&'a Caches<'a>>,
    /// Step results and a directory of this build alone.
    pub work: &'a WorkDir,
    /// What is allowed.
    pub strictness: Strictness,
    /// What to take anew although the lock has it.
    pub upgrade: Upgrade,
}

/// What a lock was resolved from, as the recipe and its files are now.
struct LockedFrom {
    packages: Sha256,
    virtualenvs: BTreeMap<String, Sha256>,
}

impl LockedFrom {
    fn of(recipe: &Recipe, beside: &Path, files: &[LocalFile]) -> Result<Self> {
        let virtualenvs = recipe.virtualenvs.iter().map(|virtualenv| {
            let from = virtualenv_from(virtualenv, beside, files)?;
            Ok((virtualenv.path.to_string(), from))
        });
        Ok(Self {
            virtualenvs: virtualenvs.collect::<Result<_>>()?,
            packages: packages_from(recipe, files),
        })
    }
}

/// Which parts of a lock no longer fit.
struct Stale {
    packages: bool,
    virtualenvs: BTreeSet<String>,
    downloads: bool,
    files: bool,
}

impl Stale {
    fn of(
        recipe: &Recipe,
        lock: &Lock,
        from: &LockedFrom,
        files: &[LocalFile],
        upgrade: &Upgrade,
    ) -> Self {
        let changed = |path: &&String| {
            upgrade.concerns_virtualenv(lock, path)
                || lock.virtualenvs_from.get(*path) != from.virtualenvs.get(*path)
        };
        let virtualenvs = from.virtualenvs.keys();
        Self {
            packages: upgrade.concerns_packages(lock) || lock.packages_from != from.packages,
            virtualenvs: virtualenvs.filter(changed).cloned().collect(),
            downloads: !downloads::are_those_of(recipe, lock),
            files: lock.files != files,
        }
    }

    /// Its parts as people call them.
    fn parts(&self) -> Vec<String> {
        let packages = self.packages.then(|| "packages".to_owned());
        let downloads = self.downloads.then(|| "downloads".to_owned());
        let files = self.files.then(|| "files beside the recipe".to_owned());
        let virtualenvs = self.virtualenvs.iter();
        let virtualenvs = virtualenvs.map(|path| format!("virtualenv {path}"));
        packages
            .into_iter()
            .chain(virtualenvs)
            .chain(downloads)
            .chain(files)
            .collect()
    }
}

/// Which parts of its lock no longer fit a recipe, as people call them.
/// `files` are those beside the recipe as they are now.
pub fn outdated(
    recipe: &Recipe,
    path: &Path,
    files: &[LocalFile],
    lock: &Lock,
) -> Result<Vec<String>> {
    let from = LockedFrom::of(recipe, beside(path), files)?;
    Ok(Stale::of(recipe, lock, &from, files, &Upgrade::Nothing).parts())
}

impl LockRequest<'_> {
    fn beside(&self) -> &Path {
        beside(self.path)
    }

    /// The lock that fits the recipe, with every input in the store.
    pub fn run(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Lock> {
        self.upgrade.check(old)?;
        let remembered = Remembered::below(&self.settings.work);
        let local::Found { files, notes } =
            local::read_described(self.recipe, self.beside(), &remembered, old)?;
        let from = LockedFrom::of(self.recipe, self.beside(), &files)?;
        let mut stale = match old {
            None => Stale {
                packages: true,
                virtualenvs: from.virtualenvs.keys().cloned().collect(),
                downloads: true,
                files: true,
            },
            Some(lock) => Stale::of(self.recipe, lock, &from, &files, &self.upgrade),
        };
        let LockedFrom {
            packages: packages_from,
            virtualenvs: virtualenvs_from,
        } = from;
        let gone = old.is_some_and(|l| l.virtualenvs_from.len() != virtualenvs_from.len());
        let fits = stale.parts().is_empty() && !gone;
        if !fits {
            self.allow_change(&stale, old.is_some(), ui)?;
            self.require_writable()?;
            self.check_versions(&files)?;
        }
        if stale.files {
            for note in &notes {
                ui.note(note);
            }
        }
        if stale.files || !self.has_files(&files) {
            let retain = Some(self.inputs);
            let kept = local::read(self.recipe, self.beside(), &remembered, retain)?;
            check_unchanged(&files, &kept.files)?;
        }

        let downloads = self.downloads(old, ui)?;

        let mut lock = match old {
            Some(lock) if !stale.packages => lock.clone(),
            _ => match self.packages_of_last_try(packages_from, old, ui)? {
                Some(lock) => lock,
                None => self.resolve_packages(packages_from, old, ui)?,
            },
        };
        if old.is_some_and(|old| python::interpreters(old) != python::interpreters(&lock)) {
            stale.virtualenvs.extend(virtualenvs_from.keys().cloned());
        }
        if let Some(base) = &lock.base {
            self.bring_base(base, ui)?;
            if ancestry::standing(self.images.store(), base).revoked {
                ui.note(&format!(
                    "warning: the base {base} was revoked: imgbuild lock --upgrade=base, or name \
                     another one in the recipe"
                ));
            }
        }
        lock.files.clone_from(&files);
        lock.downloads = match old {
            // With the sizes that it says, which are checked below.
            Some(old) if !stale.downloads => old.downloads.clone(),
            _ => downloads,
        };
        lock.sort();
        self.ask_caches(&lock, ui)?;
        self.fetch_debs(&lock, ui)?;
        if stale.packages {
            self.keep_for_next_try(&lock, old)?;
        }
        let unproven = self.resolve_virtualenvs(&mut lock, old, &stale, virtualenvs_from, ui)?;
        lock.sort();
        self.ask_caches(&lock, ui)?;
        self.fetch_python(&lock, ui)?;
        self.check_sizes(&lock)?;
        self.prove(&mut lock, &unproven, ui)?;
        // A lock from before there were names stays as it is while it fits.
        if !fits || old.is_none_or(|old| !old.names.is_empty()) {
            lock.seal();
        }

        self.forget_last_try()?;
        let path = Lock::path_for(self.path);
        // What was from not to change is not even sorted.
        let may_write = !self.strictness.locked && !self.strictness.frozen;
        if old != Some(&lock) && may_write {
            report(&Changes::between(old, &lock), old.is_some(), ui);
            lock.save(&path)?;
            ui.note(&format!("wrote {}", path.display()));
        }
        Ok(lock)
    }

    fn allow_change(&self, stale: &Stale, exists: bool, ui: &Ui) -> Result<()> {
        let parts = stale.parts();
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
        if exists && self.upgrade == Upgrade::Nothing {
            ui.note(&format!(
                "the recipe changed: resolving {}",
                parts.join(", ")
            ));
        }
        Ok(())
    }

    /// Fails before anything is fetched if the lock could not be written.
    fn require_writable(&self) -> Result<()> {
        let dir = self.beside();
        let path = Lock::path_for(self.path);
        rustix::fs::access(dir, rustix::fs::Access::WRITE_OK)
            .context(|| format!("cannot write {}", path.display()))
            .map_err(|error| {
                error.hint("the lock lies beside its recipe: copy both to a place of yours")
            })
    }

    /// Takes from the caches what the store lacks and they have.
    fn ask_caches(&self, lock: &Lock, ui: &mut Ui) -> Result<()> {
        match self.caches {
            Some(caches) => caches.inputs(lock.sized_inputs(), ui),
            None => Ok(()),
        }
    }

    fn has_files(&self, files: &[LocalFile]) -> bool {
        files.iter().all(|f| self.inputs.has(&f.sha256))
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
}

/// The directory in which a recipe lies.
pub fn beside(recipe: &Path) -> &Path {
    recipe
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Refuses files that were others when they were read a second time, to be kept.
fn check_unchanged(files: &[LocalFile], kept: &[LocalFile]) -> Result<()> {
    let mut both = files.iter().zip(kept);
    match both.find(|(file, kept)| (&file.path, file.sha256) != (&kept.path, kept.sha256)) {
        None => Ok(()),
        Some((file, _)) => Err(
            Error::failed(format!("`{}` changed while it was read", file.path))
                .hint("let nothing write there meanwhile, such as a log, and lock again"),
        ),
    }
}

/// Says what differs from the lock before, line by line, and what it weighs.
fn report(found: &Changes, existed: bool, ui: &Ui) {
    if existed {
        for change in &found.changes {
            ui.note(&format!("  {change}"));
        }
    }
    let (added, removed, changed) = found.counts();
    if added + removed + changed == 0 {
        ui.note("no input changed");
        return;
    }
    let (before, after) = (found.bytes_before, found.bytes_after);
    let difference = if after >= before {
        format!("+{}", ui::size(after - before))
    } else {
        format!("-{}", ui::size(before - after))
    };
    ui.note(&format!(
        "inputs: {added} added, {removed} removed, {changed} changed; {} in all ({difference})",
        ui::size(after)
    ));
}
