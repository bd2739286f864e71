//! What a build of a recipe comes to, before anything is run.

use std::fs;
use std::path::{Path, PathBuf};

use store::{Manifest, Sha256, WritableStore};

use crate::caches::{CachedImage, Caches};
use crate::error::{Context, Result};
use crate::layers::Layers;
use crate::lock::resolve::local;
use crate::lock::resolve::remembered::Remembered;
use crate::lockfile::Lock;
use crate::pack::image;
use crate::recipe::Recipe;
use crate::release::publish;
use crate::run::{PlannedStep, all_keys, plan_steps};
use crate::settings::Settings;
use crate::steps;
use crate::ui::Ui;
use crate::work_dir::unwritable;

/// What is to be done for the image of a recipe.
#[derive(Debug)]
pub enum Plan {
    /// There is no lock, or it is of another recipe or of other files: it comes first.
    Lock,
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
    /// The store that is built into.
    pub store: &'a WritableStore,
    /// Stores that may have the image already.
    pub caches: &'a Caches<'a>,
    /// The work directory, and where roots that are trusted lie.
    pub settings: &'a Settings,
}

impl Plan {
    /// Looks at the recipe, its lock, the store, the layers of earlier builds and the caches.
    pub fn make(inputs: &Inputs<'_>, ui: &mut Ui) -> Result<Self> {
        let Inputs {
            recipe,
            path,
            lock,
            store,
            caches,
            settings,
        } = *inputs;
        let Some(lock) = lock else {
            return Ok(Self::Lock);
        };
        let remembered = Remembered::below(&settings.work);
        if lock.files != local::read(recipe, crate::lock::beside(path), &remembered, None)?.files {
            return Ok(Self::Lock);
        }
        // The steps name everything that decides about the image.
        let Ok(steps) = steps::all(recipe, lock) else {
            return Ok(Self::Lock);
        };
        let steps = plan_steps(steps, &Layers::open(&settings.work)?)?;
        let built = image::remembered(&record_of(&settings.work, &steps, recipe)?, store)?;
        if let Some(manifest) = built
            && let Some(seq) = publish::is_released(&manifest, store)?
        {
            return Ok(Self::UpToDate {
                manifest,
                seq,
                steps,
            });
        }
        Ok(match caches.find(recipe, lock, ui)? {
            Some(image) => Self::Take { image, steps },
            None => Self::Build(steps),
        })
    }
}

/// Remembers which image these steps made, for the next plan.
pub(crate) fn remember(
    work: &Path,
    steps: &[PlannedStep],
    recipe: &Recipe,
    manifest: &Manifest,
) -> Result<()> {
    let file = record_of(work, steps, recipe)?;
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, manifest.to_json())
        .and_then(|()| fs::rename(&temporary, &file))
        .context(|| format!("cannot write {}", file.display()))
}

/// The file in which the image of these steps is remembered.
fn record_of(work: &Path, steps: &[PlannedStep], recipe: &Recipe) -> Result<PathBuf> {
    let dir = work.join("built");
    fs::create_dir_all(&dir).map_err(|e| unwritable(work, &e))?;
    let mut text = recipe.canonical_json();
    for key in all_keys(steps) {
        text.extend(key.as_str().as_bytes());
    }
    Ok(dir.join(Sha256::of(&text).hex()))
}
