//! Whether this node gives what an image needs.

use store::Manifest;

use crate::error::Result;
use crate::event::Event;
use crate::node::Node;
use crate::session;
use crate::system::SystemName;

/// Refuses a generation that could not be started here, if it is to be; else says what is missing.
pub(super) fn require_needs(
    node: &Node<'_>,
    system: &SystemName,
    manifest: &Manifest,
    is_to_start: bool,
) -> Result<()> {
    match session::check_needs(node, system, manifest) {
        Err(error) if !is_to_start => {
            node.observer.event(Event::Note(&error.to_string()));
            Ok(())
        }
        checked => checked,
    }
}
