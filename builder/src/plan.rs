//! What a build of a recipe comes to, before anything is run.

use std::fs;
use std::path::{Path, PathBuf};

use store::tuf::revoked_images;
use store::{Manifest, Sha256, Store};

use crate::atomic_file;
use crate::caches::{CachedImage, Caches};
use crate::error::{Context, Result};
use crate::layers::Layers;
use crate::lock::resolve::local;
use crate::lock::resolve::remembered::Remembered;
use crate::lockfile::Lock;
use crate::pack::image;
use crate::recipe::Recipe;
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::{ceremony, publish};
use crate::run::{PlannedStep, all_keys, plan_steps};
use crate::settings::Settings;
use crate::steps;
use crate::stores::{FIRST_ENVIRONMENT, released};
use crate::ui::Ui;
use crate::work_dir::unwritable;

/// What is to be done for the image of a recipe.
#[derive(Debug)]
pub enum Plan {
    /// There is no lock, or it does not fit the recipe and its files: it comes first.
    Lock {
        /// What is wrong with it.
        why: String,
    },
    /// The image is in the store and released.
    UpToDate {
        /// The image.
        manifest: Manifest,
        /// The number of its newest release in the first environment.
        seq: u64,
        /// The steps that made it.
        steps: Vec<PlannedStep>,
    },
    /// A cache has the image, released by a trusted environment.
    Take {
        /// The image, and where it is.
        image: CachedImage,
        /// The steps that would make it.
        steps: Vec<PlannedStep>,
    },
    /// These steps make the image; those that are cached are not run again.
    Build(Vec<PlannedStep>),
}

/// What decides about a plan.
pub struct Inputs<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its path: files of the recipe lie beside it.
    pub path: &'a Path,
    /// Its lock, if there is one.
    pub lock: Option<&'a Lock>,
    /// The store that is built into, if there is one yet.
    pub store: Option<&'a Store>,
    /// Stores that may have the image already.
    pub caches: &'a Caches<'a>,
    /// The work directory, and where roots that are trusted lie.
    pub settings: &'a Settings,
}

impl Plan {
    /// Looks at the recipe, its lock, the store, the layers of earlier builds and the caches,
    /// and changes none of them.
    pub fn make(inputs: &Inputs<'_>, ui: &mut Ui) -> Result<Self> {
        let Inputs {
            recipe,
            path,
            lock,
            store,
            caches,
            settings,
        } = *inputs;
        let locks = |why: String| Ok(Self::Lock { why });
        let file = Lock::path_for(path);
        let Some(lock) = lock else {
            return locks(format!("there is no {}", file.display()));
        };
        let beside = crate::lock::beside(path);
        let remembered = Remembered::below(&settings.work);
        let files = local::read_described(recipe, beside, &remembered, Some(lock))?.files;
        let outdated = crate::lock::outdated(recipe, path, &files, lock)?;
        let unfit = || {
            let file = file.display();
            let parts = outdated.join(", ");
            format!("{file} does not fit the recipe any more; changed since: {parts}")
        };
        if lock.files != files {
            return locks(unfit());
        }
        // The steps name everything that decides about the image.
        let steps = match steps::all(recipe, lock) {
            Ok(steps) => plan_steps(steps, &Layers::look(&settings.work)?)?,
            Err(error) => return locks(error.causes().join(": ")),
        };
        if let Some(store) = store
            && let Some(manifest) =
                image::remembered(&record_of(&settings.work, &steps, recipe), store)?
            && let Some(seq) = publish::is_released(&manifest, store)?
        {
            return Ok(Self::UpToDate {
                manifest,
                seq,
                steps,
            });
        }
        if let Some(image) = caches.find(recipe, lock, ui)? {
            return Ok(Self::Take { image, steps });
        }
        if !outdated.is_empty() {
            return locks(unfit());
        }
        Ok(Self::Build(steps))
    }

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lock { .. } => "lock",
            Self::UpToDate { .. } => "up-to-date",
            Self::Take { .. } => "take",
            Self::Build(_) => "build",
        }
    }

    /// What is to be done, for people.
    pub fn what(&self) -> String {
        match self {
            Self::Lock { .. } => "resolve and lock first".to_owned(),
            Self::UpToDate { .. } => "nothing to do".to_owned(),
            Self::Take { image, .. } => format!("take the image from {}", image.url),
            Self::Build(steps) => {
                let cached = steps.iter().filter(|step| step.cached).count();
                format!("run {} steps, {cached} are cached", steps.len() - cached)
            }
        }
    }

    /// Why it is this and not another one, for people.
    pub fn why(&self) -> String {
        match self {
            Self::Lock { why } => why.clone(),
            Self::UpToDate { manifest, seq, .. } => format!(
                "release {FIRST_ENVIRONMENT}/{}/{seq} is the image of this recipe and lock",
                manifest.name
            ),
            Self::Take { image, .. } => format!(
                "its environment {}, which is trusted, has the image of this recipe and lock released",
                image.env
            ),
            Self::Build(_) => format!(
                "{FIRST_ENVIRONMENT} has not released an image of this recipe and lock, and no cache offers one"
            ),
        }
    }

    /// The steps of the image; none when the lock comes first.
    pub fn steps(&self) -> &[PlannedStep] {
        match self {
            Self::Lock { .. } => &[],
            Self::UpToDate { steps, .. } | Self::Take { steps, .. } | Self::Build(steps) => steps,
        }
    }
}

/// The newest release of the recipe's name and its number, where the store has that image and it was
/// built from the recipe and its lock as they are, by this version, and not revoked. Work directories know nothing
/// of what other machines have built, and are not asked.
pub fn released(
    recipe: &Recipe,
    path: &Path,
    store: &Store,
    settings: &Settings,
) -> Result<Option<(Manifest, u64)>> {
    let Some(lock) = Lock::load(&Lock::path_for(path))? else {
        return Ok(None);
    };
    let beside = crate::lock::beside(path);
    let remembered = Remembered::below(&settings.work);
    let files = local::read_described(recipe, beside, &remembered, Some(&lock))?.files;
    let outdated = crate::lock::outdated(recipe, path, &files, &lock)?;
    if lock.files != files || !outdated.is_empty() {
        return Ok(None);
    }
    let Some(mut env) = publish::first_environment(store)? else {
        return Ok(None);
    };
    // What nobody here has vouched for keeps nothing from being built.
    Keyring::new(settings, Passphrase::Terminal, None).admit(&mut env)?;
    let releases = ceremony::releases(&env)?;
    let of_name = releases.iter().filter(|one| one.name == recipe.name);
    let Some(newest) = of_name.max_by_key(|one| one.seq) else {
        return Ok(None);
    };
    // A build would say that this is not released again, and so it should.
    if revoked_images(&releases).contains(&newest.image) {
        return Ok(None);
    }
    let manifest = released::manifest(store, newest)?;
    let is_same = manifest.recipe == Sha256::of(&recipe.canonical_json())
        && manifest.lock == lock.digest()?
        && manifest.arch == lock.architecture
        && manifest.builder == image::BUILDER;
    let is_here = is_same && store.manifest(&manifest.image).is_ok();
    Ok(is_here.then_some((manifest, newest.seq)))
}

/// Remembers which image these steps made, for the next plan.
pub(crate) fn remember(
    work: &Path,
    steps: &[PlannedStep],
    recipe: &Recipe,
    manifest: &Manifest,
) -> Result<()> {
    let file = record_of(work, steps, recipe);
    fs::create_dir_all(work.join(BUILT)).map_err(|e| unwritable(work, &e))?;
    atomic_file::replace(&file, manifest.to_json())
        .context(|| format!("cannot write {}", file.display()))
}

/// Below the work directory: images of steps that ran there.
const BUILT: &str = "built";

/// The file in which the image of these steps is remembered.
fn record_of(work: &Path, steps: &[PlannedStep], recipe: &Recipe) -> PathBuf {
    let mut text = recipe.canonical_json();
    for key in all_keys(steps) {
        text.extend(key.as_str().as_bytes());
    }
    work.join(BUILT).join(Sha256::of(&text).hex())
}
