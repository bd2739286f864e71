//! `imgnode install`: the newest release becomes the active generation.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::{Request, install};
use ::verify::node::Node;
use ::verify::system::SystemName;
use ::verify::target::Target;
use serde::Serialize;
use store::name::ImageName;

use super::JSON_SCHEMA;
use crate::ui::Ui;

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
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    name: ImageName,
    system: SystemName,
    target: Option<Target>,
    json: bool,
) -> Result<ExitCode> {
    let done = install(
        node,
        &Request {
            name,
            system,
            target,
        },
    )?;
    let active = done.record.active();
    let system = done.record.system.as_str();
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
        });
    } else {
        ui.data(&format!(
            "{system} generation {} is {}",
            active.number, active.image
        ));
    }
    if !done.changed {
        ui.note("it was installed already");
    } else if done.record.previous.is_some() {
        ui.note(&format!("sessions that run keep their generation; next: imgnode stop {system} && imgnode start {system}"));
    } else {
        ui.note(&format!("next: imgnode start {system}"));
    }
    Ok(ExitCode::SUCCESS)
}
