//! An image, built again from what the store retained, and compared.
//!
//! ```text
//! manifest ─digests─▶ recipe, lock ─▶ inputs ─▶ varied build ─▶ image' ─compare─▶ Verdict
//! ```
//!
//! Nothing but the store is asked: recipe and lock are retained as inputs under
//! the digests that the manifest records, so neither the directory that the
//! recipe lay in nor a network is needed. The build runs in a varied sandbox
//! ([`crate::sandbox::vary`]) on layers of its own, below the work directory; the
//! rebuilt image goes to a store there, and the store that is being checked
//! gets no byte of it.

mod diffoscope;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Inputs, Manifest, Sha256, Store, WritableStore};

use crate::atomic_file::remove;
use crate::build::{ImageMaker, prepare, require_root};
use crate::error::{Context, Error, Result};
use crate::host;
use crate::inspect::compare::{self, Report, Side, compare};
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
    /// Fields of the manifest that say something else about the same bytes.
    pub described: Vec<String>,
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
    has_base(&manifest, &lock, &store)?;
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
        images: &store,
        work: &work,
        settings: &settings,
        into: &into,
    };
    let rebuilt = maker.make_varied(ui)?;
    let mut verdict = Verdict {
        differences: None,
        described: Vec::new(),
        opinions: Vec::new(),
        kept: keep.then(|| other.clone()),
        took: started.elapsed(),
        manifest,
        rebuilt,
    };
    if verdict.manifest.image == verdict.rebuilt.image {
        verdict.described = described_otherwise(&verdict.manifest, &verdict.rebuilt);
    } else {
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

/// The fields in which two manifests of the same bytes differ, but for how the bytes lie in a store
/// and which version made them.
fn described_otherwise(told: &Manifest, built: &Manifest) -> Vec<String> {
    let told = Manifest {
        layout: built.layout.clone(),
        builder: built.builder.clone(),
        ..told.clone()
    };
    let fields = |manifest: &Manifest| match serde_json::to_value(manifest) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (told, built) = (fields(&told), fields(built));
    let names: BTreeSet<&String> = told.keys().chain(built.keys()).collect();
    let differs = |name: &&&String| told.get(**name) != built.get(**name);
    names
        .iter()
        .filter(differs)
        .map(ToString::to_string)
        .collect()
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

/// Fails unless the store has the image that this one begins with.
fn has_base(manifest: &Manifest, lock: &Lock, store: &Store) -> Result<()> {
    let Some(base) = &lock.base else {
        return Ok(());
    };
    let found = store.manifest(&base.image);
    let found = found.and_then(|manifest| store.has_image_objects(&manifest));
    if found.is_ok_and(|found| found) {
        return Ok(());
    }
    let what = format!(
        "the store has no image {}, the base of {}",
        base.image, manifest.image
    );
    Err(Error::failed(what).hint("copy it from the store that it was built in"))
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
    let downloads = lock
        .downloads
        .iter()
        .map(|d| (&d.sha256, d.size, d.url.clone()));
    debs.chain(python).chain(git).chain(downloads).chain(files)
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

#[cfg(test)]
mod tests {
    use store::ImageId;
    use store::manifest::{LayoutRef, Run, SCHEMA};

    use super::*;

    fn manifest() -> Manifest {
        let digest = ImageId::of(b"bytes");
        Manifest {
            schema: SCHEMA,
            name: "web".parse().unwrap(),
            image: digest,
            sha256: Sha256::of(b"bytes"),
            size: 5,
            entries: 1,
            layout: LayoutRef {
                digest,
                size: 0,
                chunks: Vec::new(),
            },
            arch: "amd64".to_owned(),
            suite: "bookworm".to_owned(),
            epoch: 1,
            packages: Vec::new(),
            wheels: Vec::new(),
            users: Vec::new(),
            setuid: Vec::new(),
            xattrs: Vec::new(),
            recipe: Sha256::of(b"recipe"),
            lock: Sha256::of(b"lock"),
            builder: "imgbuild 1".to_owned(),
            run: None,
        }
    }

    #[test]
    fn what_a_manifest_says_otherwise_is_named() {
        let built = manifest();
        let mut told = Manifest {
            builder: "imgbuild 2".to_owned(),
            ..manifest()
        };
        told.layout.size = 9;
        assert_eq!(described_otherwise(&told, &built), [""; 0]);
        told.run = Some(Run {
            user: "root".to_owned(),
            directory: "/".to_owned(),
            start: vec!["/bin/sh".to_owned()],
            stop: Vec::new(),
            reload: Vec::new(),
            environment: std::collections::BTreeMap::new(),
            health: None,
            before_switch: Vec::new(),
            processes: Vec::new(),
            timers: Vec::new(),
            needs: store::manifest::Needs::default(),
            fences: store::manifest::Fences::default(),
        });
        told.epoch = 2;
        assert_eq!(described_otherwise(&told, &built), ["epoch", "run"]);
    }
}
