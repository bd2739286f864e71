//! `imgnode switch` and `imgnode rollback`: another generation becomes the active one.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::{SwitchTo, switch};
use ::verify::node::Node;
use ::verify::session::Timeouts;
use ::verify::system::SystemName;
use serde::Serialize;

use crate::cli::report::{JSON_SCHEMA, note_handover};
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    system: &'a str,
    generation: u64,
    previous: Option<u64>,
    image: String,
    seq: u64,
    changed: bool,
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    to: SwitchTo,
    timeouts: Option<Timeouts>,
    json: bool,
) -> Result<ExitCode> {
    let done = switch(node, system, to, timeouts)?;
    let active = done.record.active();
    if json {
        ui.json(&Report {
            schema: JSON_SCHEMA,
            system: system.as_str(),
            generation: active.number,
            previous: done.record.previous,
            image: active.image.to_string(),
            seq: active.seq,
            changed: done.changed,
        });
    } else {
        ui.data(&format!(
            "{system} generation {} is {}",
            active.number, active.image
        ));
    }
    if !done.changed {
        ui.note("it was active already");
    }
    note_handover(ui, system, &done.handover);
    Ok(ExitCode::SUCCESS)
}
