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
use store::tuf::{ENVIRONMENT_FIELD, Environment, Release, revoked_images};
use store::{EnvName, ImageId, Manifest, Sha256, Store, StoreUrl, WritableStore};

use crate::error::{Context, Error, Result};
use crate::lockfile::{Base, Lock, sized_inputs_of};
use crate::pack::image;
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::stores::{self, copy::copy, is_unused};
use crate::ui::{self, Ui, Unit};

/// Below the keys' directory: roots of environments that are trusted.
pub(crate) const TRUSTED: &str = "trusted";

/// Releases of a name that are looked at, the newest first.
const MOST_RELEASES: usize = 8;

/// What is asked of caches.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Where they are.
    pub urls: Vec<StoreUrl>,
    /// Files with the roots of environments whose releases count.
    pub trust: Vec<PathBuf>,
    /// Whether what was fetched and built is put into them.
    pub push: bool,
}

/// The caches of a build; each is opened when the first thing is asked of it.
pub struct Caches<'a> {
    /// The store that is built into, and the one where inputs are files; none when
    /// nothing is to be taken.
    stores_here: Option<(&'a WritableStore, &'a WritableStore)>,
    settings: &'a Settings,
    roots: Vec<TrustedRoot>,
    stores: RefCell<Vec<Cache>>,
}

/// One cache. One that failed is not asked again.
struct Cache {
    url: StoreUrl,
    /// Whether a push is going to make it, if it is not there.
    made_by_push: bool,
    store: Option<Store>,
}

/// An environment that is trusted.
struct TrustedRoot {
    env: EnvName,
    /// Of its first root.
    fingerprint: Sha256,
}

/// What is looked for in caches.
struct Sought<'a> {
    /// The name that it is released under; any when not given.
    name: Option<&'a str>,
    /// The image; any when not given.
    image: Option<ImageId>,
    fits: &'a dyn Fn(&Manifest) -> bool,
}

/// The image of a recipe and lock, as a cache has it.
#[derive(Debug)]
pub struct CachedImage {
    /// Its manifest, as it was signed.
    pub manifest: Manifest,
    /// The cache.
    pub url: StoreUrl,
    /// The trusted environment that has it released.
    pub env: EnvName,
}

impl<'a> Caches<'a> {
    /// The caches that `shared` names, but for the store itself. Fails when a root that is
    /// to be trusted cannot be read.
    pub fn new(
        shared: &Shared,
        offline: bool,
        into: &'a WritableStore,
        near: &'a WritableStore,
        settings: &'a Settings,
    ) -> Result<Self> {
        let caches = Self::to_look(shared, offline, settings)?;
        Ok(Self {
            stores_here: Some((into, near)),
            ..caches
        })
    }

    /// The same caches for [`Caches::find`] alone: nothing is taken from them.
    pub fn to_look(shared: &Shared, offline: bool, settings: &'a Settings) -> Result<Self> {
        let roots = if shared.urls.is_empty() {
            Vec::new()
        } else {
            roots(&shared.trust, &settings.keys)?
        };
        let others = shared
            .urls
            .iter()
            .filter(|url| **url != settings.store_url && (url.directory().is_some() || !offline));
        let caches = others.map(|url| Cache {
            url: url.clone(),
            made_by_push: shared.push && url.directory().is_some_and(is_unused),
            store: None,
        });
        let stores = RefCell::new(caches.collect());
        Ok(Self {
            stores_here: None,
            settings,
            roots,
            stores,
        })
    }

    /// Takes what is lacking here of these inputs: from the store itself, if it is
    /// elsewhere, then as far as the caches have them.
    pub fn inputs(&self, wanted: impl Iterator<Item = (Sha256, u64)>, ui: &mut Ui) -> Result<()> {
        let Some((into, near)) = self.stores_here else {
            return Ok(());
        };
        let elsewhere = into.directory().is_none();
        if self.stores.borrow().is_empty() && !elsewhere {
            return Ok(());
        }
        let inputs = near.inputs();
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
            let taken = copy_held_inputs(into, near, named, &mut |bytes| {
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
        self.each(ui, |url, store, ui| {
            if missing.is_empty() {
                return Ok(());
            }
            let total = missing.iter().map(|(_, size)| size).sum();
            let mut phase = ui.phase("take inputs");
            let mut done = 0;
            let taken = copy_inputs(store, near, missing.iter().copied(), &mut |bytes| {
                done += bytes;
                phase.progress(done, total, Unit::Moved);
            })?;
            phase.finish(&format!(
                "{} of {} from {url}, {}",
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
        let Some((into, near)) = self.stores_here else {
            return Ok(());
        };
        if into.directory().is_some() {
            return Ok(());
        }
        let named: Vec<(Sha256, u64)> = named.collect();
        let total = named.iter().map(|(_, size)| size).sum();
        let mut phase = ui.phase("retain inputs");
        let mut done = 0;
        let kept = copy_inputs(near.store(), into, named, &mut |bytes| {
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

    /// The finished image of exactly this recipe and lock, if a trusted environment of a
    /// cache has it released.
    pub fn find(&self, recipe: &Recipe, lock: &Lock, ui: &mut Ui) -> Result<Option<CachedImage>> {
        if self.roots.is_empty() {
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
        let sought = Sought {
            name: Some(recipe.name.as_str()),
            image: None,
            fits: &fits,
        };
        let found = self.seek(&sought, ui)?;
        if let Some(image) = &found {
            ui.note(&format!(
                "{} is in {}, released in {}",
                image.manifest.image, image.url, image.env
            ));
        }
        Ok(found)
    }

    /// The first image that fits, of the caches in their order.
    fn seek(&self, sought: &Sought<'_>, ui: &mut Ui) -> Result<Option<CachedImage>> {
        let mut found = None;
        self.each(ui, |url, store, ui| {
            for root in &self.roots {
                if found.is_none()
                    && let Some(manifest) = signed(store, root, sought, ui)?
                {
                    found = Some(CachedImage {
                        manifest,
                        url: url.clone(),
                        env: root.env.clone(),
                    });
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Brings the image that another one begins with, if a trusted environment of a cache has it
    /// released; says whether it came.
    pub fn base(&self, base: &Base, ui: &mut Ui) -> Result<bool> {
        let name = base
            .release
            .as_deref()
            .and_then(|release| release.split('/').nth(1));
        let sought = Sought {
            name,
            image: Some(base.image),
            fits: &|_| true,
        };
        match self.seek(&sought, ui)? {
            Some(image) => self.take(&image, ui),
            None => Ok(false),
        }
    }

    /// Brings an image with its inputs from its cache; says whether it came. A cache that
    /// cannot give what it promised is not asked again.
    pub fn take(&self, image: &CachedImage, ui: &mut Ui) -> Result<bool> {
        let Some((into, _)) = self.stores_here else {
            return Ok(false);
        };
        let mut came = false;
        self.each(ui, |url, store, ui| {
            if *url != image.url {
                return Ok(());
            }
            let copier = Copier::new(store)
                .with_manifest(image.manifest.clone())
                .with_inputs(&sized_inputs_of);
            let outcome = copy(&copier, &[image.manifest.image], into, ui)?;
            if let Some((_, why)) = outcome.failed.into_iter().next() {
                return Err(store::Error::new(store::ErrorKind::Corrupt, why));
            }
            came = true;
            Ok(())
        })?;
        Ok(came)
    }

    /// Asks every cache in turn. One that fails is told, and not asked again.
    fn each(
        &self,
        ui: &mut Ui,
        mut ask: impl FnMut(&StoreUrl, &Store, &mut Ui) -> store::Result<()>,
    ) -> Result<()> {
        let mut caches = self.stores.borrow_mut();
        let mut failed = None;
        caches.retain_mut(|cache| {
            if failed.is_some() {
                return true;
            }
            if cache.store.is_none() {
                match stores::open_at(&cache.url, self.settings) {
                    Ok(store) => cache.store = Some(store),
                    Err(_) if cache.made_by_push => return false,
                    Err(error) => {
                        ui.note(&unusable(&cache.url, &error.causes().join(": ")));
                        return false;
                    }
                }
            }
            let Some(store) = &cache.store else {
                return false;
            };
            match ask(&cache.url, store, ui) {
                Ok(()) => true,
                // Ours, and not the cache's.
                Err(error) if matches!(error.kind(), store::ErrorKind::Full) => {
                    failed = Some(error);
                    true
                }
                Err(error) => {
                    ui.note(&unusable(&cache.url, &error.to_string()));
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

fn unusable(url: &StoreUrl, why: &str) -> String {
    format!("warning: the cache {url} is not used: {why}")
}

/// The newest release in an environment that `fits`, if the environment is the trusted
/// one and nothing of it has run out.
fn signed(
    store: &Store,
    root: &TrustedRoot,
    sought: &Sought<'_>,
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
    let revoked = revoked_images(&releases);
    releases.retain(|release| {
        let is_named = sought.name.is_none_or(|name| release.name.as_str() == name);
        is_named && sought.image.is_none_or(|image| release.image == image)
    });
    releases.sort_by_key(|release| std::cmp::Reverse(release.seq));
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
        if same && (sought.fits)(&manifest) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// Reads the roots that are trusted.
fn roots(files: &[PathBuf], keys: &Path) -> Result<Vec<TrustedRoot>> {
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

fn read_root(path: &Path) -> Result<TrustedRoot> {
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
    Ok(TrustedRoot {
        env,
        fingerprint: Sha256::of(&bytes),
    })
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
