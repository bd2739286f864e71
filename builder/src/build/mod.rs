//! A build, from the recipe to a released image: [`build`] is the list of its verbs.
//!
//! ```text
//! push     the image -> other builders' caches
//! machine  programs and rights that a build needs of this machine
//! ```

mod machine;
mod push;

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use store::manifest::Manifest;
use store::tuf::Environment;
use store::{Inputs, Store, WritableStore};

pub use self::machine::{install_tools, prepare, require_root};
use crate::caches::{CachedImage, Caches, Shared};
use crate::error::Result;
use crate::inspect::logs;
use crate::interrupt;
use crate::lock::{LockRequest, Strictness, Upgrade};
use crate::lockfile::Lock;
use crate::pack::image;
use crate::plan::{self, Plan};
use crate::recipe::Recipe;
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::{attest, publish};
use crate::run::{self, PlannedStep, Runner, plan_steps};
use crate::settings::Settings;
use crate::steps;
use crate::stores;
use crate::stores::find;
use crate::ui::Ui;
use crate::work_dir::WorkDir;

/// What is asked of a build.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// How strictly it sticks to what is there.
    pub strictness: Strictness,
    /// Whether missing programs of this machine are installed first.
    pub setup: bool,
    /// Whether what must not matter is varied ([`crate::sandbox::vary`]). Then
    /// every step runs, on layers of its own, from retained inputs alone, and
    /// nothing is released.
    pub vary: bool,
    /// What other builders share with it.
    pub shared: Shared,
    /// What its lock takes anew first.
    pub upgrade: Upgrade,
}

/// What a build came to.
#[derive(Debug)]
pub struct Outcome {
    /// The image.
    pub manifest: Manifest,
    /// Number of its release in the first environment; none when varied.
    pub seq: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
    /// How long it took.
    pub took: Duration,
}

/// Where the image of a build comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and released.
    UpToDate,
    /// Somebody else built it: it was taken from a cache.
    Taken,
    /// It was built.
    Built,
}

/// Builds one recipe, whose file is `path`.
pub fn build(
    recipe: &Recipe,
    path: &Path,
    settings: &Settings,
    request: &BuildRequest,
    ui: &mut Ui,
) -> Result<Outcome> {
    let started = Instant::now();
    let outcome = |(manifest, seq, origin)| Outcome {
        manifest,
        seq,
        origin,
        took: started.elapsed(),
    };
    require_root()?;
    let store = stores::open_to_write(settings)?;
    let nearby = stores::open_nearby(&store)?;
    let near = nearby.as_ref().unwrap_or(&store);
    let offline = request.strictness.offline;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let admits = |env: &mut Environment<'_>| keyring.admit(env);
    let site = Site {
        recipe,
        path,
        settings,
        request,
        store: &store,
        inputs: near.inputs(),
        admits: &admits,
        caches: Caches::new(&request.shared, offline, &store, near, settings)?,
    };
    let mut old = Lock::load(&Lock::path_for(path))?;
    if let Some(lock) = old.as_ref().filter(|_| request.upgrade != Upgrade::Nothing) {
        old = Some(site.upgrade(lock, ui)?);
    }
    if request.vary {
        return site.build_varied(old.as_ref(), ui).map(outcome);
    }
    loop {
        match site.plan(old.as_ref(), ui)? {
            Plan::UpToDate {
                manifest,
                seq,
                steps,
            } => {
                if let Some(lock) = &old {
                    attest::built_before(
                        &manifest,
                        lock,
                        &run::tests_of(&steps),
                        settings,
                        &store,
                    )?;
                }
                return Ok(outcome((manifest, Some(seq), Origin::UpToDate)));
            }
            Plan::Take { image, steps } => {
                if let Some(seq) = site.take(&image, &steps, ui)? {
                    return Ok(outcome((image.manifest, Some(seq), Origin::Taken)));
                }
                // That cache is out: the next plan does not ask it.
            }
            Plan::Lock { .. } | Plan::Build(_) => return site.build(old.as_ref(), ui).map(outcome),
        }
    }
}

/// A recipe and everything that it is built with.
struct Site<'a> {
    recipe: &'a Recipe,
    path: &'a Path,
    settings: &'a Settings,
    request: &'a BuildRequest,
    store: &'a WritableStore,
    /// Retained inputs, as files of this machine.
    inputs: Inputs,
    /// Which environments the name of a base may be of.
    admits: find::Admits<'a>,
    caches: Caches<'a>,
}

/// An image, the number of its release, and where it comes from.
type Made = (Manifest, Option<u64>, Origin);

impl Site<'_> {
    fn plan(&self, lock: Option<&Lock>, ui: &mut Ui) -> Result<Plan> {
        let inputs = plan::Inputs {
            recipe: self.recipe,
            path: self.path,
            lock,
            store: Some(self.store.store()),
            caches: &self.caches,
            settings: self.settings,
        };
        Plan::make(&inputs, ui)
    }

    /// Takes an image from its cache and releases it; none when the cache did not hold
    /// what it promised.
    fn take(&self, image: &CachedImage, steps: &[PlannedStep], ui: &mut Ui) -> Result<Option<u64>> {
        if !self.caches.take(image, ui)? {
            return Ok(None);
        }
        let manifest = &image.manifest;
        let seq = publish::release(manifest, self.store, self.settings, ui)?;
        plan::remember(&self.settings.work, steps, self.recipe, manifest)?;
        Ok(Some(seq))
    }

    /// Locks, runs what is not cached, packs, attests and releases.
    fn build(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Made> {
        let began = Timestamp::now();
        let (settings, store) = (self.settings, self.store);
        prepare(self.recipe, self.request.setup, ui)?;
        let work = WorkDir::take(&settings.work, self.recipe.name.as_str())?;
        let mut lock = self.lock(old, &work, settings, self.request.strictness, ui)?;
        let locking = self.lock_request(&work, settings, self.request.strictness);
        locking.record_ids(&mut lock, ui)?;
        let steps = plan_steps(steps::all(self.recipe, &lock)?, &work.layers)?;
        let maker = self.maker(&lock, &work, settings);
        let manifest = maker.make(&steps, ui)?;
        logs::keep(&manifest, &steps, &work.layers, store, settings)?;
        interrupt::check()?;
        keep_layers(&work, &steps, ui)?;
        attest::built(
            &manifest,
            &lock,
            &run::tests_of(&steps),
            began,
            settings,
            store,
        )?;
        let seq = publish::release(&manifest, store, settings, ui)?;
        plan::remember(&settings.work, &steps, self.recipe, &manifest)?;
        let mut keep = run::all_keys(&steps);
        keep.extend(locking.resolving_layers(&lock)?);
        work.prune_layers(&keep)?;
        if self.request.shared.push {
            push::push(&manifest, store, &self.request.shared, settings, ui);
        }
        Ok((manifest, Some(seq), Origin::Built))
    }

    /// The lock with what is to be taken anew.
    fn upgrade(&self, old: &Lock, ui: &mut Ui) -> Result<Lock> {
        prepare(self.recipe, self.request.setup, ui)?;
        let work = WorkDir::take(&self.settings.work, self.recipe.name.as_str())?;
        let request = LockRequest {
            upgrade: self.request.upgrade.clone(),
            ..self.lock_request(&work, self.settings, self.request.strictness)
        };
        request.run(Some(old), ui)
    }

    /// Builds from nothing in a varied sandbox, and releases nothing.
    fn build_varied(&self, old: Option<&Lock>, ui: &mut Ui) -> Result<Made> {
        prepare(self.recipe, self.request.setup, ui)?;
        let mut settings = self.settings.clone();
        // Layers of the two kinds never meet, and the path is another one.
        let name = self.recipe.name.as_str();
        settings.work = settings.work.join("varied").join(name);
        let work = WorkDir::take(&settings.work, name)?;
        let strictness = Strictness {
            frozen: true,
            ..self.request.strictness
        };
        let lock = self.lock(old, &work, &settings, strictness, ui)?;
        let manifest = self.maker(&lock, &work, &settings).make_varied(ui)?;
        work.clear()?;
        Ok((manifest, None, Origin::Built))
    }

    /// The lock that fits the recipe, with all of its inputs retained.
    fn lock(
        &self,
        old: Option<&Lock>,
        work: &WorkDir,
        settings: &Settings,
        strictness: Strictness,
        ui: &mut Ui,
    ) -> Result<Lock> {
        let request = self.lock_request(work, settings, strictness);
        let lock = request.run(old, ui)?;
        self.caches.retain(lock.sized_inputs(), ui)?;
        Ok(lock)
    }

    fn lock_request<'a>(
        &'a self,
        work: &'a WorkDir,
        settings: &'a Settings,
        strictness: Strictness,
    ) -> LockRequest<'a> {
        LockRequest {
            recipe: self.recipe,
            path: self.path,
            settings,
            inputs: &self.inputs,
            images: self.store,
            admits: self.admits,
            caches: Some(&self.caches),
            work,
            strictness,
            upgrade: Upgrade::Nothing,
        }
    }

    fn maker<'a>(
        &'a self,
        lock: &'a Lock,
        work: &'a WorkDir,
        settings: &'a Settings,
    ) -> ImageMaker<'a> {
        ImageMaker {
            recipe: self.recipe,
            path: self.path,
            lock,
            inputs: &self.inputs,
            images: self.store.store(),
            work,
            settings,
            into: self.store,
        }
    }
}

/// The way from a lock, all of whose inputs are here, to an image.
pub(crate) struct ImageMaker<'a> {
    pub(crate) recipe: &'a Recipe,
    /// Where the recipe lies, for hints.
    pub(crate) path: &'a Path,
    pub(crate) lock: &'a Lock,
    pub(crate) inputs: &'a Inputs,
    /// Where the image is that the tree begins with.
    pub(crate) images: &'a Store,
    pub(crate) work: &'a WorkDir,
    pub(crate) settings: &'a Settings,
    /// The store that the image goes to.
    pub(crate) into: &'a WritableStore,
}

impl ImageMaker<'_> {
    /// Runs the steps that are not done yet and packs the tree.
    fn make(&self, steps: &[PlannedStep], ui: &mut Ui) -> Result<Manifest> {
        self.run(steps, false, ui)
    }

    /// Runs every step in a varied sandbox, from nothing, and packs the tree.
    pub(crate) fn make_varied(&self, ui: &mut Ui) -> Result<Manifest> {
        self.work.clear()?;
        let mut steps = steps::all(self.recipe, self.lock)?;
        // Tests change nothing, and prove something else.
        steps.retain(|step| !step.is_test());
        let steps = plan_steps(steps, &self.work.layers)?;
        self.run(&steps, true, ui)
    }

    fn run(&self, steps: &[PlannedStep], vary: bool, ui: &mut Ui) -> Result<Manifest> {
        self.work.keep_layers(&run::all_keys(steps))?;
        let runner = Runner {
            layers: &self.work.layers,
            work: &self.settings.work,
            scratch: &self.work.scratch.join("run"),
            lock: self.lock,
            inputs: self.inputs,
            images: self.images,
            recipe: Some(self.path),
            vary,
        };
        runner.run(steps, ui)?;
        interrupt::check()?;
        let layers = run::tree_layers(steps);
        let scratch = self.work.scratch.join("image");
        let tree = self.work.layers.scratch(&scratch, &layers)?;
        image::pack(
            self.recipe,
            self.lock,
            tree.root(),
            self.into,
            self.settings,
            ui,
        )
    }
}

/// Makes the layers of the tree durable: from now on a later boot may use them.
fn keep_layers(work: &WorkDir, steps: &[PlannedStep], ui: &mut Ui) -> Result<()> {
    let layers = run::tree_layers(steps);
    let phase = ui.phase("keep the cache");
    work.layers.sync(&layers)?;
    phase.finish(&format!("{} layers", layers.len()));
    Ok(())
}
