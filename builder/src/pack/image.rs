//! From a finished tree to a released image.
//!
//! The tree passes the leak gate, is packed into the store as its canonical
//! tar, described by a manifest and signed into the dev environment, which is
//! made with its keys on first use.

use std::path::Path;

use store::manifest::{self, Health, Manifest, Needs, Run};
use store::{Progress, Sha256, Store, WritableStore};

use crate::error::{Context, Error, Result};
use crate::lockfile::Lock;
use crate::pack::leak;
use crate::recipe::{Memory, Process, Recipe, Resolver, Service, Share, Timer, variables};
use crate::settings::Settings;
use crate::tree::Tree;
use crate::ui::{self, Ui, Unit};

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
    let users = tree.users()?;
    let of_service = recipe.service.iter();
    let of_service = of_service.map(|service| (&service.user, "[service]"));
    let of_processes = recipe.processes.iter();
    let of_processes = of_processes.filter_map(|one| Some((one.user.as_ref()?, "[[process]]")));
    let of_timers = recipe.timers.iter();
    let of_timers = of_timers.filter_map(|one| Some((one.user.as_ref()?, "[[timer]]")));
    for (user, section) in of_service.chain(of_processes).chain(of_timers) {
        if !users.iter().any(|known| known.name == user.as_str()) {
            return Err(Error::failed(format!(
                "the tree has no user `{user}`, which `user` of {section} names"
            ))
            .hint("make it with [[user]], or install the package that makes it"));
        }
    }
    let published = store
        .publish_tree(root, lock.epoch, &progress)
        .context(|| "cannot pack the tree into the store".into())?;
    let phase = phase
        .into_inner()
        .map_err(|_| Error::failed("a worker thread died"))?;
    let mut wheels = Vec::new();
    let of_base = lock.base.iter().flat_map(|base| &base.virtualenvs);
    let own = recipe.virtualenvs.iter().map(|own| own.path.as_str());
    for path in of_base.map(String::as_str).chain(own) {
        wheels.extend(tree.wheels(path)?);
    }
    let manifest = Manifest {
        schema: store::manifest::SCHEMA,
        name: recipe
            .name
            .as_str()
            .parse()
            .context(|| format!("`{}` is not an image name", recipe.name))?,
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
        users,
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
            environment: variables(&service.environment).collect(),
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
                bake: health.bake.map(|bake| bake.duration().as_secs()),
            }),
            before_switch: strings(&service.before_switch),
            fences: fences(service),
            processes: processes(recipe, service),
            timers: timers(recipe, service),
            needs: needs(service),
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

fn strings<T: ToString>(words: &[T]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn processes(recipe: &Recipe, service: &Service) -> Vec<manifest::Process> {
    let one = |process: &Process| manifest::Process {
        name: process.name.to_string(),
        command: strings(&process.command),
        user: process.user.as_ref().unwrap_or(&service.user).to_string(),
        directory: process
            .directory
            .as_ref()
            .unwrap_or(&service.directory)
            .to_string(),
        environment: variables(&process.environment).collect(),
        count: process.count.get(),
        stop_signal: process.stop_signal.to_string(),
        reload_signal: process.reload_signal.as_ref().map(ToString::to_string),
        overlap: process.overlap,
    };
    recipe.processes.iter().map(one).collect()
}

fn timers(recipe: &Recipe, service: &Service) -> Vec<manifest::Timer> {
    let one = |timer: &Timer| manifest::Timer {
        name: timer.name.to_string(),
        command: strings(&timer.command),
        user: timer.user.as_ref().unwrap_or(&service.user).to_string(),
        directory: timer
            .directory
            .as_ref()
            .unwrap_or(&service.directory)
            .to_string(),
        environment: variables(&timer.environment).collect(),
        every: timer.every.map(|every| every.duration().as_secs()),
        at: timer.at.as_ref().map(ToString::to_string),
        limit: timer.limit.map(|limit| limit.duration().as_secs()),
    };
    recipe.timers.iter().map(one).collect()
}

fn fences(service: &Service) -> manifest::Fences {
    let fences = service.fences.unwrap_or_default();
    manifest::Fences {
        memory: fences.memory.map(Memory::bytes),
        cpu: fences.cpu.map(Share::percent),
        tasks: fences.tasks.map(|tasks| tasks.get().into()),
        open_files: fences.open_files.map(|files| files.get().into()),
        no_new_privileges: fences.no_new_privileges,
        private_network: fences.private_network,
        read_only: fences.read_only,
    }
}

fn needs(service: &Service) -> Needs {
    Needs {
        state: strings(&service.state),
        cache: strings(&service.cache),
        logs: strings(&service.logs),
        secrets: strings(&service.secrets),
        secret_environment: service
            .secret_environment
            .iter()
            .map(|(variable, secret)| (variable.to_string(), secret.to_string()))
            .collect(),
        settings: strings(&service.settings),
        resolver: match service.resolver {
            Resolver::Node => manifest::Resolver::Node,
            Resolver::Image => manifest::Resolver::Image,
        },
    }
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
        return store
            .renew_catalogue_row(&manifest.image)
            .context(|| "cannot write the catalogue".into());
    }
    store
        .put_manifest(manifest)
        .context(|| "cannot write the manifest".into())
}

/// The manifest that an earlier build of the same key made, if the store has
/// the whole image.
pub fn remembered(file: &Path, store: &Store) -> Result<Option<Manifest>> {
    let Ok(json) = std::fs::read(file) else {
        return Ok(None);
    };
    let Ok(manifest) = Manifest::from_json(&json) else {
        return Ok(None);
    };
    let whole = store
        .has_image_objects(&manifest)
        .context(|| "cannot look into the store".into())?;
    Ok(whole.then_some(manifest))
}
