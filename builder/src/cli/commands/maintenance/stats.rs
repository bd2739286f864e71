//! `imgbuild store stats`

use serde::Serialize;
use store::maintenance::{self, Amount};

use super::{pinned, reasons, releases, survey};
use crate::error::Result;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    /// Bytes of all images' tars.
    logical: u64,
    /// Bytes of packs and indexes.
    stored: u64,
    /// `logical` through `stored`.
    ratio: f64,
    /// Bytes of everything in the store.
    total: u64,
    packs: u64,
    waste: u64,
    inputs: u64,
    inputs_bytes: u64,
    deltas_bytes: u64,
    metadata_bytes: u64,
    quarantine: u64,
    quarantine_bytes: u64,
    leftover_bytes: u64,
    writers: usize,
    images: Vec<ShownImage>,
}

#[derive(Serialize)]
struct ShownImage {
    name: String,
    image: String,
    size: u64,
    exclusive: u64,
    published: u64,
    released: Vec<String>,
    /// The reason; null when it is not pinned.
    pinned: Option<String>,
    damage: Option<String>,
}

pub(super) fn run(settings: &Settings, ui: &mut Ui) -> Result<()> {
    let (store, place) = survey(settings)?;
    let what = || format!("cannot read the store {}", settings.store_url);
    let stats = maintenance::stats(&store, &*place).map_err(|e| stores::failed(what(), &e))?;
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let ratio = stats.logical as f64 / stats.packs.bytes.max(1) as f64;
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            logical: stats.logical,
            stored: stats.packs.bytes,
            ratio,
            total: stats.stored(),
            packs: stats.packs.count,
            waste: stats.waste,
            inputs: stats.inputs.count,
            inputs_bytes: stats.inputs.bytes,
            deltas_bytes: stats.deltas.bytes,
            metadata_bytes: stats.metadata.bytes,
            quarantine: stats.quarantine.count,
            quarantine_bytes: stats.quarantine.bytes,
            leftover_bytes: stats.leftover,
            writers: stats.writers,
            images: stats.images.iter().map(image).collect(),
        });
        return Ok(());
    }
    let line = |name: &str, value: String| ui.result(&format!("{name:<11} {value}"));
    let amount = |amount: Amount| format!("{} in {}", ui::size(amount.bytes), amount.count);
    line("images", stats.images.len().to_string());
    line("logical", ui::size(stats.logical));
    line(
        "stored",
        format!("{} packs, {ratio:.2} times less", amount(stats.packs)),
    );
    line("waste", ui::size(stats.waste));
    line("inputs", amount(stats.inputs));
    if stats.deltas.count > 0 {
        line("deltas", amount(stats.deltas));
    }
    line("metadata", amount(stats.metadata));
    line("quarantine", amount(stats.quarantine));
    line("unfinished", ui::size(stats.leftover));
    line("total", ui::size(stats.stored()));
    if !stats.images.is_empty() {
        ui.result("");
        ui.result(&format!(
            "{:<20} {:<19} {:>10} {:>10}  kept because",
            "name", "image", "size", "exclusive"
        ));
    }
    for image in &stats.images {
        let mut why = reasons(&image.why);
        if let Some(damage) = &image.damage {
            why = format!("DAMAGED ({damage}) {why}");
        }
        ui.result(&format!(
            "{:<20} {:<19} {:>10} {:>10}  {why}",
            image.name,
            &image.image.to_string()[..19],
            ui::size(image.size),
            ui::size(image.exclusive)
        ));
    }
    Ok(())
}

fn image(image: &maintenance::ImageStats) -> ShownImage {
    ShownImage {
        name: image.name.to_string(),
        image: image.image.to_string(),
        size: image.size,
        exclusive: image.exclusive,
        published: image.published,
        released: releases(Some(&image.why)),
        pinned: pinned(Some(&image.why)),
        damage: image.damage.clone(),
    }
}
