//! `imgnode install` and `imgnode upgrade`: the newest release becomes the active generation.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::tarball::{self, Carried};
use ::verify::install::{self, Installed, Request, Tally, Way};
use ::verify::node::Node;
use ::verify::session::Patience;
use ::verify::storage::Target;
use ::verify::system::SystemName;
use serde::Serialize;
use store::name::ImageName;

use super::JSON_SCHEMA;
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    system: &'a str,
    generation: u64,
    image: String,
    seq: u64,
    environment: &'a str,
    directory: String,
    changed: bool,
    /// Bytes of content written to the target.
    written_bytes: u64,
    /// Bytes of content that were on this node already.
    reused_bytes: u64,
    /// Bytes that came over the network, where the store is behind one.
    fetched_bytes: Option<u64>,
    /// How they came: `delta`, `packs` or `whole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    /// Bytes of the delta that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta_bytes: Option<u64>,
    /// Bytes that packs would have taken in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    packs_bytes: Option<u64>,
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    name: ImageName,
    system: SystemName,
    target: Option<Target>,
    json: bool,
) -> Result<ExitCode> {
    let request = Request {
        name,
        system,
        target,
        patience: None,
        again: false,
    };
    Ok(report(ui, &install::install(node, &request)?, json))
}

/// `imgnode upgrade`: the same for a system that is installed.
pub(crate) fn upgrade(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    patience: Option<Patience>,
    again: bool,
    json: bool,
) -> Result<ExitCode> {
    let done = install::upgrade(node, system, patience, again)?;
    Ok(report(ui, &done, json))
}

/// `imgnode build-schroot`: the same from a tarball.
pub(crate) fn build(node: &Node<'_>, ui: &Ui, carried: &Carried, json: bool) -> Result<ExitCode> {
    Ok(report(ui, &tarball::build(node, carried)?, json))
}

/// Says what was installed.
pub(super) fn report(ui: &Ui, done: &Installed, json: bool) -> ExitCode {
    let active = done.record.active();
    let system = done.record.system.as_str();
    let Tally {
        written,
        reused,
        fetched,
        way,
    } = done.tally;
    let (name, delta) = match way {
        Way::Whole => ("whole", None),
        Way::Packs => ("packs", None),
        Way::Delta { size, packs } => ("delta", Some((size, packs))),
    };
    if json {
        ui.json(&Report {
            schema: JSON_SCHEMA,
            system,
            generation: active.number,
            image: active.image.to_string(),
            seq: active.seq,
            environment: active.environment.as_str(),
            directory: active.directory.display().to_string(),
            changed: done.changed,
            written_bytes: written,
            reused_bytes: reused,
            fetched_bytes: fetched,
            way: (written + reused > 0).then_some(name),
            delta_bytes: delta.map(|(size, _)| size),
            packs_bytes: delta.map(|(_, packs)| packs),
        });
    } else {
        ui.data(&format!(
            "{system} generation {} is {}",
            active.number, active.image
        ));
    }
    if written + reused > 0 {
        let fetched = fetched.map_or_else(String::new, |bytes| {
            format!(", {} fetched", megabytes(bytes))
        });
        ui.note(&format!(
            "{} were here already, {} written{fetched}",
            megabytes(reused),
            megabytes(written)
        ));
        if let Some((size, packs)) = delta {
            ui.note(&format!(
                "a delta of {} stood for {} of packs",
                megabytes(size),
                megabytes(packs)
            ));
        }
    }
    if !done.changed {
        ui.note("it was installed already");
    }
    super::sessions::traffic(ui, &done.record.system, &done.traffic);
    ExitCode::SUCCESS
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
