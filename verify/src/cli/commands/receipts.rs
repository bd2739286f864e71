//! `imgnode receipts`, and the receipt that follows an operation.

use std::process::ExitCode;
use std::time::Duration;

use ::verify::error::{Error, Kind, Result};
use ::verify::install::SwitchTo;
use ::verify::node::Node;
use ::verify::receipts::{self, Happened, Sent};
use ::verify::session;
use ::verify::state::record::SystemRecord;
use ::verify::system::SystemName;
use serde::Serialize;
use store::StoreUrl;
use store::name::NodeName;
use store::receipt::Operation;

use crate::cli::args::{Mode, ReceiptsMode};
use crate::cli::report::JSON_SCHEMA;
use crate::cli::ui::Ui;

/// How long an operation that is over may take to send what waits.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// How long a service that ends may: somebody waits for it, and a machine may be going down.
const AT_THE_END: Duration = Duration::from_secs(2);

/// How long `receipts send` may.
const BY_ITSELF: Duration = Duration::from_secs(60);

/// An operation that a receipt follows.
pub(super) struct Noted {
    operation: Operation,
    system: SystemName,
    before: Option<SystemRecord>,
    ran: Option<String>,
}

impl Noted {
    /// Looks at the system before an operation; `None` where no receipt follows.
    pub(super) fn before(node: &Node<'_>, mode: &Mode) -> Option<Self> {
        let (operation, system) = match mode {
            Mode::Install { system, .. } => (Operation::Install, system),
            Mode::Upgrade { system, .. } => (Operation::Upgrade, system),
            Mode::BuildSchroot { system, .. } => (Operation::BuildSchroot, system),
            Mode::Switch { system, to, .. } => match to {
                SwitchTo::Previous => (Operation::Rollback, system),
                SwitchTo::Number(_) => (Operation::Switch, system),
            },
            Mode::Uninstall { system } => (Operation::Uninstall, system),
            Mode::Start { system, .. } => (Operation::Start, system),
            Mode::Stop { system, .. } => (Operation::Stop, system),
            Mode::Verify {
                system,
                generation: None,
                ..
            } => (Operation::Verify, system),
            _ => return None,
        };
        // Settings that cannot be read are said afterwards.
        if receipts::settings(node).is_ok_and(|found| found.is_none()) {
            return None;
        }
        Some(Self {
            operation,
            system: system.clone(),
            before: node.state.system(system).ok().flatten(),
            ran: session::alive(node, system).map(|session| session.id),
        })
    }

    /// Writes the receipt and tries to send it. Whatever becomes of that, the operation is over.
    pub(super) fn after(self, node: &Node<'_>, ui: &Ui, code: ExitCode, failed: Option<&Error>) {
        // A comparison that found something has said so, and is no error.
        let drifted = (failed.is_none() && code != ExitCode::SUCCESS)
            .then(|| Error::refused("the tree is not as it was signed"));
        let happened = Happened {
            operation: self.operation,
            system: &self.system,
            before: self.before.as_ref(),
            ran: self.ran.as_deref(),
            failed: failed.or(drifted.as_ref()),
        };
        if let Err(error) = receipts::note(node, &happened) {
            ui.note(&format!("note: no receipt was written: {error}"));
            return;
        }
        send_for(node, ui, AFTERWARDS);
    }
}

/// Sends what waits for so long, and says what does not go. It is no error.
fn send_for(node: &Node<'_>, ui: &Ui, limit: Duration) {
    match receipts::send(node, limit) {
        Ok(sent) => say(ui, &sent),
        // It sends all that waits.
        Err(error) if error.kind() == Kind::Busy => {}
        Err(error) => ui.note(&format!("note: the receipt is not sent: {error}")),
    }
}

/// Writes that a service has begun its session, or could not, and sends it while the service goes on.
/// `ran` is a session that was there already.
pub(super) fn service_began(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    ran: Option<&str>,
    failed: Option<&Error>,
) {
    if !note_session(node, ui, (Operation::Start, system), ran, failed) {
        return;
    }
    if failed.is_some() {
        // Nothing goes on.
        return send_for(node, ui, AT_THE_END);
    }
    match receipts::send_meanwhile(node, BY_ITSELF) {
        Err(error) if error.kind() != Kind::Busy => {
            ui.note(&format!("note: the receipt is not sent: {error}"));
        }
        _ => {}
    }
}

/// Writes that a service has ended: in order, or because its session did.
pub(super) fn service_ended(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    session: &str,
    failed: Option<&Error>,
) {
    let operation = match failed {
        Some(_) => Operation::Run,
        None => Operation::Stop,
    };
    if note_session(node, ui, (operation, system), Some(session), failed) {
        send_for(node, ui, AT_THE_END);
    }
}

/// Writes what became of a session; false if there is nothing to send.
fn note_session(
    node: &Node<'_>,
    ui: &Ui,
    (operation, system): (Operation, &SystemName),
    ran: Option<&str>,
    failed: Option<&Error>,
) -> bool {
    if receipts::settings(node).is_ok_and(|found| found.is_none()) {
        return false;
    }
    let happened = Happened {
        operation,
        system,
        before: None,
        ran,
        failed,
    };
    match receipts::note(node, &happened) {
        Ok(()) => true,
        Err(error) => {
            ui.note(&format!("note: no receipt was written: {error}"));
            false
        }
    }
}

pub(super) fn run(node: &Node<'_>, ui: &Ui, mode: ReceiptsMode) -> Result<ExitCode> {
    match mode {
        ReceiptsMode::Set(to, names) => set(node, ui, to, names.name, names.group)?,
        ReceiptsMode::Off => {
            receipts::forget(node)?;
            ui.note("this node writes no receipts any more");
        }
        ReceiptsMode::Key { names, new } => {
            if new {
                receipts::new_key(node)?;
            }
            let line = receipts::enrolment(node, names.name, names.group)?;
            ui.data(&line.to_string());
            ui.note("next, where releases are signed: imgbuild fleet enrol --env ENV FILE");
        }
        ReceiptsMode::Send => return send(node, ui),
        ReceiptsMode::Show { json } => show(node, ui, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets where receipts go.
pub(super) fn set(
    node: &Node<'_>,
    ui: &Ui,
    to: StoreUrl,
    name: Option<NodeName>,
    group: Option<NodeName>,
) -> Result<()> {
    // The directory of the state has the right owner and mode.
    drop(node.state.lock_node()?);
    let settings = receipts::set(node, to, name, group)?;
    ui.note(&format!(
        "receipts of {} in the group {} go to {}",
        settings.node, settings.group, settings.to
    ));
    ui.note("next: imgnode receipts key");
    Ok(())
}

fn send(node: &Node<'_>, ui: &Ui) -> Result<ExitCode> {
    receipts::heartbeat(node)?;
    let sent = receipts::send(node, BY_ITSELF)?;
    say(ui, &sent);
    if let Some(error) = sent.failed {
        return match error.kind() {
            Kind::Interrupted => Err(error),
            _ => Ok(ExitCode::FAILURE),
        };
    }
    ui.note(&format!("{} sent", count(sent.sent)));
    Ok(ExitCode::SUCCESS)
}

/// Says what did not go as it should.
fn say(ui: &Ui, sent: &Sent) {
    for counter in &sent.taken {
        ui.note(&format!(
            "note: another receipt {counter} of this node was there already: is its key, or its \
             state directory, on another machine? imgnode receipts key --new makes another key"
        ));
    }
    if let Some(error) = &sent.failed {
        let left = count(sent.left);
        ui.note(&format!(
            "note: {left} could not be sent, and go next time: {error}"
        ));
    }
}

fn count(receipts: usize) -> String {
    match receipts {
        1 => "1 receipt".to_owned(),
        more => format!("{more} receipts"),
    }
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    /// Nothing where no receipts are written.
    to: Option<String>,
    node: Option<NodeName>,
    group: Option<NodeName>,
    /// How many receipts wait to be sent.
    waiting: usize,
    /// When some were sent last, or could not be.
    tried: Option<String>,
    failed: Option<String>,
}

fn show(node: &Node<'_>, ui: &Ui, json: bool) -> Result<()> {
    let settings = receipts::settings(node)?;
    let waiting = receipts::waiting(node)?.len();
    let last = receipts::last_sent(node)?;
    let report = Report {
        schema: JSON_SCHEMA,
        to: settings.as_ref().map(|found| found.to.to_string()),
        node: settings.as_ref().map(|found| found.node.clone()),
        group: settings.map(|found| found.group),
        waiting,
        tried: last.as_ref().map(|last| last.time.to_string()),
        failed: last.and_then(|last| last.failed),
    };
    if json {
        ui.json(&report);
        return Ok(());
    }
    let (Some(to), Some(name), Some(group)) = (&report.to, &report.node, &report.group) else {
        ui.data("this node writes no receipts");
        return Ok(());
    };
    ui.data(&format!("receipts    of {name} in {group} to {to}"));
    ui.data(&format!("waiting     {}", count(report.waiting)));
    if let Some(at) = &report.tried {
        let why = report.failed.as_ref();
        let why = why.map_or_else(String::new, |why| format!(", failed: {why}"));
        ui.data(&format!("tried       {at}{why}"));
    }
    Ok(())
}
