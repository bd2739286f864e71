//! Roots: which images there are, and who wants them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pins::{self, Pin};
use crate::backend::{ETag, ListableBackend, ObjectMeta};
use crate::digest::{ImageId, Sha256};
use crate::error::{Error, Result};
use crate::hint::{self, Hint};
use crate::manifest::{self, LayoutRef, Manifest};
use crate::name::{EnvName, ImageName};
use crate::store::{IMAGES, Store, manifest_key};
use crate::tuf::{Environment, paths};

/// Folder of environments, as a prefix of keys.
const ENVIRONMENTS: &str = "env/";

/// A reason to keep an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// It is released: `ENV/NAME`, and the numbers of the releases.
    Released(BTreeMap<String, Vec<u64>>),
    /// A manifest of it lies in an environment, where no release names it yet.
    Releasing,
    /// It is pinned, for this reason.
    Pinned(String),
    /// A living writer holds it.
    Held,
    /// It is younger than the grace period.
    Young,
    /// It is one of the newest of its name.
    Newest,
    /// This image stands on it.
    Base(ImageId),
}

/// An image that the store has a manifest of.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) name: ImageName,
    /// Bytes of its tar.
    pub(super) size: u64,
    /// Its layout: one, unless manifests disagree.
    pub(super) layouts: Vec<LayoutRef>,
    /// Recipe and lock of each manifest.
    pub(super) sources: BTreeSet<(Sha256, Sha256)>,
    /// The manifest under `images/`.
    pub(super) object: Option<ObjectMeta>,
    /// When it was published.
    pub(super) published: u64,
    pub(super) releases: BTreeMap<String, Vec<u64>>,
    pub(super) in_environment: bool,
    pub(super) pin: Option<Pin>,
}

/// All images of a store.
pub(super) struct Roots {
    pub(super) images: BTreeMap<ImageId, Root>,
    seen: HashMap<String, ETag>,
    /// Manifests of environments that count no more, unless they were put again since.
    retired: HashMap<String, ETag>,
}

impl Roots {
    /// Reads manifests, pins and environments, but for what is retired there.
    pub(super) fn read(
        store: &Store,
        place: &dyn ListableBackend,
        retired: HashMap<String, ETag>,
    ) -> Result<Self> {
        let mut roots = Self {
            images: BTreeMap::new(),
            seen: HashMap::new(),
            retired,
        };
        let mut releases = BTreeMap::new();
        for env in environments(place)? {
            for release in released(store, &env)? {
                let numbers: &mut BTreeMap<_, Vec<_>> = releases.entry(release.image).or_default();
                let name = format!("{env}/{}", release.name);
                numbers.entry(name).or_default().push(release.seq);
            }
        }
        roots.refresh(store, place)?;
        for (image, numbers) in releases {
            let root = roots.images.get_mut(&image).ok_or_else(|| {
                let names: Vec<_> = numbers.keys().cloned().collect();
                let what = format_args!("the image {image}, released as {},", names.join(", "));
                Error::missing(what, place.describe())
            })?;
            root.releases = numbers;
        }
        Ok(roots)
    }

    /// Reads what is new or has changed, and returns the images that somebody wants
    /// because of it.
    pub(super) fn refresh(
        &mut self,
        store: &Store,
        place: &dyn ListableBackend,
    ) -> Result<BTreeSet<ImageId>> {
        let mut wanted = BTreeSet::new();
        for object in place.list_all(IMAGES)? {
            let hex = object.key.strip_prefix(IMAGES);
            let hex = hex.and_then(|name| name.strip_suffix(".json"));
            let Some(Ok(image)) = hex.map(ImageId::from_hex) else {
                continue;
            };
            if self.knows(&object) {
                continue;
            }
            let manifest = match store.manifest(&image) {
                Ok(manifest) => manifest,
                // Removed since it was listed.
                Err(error) if error.kind() == crate::ErrorKind::Missing => continue,
                Err(error) => return Err(error),
            };
            let published = published(place, &image)?.unwrap_or(object.modified);
            let root = self.add(&manifest);
            root.published = published;
            root.object = Some(object);
            wanted.insert(image);
        }
        for object in place.list_all(ENVIRONMENTS)? {
            let retired = self.retired.get(&object.key) == Some(&object.version);
            if !object.key.contains("/targets/") || retired || self.knows(&object) {
                continue;
            }
            let json = place.get(&object.key, manifest::MAX_BYTES)?;
            // A target that is no manifest may be one day; it is no image of ours.
            let Some(Ok(manifest)) = json.as_deref().map(Manifest::from_json) else {
                continue;
            };
            self.add(&manifest).in_environment = true;
            wanted.insert(manifest.image);
        }
        let pins: BTreeMap<ImageId, Pin> = pins::pins(place)?
            .into_iter()
            .map(|pin| (pin.image, pin))
            .collect();
        for (image, root) in &mut self.images {
            let pin = pins.get(image).cloned();
            if root.pin.is_none() && pin.is_some() {
                wanted.insert(*image);
            }
            root.pin = pin;
        }
        Ok(wanted)
    }

    /// Whether this version was read; it now was.
    fn knows(&mut self, object: &ObjectMeta) -> bool {
        let before = self.seen.insert(object.key.clone(), object.version.clone());
        before.as_ref() == Some(&object.version)
    }

    fn add(&mut self, manifest: &Manifest) -> &mut Root {
        let root = self.images.entry(manifest.image).or_insert_with(|| Root {
            name: manifest.name.clone(),
            size: manifest.size,
            layouts: Vec::new(),
            sources: BTreeSet::new(),
            object: None,
            published: 0,
            releases: BTreeMap::new(),
            in_environment: false,
            pin: None,
        });
        if !root.layouts.contains(&manifest.layout) {
            root.layouts.push(manifest.layout.clone());
        }
        root.sources.insert((manifest.recipe, manifest.lock));
        root
    }
}

impl Root {
    /// The reasons to keep it that do not depend on a policy.
    pub(super) fn why(&self, image: &ImageId, held: &BTreeSet<String>) -> Vec<KeepReason> {
        let mut why = Vec::new();
        if !self.releases.is_empty() {
            why.push(KeepReason::Released(self.releases.clone()));
        } else if self.in_environment {
            why.push(KeepReason::Releasing);
        }
        if let Some(pin) = &self.pin {
            why.push(KeepReason::Pinned(pin.reason.clone()));
        }
        if held.contains(&manifest_key(image)) {
            why.push(KeepReason::Held);
        }
        why
    }
}

/// Returns the reasons to keep each image that do not depend on a collector's policy.
pub fn keep_reasons(
    store: &Store,
    place: &dyn ListableBackend,
) -> Result<BTreeMap<ImageId, Vec<KeepReason>>> {
    let held = place.writers()?.held;
    let roots = Roots::read(store, place, HashMap::new())?;
    let images = roots.images.iter();
    Ok(images
        .map(|(image, root)| (*image, root.why(image, &held)))
        .collect())
}

/// When an image was published, as its hint says.
fn published(backend: &dyn ListableBackend, image: &ImageId) -> Result<Option<u64>> {
    let json = backend.get(&Hint::key(image), hint::MAX_BYTES)?;
    let hint = json.and_then(|json| Hint::from_json(&json).ok());
    Ok(hint.map(|hint| hint.published).filter(|time| *time > 0))
}

/// The environments of a store.
pub(super) fn environments(place: &dyn ListableBackend) -> Result<BTreeSet<EnvName>> {
    let mut names = BTreeSet::new();
    for object in place.list_all(ENVIRONMENTS)? {
        // Names in `env/` that are not ours, and attempts at making one, have none.
        let name = object.key[ENVIRONMENTS.len()..].split('/').next();
        if let Some(Ok(name)) = name.map(str::parse::<EnvName>)
            && object.key == paths::metadata(&name, "timestamp.json")
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The releases of an environment, its metadata verified.
pub(super) fn released(store: &Store, env: &EnvName) -> Result<Vec<crate::tuf::Release>> {
    Environment::open(store, env)
        .and_then(|environment| environment.releases())
        .map_err(|error| {
            Error::corrupt(format_args!("the environment {env}"), &error).with_source(error)
        })
}
