//! `imgnode gc`: old generations go.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::install::{GcReport, gc};
use ::verify::node::Node;
use ::verify::system::SystemName;
use serde::Serialize;

use crate::cli::report::JSON_SCHEMA;
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    systems: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    system: &'a str,
    removed: &'a [u64],
    kept: &'a [u64],
}

impl<'a> From<&'a GcReport> for Row<'a> {
    fn from(one: &'a GcReport) -> Self {
        Self {
            system: one.system.as_str(),
            removed: &one.removed,
            kept: &one.kept,
        }
    }
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: Option<&SystemName>,
    keep: usize,
    json: bool,
) -> Result<ExitCode> {
    let done = gc(node, system, keep)?;
    if json {
        ui.json(&Report {
            schema: JSON_SCHEMA,
            systems: done.iter().map(Row::from).collect(),
        });
        return Ok(ExitCode::SUCCESS);
    }
    for one in &done {
        for number in &one.removed {
            ui.data(&format!("{} generation {number} removed", one.system));
        }
    }
    if done.iter().all(|one| one.removed.is_empty()) {
        ui.note("nothing to remove");
    }
    Ok(ExitCode::SUCCESS)
}
