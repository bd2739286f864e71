//! `imgbuild lock RECIPE`

use serde::Serialize;
use store::tuf::Environment;

use super::load_recipe;
use crate::build::{prepare, require_root};
use crate::caches::{Caches, Shared};
use crate::cli::args::LockArgs;
use crate::error::Result;
use crate::inspect::audit::{self, Moved};
use crate::lock::{LockRequest, Strictness, Upgrade};
use crate::lockfile::Lock;
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};
use crate::work_dir::WorkDir;

/// What `--json` says at the end.
#[derive(Serialize)]
struct Locked {
    schema: u32,
    event: &'static str,
    lock: String,
    /// Whether it differs from what was there.
    written: bool,
    changes: Vec<Moved>,
}

pub(super) fn run(args: &LockArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let recipe = load_recipe(&args.recipe)?;
    require_root()?;
    let store = stores::open_to_write(settings)?;
    let nearby = stores::open_nearby(&store)?;
    let near = nearby.as_ref().unwrap_or(&store);
    let shared = Shared {
        urls: super::build::urls(&args.caches, settings, ui)?,
        ..Shared::default()
    };
    let caches = Caches::new(&shared, false, &store, near, settings)?;
    prepare(&recipe, args.setup, ui)?;
    let work = WorkDir::take(&settings.work, recipe.name.as_str())?;
    let path = Lock::path_for(&args.recipe);
    let old = Lock::load(&path)?;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let admits = |env: &mut Environment<'_>| keyring.admit(env);
    let request = LockRequest {
        recipe: &recipe,
        path: &args.recipe,
        settings,
        inputs: &near.inputs(),
        images: &store,
        admits: &admits,
        caches: Some(&caches),
        work: &work,
        strictness: Strictness::default(),
        upgrade: Upgrade::typed(&args.upgrade),
    };
    let mut new = request.run(old.as_ref(), ui)?;
    if request.has_packages(&new)? {
        request.record_ids(&mut new, ui)?;
    }
    caches.retain(new.sized_inputs(), ui)?;
    if old.as_ref() == Some(&new) {
        let state = if args.upgrade.is_empty() {
            "fits the recipe"
        } else {
            "has the newest that the recipe and the archives allow"
        };
        ui.note(&format!("{} {state}", path.display()));
    }
    if ui.is_json() {
        let is_new = old.as_ref() != Some(&new);
        ui.result_json(&Locked {
            schema: ui::SCHEMA,
            event: "locked",
            lock: path.display().to_string(),
            written: is_new,
            changes: if is_new {
                audit::moved(old.as_ref(), &new, &near.inputs(), settings)?
            } else {
                Vec::new()
            },
        });
        return Ok(());
    }
    ui.result(&path.display().to_string());
    Ok(())
}
