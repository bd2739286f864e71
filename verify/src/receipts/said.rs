//! What is said of this node's systems.

use jiff::Timestamp;
use store::receipt::{Installed, Metadata, System, whole_seconds};

use super::spool::Memory;
use crate::error::Result;
use crate::node::Node;
use crate::session;
use crate::state::record::{Generation, SystemRecord};
use crate::trust;

/// The systems of this node, by name.
pub(super) fn systems(node: &Node<'_>, memory: &Memory) -> Result<Vec<System>> {
    let mut systems = Vec::new();
    for name in node.state.systems()? {
        if let Some(record) = node.state.system(&name)? {
            systems.push(system(node, memory, &record));
        }
    }
    Ok(systems)
}

fn system(node: &Node<'_>, memory: &Memory, record: &SystemRecord) -> System {
    let active = record.active();
    let remembered = memory.systems.get(&record.system);
    let runs = session::alive(node, &record.system);
    let runs = runs.and_then(|session| record.generation(session.generation));
    let verified = remembered.and_then(|one| one.verified);
    let verified = verified.filter(|(generation, _)| *generation == active.number);
    let settled = active.settled.unwrap_or(active.installed);
    System {
        system: record.system.to_string(),
        image_name: record.image_name.clone(),
        active: installed(active),
        runs: runs.map(installed),
        previous: record.fallback().map(installed),
        revoked: active.revoked,
        verified: verified.map(|(_, at)| at).or_else(|| time(settled)),
        free_bytes: {
            let context = node.context(&record.system);
            record.target.driver().free(&context).ok()
        },
        last: remembered.and_then(|one| one.session_failed.as_ref().or(one.last.as_ref()).cloned()),
    }
}

fn installed(generation: &Generation) -> Installed {
    Installed {
        generation: generation.number,
        environment: generation.environment.clone(),
        seq: generation.seq,
        image: generation.image,
    }
}

/// What this node has heard of its environment; `None` if it never asked.
pub(super) fn metadata(node: &Node<'_>) -> Option<Metadata> {
    let refreshed = trust::last_refresh(node).ok().flatten()?;
    let trusted = trust::trusted_metadata(node);
    Some(Metadata {
        refreshed: time(refreshed)?,
        expires: trusted.expires.map(|(at, _)| whole_seconds(at)),
        targets: trusted.targets.map(|targets| targets.version),
    })
}

fn time(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}
