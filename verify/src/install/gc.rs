//! Removing old generations.
//!
//! What stays: the active one, the one to go back to, every one that a session uses, whoever began it,
//! and the newest of the rest, as many as the operator wants.

use super::journal::{self, JournalEntry, Operation, Phase};
use crate::error::Result;
use crate::event::Event;
use crate::host::schroot;
use crate::node::Node;
use crate::session::{self, Timeouts};
use crate::state::Lock;
use crate::state::record::{Generation, SystemRecord};
use crate::system::SystemName;

/// The generations of one system that were removed, and those that stayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcReport {
    /// The system.
    pub system: SystemName,
    /// Generations that were removed.
    pub removed: Vec<u64>,
    /// Generations that stayed.
    pub kept: Vec<u64>,
}

/// Removes old generations of one system or of all; beside those that are needed, the `keep` newest
/// stay.
pub fn gc(node: &Node<'_>, only: Option<&SystemName>, keep: usize) -> Result<Vec<GcReport>> {
    let systems = if let Some(system) = only {
        vec![node.state.installed(system)?.system]
    } else {
        let mut all = node.state.systems()?;
        all.extend(node.state.journals()?);
        all.sort();
        all.dedup();
        all
    };
    let mut out = Vec::new();
    for system in systems {
        let lock = node.state.lock(&system)?;
        journal::recover(node, &lock, &system)?;
        if node.state.system(&system)?.is_none() {
            // It was being installed or removed.
            continue;
        }
        session::sweep(node, &lock, &system, Timeouts::default())?;
        let before = node.state.installed(&system)?;
        let needed = needed(node, &before)?;
        let removed: Vec<u64> = before
            .generations
            .iter()
            .rev()
            .map(|generation| generation.number)
            .filter(|number| !needed.contains(number))
            .skip(keep)
            .collect();
        let after = without(&before, &removed);
        if !removed.is_empty() {
            remove(node, &lock, &before, &after)?;
        }
        out.push(GcReport {
            kept: after.generations.iter().map(|one| one.number).collect(),
            system,
            removed,
        });
    }
    Ok(out)
}

/// The generations that something depends on.
fn needed(node: &Node<'_>, record: &SystemRecord) -> Result<Vec<u64>> {
    let mut needed = vec![record.active];
    needed.extend(record.fallback().map(|one| one.number));
    needed.extend(session::read(node, &record.system)?.map(|session| session.generation));
    for generation in &record.generations {
        if !holders(node, record, generation)?.is_empty() {
            needed.push(generation.number);
        }
    }
    Ok(needed)
}

/// The sessions and snapshots that keep a generation from being removed, whoever made them.
pub(super) fn holders(
    node: &Node<'_>,
    record: &SystemRecord,
    generation: &Generation,
) -> Result<Vec<String>> {
    let mut holders = schroot::users_of(&generation.directory)?;
    if holders.is_empty() {
        let context = node.context(&record.system);
        holders = record
            .target
            .driver()
            .holders(&context, generation.number)?;
    }
    Ok(holders)
}

fn without(record: &SystemRecord, removed: &[u64]) -> SystemRecord {
    let mut after = record.clone();
    after
        .generations
        .retain(|generation| !removed.contains(&generation.number));
    after
}

fn remove(node: &Node<'_>, lock: &Lock, before: &SystemRecord, after: &SystemRecord) -> Result<()> {
    let entry = JournalEntry {
        phase: Phase::Committing,
        ..JournalEntry::begin(Operation::Gc, before, Some(before), Some(after))
    };
    journal::write(node, lock, &entry)?;
    node.observer.event(Event::Phase(&format!(
        "removing old generations of {}",
        before.system
    )));
    journal::remove_generations(node, lock, &entry)?;
    journal::clear(node, lock, &before.system)
}
