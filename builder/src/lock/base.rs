//! The image that a tree begins with: which one it is, and whether the recipe can stand on it.

use jiff::Timestamp;
use store::{ImageId, Manifest};

use super::LockRequest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::{Base, Changes, Lock};
use crate::recipe::BaseImage;
use crate::run;
use crate::steps;
use crate::stores::find;
use crate::tree::Tree;
use crate::ui::Ui;

/// A base with what a resolution must know of it.
pub(super) struct Chosen {
    pub(super) base: Base,
    /// Its epoch: the lock's is not earlier.
    pub(super) epoch: u64,
    /// Its dpkg status.
    pub(super) status: String,
}

impl LockRequest<'_> {
    /// The base that the recipe wants, in the store and fit to stand on: the one that the lock
    /// has, until the recipe names another or an upgrade takes its newest release.
    pub(super) fn choose_base(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Option<Chosen>> {
        let Some(wanted) = &self.recipe.bootstrap.base else {
            return Ok(None);
        };
        let old = old.and_then(|lock| lock.base.as_ref());
        let kept = old.filter(|base| !self.upgrade.takes_base() && is_of(base, wanted));
        let store = self.images.store();
        let (base, manifest) = match kept {
            Some(base) => {
                self.bring_base(base, ui)?;
                let manifest = store.manifest(&base.image).context(unreadable(base))?;
                (base.clone(), manifest)
            }
            None => self.newest_base(wanted)?,
        };
        self.check_base(&manifest, &base)?;
        let status = self.unpack_base(&base, &manifest, ui)?;
        if let Some(old) = old.filter(|old| old.image != base.image) {
            self.tell_difference(old, &base, &manifest, ui);
        }
        Ok(Some(Chosen {
            epoch: manifest.epoch,
            base,
            status,
        }))
    }

    /// The base as the recipe names it: by its digest, or its newest release.
    fn newest_base(&self, wanted: &BaseImage) -> Result<(Base, Manifest)> {
        let store = self.images.store();
        let text = wanted.as_str();
        let (manifest, release) = if let Ok(image) = text.parse::<ImageId>() {
            let manifest = store.manifest(&image).map_err(|error| {
                Error::failed(format!("the store has no image {image}, which is the base"))
                    .because(&error)
                    .hint("`imgbuild store copy FROM TO` brings it from another store")
            })?;
            (manifest, None)
        } else {
            let found = find::admitted(store, text, self.admits, Timestamp::now())?;
            let (env, _) = text.split_once('/').unwrap_or_default();
            let release = format!("{env}/{}/{}", found.name, found.seq);
            (found.manifest, Some(release))
        };
        let mut virtualenvs: Vec<String> = manifest
            .wheels
            .iter()
            .map(|wheel| wheel.virtualenv.clone())
            .collect();
        virtualenvs.dedup();
        let base = Base {
            image: manifest.image,
            sha256: manifest.sha256,
            release,
            lock: manifest.lock,
            virtualenvs,
        };
        Ok((base, manifest))
    }

    /// Makes sure that the store has the image of a locked base.
    pub(super) fn bring_base(&self, base: &Base, ui: &mut Ui) -> Result<()> {
        let store = self.images.store();
        let is_here = store
            .manifest(&base.image)
            .and_then(|manifest| store.has_image_objects(&manifest));
        if is_here.is_ok_and(|here| here) {
            return Ok(());
        }
        if let Some(caches) = self.caches
            && caches.base(base, ui)?
        {
            return Ok(());
        }
        let what = format!(
            "the store has no image {}, the base {base} of the lock",
            base.image
        );
        Err(Error::new(ErrorKind::Refused, what).hint(
            "copy it from the store that has it (`imgbuild store copy`), or name that with --cache \
             and trust its environment",
        ))
    }

    /// Refuses a base that the recipe says otherwise about.
    fn check_base(&self, manifest: &Manifest, base: &Base) -> Result<()> {
        let bootstrap = &self.recipe.bootstrap;
        let differs = [
            ("suite", manifest.suite.as_str(), bootstrap.suite.as_str()),
            (
                "architecture",
                manifest.arch.as_str(),
                bootstrap.architecture.as_str(),
            ),
        ];
        if let Some((key, has, says)) = differs.into_iter().find(|(_, has, says)| has != says) {
            let what = format!("the base {base} is of the {key} {has}, and the recipe says {says}");
            return Err(
                Error::usage(what).hint(format!("write {key} = \"{has}\", or take another base"))
            );
        }
        let foreign = |p: &&store::manifest::Package| p.arch != manifest.arch && p.arch != "all";
        if let Some(package) = manifest.packages.iter().find(foreign) {
            return Err(Error::usage(format!(
                "the base {base} has the package {} of another architecture, {}",
                package.name, package.arch
            ))
            .hint("only images of one architecture are bases"));
        }
        for virtualenv in &self.recipe.virtualenvs {
            let path = virtualenv.path.as_path();
            let meets =
                |own: &&String| path.starts_with(own) || own.starts_with(virtualenv.path.as_str());
            if let Some(own) = base.virtualenvs.iter().find(meets) {
                return Err(Error::usage(format!(
                    "the virtualenv {} would lie over {own}, which the base {base} has",
                    virtualenv.path
                ))
                .hint("give it another `path`: what a base has installed is changed in the base"));
            }
        }
        Ok(())
    }

    /// Unpacks a base as the first layer; returns its dpkg status.
    fn unpack_base(&self, base: &Base, manifest: &Manifest, ui: &mut Ui) -> Result<String> {
        let no_packages = || {
            Error::usage(format!("the base {base} has no dpkg status"))
                .detail("no package is installed in it that apt could build on")
                .hint("a base is an image of Debian with its package database")
        };
        if manifest.packages.is_empty() {
            return Err(no_packages());
        }
        let steps = vec![steps::begin_with(&base.image)];
        let planned = run::plan_steps(steps, &self.work.layers)?;
        self.run_steps(&Lock::on(base, &manifest.arch), &planned, ui)?;
        let tree = Tree::open(&self.work.layers.changes(&planned[0].key))?;
        self.check_users(&tree, base)?;
        tree.read("var/lib/dpkg/status")?.ok_or_else(no_packages)
    }

    /// Refuses users of the recipe whose name or number the base has.
    fn check_users(&self, tree: &Tree, base: &Base) -> Result<()> {
        let (users, groups) = (tree.users()?, tree.groups()?);
        for own in &self.recipe.users {
            let name = own.name.as_str();
            if users.iter().any(|user| user.name == name) {
                return Err(
                    Error::usage(format!("the base {base} has the user `{name}` already"))
                        .hint("leave out its [[user]], and use it as it is"),
                );
            }
            if let Some(other) = users.iter().find(|user| user.uid == own.uid.get()) {
                return Err(Error::usage(format!(
                    "the user id {} of `{name}` belongs to `{}` in the base {base}",
                    own.uid, other.name
                ))
                .hint("give it another `uid`"));
            }
            let of_group = groups.iter().find(|(_, id)| *id == own.gid().get());
            if let Some((group, _)) = of_group.filter(|_| own.gid().get() == own.uid.get()) {
                return Err(Error::usage(format!(
                    "the group id {} of `{name}` belongs to `{group}` in the base {base}",
                    own.gid()
                ))
                .hint("give it another `uid`, or that group by its `gid` and another `uid`"));
            }
        }
        Ok(())
    }

    /// Says which packages another base has.
    fn tell_difference(&self, old: &Base, new: &Base, manifest: &Manifest, ui: &Ui) {
        ui.note(&format!("the base moves from {old} to {new}"));
        let Ok(before) = self.images.store().manifest(&old.image) else {
            return;
        };
        for change in Changes::of_packages(&before.packages, &manifest.packages) {
            ui.note(&format!("  {change}"));
        }
    }
}

/// Whether a locked base is what the recipe names.
fn is_of(base: &Base, wanted: &BaseImage) -> bool {
    let wanted = wanted.as_str();
    match &base.release {
        Some(release) => {
            let rest = release.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        None => base.image.to_string() == wanted,
    }
}

fn unreadable(base: &Base) -> impl FnOnce() -> String + '_ {
    move || format!("cannot read the base {base}")
}

#[cfg(test)]
mod tests {
    use store::Sha256;

    use super::*;

    #[test]
    fn a_locked_base_stays_while_the_recipe_names_it() {
        let image = ImageId::of(b"image");
        let base = |release: Option<&str>| Base {
            image,
            sha256: Sha256::of(b"image"),
            release: release.map(str::to_owned),
            lock: Sha256::of(b"lock"),
            virtualenvs: Vec::new(),
        };
        let is = |release, wanted: &str| is_of(&base(release), &wanted.parse().unwrap());
        assert!(
            is(Some("prod/debian/7"), "prod/debian") && is(Some("prod/debian/7"), "prod/debian/7")
        );
        for other in ["prod/deb", "prod/debian/70", "dev/debian", "prod/debian/8"] {
            assert!(!is(Some("prod/debian/7"), other), "{other}");
        }
        assert!(is(None, &image.to_string()) && !is(None, "prod/debian"));
        assert!(!is(Some("prod/debian/7"), &image.to_string()));
    }
}
