//! The running session goes over to the generation that has become active, or the generation that
//! was active before becomes so again.

use super::activate::{activate, give_up};
use super::journal;
use crate::error::{Error, Kind, Result};
use crate::node::Node;
use crate::session::{self, Handover, StartOptions, Timeouts};
use crate::state::Lock;
use crate::state::record::{FailedRelease, SystemRecord};

/// Hands the session over as [`try_take_over`] does, then ends the journal that stayed open until the
/// new generation had answered.
pub(super) fn take_over(
    node: &Node<'_>,
    lock: &Lock,
    before: Option<&SystemRecord>,
    record: &SystemRecord,
    timeouts: Option<Timeouts>,
) -> Result<Handover> {
    let done = try_take_over(node, lock, before, record, timeouts);
    journal::clear(node, lock, &record.system)?;
    let handover = done?;
    // What was given up once works now.
    let works = matches!(handover, Handover::Moved { .. });
    let mut after = node.state.installed(&record.system)?;
    let is_active = |failed: &FailedRelease| failed.image == record.active().image;
    if works && after.failed.as_ref().is_some_and(is_active) {
        after.failed = None;
        node.state.set_system(lock, &record.system, Some(&after))?;
    }
    if let (Handover::Moved { session, .. }, Some(before), Some(timeouts)) =
        (&handover, before, timeouts)
        && let Err(error) = session::bake(node, &after, session)
    {
        return Err(match error.kind() {
            Kind::Interrupted => error.cause("the new generation goes on, and nobody watches it"),
            _ => go_back(node, lock, before, &after, timeouts, error),
        });
    }
    Ok(handover)
}

/// Makes the generation before the active one again and lets it take over, after a switch that
/// turned out badly. Returns what is to be said.
fn go_back(
    node: &Node<'_>,
    lock: &Lock,
    before: &SystemRecord,
    record: &SystemRecord,
    timeouts: Timeouts,
    error: Error,
) -> Error {
    let (system, back) = (&record.system, before.active);
    let error = error.under(format!("{system} went back to generation {back}"));
    let options = match session::read(node, system) {
        Ok(Some(session)) => session.options(),
        _ => StartOptions::new(Vec::new(), Vec::new()),
    };
    let went = give_up(node, lock, record, before, &error).and_then(|record| {
        match session::hand_over(node, lock, &record, timeouts)? {
            // It had died.
            Handover::NotRunning => {
                session::start(node, lock, &record, &options, timeouts).map(|_| ())
            }
            _ => Ok(()),
        }
    });
    match went {
        Ok(()) => error,
        Err(also) => error
            .cause(format!("generation {back} does not take over: {also}"))
            .hint(format!("imgnode status {system}")),
    }
}

/// Lets a session of the active generation take over from the one that runs. `before` is the record
/// in which another generation was active. One that does not work is given up: the generation before
/// it becomes the active one again, and goes on.
fn try_take_over(
    node: &Node<'_>,
    lock: &Lock,
    before: Option<&SystemRecord>,
    record: &SystemRecord,
    timeouts: Option<Timeouts>,
) -> Result<Handover> {
    let system = &record.system;
    let Some(timeouts) = timeouts else {
        return Ok(match session::read(node, system)? {
            Some(session) if session.generation != record.active => Handover::Kept(session),
            Some(_) => Handover::Same,
            None => Handover::NotRunning,
        });
    };
    let error = match session::hand_over(node, lock, record, timeouts) {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let Some(session) = session::read(node, system)? else {
        return Err(error);
    };
    let back = before.map_or(session.generation, |before| before.active);
    // What failed after the traffic had moved takes nothing back.
    if back == record.active || session.generation == record.active {
        return Err(error);
    }
    let error = error.under(format!("{system} stays on generation {back}"));
    let given_up = match before {
        Some(before) => give_up(node, lock, record, before, &error),
        None => activate(node, lock, record, back, false),
    };
    let record = match given_up {
        Ok(record) => record,
        Err(also) => return Err(error.cause(format!("and cannot go back: {also}"))),
    };
    if !session.processes().is_empty() {
        return Err(error);
    }
    // It died meanwhile. Its session is swept by the start.
    match session::start(node, lock, &record, &session.options(), timeouts) {
        Ok(_) => Err(error.cause(format!("generation {back} had died, and was started again"))),
        Err(also) => Err(error
            .cause(format!(
                "generation {back} had died, and does not start: {also}"
            ))
            .cause(format!("nothing of {system} runs now"))),
    }
}
