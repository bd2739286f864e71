//! `imgbuild [build] RECIPE...`

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::load_recipe;
use crate::build::{BuildRequest, Origin, Outcome, build};
use crate::caches::Shared;
use crate::cli::args::{BuildArgs, CacheArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt;
use crate::lock::{Strictness, Upgrade};
use crate::plan;
use crate::recipe::{BaseImage, Recipe};
use crate::settings::Settings;
use crate::stores::{self, FIRST_ENVIRONMENT};
use crate::ui::{self, Ui};
use store::StoreUrl;

/// What `--json` says at the end of a build.
#[derive(Serialize)]
struct Built<'a> {
    schema: u32,
    event: &'static str,
    name: &'a str,
    image: String,
    sha256: String,
    size: u64,
    entries: u64,
    environment: Option<&'static str>,
    seq: Option<u64>,
    varied: bool,
    up_to_date: bool,
    /// Whether it was built elsewhere and taken from a cache.
    taken: bool,
    seconds: f64,
    phases: Vec<(String, f64)>,
}

pub(super) fn run(args: &BuildArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let request = BuildRequest {
        strictness: Strictness {
            locked: args.locked,
            frozen: args.frozen,
            offline: args.offline,
        },
        setup: args.setup,
        vary: args.vary,
        shared: shared(args, settings, ui)?,
        upgrade: match args.all_on {
            Some(_) => Upgrade::base(),
            None => Upgrade::Nothing,
        },
    };
    let mut recipes: Vec<(&PathBuf, Recipe)> = Vec::new();
    for path in &args.recipes {
        let recipe = load_recipe(path)?;
        if let Some((other, _)) = recipes.iter().find(|(_, other)| other.name == recipe.name) {
            return Err(Error::usage(format!(
                "{} and {} both make the image `{}`",
                other.display(),
                path.display(),
                recipe.name
            ))
            .hint("give each recipe a name of its own"));
        }
        recipes.push((path, recipe));
    }
    if let Some(base) = &args.all_on {
        recipes = all_on(base, recipes)?;
    }
    if args.if_needed {
        recipes = needed(recipes, settings, ui)?;
        if recipes.is_empty() {
            return Ok(());
        }
    }
    if let [(path, recipe)] = &recipes[..] {
        let outcome = build(recipe, path, settings, &request, ui)?;
        report(&outcome, settings, ui);
        return Ok(());
    }
    build_each(&recipes, settings, &request, ui)
}

/// The recipes that have to be built; of the others it says so.
fn needed<'a>(recipes: Vec<Found<'a>>, settings: &Settings, ui: &Ui) -> Result<Vec<Found<'a>>> {
    let Some(store) = stores::open_if_made(settings)? else {
        return Ok(recipes);
    };
    let mut left = Vec::new();
    for (path, recipe) in recipes {
        let started = Instant::now();
        match plan::released(&recipe, path, &store, settings)? {
            None => left.push((path, recipe)),
            Some((manifest, seq)) => {
                let outcome = Outcome {
                    manifest,
                    seq: Some(seq),
                    origin: Origin::UpToDate,
                    took: started.elapsed(),
                };
                report(&outcome, settings, ui);
            }
        }
    }
    Ok(left)
}

/// Builds several recipes: one that fails takes only those along that stand on it.
fn build_each(
    recipes: &[Found<'_>],
    settings: &Settings,
    request: &BuildRequest,
    ui: &mut Ui,
) -> Result<()> {
    let mut failed: Vec<(&Found<'_>, ErrorKind)> = Vec::new();
    for found in recipes {
        let (path, recipe) = found;
        let stands_on = |other: &Recipe| {
            let base = recipe.bootstrap.base.as_ref().map(BaseImage::as_str);
            let image = format!("{FIRST_ENVIRONMENT}/{}", other.name);
            base.is_some_and(|base| base == image)
        };
        if let Some(((below, _), kind)) = failed.iter().find(|((_, other), _)| stands_on(other)) {
            ui.note(&format!(
                "{} is not built: it stands on what {} makes",
                path.display(),
                below.display()
            ));
            failed.push((found, *kind));
            continue;
        }
        match build(recipe, path, settings, request, ui) {
            Ok(outcome) => report(&outcome, settings, ui),
            Err(error) => {
                // Programs that were ended fail in words of their own.
                interrupt::check()?;
                let kind = error.kind();
                ui.error(&error.about(path));
                failed.push((found, kind));
            }
        }
    }
    let Some((_, kind)) = failed.first() else {
        return Ok(());
    };
    let names = failed
        .iter()
        .map(|((path, _), _)| path.display().to_string());
    let names: Vec<String> = names.collect();
    let (lost, all) = (failed.len(), recipes.len());
    Err(Error::new(
        *kind,
        format!(
            "{lost} of {all} recipes were not built: {}",
            names.join(", ")
        ),
    ))
}

/// A recipe and where it lies.
type Found<'a> = (&'a PathBuf, Recipe);

/// The recipes that stand on an image, and those that stand on what these make, in the order in
/// which they are built.
fn all_on<'a>(base: &str, mut recipes: Vec<Found<'a>>) -> Result<Vec<Found<'a>>> {
    let mut chosen: Vec<Found<'a>> = Vec::new();
    let mut bases = vec![base.to_owned()];
    while let Some(base) = bases.pop() {
        let stands_on_it = |recipe: &Recipe| {
            let own = recipe.bootstrap.base.as_ref();
            own.is_some_and(|own| own.as_str() == base)
        };
        let (on_it, rest) = recipes
            .into_iter()
            .partition(|(_, recipe)| stands_on_it(recipe));
        recipes = rest;
        let on_it: Vec<Found<'a>> = on_it;
        bases.extend(
            on_it
                .iter()
                .map(|(_, recipe)| format!("{FIRST_ENVIRONMENT}/{}", recipe.name)),
        );
        chosen.extend(on_it);
    }
    if chosen.is_empty() {
        return Err(
            Error::usage(format!("none of these recipes stands on {base}"))
                .hint("it is what their `base` says, without a number: `base = \"prod/debian\"`"),
        );
    }
    Ok(chosen)
}

/// Caches as typed.
pub(super) fn caches(args: &CacheArgs, settings: &Settings, ui: &mut Ui) -> Result<Shared> {
    Ok(Shared {
        urls: urls(&args.caches, settings, ui)?,
        trust: args.trust.clone(),
        push: false,
    })
}

/// The addresses of caches as typed. What must not be shown of them is hidden from here on.
pub(super) fn urls(typed: &[String], settings: &Settings, ui: &mut Ui) -> Result<Vec<StoreUrl>> {
    let typed = typed.iter().filter(|text| !text.is_empty());
    let urls: Vec<StoreUrl> = typed
        .map(|text| stores::parse_url(text))
        .collect::<Result<_>>()?;
    for url in &urls {
        ui.hide(settings.secrets_of(url));
    }
    Ok(urls)
}

fn shared(args: &BuildArgs, settings: &Settings, ui: &mut Ui) -> Result<Shared> {
    if args.push && args.from.caches.is_empty() {
        return Err(
            Error::usage("--push puts things into caches, and there is none")
                .hint("name one with --cache"),
        );
    }
    let shared = caches(&args.from, settings, ui)?;
    if args.push
        && shared
            .urls
            .iter()
            .all(|url| matches!(url, StoreUrl::Web(_)))
    {
        return Err(Error::usage("--push needs a cache that can be written")
            .hint("a web server can only be read: name the store's directory or bucket"));
    }
    Ok(Shared {
        push: args.push,
        ..shared
    })
}

fn report(outcome: &Outcome, settings: &Settings, ui: &Ui) {
    let Outcome {
        manifest,
        seq,
        origin,
        took,
    } = outcome;
    if ui.is_json() {
        ui.result_json(&Built {
            schema: ui::SCHEMA,
            event: "built",
            name: manifest.name.as_ref(),
            image: manifest.image.to_string(),
            sha256: manifest.sha256.to_string(),
            size: manifest.size,
            entries: manifest.entries,
            environment: seq.map(|_| FIRST_ENVIRONMENT),
            seq: *seq,
            varied: seq.is_none(),
            up_to_date: *origin == Origin::UpToDate,
            taken: *origin == Origin::Taken,
            seconds: took.as_secs_f64(),
            phases: ui
                .phases()
                .iter()
                .map(|(n, d)| (n.clone(), d.as_secs_f64()))
                .collect(),
        });
        return;
    }
    let (name, env) = (&manifest.name, FIRST_ENVIRONMENT);
    let Some(seq) = seq else {
        ui.note(&format!(
            "{name}: built in a varied world in {:.1} s; {} in {} entries; not released",
            took.as_secs_f64(),
            ui::size(manifest.size),
            manifest.entries
        ));
        ui.result(&manifest.image.to_string());
        return;
    };
    let state = match origin {
        Origin::UpToDate => "up to date, nothing to do",
        Origin::Taken => "taken from a cache",
        Origin::Built => "built",
    };
    ui.note(&format!(
        "{name}: {state} in {:.1} s; {} in {} entries; release {env}/{name}/{seq}",
        took.as_secs_f64(),
        ui::size(manifest.size),
        manifest.entries
    ));
    ui.result(&manifest.image.to_string());
    if *origin == Origin::UpToDate {
        return;
    }
    let store = &settings.store_url;
    let root = if let Some(store) = store.directory() {
        format!("{}/env/{env}/metadata/1.root.json", store.display())
    } else {
        ui.note(&format!(
            "next: imgbuild env root save {env} --store {store}"
        ));
        format!("{env}.root.json")
    };
    ui.note(&format!(
        "next, on a node:\n  \
         imgnode init --env {env} --repo {store} --root {root}\n  \
         imgnode install {name} --as SYSTEM --target dir:/srv/imgnode"
    ));
}
