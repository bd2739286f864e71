//! An image, built again from what the store retained, and compared.
//!
//! ```text
//! manifest ─digests─▶ recipe, lock ─▶ inputs ─▶ varied build ─▶ image' ─compare─▶ Verdict
//! ```
//!
//! Nothing but the store is asked: recipe and lock are retained as inputs under
//! the digests that the manifest records, so neither the directory that the
//! recipe lay in nor a network is needed. The build runs in a varied world
//! ([`crate::sandbox::vary`]) on layers of its own, below the work directory; the
//! rebuilt image goes to a store there, and the store that is being checked
//! gets no byte of it.

mod diffoscope;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Inputs, Manifest, Sha256, Store, WritableStore};

use crate::build::{ImageMaker, prepare, require_root};
use crate::error::{Context, Error, Result};
use crate::host;
use crate::inspect::compare::{self, Report, Side, compare};
use crate::layers::remove;
use crate::lockfile::{ImportRecord, Lock};
use crate::recipe::Recipe;
use crate::settings::Settings;
use crate::stores::{self, find};
use crate::ui::Ui;
use crate::work_dir::WorkDir;

pub use diffoscope::Opinion;

/// The longest recipe or lock that is fetched.
const MAX_TEXT: u64 = 64 << 20;

/// What a rebuild came to.
#[derive(Debug)]
pub struct Verdict {
    /// The image that was to be made.
    pub manifest: Manifest,
    /// The image that was made.
    pub rebuilt: Manifest,
    /// In what they differ, if they do.
    pub differences: Option<Report>,
    /// What diffoscope(1) says about files that differ, if it is installed.
    pub opinions: Vec<Opinion>,
    /// Where the rebuilt image is, if it was to be kept.
    pub kept: Option<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

/// Builds the image that `text` means again. With `keep`, what was made stays.
pub fn rebuild(text: &str, keep: bool, settings: &Settings, ui: &mut Ui) -> Result<Verdict> {
    let started = Instant::now();
    let store = stores::open(settings)?;
    let manifest = find::image(&store, text)?;
    require_root()?;
    // Open for as long as its inputs are needed.
    let here = match settings.store_url.directory() {
        Some(_) => Some(stores::open_to_write(settings)?),
        None => None,
    };

    let mut settings = settings.clone();
    settings.work = place(&settings, &manifest);
    let work = WorkDir::take(&settings.work, manifest.name.as_str())?;
    let other = settings.work.join("store");
    remove(&other)?;
    let into = WritableStore::open_or_create(&other)
        .context(|| format!("cannot make a store in {}", other.display()))?;
    let inputs = match &here {
        Some(here) => here.inputs(),
        None => gather(&store, &manifest, into.inputs(), ui)?,
    };
    let recipe = recipe(&manifest, &inputs)?;
    let lock = lock(&manifest, &inputs)?;
    same_architecture(&lock)?;
    complete(&manifest, &lock, &inputs)?;
    prepare(&recipe, false, ui)?;
    ui.note(&format!(
        "rebuilding {} as {}",
        manifest.image, manifest.name
    ));
    let maker = ImageMaker {
        recipe: &recipe,
        path: Path::new("the retained recipe"),
        lock: &lock,
        inputs: &inputs,
        work: &work,
        settings: &settings,
        into: &into,
    };
    let rebuilt = maker.make_varied(ui)?;
    let mut verdict = Verdict {
        differences: None,
        opinions: Vec::new(),
        kept: keep.then(|| other.clone()),
        took: started.elapsed(),
        manifest,
        rebuilt,
    };
    if verdict.manifest.image != verdict.rebuilt.image {
        let phase = ui.phase("compare");
        let old = Side {
            store: &store,
            manifest: &verdict.manifest,
        };
        let new = Side {
            store: into.store(),
            manifest: &verdict.rebuilt,
        };
        let report = compare(old, new, true)?;
        let scratch = work.scratch.join("diffoscope");
        verdict.opinions = diffoscope::ask(&report, old, new, &scratch)?;
        phase.finish(&format!("{} entries differ", report.totals.found()));
        verdict.differences = Some(report);
    }
    if !keep {
        // Locked by us until the end of this function.
        remove(&settings.work)?;
    }
    verdict.took = started.elapsed();
    Ok(verdict)
}

/// Brings recipe, lock and inputs of an image from a store that is elsewhere.
fn gather(from: &Store, of: &Manifest, into: Inputs, ui: &mut Ui) -> Result<Inputs> {
    let failed = || format!("cannot fetch the inputs of {}", of.image);
    let phase = ui.phase("fetch");
    for digest in [&of.recipe, &of.lock] {
        // What is not there is noticed where it is read.
        if let Some(bytes) = from.input(digest, MAX_TEXT).context(failed)? {
            into.insert(&mut &bytes[..], Some(digest)).context(failed)?;
        }
    }
    let lock = lock(of, &into)?;
    let wanted: Vec<_> = locked(&lock)
        .map(|(digest, size, _)| (*digest, size))
        .collect();
    from.prefetch_inputs(wanted.iter().copied());
    for (digest, size) in &wanted {
        into.insert(&mut from.read_input(digest, *size), Some(digest))
            .context(|| format!("{}: {digest}", failed()))?;
    }
    phase.finish(&format!(
        "{} inputs from {}",
        wanted.len(),
        from.backend().describe()
    ));
    Ok(into)
}

/// The directory of this image's rebuild, of another length than a build's.
fn place(settings: &Settings, manifest: &Manifest) -> PathBuf {
    let digits = manifest.image.hex();
    settings.work.join("rebuild").join(&digits[..16])
}

fn recipe(manifest: &Manifest, inputs: &Inputs) -> Result<Recipe> {
    let json = retained(inputs, &manifest.recipe, manifest, "recipe")?;
    if ImportRecord::is(&json) {
        return Err(Error::failed(format!(
            "{} was imported: there is no recipe to build it from",
            manifest.image
        ))
        .hint("only images that were built from a recipe can be built again"));
    }
    let bad = |why: String| {
        Error::failed(format!(
            "the retained recipe of {} is not usable",
            manifest.image
        ))
        .detail(why)
        .hint("another version of imgbuild made the image: rebuild it with that one")
    };
    let recipe = Recipe::from_canonical_json(&json, Path::new("recipe"))
        .map_err(|error| bad(error.to_string()))?;
    if Sha256::of(&recipe.canonical_json()) != manifest.recipe {
        return Err(bad("this imgbuild reads something else in it".into()));
    }
    Ok(recipe)
}

fn lock(manifest: &Manifest, inputs: &Inputs) -> Result<Lock> {
    let text = retained(inputs, &manifest.lock, manifest, "lock")?;
    let text = String::from_utf8(text).context(|| "the retained lock is not text".into())?;
    let lock = Lock::parse(&text)
        .context(|| format!("the retained lock of {} is not usable", manifest.image))?;
    Ok(lock)
}

/// The bytes of an input, checked.
fn retained(inputs: &Inputs, digest: &Sha256, of: &Manifest, what: &str) -> Result<Vec<u8>> {
    let failed = || format!("the store has no {what} of {}", of.image);
    if !inputs.has(digest) {
        return Err(Error::failed(failed())
            .detail(format!("missing: {digest}"))
            .hint("build its recipe once more with `--vary`: that retains both"));
    }
    inputs.verify(digest).context(failed)?;
    fs::read(inputs.path(digest)).context(failed)
}

fn same_architecture(lock: &Lock) -> Result<()> {
    let own = host::architecture()?;
    if lock.architecture == own {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the image is for {}, this machine runs {own}",
        lock.architecture
    ))
    .hint("rebuild it on a machine of that architecture"))
}

/// Fails unless every input is here and still what it was.
fn complete(manifest: &Manifest, lock: &Lock, inputs: &Inputs) -> Result<()> {
    let missing: Vec<String> = locked(lock)
        .filter(|(digest, ..)| !inputs.has(digest))
        .map(|(.., name)| name)
        .collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    Err(Error::failed(format!(
        "the store retains {} of the inputs of {} no more",
        missing.len(),
        manifest.image
    ))
    .detail(format!("for example {first}"))
    .hint("copy them from another store, or build the recipe again: that fetches them"))
}

/// Every input of a lock: digest, size, and what people call it.
fn locked(lock: &Lock) -> impl Iterator<Item = (&Sha256, u64, String)> {
    let debs = lock.debs.iter();
    let debs = debs.map(|d| (&d.sha256, d.size, format!("{} {}", d.name, d.version)));
    let python = lock
        .python
        .iter()
        .map(|p| (&p.sha256, p.size, p.file.clone()));
    let git = lock
        .git
        .iter()
        .map(|g| (&g.sha256, g.size, g.commit.clone()));
    let files = lock
        .files
        .iter()
        .map(|f| (&f.sha256, f.size, f.path.clone()));
    debs.chain(python).chain(git).chain(files)
}

/// The report for people, line by line.
pub fn show(verdict: &Verdict, line: &mut dyn FnMut(&str)) {
    let Some(report) = &verdict.differences else {
        return;
    };
    compare::show(report, compare::How { every_file: true }, line);
    for opinion in &verdict.opinions {
        line("");
        line(&format!("diffoscope: {}", opinion.path));
        for text in opinion.text.lines() {
            line(&format!("  {text}"));
        }
    }
}
