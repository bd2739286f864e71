//! `imgbuild plan RECIPE`

use std::path::Path;

use serde::Serialize;

use super::load_recipe;
use crate::caches::Caches;
use crate::cli::args::PlanArgs;
use crate::error::{Error, Result};
use crate::layers::Layers;
use crate::lockfile::Lock;
use crate::plan::{self, Plan};
use crate::recipe::Recipe;
use crate::run::{self, PlannedStep, phase_name};
use crate::settings::Settings;
use crate::steps;
use crate::stores;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    name: &'a str,
    plan: &'static str,
    what: String,
    why: String,
    /// The image, where it is known.
    image: Option<String>,
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

pub(super) fn run(args: &PlanArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let recipe = load_recipe(&args.recipe)?;
    let shared = super::build::caches(&args.from, settings, ui)?;
    let store = stores::open_if_made(settings)?;
    let lock = Lock::load(&Lock::path_for(&args.recipe))?;
    let inputs = plan::Inputs {
        recipe: &recipe,
        path: &args.recipe,
        lock: lock.as_ref(),
        store: store.as_ref(),
        caches: &Caches::to_look(&shared, false, settings)?,
        settings,
    };
    show(&Plan::make(&inputs, ui)?, &recipe, ui);
    Ok(())
}

fn show(plan: &Plan, recipe: &Recipe, ui: &Ui) {
    let (name, what, why) = (recipe.name.as_ref(), plan.what(), plan.why());
    let steps = plan.steps().iter().enumerate();
    if ui.is_json() {
        let steps = steps.map(|(index, p)| ShownStep {
            step: index + 1,
            phase: phase_name(p.step.phase),
            name: &p.step.name,
            key: p.key.as_str(),
            cached: p.cached,
        });
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            name,
            plan: plan.name(),
            what,
            why,
            image: match plan {
                Plan::UpToDate { manifest, .. } => Some(manifest.image.to_string()),
                Plan::Take { image, .. } => Some(image.manifest.image.to_string()),
                Plan::Lock { .. } | Plan::Build(_) => None,
            },
            steps: steps.collect(),
        });
        return;
    }
    ui.result(&format!("{name}: {what}: {why}"));
    for (index, planned) in steps {
        let state = match plan {
            Plan::UpToDate { .. } | Plan::Take { .. } => "done",
            _ if planned.cached => "cached",
            _ => "run",
        };
        let number = index + 1;
        ui.result(&format!(
            "{number:>3}  {state:<6}  {:<11}  {}",
            phase_name(planned.step.phase),
            planned.step.name
        ));
    }
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
