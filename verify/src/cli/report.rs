//! What several commands report in the same way.

use ::verify::session::Handover;
use ::verify::system::SystemName;
use common::clock::rfc3339;
use store::name::NodeName;

use super::ui::Ui;

/// The version of every JSON document on stdout.
pub(crate) const JSON_SCHEMA: u32 = 1;

/// Notes what became of a session that ran when another generation became active.
pub(crate) fn note_handover(ui: &Ui, system: &SystemName, handover: &Handover) {
    match handover {
        Handover::NotRunning => ui.note(&format!(
            "{system} does not run, so nobody asked this generation whether it works; \
             next: imgnode start {system}"
        )),
        Handover::Same => {}
        Handover::Kept(session) => ui.note(&format!(
            "the session {} keeps generation {}; next: imgnode stop {system} && imgnode start {system}",
            session.id, session.generation
        )),
        Handover::Moved { session, old, left } => {
            ui.note(&format!(
                "generation {} has the traffic, in the session {}",
                session.generation, session.id
            ));
            for process in left {
                ui.note(&format!(
                    "in the old session {}, process {} goes on: {}",
                    old.id, process.pid, process.command
                ));
            }
            if !left.is_empty() {
                ui.note("the next command ends that session when they have ended");
            }
        }
    }
}

/// Seconds since 1970 as people write them.
pub(crate) fn time(seconds: u64) -> String {
    rfc3339(seconds).unwrap_or_else(|| seconds.to_string())
}

/// Bytes in megabytes, with one decimal.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A node and its group, in words.
pub(crate) fn called(name: Option<&NodeName>, group: Option<&NodeName>) -> String {
    let name = name.map_or("without a name", NodeName::as_str);
    match group {
        Some(group) => format!("{name} in the group {group}"),
        None => format!("{name} in no group"),
    }
}
