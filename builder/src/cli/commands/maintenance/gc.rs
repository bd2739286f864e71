//! `imgbuild store gc`

use serde::Serialize;
use store::maintenance::{Collector, GcProgress, Plan, Policy, Removed};

use super::{reasons, survey};
use crate::cli::args::GcArgs;
use crate::error::Result;
use crate::lockfile::{base_of, inputs_of};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui, Unit};

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    deleted: bool,
    /// Bytes that are free now, or would be.
    frees: u64,
    waiting: u64,
    kept: Vec<ShownKept<'a>>,
    images: Vec<ShownImage<'a>>,
    objects: Vec<Object<'a>>,
    packs_rewritten: u64,
    spared: u64,
}

#[derive(Serialize)]
struct ShownKept<'a> {
    image: String,
    name: &'a str,
    why: String,
}

#[derive(Serialize)]
struct ShownImage<'a> {
    image: String,
    name: &'a str,
    size: u64,
    published: u64,
}

#[derive(Serialize)]
struct Object<'a> {
    key: &'a str,
    size: u64,
}

pub(super) fn run(args: &GcArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let policy = Policy {
        grace: args.grace,
        keep_last: args.keep_last,
        waste: args.waste,
    };
    let what = || format!("cannot clean up the store {}", settings.store_url);
    let mut phase = ui.phase("mark");
    let mut watch = |progress: GcProgress| match progress {
        GcProgress::Mark { done, total } => phase.progress(done, total, Unit::Steps),
        GcProgress::Repack { done, total } => phase.progress(done, total, Unit::Bytes),
        _ => {}
    };
    let (plan, done) = if args.delete {
        // What is no store must not become one here.
        survey(settings)?;
        let store = stores::open_to_write(settings)?;
        let collector = Collector::new(store.store(), policy, &inputs_of).with_bases(&base_of);
        let done = collector
            .run(store.backend(), &mut watch)
            .map_err(|e| stores::failed(what(), &e))?;
        store
            .renew_catalogue()
            .and_then(|()| store::attest::renew_lists(store.backend()))
            .and_then(|()| store::inventory::complete(store.backend()))
            .map_err(|e| stores::failed(what(), &e))?;
        (done.plan.clone(), Some(done))
    } else {
        let (store, place) = survey(settings)?;
        let collector = Collector::new(&store, policy, &inputs_of).with_bases(&base_of);
        let plan = collector
            .plan(&*place, &mut watch)
            .map_err(|e| stores::failed(what(), &e))?;
        (plan, None)
    };
    phase.finish(&format!("{} images are kept", plan.kept.len()));
    let frees = done.as_ref().map_or(
        plan.bytes_to_free(),
        store::maintenance::Collected::bytes_freed,
    );
    let objects: &[Removed] = done.as_ref().map_or(&plan.objects, |done| &done.removed);
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            deleted: args.delete,
            frees,
            waiting: plan.waiting,
            kept: plan.kept.iter().map(kept).collect(),
            images: plan.images.iter().map(unreferenced).collect(),
            objects: objects.iter().map(object).collect(),
            packs_rewritten: plan.fragmented.len() as u64,
            spared: done.as_ref().map_or(0, |done| done.spared),
        });
        return Ok(());
    }
    show(&plan, objects, args.delete, frees, ui);
    Ok(())
}

fn kept(kept: &store::maintenance::KeptImage) -> ShownKept<'_> {
    ShownKept {
        image: kept.image.to_string(),
        name: kept.name.as_str(),
        why: reasons(&kept.why),
    }
}

fn unreferenced(image: &store::maintenance::Unreferenced) -> ShownImage<'_> {
    ShownImage {
        image: image.image.to_string(),
        name: image.name.as_str(),
        size: image.size,
        published: image.published,
    }
}

fn object(gone: &Removed) -> Object<'_> {
    Object {
        key: &gone.key,
        size: gone.size,
    }
}

fn show(plan: &Plan, objects: &[Removed], deleted: bool, frees: u64, ui: &Ui) {
    for kept in &plan.kept {
        ui.result(&format!(
            "keep    {:<20} {}  {}",
            kept.name,
            kept.image,
            reasons(&kept.why)
        ));
    }
    for image in &plan.images {
        ui.result(&format!(
            "remove  {:<20} {}  {}",
            image.name,
            image.image,
            ui::size(image.size)
        ));
    }
    for (folder, what) in [
        ("packs/", "packs and indexes"),
        ("inputs/", "inputs"),
        ("deltas/", "deltas and their descriptions"),
        ("logs/", "logs"),
        ("hints/", "hints"),
        ("env/", "old versions of environments' metadata"),
    ] {
        let of = objects.iter().filter(|gone| gone.key.starts_with(folder));
        let (count, bytes) = of.fold((0, 0), |(n, sum), gone| (n + 1, sum + gone.size));
        if count > 0 {
            ui.result(&format!("remove  {count} {what}, {}", ui::size(bytes)));
        }
    }
    if !plan.fragmented.is_empty() {
        let size = plan.fragmented.iter().map(|worn| worn.size).sum();
        let needed = plan.fragmented.iter().map(|worn| worn.needed).sum();
        ui.result(&format!(
            "rewrite {} packs of {}, of which {} are needed",
            plan.fragmented.len(),
            ui::size(size),
            ui::size(needed)
        ));
    }
    if plan.waiting > 0 {
        ui.note(&format!(
            "{} more are not needed, but in use or within the grace period",
            ui::size(plan.waiting)
        ));
    }
    let frees = ui::size(frees);
    if deleted {
        ui.note(&format!("{frees} were freed"));
    } else if plan.bytes_to_free() == 0 {
        ui.note("there is nothing to remove");
    } else {
        ui.note(&format!(
            "nothing was changed; with --delete, {frees} would be freed"
        ));
    }
}
