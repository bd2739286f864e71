//! `imgbuild plan RECIPE`

use std::path::Path;

use serde::Serialize;

use super::load_recipe;
use crate::cli::args::RecipeArgs;
use crate::error::{Error, Result};
use crate::layers::Layers;
use crate::lock;
use crate::lockfile::Lock;
use crate::run::{self, PlannedStep, phase_name};
use crate::settings::Settings;
use crate::steps;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    /// What has to be locked again before anything is built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<String>,
    steps: Vec<ShownStep<'a>>,
}

#[derive(Serialize)]
struct ShownStep<'a> {
    step: usize,
    phase: &'static str,
    name: &'a str,
    key: &'a str,
    cached: bool,
}

/// The steps of a recipe with its lock, as a build would take them.
pub(super) fn planned(
    recipe: &Path,
    settings: &Settings,
) -> Result<(Vec<PlannedStep>, Layers, Lock)> {
    let loaded = load_recipe(recipe)?;
    let path = Lock::path_for(recipe);
    let lock = Lock::load(&path)?.ok_or_else(|| {
        Error::failed(format!("there is no {}", path.display()))
            .hint(format!("run `imgbuild lock {}` first", recipe.display()))
    })?;
    let layers = Layers::look(&settings.work)?;
    Ok((
        run::plan_steps(steps::all(&loaded, &lock)?, &layers)?,
        layers,
        lock,
    ))
}

pub(super) fn run(args: &RecipeArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let (planned, _, lock) = planned(&args.recipe, settings)?;
    let changed = lock::stale_parts(&load_recipe(&args.recipe)?, &args.recipe, &lock)?;
    if ui.is_json() {
        let steps = planned.iter().enumerate().map(|(index, p)| ShownStep {
            step: index + 1,
            phase: phase_name(p.step.phase),
            name: &p.step.name,
            key: p.key.as_str(),
            cached: p.cached,
        });
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            stale: changed,
            steps: steps.collect(),
        });
        return Ok(());
    }
    for part in changed {
        ui.result(&format!(
            "  -  stale   {:<11}  {part}: changed since it was locked",
            "lock"
        ));
    }
    for (index, planned) in planned.iter().enumerate() {
        let state = if planned.cached { "cached" } else { "run" };
        let number = index + 1;
        ui.result(&format!(
            "{number:>3}  {state:<6}  {:<11}  {}",
            phase_name(planned.step.phase),
            planned.step.name
        ));
    }
    Ok(())
}

/// The step that a person means by its number.
pub(super) fn numbered(planned: &[PlannedStep], number: usize) -> Result<&PlannedStep> {
    number
        .checked_sub(1)
        .and_then(|index| planned.get(index))
        .ok_or_else(|| {
            Error::usage(format!(
                "there is no step {number}: the recipe has {}",
                planned.len()
            ))
            .hint("`imgbuild plan RECIPE` counts them")
        })
}
