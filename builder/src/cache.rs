//! Stores that builders share: what somebody else has fetched or built already.
//!
//! Before a mirror is asked, retained inputs are taken from the caches (`--cache`), and
//! before anything is built, the finished image. A cache is a store like any other; one
//! that cannot be reached, or is damaged, costs a warning and nothing else. Cached steps
//! stay on their machine.
//!
//! # What is believed
//!
//! An input is what the lock says: its digest is compared, so it may come from anywhere.
//!
//! A finished image is another matter: that these bytes come of this recipe and this
//! lock is somebody's word. It is taken only when an environment of the cache that this
//! machine trusts has it released, as an image of the same recipe, lock, architecture and
//! version of imgbuild. An environment is trusted by its first root (`1.root.json`), byte
//! for byte: `--trust FILE`, or a file in `trusted/` beside the private keys. From there
//! the chain of roots leads to the keys that sign today, nothing of it may have run out,
//! and a revoked image is not taken. Then every byte of the image is compared with the
//! signed manifest, and it is released here as if it had been built here. Whoever can
//! write to the cache but has no such key can serve nothing but inputs.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use store::copy::{Copier, copy_held_inputs, copy_inputs};
use store::tuf::{ENVIRONMENT_FIELD, Environment, Release, paths};
use store::{EnvName, Manifest, Sha256, Store, StoreUrl, WritableStore};

use crate::commands::care::{copy as copying, sized_inputs_of};
use crate::error::{Context, Error, Result};
use crate::find;
use crate::image::{self, FIRST_ENVIRONMENT};
use crate::lock::Lock;
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::ui::{self, Ui, Unit};

/// Below the keys' directory: roots of environments that are trusted.
const TRUSTED: &str = "trusted";

/// Releases of a name that are looked at, the newest first.
const MOST_RELEASES: usize = 8;

/// What is asked of caches.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Where they are.
    pub places: Vec<StoreUrl>,
    /// Roots of environments whose releases count.
    pub trust: Vec<PathBuf>,
    /// Whether what was fetched and built is put into them.
    pub push: bool,
}

/// The caches of a build.
pub struct Caches<'a> {
    /// The store that is built into.
    into: &'a WritableStore,
    /// Where inputs are files.
    near: &'a WritableStore,
    /// Those that answer; the others are gone from here.
    open: RefCell<Vec<(StoreUrl, Store)>>,
    roots: Vec<Root>,
}

/// An environment that is trusted.
struct Root {
    env: EnvName,
    /// Of its first root.
    fingerprint: Sha256,
}

impl<'a> Caches<'a> {
    /// Opens the caches. One that does not answer is told and left out.
    pub fn open(
        shared: &Shared,
        offline: bool,
        into: &'a WritableStore,
        near: &'a WritableStore,
        settings: &Settings,
        ui: &Ui,
    ) -> Result<Self> {
        let roots = if shared.places.is_empty() {
            Vec::new()
        } else {
            roots(&shared.trust, &settings.keys)?
        };
        let mut open = Vec::new();
        for place in &shared.places {
            if *place == settings.place
                || place.directory().is_some() && place.directory() == into.directory()
                || offline && place.directory().is_none()
            {
                continue;
            }
            match find::open_at(place, settings) {
                Ok(store) => open.push((place.clone(), store)),
                // One that a push is going to make.
                Err(_) if shared.push && place.directory().is_some_and(is_unused) => {}
                Err(error) => ui.note(&unusable(place, &error.causes().join(": "))),
            }
        }
        Ok(Self {
            into,
            near,
            open: RefCell::new(open),
            roots,
        })
    }

    /// Takes what is lacking here of these inputs: from the store itself, if it is
    /// elsewhere, then as far as the caches have them.
    pub fn inputs(&self, wanted: impl Iterator<Item = (Sha256, u64)>, ui: &mut Ui) -> Result<()> {
        let elsewhere = self.into.directory().is_none();
        if self.open.borrow().is_empty() && !elsewhere {
            return Ok(());
        }
        let inputs = self.near.inputs();
        let lacked = |all: Vec<(Sha256, u64)>| -> Vec<(Sha256, u64)> {
            let all = all.into_iter();
            all.filter(|(digest, _)| !inputs.has(digest)).collect()
        };
        let mut missing = lacked(wanted.collect());
        if elsewhere && !missing.is_empty() {
            let total = missing.iter().map(|(_, size)| size).sum();
            let mut phase = ui.phase("take inputs");
            let mut done = 0;
            let named = missing.iter().copied();
            let taken = copy_held_inputs(self.into, self.near, named, &mut |bytes| {
                done += bytes;
                phase.progress(done, total, Unit::Moved);
            })
            .context(|| "cannot take the inputs that the store retains".into())?;
            phase.finish(&format!(
                "{} of {} from the store, {}",
                taken.count,
                missing.len(),
                ui::size(taken.bytes)
            ));
            missing = lacked(missing);
        }
        self.each(ui, |place, store, ui| {
            if missing.is_empty() {
                return Ok(());
            }
            let total = missing.iter().map(|(_, size)| size).sum();
            let mut phase = ui.phase("take inputs");
            let mut done = 0;
            let taken = copy_inputs(store, self.near, missing.iter().copied(), &mut |bytes| {
                done += bytes;
                phase.progress(done, total, Unit::Moved);
            })?;
            phase.finish(&format!(
                "{} of {} from {place}, {}",
                taken.count,
                missing.len(),
                ui::size(taken.bytes)
            ));
            missing = lacked(std::mem::take(&mut missing));
            Ok(())
        })
    }

    /// Retains inputs in the store, if that is elsewhere.
    pub fn retain(&self, named: impl Iterator<Item = (Sha256, u64)>, ui: &mut Ui) -> Result<()> {
        if self.into.directory().is_some() {
            return Ok(());
        }
        let named: Vec<(Sha256, u64)> = named.collect();
        let total = named.iter().map(|(_, size)| size).sum();
        let mut phase = ui.phase("retain inputs");
        let mut done = 0;
        let kept = copy_inputs(self.near.store(), self.into, named, &mut |bytes| {
            done += bytes;
            phase.progress(done, total, Unit::Moved);
        })
        .context(|| "cannot retain the inputs in the store".into())?;
        if let Some((_, why)) = kept.lacking.first() {
            return Err(Error::failed("the inputs here are not what they were")
                .detail(why)
                .hint(
                    "`imgbuild store fsck --quarantine` on the directory that it names, then again",
                ));
        }
        phase.finish(&format!("{} new, {}", kept.count, ui::size(kept.bytes)));
        Ok(())
    }

    /// Takes the finished image of exactly this recipe and lock, with its inputs, if a
    /// trusted environment of a cache has it released.
    pub fn image(&self, recipe: &Recipe, lock: &Lock, ui: &mut Ui) -> Result<Option<Manifest>> {
        if self.roots.is_empty() || self.open.borrow().is_empty() {
            return Ok(None);
        }
        let recipe_digest = Sha256::of(&recipe.canonical_json());
        let lock_digest = lock.digest()?;
        let fits = |manifest: &Manifest| {
            manifest.recipe == recipe_digest
                && manifest.lock == lock_digest
                && manifest.arch == lock.architecture
                && manifest.builder == image::BUILDER
        };
        let mut found = None;
        self.each(ui, |place, store, ui| {
            for root in &self.roots {
                if found.is_some() {
                    return Ok(());
                }
                let Some(manifest) = signed(store, root, recipe, &fits, ui)? else {
                    continue;
                };
                ui.note(&format!(
                    "{} is in {place}, released in {}",
                    manifest.image, root.env
                ));
                let copier = Copier::new(store)
                    .with_manifest(manifest.clone())
                    .with_inputs(&sized_inputs_of);
                let outcome = copying::copy(&copier, &[manifest.image], self.into, ui)?;
                match outcome.failed.first() {
                    Some((_, why)) => ui.note(&unusable(place, why)),
                    None => found = Some(manifest),
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Asks every cache in turn. One that fails is told, and not asked again.
    fn each(
        &self,
        ui: &mut Ui,
        mut ask: impl FnMut(&StoreUrl, &Store, &mut Ui) -> store::Result<()>,
    ) -> Result<()> {
        let mut open = self.open.borrow_mut();
        let mut failed = None;
        open.retain(|(place, store)| {
            if failed.is_some() {
                return true;
            }
            match ask(place, store, ui) {
                Ok(()) => true,
                // Ours, and not the cache's.
                Err(error) if matches!(error.kind(), store::ErrorKind::Full) => {
                    failed = Some(error);
                    true
                }
                Err(error) => {
                    ui.note(&unusable(place, &error.to_string()));
                    false
                }
            }
        });
        match failed {
            None => Ok(()),
            Some(error) => Err(Error::failed("cannot take what the caches have").because(&error)),
        }
    }
}

fn unusable(place: &StoreUrl, why: &str) -> String {
    format!("warning: the cache {place} is not used: {why}")
}

fn is_unused(path: &Path) -> bool {
    fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}

/// The newest release in an environment that `fits`, if the environment is the trusted
/// one and nothing of it has run out.
fn signed(
    store: &Store,
    root: &Root,
    recipe: &Recipe,
    fits: &dyn Fn(&Manifest) -> bool,
    ui: &Ui,
) -> store::Result<Option<Manifest>> {
    let refuse = |why: String| {
        let place = store.backend().describe();
        ui.note(&format!(
            "warning: images of {} in {place} are not taken: {why}",
            root.env
        ));
        Ok(None)
    };
    // Not released there is no fault.
    if let Ok(false) = Environment::exists(store, &root.env) {
        return Ok(None);
    }
    let environment = match Environment::open(store, &root.env) {
        Ok(environment) => environment,
        Err(error) => return refuse(error.to_string()),
    };
    if environment.fingerprint() != root.fingerprint {
        return refuse("it is another environment than the one that is trusted".into());
    }
    let now = jiff::Timestamp::now();
    let expired = environment
        .expiries()
        .into_iter()
        .find(|(_, end)| *end <= now);
    if let Some((role, end)) = expired {
        return refuse(format!("its {role} has run out at {end}"));
    }
    let mut releases: Vec<Release> = match environment.releases() {
        Ok(releases) => releases,
        Err(error) => return refuse(error.to_string()),
    };
    releases.retain(|release| release.name.as_str() == recipe.name.as_str());
    releases.sort_by_key(|release| std::cmp::Reverse(release.seq));
    let Some(newest) = releases.first() else {
        return Ok(None);
    };
    let revoked = newest.custom.revoked.clone();
    for release in releases.iter().take(MOST_RELEASES) {
        let json = store
            .backend()
            .get(&release.target_path, store::manifest::MAX_BYTES)?;
        // Its name says its digest, and that is signed.
        let whole = |json: &Vec<u8>| release.target_path.contains(&Sha256::of(json).hex());
        let Some(json) = json.filter(whole) else {
            continue;
        };
        let manifest = Manifest::from_json(&json)?;
        let same = manifest.image == release.image && !revoked.contains(&manifest.image);
        if same && fits(&manifest) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// Reads the roots that are trusted.
fn roots(files: &[PathBuf], keys: &Path) -> Result<Vec<Root>> {
    let mut all = files.to_vec();
    let folder = keys.join(TRUSTED);
    if let Ok(entries) = fs::read_dir(&folder) {
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        found.sort();
        all.extend(found);
    }
    all.iter().map(|path| read_root(path)).collect()
}

fn read_root(path: &Path) -> Result<Root> {
    let failed = || format!("cannot trust {}", path.display());
    let bytes = fs::read(path).context(failed)?;
    let json: Value = serde_json::from_slice(&bytes).context(failed)?;
    let signed = &json["signed"];
    let first = signed["_type"] == "root" && signed["version"] == 1;
    let env = signed[ENVIRONMENT_FIELD].as_str().filter(|_| first);
    let env = env.and_then(|name| name.parse().ok()).ok_or_else(|| {
        Error::usage(failed())
            .detail("it is not the first root of an environment")
            .hint("carry the file of `imgbuild env root save ENV` over by a way you trust")
    })?;
    Ok(Root {
        env,
        fingerprint: Sha256::of(&bytes),
    })
}

/// Puts an image with all that it was built from into the caches that can be written,
/// and releases it there where this machine has the keys. What fails is told.
pub fn push(
    manifest: &Manifest,
    from: &WritableStore,
    shared: &Shared,
    settings: &Settings,
    ui: &mut Ui,
) {
    for place in &shared.places {
        if *place == settings.place
            || place.directory().is_some() && place.directory() == from.directory()
        {
            continue;
        }
        if let Err(error) = push_into(place, manifest, from, settings, ui) {
            let causes = error.causes().join(": ");
            ui.note(&format!("warning: {error}: {causes}"));
        }
    }
}

fn push_into(
    place: &StoreUrl,
    manifest: &Manifest,
    from: &WritableStore,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<()> {
    let failed = || format!("nothing was put into the cache {place}");
    let to = copying::destination(place, settings)?;
    let copier = Copier::new(from.store()).with_inputs(&sized_inputs_of);
    let outcome = copying::copy(&copier, &[manifest.image], &to, ui).context(failed)?;
    if let Some((_, why)) = outcome.failed.first() {
        return Err(Error::failed(failed()).detail(why));
    }
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    let new = !Environment::exists(&to, &env).context(failed)?;
    image::release(manifest, &to, settings, ui).map_err(|error| {
        let why = error.causes().join(": ");
        Error::failed(format!(
            "{} is in {place}, but not released there",
            manifest.image
        ))
        .detail(why)
        .detail("other builders take its inputs from there, and not the image")
    })?;
    if new {
        // What this machine has made, it trusts.
        trust(&to, &env, &settings.keys)?;
    }
    Ok(())
}

/// Remembers the first root of an environment as trusted.
fn trust(store: &WritableStore, env: &EnvName, keys: &Path) -> Result<()> {
    let failed = || format!("cannot remember the environment {env}");
    let key = paths::metadata(env, "1.root.json");
    let bytes = store.store().backend().get(&key, 1 << 20).context(failed)?;
    let Some(bytes) = bytes else { return Ok(()) };
    let folder = keys.join(TRUSTED);
    fs::create_dir_all(&folder).context(failed)?;
    let digits = Sha256::of(&bytes).hex();
    let file = folder.join(format!("{env}-{}.root.json", &digits[..16]));
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, &bytes)
        .and_then(|()| fs::rename(&temporary, &file))
        .context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_root_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("root.json");
        let write = |text: &str| fs::write(&file, text).unwrap();
        write(r#"{"signed":{"_type":"root","version":1,"x-imgbuild-environment":"dev"}}"#);
        let root = read_root(&file).unwrap();
        assert_eq!(root.env.as_str(), "dev");
        assert_eq!(root.fingerprint, Sha256::of(&fs::read(&file).unwrap()));
        for wrong in [
            "{}",
            r#"{"signed":{"_type":"root","version":2,"x-imgbuild-environment":"dev"}}"#,
            r#"{"signed":{"_type":"targets","version":1,"x-imgbuild-environment":"dev"}}"#,
            r#"{"signed":{"_type":"root","version":1,"x-imgbuild-environment":"../dev"}}"#,
            r#"{"signed":{"_type":"root","version":1}}"#,
        ] {
            write(wrong);
            assert!(read_root(&file).is_err(), "{wrong}");
        }
        assert!(read_root(&dir.path().join("none")).is_err());
    }

    #[test]
    fn trusted_roots_lie_beside_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        assert!(roots(&[], dir.path()).unwrap().is_empty());
        let folder = dir.path().join(TRUSTED);
        fs::create_dir(&folder).unwrap();
        let text = r#"{"signed":{"_type":"root","version":1,"x-imgbuild-environment":"prod"}}"#;
        fs::write(folder.join("a.root.json"), text).unwrap();
        fs::write(folder.join("notes"), "no root").unwrap();
        let found = roots(&[], dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].env.as_str(), "prod");
    }
}
