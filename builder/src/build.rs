//! A build, from the recipe to a released image. [`build`] reads like it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::manifest::Manifest;
use store::{Inputs, Sha256, WritableStore};

use crate::args;
use crate::attest;
use crate::cache::{self, Caches, Shared};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Tools;
use crate::image::{self, is_released};
use crate::interrupt;
use crate::layers::{Key, Layers, remove};
use crate::lock::Lock;
use crate::locking::{Locking, Strictness, Upgrade};
use crate::logs;
use crate::recipe::Recipe;
use crate::resolve::local;
use crate::runner::{self, Planned, Runner};
use crate::settings::Settings;
use crate::steps;
use crate::ui::Ui;

/// What is asked of a build.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
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
}

/// What a build came to.
#[derive(Debug)]
pub struct Outcome {
    /// The image.
    pub manifest: Manifest,
    /// Number of its release in the first environment; none when varied.
    pub seq: Option<u64>,
    /// Whether nothing had to be done.
    pub up_to_date: bool,
    /// Whether it was built elsewhere.
    pub taken: bool,
    /// How long it took.
    pub took: Duration,
}

/// A work directory in which one recipe is built by one build at a time.
#[derive(Debug)]
pub struct Workplace {
    /// Step results.
    pub layers: Layers,
    /// Scratch space of this build alone.
    pub scratch: PathBuf,
    builds: PathBuf,
    dir: PathBuf,
    _lock: File,
}

impl Workplace {
    /// Takes the recipe's place in the work directory.
    pub fn take(work: &Path, name: &str) -> Result<Self> {
        check_path(work)?;
        let builds = work.join("builds");
        let dir = builds.join(name);
        fs::create_dir_all(&dir).map_err(|e| unwritable(work, &e))?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| unwritable(work, &e))?;
        if lock.try_lock().is_err() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("another build of {name} is running"),
            )
            .hint("wait for it to end, or give this one its own --work DIR"));
        }
        let scratch = dir.join("scratch");
        // What a killed build left.
        remove(&scratch)?;
        fs::create_dir_all(&scratch).map_err(|e| unwritable(work, &e))?;
        Ok(Self {
            layers: Layers::open(work)?,
            scratch,
            builds,
            dir,
            _lock: lock,
        })
    }

    /// Names layers that this recipe uses, so that no other build removes them:
    /// those of a running or failed build and of the last one that succeeded.
    pub fn keep_layers(&self, keys: &[Key]) -> Result<()> {
        let _guard = self.guard()?;
        let mut names = self.kept()?;
        names.extend(keys.iter().map(|k| k.as_str().to_owned()));
        self.write_kept(&names)
    }

    /// After a success: names exactly its layers and removes what no recipe
    /// uses any more.
    fn prune_layers(&self, keys: &[Key]) -> Result<()> {
        let _guard = self.guard()?;
        self.write_kept(&keys.iter().map(|k| k.as_str().to_owned()).collect())?;
        let unreadable = || format!("cannot read {}", self.builds.display());
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(&self.builds).context(unreadable)? {
            let list = entry.context(unreadable)?.path().join("layers");
            let text = fs::read_to_string(list).unwrap_or_default();
            used.extend(text.lines().map(str::to_owned));
        }
        self.layers.prune(&|name| used.contains(name))
    }

    /// Removes every layer: a varied build starts from nothing.
    pub(crate) fn clear(&self) -> Result<()> {
        let _guard = self.guard()?;
        self.write_kept(&BTreeSet::new())?;
        self.layers.prune(&|_| false)
    }

    /// Held while lists of layers are written or relied on.
    fn guard(&self) -> Result<File> {
        let path = self.builds.join(".lists");
        let failed = || format!("cannot lock {}", path.display());
        let guard = File::create(&path).context(failed)?;
        guard.lock().context(failed)?;
        Ok(guard)
    }

    fn kept(&self) -> Result<BTreeSet<String>> {
        let path = self.dir.join("layers");
        match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            other => {
                let text = other.context(|| format!("cannot read {}", path.display()))?;
                Ok(text.lines().map(str::to_owned).collect())
            }
        }
    }

    fn write_kept(&self, names: &BTreeSet<String>) -> Result<()> {
        let path = self.dir.join("layers");
        let temporary = path.with_extension("tmp");
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Everything there is of no use after the build.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Refuses places where debootstrap or the sandbox cannot work.
fn check_path(work: &Path) -> Result<()> {
    let text = work.to_string_lossy();
    let why = if text.contains(char::is_whitespace) || text.contains(['\'', '"', '\\', '#', '$']) {
        "debootstrap and schroot need a path without blanks, quotes, `#` and `$`"
    } else if work.starts_with("/run") || work.starts_with("/proc") || work.starts_with("/dev") {
        "a sandbox has its own /run, /proc and /dev"
    } else {
        return Ok(());
    };
    Err(
        Error::usage(format!("the work directory cannot be {}", work.display()))
            .detail(why)
            .hint("choose another one with --work DIR"),
    )
}

fn unwritable(work: &Path, error: &std::io::Error) -> Error {
    Error::failed(format!(
        "cannot write to the work directory {}",
        work.display()
    ))
    .because(error)
    .hint("choose another one with --work DIR")
}

/// Opens the store, or makes it.
pub fn open_store(settings: &Settings) -> Result<WritableStore> {
    let cache = settings.work.join("inputs");
    WritableStore::open(&settings.place, &settings.access, &cache).map_err(|e| {
        Error::failed(format!("cannot open the store {}", settings.place))
            .because(&e)
            .hint(
                e.own_hint()
                    .unwrap_or("choose another one with --store PATH"),
            )
    })
}

/// The store of this machine in which inputs are files, if `store` is elsewhere.
pub fn open_nearby(store: &WritableStore) -> Result<Option<WritableStore>> {
    store
        .local_inputs()
        .context(|| "cannot keep the store's inputs here".into())
}

/// Builds one recipe.
pub fn build(path: &Path, settings: &Settings, wanted: &Wanted, ui: &mut Ui) -> Result<Outcome> {
    let (started, began) = (Instant::now(), jiff::Timestamp::now());
    let recipe = load_recipe(path)?;
    require_root()?;
    let store = open_store(settings)?;
    let lock = Lock::load(&Lock::path_for(path))?;
    if !wanted.vary
        && let Some(done) = nothing_to_do(&recipe, path, lock.as_ref(), &store, settings, started)?
    {
        return Ok(done);
    }
    let offline = wanted.strictness.offline;
    let nearby = open_nearby(&store)?;
    let near = nearby.as_ref().unwrap_or(&store);
    let caches = Caches::open(&wanted.shared, offline, &store, near, settings, ui)?;
    if !wanted.vary
        && let Some(lock) = lock.as_ref().filter(|lock| fits(&recipe, path, lock))
        && let Some(manifest) = caches.image(&recipe, lock, ui)?
    {
        let seq = image::release(&manifest, &store, settings, ui)?;
        let planned = runner::plan(steps::all(&recipe, lock)?, &Layers::open(&settings.work)?)?;
        remember(&settings.work, &planned, &recipe, &manifest)?;
        return Ok(Outcome {
            manifest,
            seq: Some(seq),
            up_to_date: false,
            taken: true,
            took: started.elapsed(),
        });
    }
    prepare_host(&recipe, wanted.setup, ui)?;
    let mut settings = settings.clone();
    if wanted.vary {
        // Layers of the two kinds never meet, and the path is another one.
        settings.work = settings.work.join("varied").join(recipe.name.as_str());
    }
    let place = Workplace::take(&settings.work, recipe.name.as_str())?;
    let inputs = near.inputs();
    let locking = Locking {
        recipe: &recipe,
        path,
        settings: &settings,
        inputs: &inputs,
        caches: Some(&caches),
        place: &place,
        strictness: Strictness {
            frozen: wanted.strictness.frozen || wanted.vary,
            ..wanted.strictness
        },
        upgrade: Upgrade::Nothing,
    };
    let lock = locking.run(lock.as_ref(), ui)?;
    let making = Making {
        recipe: &recipe,
        path,
        lock: &lock,
        inputs: &inputs,
        place: &place,
        settings: &settings,
        into: &store,
    };
    caches.retain(lock.sized_inputs(), ui)?;
    if wanted.vary {
        let manifest = making.varied(ui)?;
        place.clear()?;
        return Ok(Outcome {
            manifest,
            seq: None,
            up_to_date: false,
            taken: false,
            took: started.elapsed(),
        });
    }
    let planned = runner::plan(steps::all(&recipe, &lock)?, &place.layers)?;
    let manifest = making.run(&planned, false, ui)?;
    logs::keep(&manifest, &planned, &place.layers, &store, &settings)?;
    interrupt::check()?;
    let layers = runner::tree_layers(&planned);
    let phase = ui.phase("keep the cache");
    place.layers.sync(&layers)?;
    phase.finish(&format!("{} layers", layers.len()));
    let tests = tests_of(&planned);
    attest::built(&manifest, &lock, &tests, began, &settings, &store)?;
    let seq = image::release(&manifest, &store, &settings, ui)?;
    remember(&settings.work, &planned, &recipe, &manifest)?;
    place.prune_layers(&all_keys(&planned))?;
    if wanted.shared.push {
        cache::push(&manifest, &store, &wanted.shared, &settings, ui);
    }
    Ok(Outcome {
        manifest,
        seq: Some(seq),
        up_to_date: false,
        taken: false,
        took: started.elapsed(),
    })
}

/// Everything that the way from a lock to an image needs.
pub(crate) struct Making<'a> {
    pub(crate) recipe: &'a Recipe,
    /// Where the recipe lies, for hints.
    pub(crate) path: &'a Path,
    pub(crate) lock: &'a Lock,
    /// All of the lock's inputs are here.
    pub(crate) inputs: &'a Inputs,
    pub(crate) place: &'a Workplace,
    pub(crate) settings: &'a Settings,
    /// The store that the image goes to.
    pub(crate) into: &'a WritableStore,
}

impl Making<'_> {
    /// Runs the steps that are not done yet and packs the tree.
    fn run(&self, planned: &[Planned], vary: bool, ui: &mut Ui) -> Result<Manifest> {
        self.place.keep_layers(&all_keys(planned))?;
        let runner = Runner {
            layers: &self.place.layers,
            work: &self.settings.work,
            scratch: &self.place.scratch.join("run"),
            lock: self.lock,
            inputs: self.inputs,
            recipe: self.path,
            vary,
        };
        runner.run(planned, ui)?;
        interrupt::check()?;
        let layers = runner::tree_layers(planned);
        let scratch = self.place.scratch.join("image");
        let tree = self.place.layers.scratch(&scratch, &layers)?;
        image::pack(
            self.recipe,
            self.lock,
            tree.root(),
            self.into,
            self.settings,
            ui,
        )
    }

    /// Runs every step in a varied world, from nothing, and packs the tree.
    pub(crate) fn varied(&self, ui: &mut Ui) -> Result<Manifest> {
        self.place.clear()?;
        let mut steps = steps::all(self.recipe, self.lock)?;
        // Tests change nothing, and prove something else.
        steps.retain(|step| !step.is_test());
        let planned = runner::plan(steps, &self.place.layers)?;
        self.run(&planned, true, ui)
    }
}

/// Reads a recipe; its error is a usage error.
pub fn load_recipe(path: &Path) -> Result<Recipe> {
    Recipe::load(path).map_err(|e| {
        let error = Error::usage(e.to_string());
        // `imgbuild --json doctor`: flags first, and what follows is a recipe.
        let command = path
            .to_str()
            .filter(|p| args::is_command(p) && !path.exists());
        match (command, e.hint()) {
            (Some(name), _) => {
                error.hint(format!("flags come after the command: imgbuild {name} ..."))
            }
            (None, Some(hint)) => error.hint(hint),
            (None, None) => error,
        }
    })
}

/// Fails for anybody but root.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(
        Error::failed("building needs root: it mounts and enters a chroot")
            .hint("run the same command with sudo"),
    )
}

/// Sees to the programs that a build needs.
pub fn prepare_host(recipe: &Recipe, setup: bool, ui: &mut Ui) -> Result<()> {
    let with_git = recipe.virtualenvs.iter().any(|v| !v.git.is_empty());
    let tools = Tools::look(with_git);
    if tools.missing.is_empty() {
        return Ok(());
    }
    if !setup {
        return tools.require();
    }
    ui.note(&format!(
        "installing on this machine: {}",
        tools.packages().join(" ")
    ));
    let mut phase = ui.phase("set up the machine");
    tools.install(&mut |line| phase.output(line))?;
    phase.finish(&tools.packages().join(" "));
    Tools::look(with_git).require()
}

/// Whether a lock is of this recipe and of the files beside it as they are now.
fn fits(recipe: &Recipe, path: &Path, lock: &Lock) -> bool {
    local::read(recipe, crate::locking::beside(path), None).is_ok_and(|files| lock.files == files)
        && steps::all(recipe, lock).is_ok()
}

/// The image of exactly this recipe, lock and files, if it is there already.
fn nothing_to_do(
    recipe: &Recipe,
    path: &Path,
    lock: Option<&Lock>,
    store: &WritableStore,
    settings: &Settings,
    started: Instant,
) -> Result<Option<Outcome>> {
    let Some(lock) = lock else { return Ok(None) };
    let files = local::read(recipe, crate::locking::beside(path), None)?;
    if lock.files != files {
        return Ok(None);
    }
    // The steps name everything that decides about the image.
    let Ok(steps) = steps::all(recipe, lock) else {
        return Ok(None);
    };
    let planned = runner::plan(steps, &Layers::open(&settings.work)?)?;
    let file = memory(&settings.work, &planned, recipe)?;
    let Some(manifest) = image::remembered(&file, store)? else {
        return Ok(None);
    };
    let Some(seq) = is_released(&manifest, store)? else {
        return Ok(None);
    };
    Ok(Some(Outcome {
        manifest,
        seq: Some(seq),
        up_to_date: true,
        taken: false,
        took: started.elapsed(),
    }))
}

/// The file that remembers which image a build of these keys made.
fn memory(work: &Path, planned: &[Planned], recipe: &Recipe) -> Result<PathBuf> {
    let dir = work.join("built");
    fs::create_dir_all(&dir).map_err(|e| unwritable(work, &e))?;
    let mut text = recipe.canonical_json();
    for key in all_keys(planned) {
        text.extend(key.as_str().as_bytes());
    }
    Ok(dir.join(Sha256::of(&text).hex()))
}

fn remember(work: &Path, planned: &[Planned], recipe: &Recipe, manifest: &Manifest) -> Result<()> {
    let file = memory(work, planned, recipe)?;
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, manifest.to_json())
        .and_then(|()| fs::rename(&temporary, &file))
        .context(|| format!("cannot write {}", file.display()))
}

/// The names of the tests that ran.
fn tests_of(planned: &[Planned]) -> Vec<String> {
    let tests = planned.iter().filter(|planned| planned.step.is_test());
    tests.map(|planned| planned.step.name.clone()).collect()
}

pub(crate) fn all_keys(planned: &[Planned]) -> Vec<Key> {
    planned.iter().map(|p| p.key.clone()).collect()
}
