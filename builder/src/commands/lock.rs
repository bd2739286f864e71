//! `imgbuild lock RECIPE`

use crate::args::LockArgs;
use crate::build::{Workplace, load_recipe, open_nearby, open_store, prepare_host, require_root};
use crate::cache::{Caches, Shared};
use crate::error::Result;
use crate::lock::Lock;
use crate::locking::{Locking, Strictness, Upgrade};
use crate::settings::Settings;
use crate::ui::Ui;

pub(super) fn run(args: &LockArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let recipe = load_recipe(&args.recipe)?;
    require_root()?;
    let store = open_store(settings)?;
    let nearby = open_nearby(&store)?;
    let near = nearby.as_ref().unwrap_or(&store);
    let shared = Shared {
        places: super::build::caches(&args.caches, settings, ui)?,
        ..Shared::default()
    };
    let caches = Caches::open(&shared, false, &store, near, settings, ui)?;
    prepare_host(&recipe, args.setup, ui)?;
    let place = Workplace::take(&settings.work, recipe.name.as_str())?;
    let path = Lock::path_for(&args.recipe);
    let old = Lock::load(&path)?;
    let locking = Locking {
        recipe: &recipe,
        path: &args.recipe,
        settings,
        inputs: &near.inputs(),
        caches: Some(&caches),
        place: &place,
        strictness: Strictness::default(),
        upgrade: Upgrade::typed(&args.upgrade),
    };
    let new = locking.run(old.as_ref(), ui)?;
    caches.retain(new.sized_inputs(), ui)?;
    if old.as_ref() == Some(&new) {
        let state = if args.upgrade.is_empty() {
            "fits the recipe"
        } else {
            "has the newest that the recipe and the archives allow"
        };
        ui.note(&format!("{} {state}", path.display()));
    }
    ui.result(&path.display().to_string());
    Ok(())
}
