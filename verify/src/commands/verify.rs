//! `imgnode verify`: the installed tree against the signed layout.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::event::Event;
use ::verify::install;
use ::verify::node::Node;
use ::verify::recheck::Difference;
use ::verify::system::SystemName;
use serde::Serialize;

use super::JSON_SCHEMA;
use crate::ui::Ui;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    system: &'a str,
    generation: u64,
    image: String,
    intact: bool,
    differences: &'a [Difference],
}

pub(crate) fn run(node: &Node<'_>, ui: &Ui, system: &SystemName, json: bool) -> Result<ExitCode> {
    let record = node.state.installed(system)?;
    let active = record.active();
    node.observer.event(Event::Phase(&format!(
        "comparing generation {} of {system} with {}",
        active.number, active.image
    )));
    let differences = install::verify(node, &record)?;
    if json {
        ui.json(&Report {
            schema: JSON_SCHEMA,
            system: system.as_str(),
            generation: active.number,
            image: active.image.to_string(),
            intact: differences.is_empty(),
            differences: &differences,
        });
    } else {
        for one in &differences {
            let package = one
                .package
                .as_ref()
                .map_or_else(String::new, |package| format!(" [{package}]"));
            ui.data(&format!("{} {}{package}", one.path, one.how.join(", ")));
        }
    }
    if differences.is_empty() {
        ui.note(&format!("{system} is as it was signed"));
        return Ok(ExitCode::SUCCESS);
    }
    ui.note(&format!(
        "{system} has drifted: {} paths differ from what was signed",
        differences.len()
    ));
    Ok(ExitCode::from(3))
}
