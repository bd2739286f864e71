//! `imgnode install`, `upgrade` and `build-schroot`: a release becomes the active generation.

use std::path::PathBuf;
use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::{self, FetchMethod, Installed, Request, RequestedSource, TransferStats};
use ::verify::node::Node;
use ::verify::session::Timeouts;
use ::verify::storage::Target;
use ::verify::system::SystemName;
use ::verify::trust::Held;
use serde::Serialize;
use store::name::ImageName;

use crate::cli::report::{JSON_SCHEMA, megabytes, note_handover};
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
    /// The way they came: `delta`, `packs` or `whole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    /// Bytes of the delta that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta_bytes: Option<u64>,
    /// Bytes that packs would have taken in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    packs_bytes: Option<u64>,
    /// The newest release, where that has not reached this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<ReportHeld<'a>>,
}

#[derive(Serialize)]
struct ReportHeld<'a> {
    seq: u64,
    /// The stage that it has reached, of how many.
    stage: usize,
    stages: usize,
    /// Why it is halted, if it is.
    halted: Option<&'a str>,
}

impl<'a> ReportHeld<'a> {
    fn of(held: &'a Held) -> Self {
        Self {
            seq: held.seq,
            stage: held.waves.reached(),
            stages: held.waves.stages().len(),
            halted: held.waves.halted(),
        }
    }
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    name: ImageName,
    system: SystemName,
    target: Option<Target>,
    ahead: bool,
    json: bool,
) -> Result<ExitCode> {
    let request = Request {
        source: RequestedSource::Environment(name),
        system,
        target,
        timeouts: None,
        again: false,
        ahead,
    };
    Ok(report(ui, &install::install(node, &request)?, json))
}

/// `imgnode upgrade`: the newest release of an installed system's image for this node.
pub(crate) fn upgrade(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    timeouts: Option<Timeouts>,
    again: bool,
    ahead: bool,
    json: bool,
) -> Result<ExitCode> {
    let done = install::upgrade(node, system, timeouts, again, ahead)?;
    Ok(report(ui, &done, json))
}

/// `imgnode build-schroot`: an exported tarball becomes the active generation.
pub(crate) fn build_schroot(
    node: &Node<'_>,
    ui: &Ui,
    tarball: PathBuf,
    system: SystemName,
    target: Target,
    json: bool,
) -> Result<ExitCode> {
    let request = Request {
        source: RequestedSource::Tarball(tarball),
        system,
        target: Some(target),
        timeouts: None,
        again: false,
        ahead: false,
    };
    Ok(report(ui, &install::install(node, &request)?, json))
}

/// Says what was installed.
fn report(ui: &Ui, done: &Installed, json: bool) -> ExitCode {
    let active = done.record.active();
    let system = done.record.system.as_str();
    let TransferStats {
        written,
        reused,
        fetched,
        method,
    } = done.stats;
    let (name, delta) = match method {
        FetchMethod::Whole => ("whole", None),
        FetchMethod::Packs => ("packs", None),
        FetchMethod::Delta { size, packs } => ("delta", Some((size, packs))),
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
            changed: done.changed(),
            written_bytes: written,
            reused_bytes: reused,
            fetched_bytes: fetched,
            way: (written + reused > 0).then_some(name),
            delta_bytes: delta.map(|(size, _)| size),
            packs_bytes: delta.map(|(_, packs)| packs),
            held: done.plan.held.as_ref().map(ReportHeld::of),
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
    if !done.changed() {
        ui.note("it was installed already");
    }
    note_handover(ui, &done.record.system, &done.handover);
    ExitCode::SUCCESS
}
