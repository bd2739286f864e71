//! `imgbuild [build] RECIPE...`

use serde::Serialize;

use crate::args::BuildArgs;
use crate::build::{Outcome, Wanted, build};
use crate::cache::Shared;
use crate::commands::care::copy::place;
use crate::error::{Error, Result};
use crate::image::FIRST_ENVIRONMENT;
use crate::locking::Strictness;
use crate::settings::Settings;
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
    let wanted = Wanted {
        strictness: Strictness {
            locked: args.locked,
            frozen: args.frozen,
            offline: args.offline,
        },
        setup: args.setup,
        vary: args.vary,
        shared: shared(args, settings, ui)?,
    };
    for recipe in &args.recipes {
        let outcome = build(recipe, settings, &wanted, ui)?;
        report(&outcome, settings, ui);
    }
    Ok(())
}

/// The places of caches as typed. What must not be shown of them is hidden from here on.
pub(super) fn caches(typed: &[String], settings: &Settings, ui: &mut Ui) -> Result<Vec<StoreUrl>> {
    let typed = typed.iter().filter(|text| !text.is_empty());
    let places: Vec<StoreUrl> = typed.map(|text| place(text)).collect::<Result<_>>()?;
    for place in &places {
        ui.hide(settings.secrets_of(place));
    }
    Ok(places)
}

fn shared(args: &BuildArgs, settings: &Settings, ui: &mut Ui) -> Result<Shared> {
    if args.push && args.caches.is_empty() {
        return Err(
            Error::usage("--push puts things into caches, and there is none")
                .hint("name one with --cache"),
        );
    }
    let places = caches(&args.caches, settings, ui)?;
    if args.push && places.iter().all(|place| matches!(place, StoreUrl::Web(_))) {
        return Err(Error::usage("--push needs a cache that can be written")
            .hint("a web server can only be read: name the store's directory or bucket"));
    }
    Ok(Shared {
        places,
        trust: args.trust.clone(),
        push: args.push,
    })
}

fn report(outcome: &Outcome, settings: &Settings, ui: &Ui) {
    let Outcome {
        manifest,
        seq,
        up_to_date,
        taken,
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
            up_to_date: *up_to_date,
            taken: *taken,
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
    let state = if *up_to_date {
        "up to date, nothing to do"
    } else if *taken {
        "taken from a cache"
    } else {
        "built"
    };
    ui.note(&format!(
        "{name}: {state} in {:.1} s; {} in {} entries; release {env}/{name}/{seq}",
        took.as_secs_f64(),
        ui::size(manifest.size),
        manifest.entries
    ));
    ui.result(&manifest.image.to_string());
    if *up_to_date {
        return;
    }
    let store = &settings.place;
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
