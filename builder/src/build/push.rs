//! What was built, put into the caches.

use std::fs;
use std::path::Path;

use store::copy::Copier;
use store::tuf::{Environment, paths};
use store::{EnvName, Manifest, Sha256, StoreUrl, WritableStore};

use crate::atomic_file;
use crate::caches::{Shared, TRUSTED};
use crate::error::{Context, Error, Result};
use crate::lockfile::sized_inputs_of;
use crate::release::publish;
use crate::settings::Settings;
use crate::stores::ancestry;
use crate::stores::{self, FIRST_ENVIRONMENT};
use crate::ui::Ui;

/// Puts an image with all that it was built from into the caches that can be written,
/// and releases it there where this machine has the keys. What fails is told.
pub(super) fn push(
    manifest: &Manifest,
    from: &WritableStore,
    shared: &Shared,
    settings: &Settings,
    ui: &mut Ui,
) {
    for url in &shared.urls {
        if *url == settings.store_url
            || url.directory().is_some() && url.directory() == from.directory()
        {
            continue;
        }
        if let Err(error) = push_into(url, manifest, from, settings, ui) {
            let causes = error.causes().join(": ");
            ui.note(&format!("warning: {error}: {causes}"));
        }
    }
}

fn push_into(
    url: &StoreUrl,
    manifest: &Manifest,
    from: &WritableStore,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<()> {
    let failed = || format!("nothing was put into the cache {url}");
    let to = stores::destination(url, settings)?;
    let copier = Copier::new(from.store()).with_inputs(&sized_inputs_of);
    let mut images = ancestry::bases(from.store(), manifest)?;
    images.push(manifest.image);
    let outcome = stores::copy::copy(&copier, &images, &to, ui).context(failed)?;
    if let Some((_, why)) = outcome.failed.first() {
        return Err(Error::failed(failed()).detail(why));
    }
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    let new = !Environment::exists(&to, &env).context(failed)?;
    publish::release(manifest, &to, settings, ui).map_err(|error| {
        let why = error.causes().join(": ");
        Error::failed(format!(
            "{} is in {url}, but not released there",
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
    atomic_file::replace(&file, &bytes).context(failed)
}
