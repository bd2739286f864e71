//! `imgnode verify`: the installed tree against the signed layout.

use std::process::ExitCode;

use ::verify::error::{Error, Result};
use ::verify::event::Event;
use ::verify::install;
use ::verify::node::Node;
use ::verify::system::SystemName;
use ::verify::tree::compare::Difference;
use serde::Serialize;

use crate::cli::report::JSON_SCHEMA;
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    system: &'a str,
    generation: u64,
    image: String,
    intact: bool,
    differences: &'a [Difference],
}

pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    generation: Option<u64>,
    json: bool,
) -> Result<ExitCode> {
    let record = node.state.installed(system)?;
    let number = generation.unwrap_or(record.active);
    let Some(compared) = record.generation(number) else {
        return Err(Error::usage(format!("{system} has no generation {number}"))
            .hint(format!("see which: imgnode status {system}")));
    };
    node.observer.event(Event::Phase(&format!(
        "comparing generation {} of {system} with {}",
        compared.number, compared.image
    )));
    let differences = install::verify(node, &record, compared)?;
    if json {
        ui.json(&Report {
            schema: JSON_SCHEMA,
            system: system.as_str(),
            generation: compared.number,
            image: compared.image.to_string(),
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
        ui.note(&format!(
            "generation {number} of {system} is as it was signed"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    ui.note(&format!(
        "generation {number} of {system} has drifted: {} {} from what was signed",
        differences.len(),
        if differences.len() == 1 {
            "path differs"
        } else {
            "paths differ"
        }
    ));
    Ok(ExitCode::from(3))
}
