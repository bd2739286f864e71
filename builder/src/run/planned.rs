//! Steps with their keys and what is done of them.

use crate::error::{Context, Result};
use crate::layers::{Key, Layers};
use crate::steps::{Phase, Step};

/// A step, its key and the layers that it stands on.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// The step.
    pub step: Step,
    /// Its key.
    pub key: Key,
    /// The layers below it, lowest first.
    pub below: Vec<Key>,
    /// Whether its result is there already.
    pub cached: bool,
}

/// Gives every step its key and says which are done already.
pub fn plan_steps(steps: Vec<Step>, layers: &Layers) -> Result<Vec<PlannedStep>> {
    let mut below: Vec<Key> = Vec::new();
    let mut planned = Vec::new();
    for step in steps {
        let json = serde_json::to_vec(&step).context(|| "cannot describe a step".into())?;
        let key = Key::derive(below.last(), &[&json]);
        let cached = layers.is_done(&key);
        let before = below.clone();
        if !step.is_test() {
            below.push(key.clone());
        }
        planned.push(PlannedStep {
            step,
            key,
            below: before,
            cached,
        });
    }
    Ok(planned)
}

/// The layers of the finished tree, lowest first.
pub fn tree_layers(planned: &[PlannedStep]) -> Vec<Key> {
    planned
        .iter()
        .filter(|p| !p.step.is_test())
        .map(|p| p.key.clone())
        .collect()
}

/// The names of the tests that ran.
pub(crate) fn tests_of(planned: &[PlannedStep]) -> Vec<String> {
    let tests = planned.iter().filter(|planned| planned.step.is_test());
    tests.map(|planned| planned.step.name.clone()).collect()
}

/// The keys of all steps, tests included.
pub(crate) fn all_keys(planned: &[PlannedStep]) -> Vec<Key> {
    planned.iter().map(|p| p.key.clone()).collect()
}

/// A phase as people read it.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Bootstrap => "bootstrap",
        Phase::Packages => "packages",
        Phase::Configure => "configure",
        Phase::Virtualenvs => "virtualenvs",
        Phase::Run => "run",
        Phase::Finish => "finish",
        Phase::Test => "test",
    }
}
