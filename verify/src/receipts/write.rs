//! A receipt, written into the spool.

use jiff::Timestamp;
use store::receipt::{Event, LastOperation, Operation, Outcome, Receipt, reason, whole_seconds};

use super::settings::{self, Settings};
use super::{said, spool};
use crate::error::{Error, Kind, Result};
use crate::node::Node;
use crate::session;
use crate::state::record::SystemRecord;
use crate::system::SystemName;

/// An operation that is over.
#[derive(Debug)]
pub struct Happened<'a> {
    /// The operation.
    pub operation: Operation,
    /// The system that it was on.
    pub system: &'a SystemName,
    /// The record of the system before.
    pub before: Option<&'a SystemRecord>,
    /// The session that it had before, if one ran.
    pub ran: Option<&'a str>,
    /// Why it failed, if it did; of a comparison, what it found.
    pub failed: Option<&'a Error>,
}

/// Writes that the node lives. Nothing happens where no address was set.
pub fn heartbeat(node: &Node<'_>) -> Result<()> {
    let Some(settings) = settings::settings(node)? else {
        return Ok(());
    };
    let event = Event {
        operation: Operation::Heartbeat,
        system: None,
        result: Outcome::Done,
        reason: None,
    };
    write(node, &settings, event, |_| ())
}

/// Writes what an operation came to. Nothing happens where no address was set.
pub fn note(node: &Node<'_>, happened: &Happened<'_>) -> Result<()> {
    let Some(settings) = settings::settings(node)? else {
        return Ok(());
    };
    let after = node.state.system(happened.system)?;
    let runs = session::alive(node, happened.system);
    let is_same_session = happened.ran == runs.as_ref().map(|session| session.id.as_str());
    let Some(result) = outcome(happened, after.as_ref(), is_same_session) else {
        return Ok(());
    };
    let why = happened.failed.map(|error| reason(&error.to_string()));
    let event = Event {
        operation: happened.operation,
        system: Some(happened.system.to_string()),
        result,
        reason: why.clone(),
    };
    let now = whole_seconds(Timestamp::now());
    let is_busy = happened
        .failed
        .is_some_and(|error| error.kind() == Kind::Busy);
    write(node, &settings, event, |memory| {
        let Some(record) = &after else {
            memory.systems.remove(happened.system);
            return;
        };
        let one = memory.systems.entry(happened.system.clone()).or_default();
        let went_back = |last: &LastOperation| last.result == Outcome::WentBack;
        match (happened.operation, result) {
            (Operation::Verify, Outcome::Done) => one.verified = Some((record.active, now)),
            (Operation::Verify, _) => one.verified = None,
            // The release that did not work is still the newest.
            (_, Outcome::Unchanged)
                if record.failed.is_some() && one.last.as_ref().is_some_and(went_back) => {}
            // It is tried again, and says so then.
            (_, Outcome::Failed) if is_busy => {}
            (Operation::Start | Operation::Stop, Outcome::Done) => one.session_failed = None,
            (Operation::Start | Operation::Stop, Outcome::Unchanged) => {}
            (operation, result) => {
                let is_session = matches!(
                    operation,
                    Operation::Start | Operation::Stop | Operation::Run
                );
                let last = Some(LastOperation {
                    operation,
                    result,
                    reason: why,
                    time: now,
                });
                if is_session {
                    one.session_failed = last;
                } else {
                    one.last = last;
                    // What was begun with it, was asked whether it works.
                    if runs.is_some() {
                        one.session_failed = None;
                    }
                }
            }
        }
    })
}

/// What became of an operation; `None` where there was nothing to operate on.
fn outcome(
    happened: &Happened<'_>,
    after: Option<&SystemRecord>,
    is_same_session: bool,
) -> Option<Outcome> {
    let Happened {
        operation,
        before,
        failed,
        ..
    } = happened;
    let active = |record: &&SystemRecord| record.active;
    let is_same = before.as_ref().map(active) == after.as_ref().map(active);
    if let Operation::Start | Operation::Stop | Operation::Run = operation {
        let is_start = *operation == Operation::Start;
        return match failed {
            // It runs already, or does not run anyway.
            Some(_) if is_same_session && is_start == happened.ran.is_some() => None,
            Some(error) if error.kind() == Kind::Usage && after.is_none() => None,
            Some(_) => Some(Outcome::Failed),
            None if is_same_session => Some(Outcome::Unchanged),
            None => Some(Outcome::Done),
        };
    }
    match (failed, before, after) {
        (Some(error), None, None) if error.kind() == Kind::Usage => None,
        (Some(_), Some(before), Some(after)) if is_same => {
            let tried = (before.newest, &before.failed) != (after.newest, &after.failed);
            Some(if tried {
                Outcome::WentBack
            } else {
                Outcome::Failed
            })
        }
        (Some(_), ..) => Some(Outcome::Failed),
        (None, ..) if is_same && *operation != Operation::Verify => Some(Outcome::Unchanged),
        (None, ..) => Some(Outcome::Done),
    }
}

fn write(
    node: &Node<'_>,
    settings: &Settings,
    event: Event,
    remember: impl FnOnce(&mut spool::Memory),
) -> Result<()> {
    let _alone = spool::lock(node)?;
    let key = settings::key(node)?;
    let mut memory = spool::read(node)?;
    remember(&mut memory);
    let names = (settings.node.clone(), settings.group.clone());
    let mut receipt = Receipt::new(
        names.0,
        names.1,
        env!("CARGO_PKG_VERSION"),
        Timestamp::now(),
    );
    spool::make_room(node, &mut memory)?;
    receipt.counter = memory.counter + 1;
    receipt.previous = memory.last;
    let config = node.state.config()?;
    receipt.environment = config.map(|config| config.environment);
    receipt.metadata = said::metadata(node);
    receipt.systems = said::systems(node, &memory)?;
    receipt.dropped = std::mem::take(&mut memory.dropped);
    let is_heartbeat = matches!(
        (event.operation, event.result),
        (Operation::Heartbeat, _) | (_, Outcome::Unchanged)
    );
    receipt.event = event;
    let signed = receipt.sign(&key)?;
    spool::add(node, &signed, is_heartbeat)?;
    memory.counter = receipt.counter;
    memory.last = Some(signed.sha256);
    spool::write(node, &memory)
}
