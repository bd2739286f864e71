//! From a finished tree to a released image.
//!
//! The tree passes the leak gate, is packed into the store as its canonical
//! tar, described by a manifest and signed into the dev environment, which is
//! made with its keys on first use.

use std::path::Path;

use store::manifest::{Health, Manifest, Run};
use store::tuf::{Environment, KeyGroup, RoleKeys};
use store::{EnvName, Progress, Sha256, WritableStore};

use crate::error::{Context, Error, Result};
use crate::keyring::{Keyring, Passphrase};
use crate::leak;
use crate::lock::Lock;
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::tree::Tree;
use crate::ui::{self, Ui, Unit};

/// The environment that a build releases into.
pub const FIRST_ENVIRONMENT: &str = "dev";

/// What this program calls itself in manifests.
pub const BUILDER: &str = concat!("imgbuild ", env!("CARGO_PKG_VERSION"));

/// Packs the tree at `root`; returns its manifest.
pub fn pack(
    recipe: &Recipe,
    lock: &Lock,
    root: &Path,
    store: &WritableStore,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<Manifest> {
    let tree = Tree::open(root)?;
    let gate = ui.phase("leak gate");
    let scanned = leak::check(root, &leak::patterns(settings)?)?;
    gate.finish(&format!("{scanned} files"));

    let phase = std::sync::Mutex::new(ui.phase("pack"));
    let total = std::sync::atomic::AtomicU64::new(0);
    let progress = |event: Progress| {
        use std::sync::atomic::Ordering::Relaxed;
        let Ok(mut phase) = phase.lock() else { return };
        match event {
            Progress::Scanned { bytes, .. } => total.store(bytes, Relaxed),
            Progress::Read { bytes } => phase.progress(bytes, total.load(Relaxed), Unit::Bytes),
            _ => {}
        }
    };
    let published = store
        .publish_tree(root, lock.epoch, &progress)
        .context(|| "cannot pack the tree into the store".into())?;
    let phase = phase
        .into_inner()
        .map_err(|_| Error::failed("a worker thread died"))?;
    let mut wheels = Vec::new();
    for virtualenv in &recipe.virtualenvs {
        wheels.extend(tree.wheels(virtualenv.path.as_str())?);
    }
    let strings =
        |words: &[crate::recipe::Argument]| words.iter().map(ToString::to_string).collect();
    let manifest = Manifest {
        schema: store::manifest::SCHEMA,
        name: recipe
            .name
            .as_str()
            .parse()
            .context(|| format!("`{}` is no image name", recipe.name))?,
        image: published.image,
        sha256: published.sha256,
        size: published.size,
        entries: published.entries,
        layout: published.layout,
        arch: lock.architecture.clone(),
        suite: recipe.bootstrap.suite.to_string(),
        epoch: lock.epoch,
        packages: tree.packages()?,
        wheels,
        users: tree.users()?,
        setuid: published.setuid,
        xattrs: published.xattrs,
        recipe: Sha256::of(&recipe.canonical_json()),
        lock: lock.digest()?,
        builder: BUILDER.to_owned(),
        run: recipe.service.as_ref().map(|service| Run {
            user: service.user.to_string(),
            directory: service.directory.to_string(),
            start: strings(&service.start),
            stop: strings(&service.stop),
            reload: strings(&service.reload),
            environment: service.environment.clone(),
            health: service.health.as_ref().map(|health| Health {
                http: health
                    .http
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                headers: health.headers.iter().map(ToString::to_string).collect(),
                command: strings(&health.command),
                within: health.within.duration().as_secs(),
                timeout: health.timeout.duration().as_secs(),
            }),
        }),
    };
    retain(recipe, lock, store)?;
    describe(&manifest, store)?;
    phase.finish(&format!(
        "{} in {} entries, {} new in the store",
        ui::size(published.size),
        published.entries,
        ui::size(published.written)
    ));
    Ok(manifest)
}

/// Keeps recipe and lock among the inputs, under the digests that the manifest
/// records: whoever has the image can say what it was made of, and make it again
/// ([`mod@crate::rebuild`]).
fn retain(recipe: &Recipe, lock: &Lock, store: &WritableStore) -> Result<()> {
    let inputs = store.inputs();
    for (text, what) in [
        (recipe.canonical_json(), "recipe"),
        (lock.to_text()?.into_bytes(), "lock"),
    ] {
        inputs
            .insert(&mut text.as_slice(), None)
            .context(|| format!("cannot keep the {what} in the store"))?;
    }
    Ok(())
}

/// Makes the image visible in the store. Another recipe, or this one before a
/// change that left the tree alone, may have described the same image already:
/// that description stays, and ours is the one that is released.
pub(crate) fn describe(manifest: &Manifest, store: &WritableStore) -> Result<()> {
    if store.store().manifest(&manifest.image).is_ok() {
        return Ok(());
    }
    store
        .put_manifest(manifest)
        .context(|| "cannot write the manifest".into())
}

/// Signs an image into the first environment; returns the release's number.
pub fn release(
    manifest: &Manifest,
    store: &WritableStore,
    settings: &Settings,
    ui: &Ui,
) -> Result<u64> {
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    release_into(&env, manifest, store, settings, ui)
}

/// Signs an image into an environment; returns the release's number. Only the
/// first environment is made when it is not there.
pub fn release_into(
    env: &EnvName,
    manifest: &Manifest,
    store: &WritableStore,
    settings: &Settings,
    ui: &Ui,
) -> Result<u64> {
    let now = jiff::Timestamp::now();
    let failed = || format!("cannot release into the environment {env}");
    let exists = Environment::exists(store, env).context(failed)?;
    let mut seats = vec![KeyGroup::Targets, KeyGroup::Online];
    if env.as_str() == FIRST_ENVIRONMENT {
        // Nobody is asked for a passphrase here, and its root may be renewed as well.
        seats.push(KeyGroup::Root);
        if !exists {
            let keys = RoleKeys::load_or_generate(&settings.keys, env).context(failed)?;
            Environment::init(store, env, &keys, now).context(failed)?;
            ui.note(&format!(
                "made the environment `{env}` in {} and its keys in {}",
                store.backend().describe(),
                settings.keys.display()
            ));
        }
    }
    let mut environment = Environment::open(store, env).context(failed)?;
    let keyring = Keyring::new(settings, Passphrase::find(None, settings)?, None);
    let opened = keyring.of_environment(&environment, &seats)?;
    let hands = opened.hands(&environment)?;
    if hands.targets.is_empty() || hands.online.is_empty() {
        return Err(Error::failed(failed())
            .detail("the keys that sign its releases are not here")
            .hint(format!(
                "the environment's keys belong in {}; name another place with --keys DIR",
                settings.keys.display()
            )));
    }
    let release = environment
        .release(manifest, hands, now)
        .map_err(|e| crate::ceremony::failed(failed(), &e))?;
    Ok(release.seq)
}

/// The number of the newest release of the name, if that is this manifest.
pub fn is_released(manifest: &Manifest, store: &WritableStore) -> Result<Option<u64>> {
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    let failed = || format!("cannot read the environment {env}");
    if !Environment::exists(store, &env).context(failed)? {
        return Ok(None);
    }
    let releases = Environment::open(store, &env)
        .and_then(|e| e.releases())
        .context(failed)?;
    let newest = releases
        .iter()
        .filter(|r| r.name == manifest.name)
        .max_by_key(|r| r.seq);
    // Targets are named by the digest of the manifest (consistent snapshots).
    let digest = Sha256::of(&manifest.to_json()).hex();
    let same = newest.filter(|r| r.image == manifest.image && r.target_path.contains(&digest));
    Ok(same.map(|r| r.seq))
}

/// The manifest that an earlier build of the same key made, if the store has
/// the whole image.
pub fn remembered(file: &Path, store: &WritableStore) -> Result<Option<Manifest>> {
    let Ok(json) = std::fs::read(file) else {
        return Ok(None);
    };
    let Ok(manifest) = Manifest::from_json(&json) else {
        return Ok(None);
    };
    let whole = store
        .store()
        .has_image_objects(&manifest)
        .context(|| "cannot look into the store".into())?;
    Ok(whole.then_some(manifest))
}
