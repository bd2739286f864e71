//! Logs of steps: in the layers while a recipe is worked on, in the store beside
//! the image once it is built.
//!
//! A step prints what it prints in its sandbox: it knows neither the machine's
//! paths nor its credentials. What is kept is searched for credentials all the
//! same, because a store may be served to everybody.

use std::fs;

use store::{BuildLog, Manifest, WritableStore};

use crate::error::{Context, Result};
use crate::layers::Layers;
use crate::run::PlannedStep;
use crate::settings::Settings;

/// The logs of steps that have run on this machine; of the others there is none.
pub fn read(name: &str, planned: &[PlannedStep], layers: &Layers) -> BuildLog {
    let steps = planned.iter().map(|planned| {
        let bytes = fs::read(layers.log(&planned.key)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (planned.step.name.clone(), text)
    });
    BuildLog::new(name.to_owned(), steps)
}

/// Keeps in the store what the steps of an image printed.
pub fn keep(
    manifest: &Manifest,
    planned: &[PlannedStep],
    layers: &Layers,
    store: &WritableStore,
    settings: &Settings,
) -> Result<()> {
    let mut log = read(manifest.name.as_str(), planned, layers);
    for step in &mut log.steps {
        for secret in settings.secrets() {
            if step.text.contains(&secret) {
                step.text = step.text.replace(&secret, "****");
            }
        }
    }
    store
        .put_log(&manifest.image, &log)
        .context(|| "cannot keep the log in the store".into())
}
