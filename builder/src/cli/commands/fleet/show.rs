//! `imgbuild fleet show NODE`

use jiff::Timestamp;
use serde::Serialize;
use store::receipt;

use super::{OVERDUE, find, releases, standard, status};
use crate::cli::args::FleetShowArgs;
use crate::error::Result;
use crate::fleet::judge::NodeStatus;
use crate::fleet::{Place, recent};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    environment: String,
    /// When the node was enrolled.
    added: String,
    #[serde(flatten)]
    status: NodeStatus,
    receipts: Vec<ShownReceipt>,
}

#[derive(Serialize)]
struct ShownReceipt {
    /// The name of its object.
    name: String,
    /// Whether the key of the node has signed it.
    signed: bool,
    /// What it says, as it was signed; null where that cannot be read.
    receipt: Option<receipt::Receipt>,
}

pub(super) fn run(args: &FleetShowArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let found = find(&args.node, args.env.as_deref(), &place, &store, settings)?;
    let judged = standard(
        &found.env,
        &releases(&found.env)?,
        OVERDUE,
        Timestamp::now(),
    )
    .judge(&found.node, &found.seen);
    let last = judged.last.as_ref().map_or(0, |last| last.counter);
    let names = recent::names(&place, &found.node.name, last, args.most)?;
    let read = recent::read(&place, &found.node.name, &found.node.key(), names)?;
    let receipts: Vec<ShownReceipt> = read
        .into_iter()
        .map(|one| ShownReceipt {
            name: one.name,
            signed: one.signed,
            receipt: one.receipt,
        })
        .collect();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            environment: found.env.name().to_string(),
            added: found.node.added.to_string(),
            status: judged,
            receipts,
        });
        return Ok(());
    }
    ui.result(&format!(
        "{} in {} of {}, enrolled {}, key {}",
        judged.node,
        judged.group,
        found.env.name(),
        found.node.added,
        judged.key
    ));
    status::node(&judged, ui);
    for one in &receipts {
        let Some(said) = one.receipt.as_ref().filter(|_| one.signed) else {
            let why = match one.receipt {
                Some(_) => "not signed with its key",
                None => "no receipt",
            };
            ui.result(&format!("  {}  {why}", one.name));
            continue;
        };
        let event = &said.event;
        let system = event.system.iter();
        let system: String = system.map(|system| format!(" {system}")).collect();
        let why = event.reason.iter();
        let why: String = why.map(|why| format!(": {why}")).collect();
        ui.result(&format!(
            "  {:>6}  {}  {}{system}  {}{why}",
            said.counter,
            said.time,
            event.operation.name(),
            event.result.name()
        ));
    }
    Ok(())
}
