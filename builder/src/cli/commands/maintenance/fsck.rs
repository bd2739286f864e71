//! `imgbuild store fsck`

use std::sync::Mutex;

use serde::Serialize;
use store::copy::{Repaired, repair};
use store::maintenance::{self, AffectedImage, Depth, Progress, Quarantined, Report};

use super::survey;
use crate::cli::args::FsckArgs;
use crate::cli::commands::env::all_warnings;
use crate::error::{Error, ErrorKind, Result};
use crate::lockfile::{inputs_of, sized_inputs_of};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui, Unit};

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    clean: bool,
    quick: bool,
    images: u64,
    packs: u64,
    packs_bytes: u64,
    inputs: u64,
    inputs_bytes: u64,
    environments: u64,
    /// What is about to run out, or has.
    warnings: Vec<String>,
    damage: Vec<ShownDamage<'a>>,
    hurt: Vec<ShownHurt<'a>>,
    unbuildable: Vec<Unbuildable>,
    strays: &'a [String],
    foreign: &'a [String],
    quarantined: &'a [String],
    restored: &'a [String],
    given_up: &'a [String],
    repaired_images: Vec<String>,
    repaired_objects: &'a [String],
    not_repaired: Vec<ShownDamage<'a>>,
    repaired_bytes: u64,
}

#[derive(Serialize)]
struct ShownDamage<'a> {
    key: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct ShownHurt<'a> {
    image: String,
    name: Option<&'a str>,
    released: &'a [String],
    why: &'a str,
    entries: &'a [String],
    more_entries: u64,
    /// Whether the image is whole, and only building it again is not possible.
    whole: bool,
}

#[derive(Serialize)]
struct Unbuildable {
    image: String,
    missing_inputs: u64,
}

pub(super) fn run(args: &FsckArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let what = || format!("cannot check the store {}", settings.store_url);
    let (store, place) = survey(settings)?;
    let phase = Mutex::new(ui.phase("check"));
    let watch = |checked: Progress| {
        if let Ok(mut phase) = phase.lock() {
            phase.progress(checked.done, checked.total, Unit::Bytes);
        }
    };
    let verified = stores::verified(settings);
    let depth = if args.quick {
        Depth::Quick
    } else {
        Depth::Whole {
            verified: Some(&verified),
            anew: args.paranoid,
        }
    };
    let report = maintenance::fsck(&store, &*place, depth, &inputs_of, &watch)
        .map_err(|e| stores::failed(what(), &e))?;
    let phase = phase
        .into_inner()
        .map_err(|_| Error::failed("a worker thread died"))?;
    phase.finish(&format!(
        "{} images, {} packs of {}, {} inputs, {} environments",
        report.images,
        report.packs.count,
        ui::size(report.packs.bytes),
        report.inputs.count,
        report.environments
    ));
    let mut moved = Quarantined::default();
    let other = match &args.repair_from {
        // Before anything is moved.
        Some(text) => Some(stores::open_at(&stores::parse_url(text)?, settings)?),
        None => None,
    };
    let mut repaired = Repaired::default();
    if let Some(other) = other.filter(|_| needs_repair(&report)) {
        let store = stores::open_to_write(settings)?;
        moved = maintenance::quarantine(&report, store.backend())
            .map_err(|e| stores::failed(what(), &e))?;
        let mut phase = ui.phase("repair");
        let mut watch = |progress| phase.copying(progress);
        repaired = repair(&report, &other, &store, &sized_inputs_of, &mut watch)
            .map_err(|e| stores::failed(what(), &e))?;
        moved.given_up.retain(|key| !repaired.objects.contains(key));
        unrepaired(&report, &moved, &mut repaired);
        phase.finish(&format!(
            "{} images, {} other objects, {} fetched; {} could not be repaired",
            repaired.images.len(),
            repaired.objects.len(),
            ui::size(repaired.moved),
            repaired.failed.len()
        ));
    } else if args.quarantine && !report.damage.is_empty() {
        let store = stores::open_to_write(settings)?;
        moved = maintenance::quarantine(&report, store.backend())
            .map_err(|e| stores::failed(what(), &e))?;
    }
    let warnings = all_warnings(&store);
    if ui.is_json() {
        ui.result_json(&Shown {
            warnings,
            ..shown(&report, &moved, &repaired, args.quick)
        });
    } else {
        for line in warnings {
            ui.note(&format!("warning: {line}"));
        }
        show(&report, &moved, ui);
        show_repaired(&repaired, ui);
    }
    if args.repair_from.is_some() {
        if repaired.failed.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{} objects or images could not be repaired",
            repaired.failed.len()
        );
        return Err(Error::new(ErrorKind::Refused, text)
            .hint("try a store that has them whole; what is listed as repaired is whole again"));
    }
    if report.is_clean() {
        return Ok(());
    }
    let text = format!(
        "{} objects are damaged, {} images are hurt",
        report.damage.len(),
        report.affected.len()
    );
    let hint = if moved.moved.is_empty() && !report.damage.is_empty() {
        "--repair-from STORE fetches what is damaged from another store; without one, \
         --quarantine moves it out of the way, and building or importing a hurt image again \
         writes what is missing"
    } else {
        "build or import the hurt images again, or copy them from another store: that writes \
         what is missing"
    };
    Err(Error::new(ErrorKind::Refused, text).hint(hint))
}

/// Whether there is anything that another store could have.
fn needs_repair(report: &Report) -> bool {
    !report.is_clean() || !report.unbuildable.is_empty()
}

/// Adds what was found damaged and neither moved away nor repaired.
fn unrepaired(report: &Report, moved: &Quarantined, repaired: &mut Repaired) {
    for damage in &report.damage {
        let done = moved.moved.contains(&damage.key)
            || moved.restored.contains(&damage.key)
            || repaired.objects.contains(&damage.key)
            || repaired.failed.iter().any(|(what, _)| *what == damage.key);
        if !done {
            let lost = (damage.key.clone(), damage.why.clone());
            repaired.failed.push(lost);
        }
    }
}

fn show_repaired(repaired: &Repaired, ui: &Ui) {
    for image in &repaired.images {
        ui.result(&format!("repaired  {image}"));
    }
    for key in &repaired.objects {
        ui.result(&format!("repaired  {key}"));
    }
    for (what, why) in &repaired.failed {
        ui.result(&format!("lost    {what}: {why}"));
    }
}

fn shown<'a>(
    report: &'a Report,
    moved: &'a Quarantined,
    repaired: &'a Repaired,
    quick: bool,
) -> Shown<'a> {
    let damage = report.damage.iter().map(|damage| ShownDamage {
        key: &damage.key,
        why: &damage.why,
    });
    let hurt = report.affected.iter().map(|hurt| ShownHurt {
        image: hurt.image.to_string(),
        name: hurt.name.as_ref().map(store::ImageName::as_str),
        released: &hurt.released,
        why: &hurt.why,
        entries: &hurt.entries,
        more_entries: hurt.more,
        whole: hurt.whole,
    });
    let unbuildable = report
        .unbuildable
        .iter()
        .map(|(image, missing)| Unbuildable {
            image: image.to_string(),
            missing_inputs: *missing,
        });
    Shown {
        schema: ui::SCHEMA,
        clean: report.is_clean(),
        quick,
        images: report.images,
        packs: report.packs.count,
        packs_bytes: report.packs.bytes,
        inputs: report.inputs.count,
        inputs_bytes: report.inputs.bytes,
        environments: report.environments,
        warnings: Vec::new(),
        damage: damage.collect(),
        hurt: hurt.collect(),
        unbuildable: unbuildable.collect(),
        strays: &report.strays,
        foreign: &report.foreign,
        quarantined: &moved.moved,
        restored: &moved.restored,
        given_up: &moved.given_up,
        repaired_images: repaired.images.iter().map(ToString::to_string).collect(),
        repaired_objects: &repaired.objects,
        not_repaired: repaired
            .failed
            .iter()
            .map(|(key, why)| ShownDamage { key, why })
            .collect(),
        repaired_bytes: repaired.moved,
    }
}

fn show(report: &Report, moved: &Quarantined, ui: &Ui) {
    for damage in &report.damage {
        ui.result(&format!("damaged {}: {}", damage.key, damage.why));
    }
    for hurt in &report.affected {
        show_hurt(hurt, ui);
    }
    for key in &moved.moved {
        ui.result(&format!("moved   {key} to quarantine/{key}"));
    }
    for key in &moved.restored {
        ui.result(&format!(
            "put back {key}, from an environment that has it signed"
        ));
    }
    for key in &moved.given_up {
        ui.result(&format!(
            "lost    {key}: it was missing, and is not looked for any more"
        ));
    }
    if !report.strays.is_empty() {
        ui.note(&format!(
            "{} objects are left of an interrupted command, or nothing vouches for them: the next \
             publication or `imgbuild store gc` puts them in order",
            report.strays.len()
        ));
        for key in &report.strays {
            ui.note(&format!("  {key}"));
        }
    }
    for key in &report.foreign {
        ui.note(&format!(
            "{key} does not belong to a store; nothing reads it"
        ));
    }
    if !report.unbuildable.is_empty() {
        ui.note(&format!(
            "{} images could not be built again: the store lacks inputs of them",
            report.unbuildable.len()
        ));
    }
}

fn show_hurt(hurt: &AffectedImage, ui: &Ui) {
    let name = hurt.name.as_ref().map_or("?", store::ImageName::as_str);
    let released = match &hurt.released[..] {
        [] => String::new(),
        released => format!(" (released: {})", released.join(", ")),
    };
    ui.result(&format!(
        "hurt    {name} {}{released}: {}",
        hurt.image, hurt.why
    ));
    for entry in &hurt.entries {
        ui.result(&format!("        {entry}"));
    }
    if hurt.more > 0 {
        ui.result(&format!("        and {} more", hurt.more));
    }
}
