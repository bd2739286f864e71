//! Old versions of environments' metadata, retired into their histories.

use super::super::roots::environments;
use super::collector::Collector;
use super::report::{Collected, Removed};
use crate::backend::{ListableBackend, WritableBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::name::EnvName;
use crate::tuf::{self, Retirable, paths};

/// What of each environment has had a successor for longer than the grace period.
pub(super) fn plans(
    collector: &Collector<'_>,
    backend: &dyn ListableBackend,
) -> Result<Vec<(EnvName, Retirable)>> {
    let names = environments(backend)?.into_iter();
    names
        .map(|name| Ok((name.clone(), plan(collector, backend, &name)?)))
        .collect()
}

fn plan(
    collector: &Collector<'_>,
    backend: &dyn ListableBackend,
    name: &EnvName,
) -> Result<Retirable> {
    let before = backend.now()?.saturating_sub(collector.policy.grace);
    let objects = backend.list_all(&paths::home(name))?;
    tuf::retirable(collector.store, name, &objects, before).map_err(|e| failed(name, e))
}

/// Writes the histories, and removes what is in them.
pub(super) fn retire(
    collector: &Collector<'_>,
    backend: &dyn WritableBackend,
    collected: &mut Collected,
) -> Result<()> {
    for name in environments(backend)? {
        // As whoever releases: the current version must not become an old one meanwhile.
        let _alone = backend.lock(tuf::LOCK)?;
        let plan = plan(collector, backend, &name)?;
        let grown = tuf::retire(collector.store, backend, &name, &plan);
        let Some(grown) = grown.map_err(|e| failed(&name, e))? else {
            // A version that nobody has signed: a check says which.
            collected.spared += plan.objects.len() as u64;
            continue;
        };
        collected.written += grown;
        for object in plan.objects.iter().chain(&plan.manifests) {
            backend.remove(&object.key)?;
            collected.removed.push(Removed::of(object));
        }
        backend.sync()?;
    }
    Ok(())
}

fn failed(name: &EnvName, error: tuf::Error) -> Error {
    let text = format!("cannot retire old metadata of the environment {name}");
    Error::new(ErrorKind::Corrupt, text).with_source(error)
}
