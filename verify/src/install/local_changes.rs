//! Saying that a generation was changed in place, before it is left or entered.

use crate::event::Event;
use crate::node::Node;
use crate::state::record::SystemRecord;

/// Notes that a generation was changed in place, if it was. `consequence` is what that means for
/// the operator. Ctrl-C does not end it: it is on the way back from a handover as well.
pub(super) fn note(node: &Node<'_>, record: &SystemRecord, number: u64, consequence: &str) {
    let Some(generation) = record.generation(number) else {
        return;
    };
    let found = match node.local_changes(record, generation) {
        Ok(None) => return,
        Ok(Some(changes)) => format!("was changed in place ({changes})"),
        Err(error) => format!("cannot be looked at for changes ({error})"),
    };
    let system = &record.system;
    node.observer.event(Event::Note(&format!(
        "generation {number} of {system} {found}; {consequence}. \
         See imgnode verify {system} --generation {number}"
    )));
}
