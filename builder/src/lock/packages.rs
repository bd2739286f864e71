//! The Debian packages of a lock.

use std::collections::BTreeSet;

use store::Sha256;

use super::{LockRequest, Upgrade};
use crate::atomic_file::remove;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host;
use crate::lock::fetch;
use crate::lock::resolve::apt::{Apt, Keep, Locked};
use crate::lockfile::{self, Lock};
use crate::mirror;
use crate::process::Tool;
use crate::recipe::Recipe;
use crate::ui::{self, Ui};

impl LockRequest<'_> {
    pub(super) fn resolve_packages(
        &self,
        packages_from: Sha256,
        old: Option<&Lock>,
        ui: &mut Ui,
    ) -> Result<Lock> {
        let architecture = self.recipe.bootstrap.architecture.to_string();
        let own = host::architecture()?;
        if architecture != own {
            return Err(Error::failed(format!(
                "the recipe is for {architecture}, this machine runs {own}"
            ))
            .hint("build on a machine of that architecture"));
        }
        let chosen = self.choose_base(old, ui)?;
        let base = chosen.as_ref().map(|chosen| &chosen.base);
        let mut phase = ui.phase("resolve packages");
        let preferences_from = preferences_from(self.recipe);
        let kept = old.filter(|lock| {
            self.upgrade != Upgrade::All
                && lock.preferences_from == Some(preferences_from)
                && lock.architecture == architecture
                && suites_stand(self.recipe, lock)
                && lock.base.is_some() == base.is_some()
        });
        if old.is_some() && kept.is_none() && self.upgrade != Upgrade::All {
            phase.note("suites or preferences changed: resolving all packages afresh");
        }
        let mut keep = kept.map(|lock| self.keep(lock)).transpose()?;
        let moves = kept.is_some_and(|lock| lock.base.as_ref() != base);
        if let Some(keep) = keep.as_mut().filter(|_| moves) {
            // What another base has itself, it has for a reason.
            let status = chosen.iter().map(|chosen| chosen.status.as_str());
            let of_base: BTreeSet<&str> = status
                .flat_map(str::lines)
                .filter_map(|line| line.strip_prefix("Package: "))
                .collect();
            keep.debs
                .retain(|locked| !of_base.contains(locked.deb.name.as_str()));
        }
        let dir = self.work.scratch.join("apt");
        remove(&dir)?;
        let apt = Apt::new(
            self.recipe,
            self.beside(),
            &architecture,
            &self.settings.archives,
            &self.settings.network,
            &dir,
        )?;
        let apt = match &chosen {
            Some(chosen) => apt.on_base(&chosen.status),
            None => apt,
        };
        let mut resolution = apt.resolve(keep.as_ref(), &mut |line| phase.output(line))?;
        remove(&dir)?;
        let bytes: u64 = resolution.debs.iter().map(|d| d.size).sum();
        phase.finish(&format!(
            "{} packages, {}",
            resolution.debs.len(),
            ui::size(bytes)
        ));
        let epoch_of_base = chosen.as_ref().map_or(0, |chosen| chosen.epoch);
        let mut epoch = resolution.epoch().max(epoch_of_base);
        if let Some(kept) = kept {
            // What stays keeps its times, and the steps before a change their keys.
            epoch = kept.epoch.max(epoch_of_base);
            if same_debs(&kept.debs, &resolution.debs) {
                resolution.releases.clone_from(&kept.releases);
            }
        }
        Ok(Lock {
            version: lockfile::VERSION,
            epoch,
            architecture,
            bootstrapper: match (base, kept) {
                (Some(_), _) => lockfile::BASE.to_owned(),
                (None, Some(kept)) => kept.bootstrapper.clone(),
                (None, None) => bootstrapper()?,
            },
            packages_from,
            preferences_from: Some(preferences_from),
            ids_from: old.and_then(|old| old.ids_from),
            virtualenvs_from: std::collections::BTreeMap::new(),
            names: std::collections::BTreeMap::new(),
            base: base.cloned(),
            releases: resolution.releases,
            removed: resolution.removed,
            // Names keep their ids whatever becomes of the packages.
            system_users: old.map(|old| old.system_users.clone()).unwrap_or_default(),
            system_groups: old.map(|old| old.system_groups.clone()).unwrap_or_default(),
            debs: resolution.debs,
            python: Vec::new(),
            git: Vec::new(),
            downloads: Vec::new(),
            files: Vec::new(),
        })
    }

    /// The locked packages with the control files of those that the store has.
    fn keep(&self, lock: &Lock) -> Result<Keep> {
        let retained = lock
            .debs
            .iter()
            .filter(|d| d.archive.is_some() && self.inputs.has(&d.sha256));
        let digests: Vec<Sha256> = retained.map(|d| d.sha256).collect();
        let controls = mirror::controls(
            &digests,
            self.inputs,
            &self.settings.work.join(mirror::CONTROLS),
        )?;
        let controls: std::collections::BTreeMap<_, _> =
            digests.into_iter().zip(controls).collect();
        let last = lock.debs_after();
        let debs = lock.debs.iter().map(|deb| Locked {
            control: controls.get(&deb.sha256).cloned(),
            is_last: last.contains(&deb),
            deb: deb.clone(),
        });
        Ok(Keep {
            debs: debs.collect(),
            upgrade: self.upgrade.names().cloned().unwrap_or_default(),
            security: self.upgrade.takes_security(),
        })
    }

    /// The sizes that the lock names, of what the store has.
    pub(super) fn check_sizes(&self, lock: &Lock) -> Result<()> {
        let debs = lock.debs.iter().map(|d| (&d.name, d.size, &d.sha256));
        let python = lock.python.iter().map(|p| (&p.file, p.size, &p.sha256));
        let downloads = lock.downloads.iter().map(|d| (&d.url, d.size, &d.sha256));
        for (name, size, sha256) in debs.chain(python).chain(downloads) {
            let path = self.inputs.path(sha256);
            let found = std::fs::metadata(&path)
                .context(|| format!("cannot read {}", path.display()))?
                .len();
            if found != size {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{name} is not what the lock names"),
                )
                .detail(format!("it has {found} bytes, the lock says {size}"))
                .hint(
                    "take the lock from version control again, or run `imgbuild lock --upgrade`",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn fetch_debs(&self, lock: &Lock, ui: &mut Ui) -> Result<()> {
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
            &fetch::Source {
                archives: &self.settings.archives,
                network: &self.settings.network,
                beside: self.beside(),
            },
            self.inputs,
            &self.work.scratch.join("fetch"),
            &mut |bytes| {
                done += bytes;
                phase.progress(done, total, ui::Unit::Bytes);
            },
        )?;
        phase.finish(&format!("{} packages, {}", missing.len(), ui::size(total)));
        Ok(())
    }
}

/// What ranks the versions of a package.
fn preferences_from(recipe: &Recipe) -> Sha256 {
    let text = format!("{}\n{}", recipe.bootstrap.suite, recipe.apt_preferences());
    Sha256::of(text.as_bytes())
}

/// Whether the recipe still has every suite that the lock was resolved from.
fn suites_stand(recipe: &Recipe, lock: &Lock) -> bool {
    lock.releases.iter().all(|release| {
        let bootstrap = &recipe.bootstrap;
        let own = release.archive == bootstrap.archive_name()
            && release.suite == bootstrap.suite.as_str();
        own || recipe.sources.iter().any(|source| {
            source.archive_name() == release.archive && source.suite.as_str() == release.suite
        })
    })
}

fn same_debs(a: &[lockfile::Deb], b: &[lockfile::Deb]) -> bool {
    let digests = |debs: &[lockfile::Deb]| debs.iter().map(|d| d.sha256).collect::<BTreeSet<_>>();
    digests(a) == digests(b)
}

/// `debootstrap` and its version.
fn bootstrapper() -> Result<String> {
    let out = Tool::new("debootstrap").arg("--version").output()?;
    let text = String::from_utf8(out).context(|| "debootstrap names no version".into())?;
    Ok(text.trim().to_owned())
}
