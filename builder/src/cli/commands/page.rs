//! `imgbuild page`

use std::collections::BTreeMap;

use jiff::Timestamp;
use store::{EnvName, Store};

use super::env::environment;
use super::fleet;
use crate::cli::args::PageArgs;
use crate::error::{Context, Error, Result};
use crate::fleet::Place;
use crate::page::{EnvNodes, FleetView, PageRequest, Server};
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::stores::environments;
use crate::ui::{self, Ui};

pub(super) fn run(args: &PageArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let mut environments: Vec<EnvName> = Vec::new();
    for name in &args.env {
        let name = environment(name)?;
        if environments.contains(&name) {
            return Err(Error::usage(format!("--env {name} is given twice")));
        }
        environments.push(name);
    }
    let store = stores::open(settings)?;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let temporary = match args.out {
        Some(_) => None,
        None => {
            Some(tempfile::tempdir().context(|| "cannot make a directory for the pages".into())?)
        }
    };
    let dir = match (&args.out, &temporary) {
        (Some(dir), _) => dir.as_path(),
        (None, Some(dir)) => dir.path(),
        (None, None) => return Err(Error::usage("no directory is named").hint("--out DIR")),
    };
    let now = now(settings)?;
    let place = match &args.from.receipts {
        Some(receipts) => Some(Place::open(Some(receipts), settings)?),
        None => None,
    };
    let nodes = match &place {
        Some(place) => {
            let by = (args.overdue, now);
            Some(nodes(&environments, place, &store, by, settings, ui)?)
        }
        None => None,
    };
    let request = PageRequest {
        store: &store,
        nodes,
        environments: &environments,
        keyring: &keyring,
        now,
        dir,
    };
    let outcome = request.run(ui)?;
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "pages", "directory": dir.display().to_string(),
            "pages": outcome.pages, "written": outcome.written, "removed": outcome.removed,
        }));
    } else if temporary.is_none() {
        ui.result(&format!(
            "{}: {} pages, {} of them written, {} removed",
            dir.display(),
            outcome.pages,
            outcome.written,
            outcome.removed
        ));
    }
    let Some(address) = &args.serve else {
        return Ok(());
    };
    let server = Server::listen(dir, address)?;
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "serving", "url": server.url(),
        }));
    } else {
        ui.result(&format!("{}  (Ctrl-C ends it)", server.url()));
    }
    server.run()
}

/// What the nodes of these environments say, or of all that there are.
fn nodes<'p>(
    named: &[EnvName],
    place: &'p Place,
    store: &Store,
    by: (u32, Timestamp),
    settings: &Settings,
    ui: &Ui,
) -> Result<FleetView<'p>> {
    let listed = if named.is_empty() {
        environments::listed(store)?
    } else {
        Some(named.to_vec())
    };
    let mut environments = BTreeMap::new();
    for name in listed.unwrap_or_default() {
        let look = fleet::status::look(by, &name, place, store, settings, ui)?;
        let nodes = EnvNodes {
            list: look.list,
            signer: look.signer,
            waves: look.waves,
            nodes: look.nodes,
        };
        environments.insert(look.environment, nodes);
    }
    // With some environments alone nobody knows the nodes of the others.
    let unknown = if named.is_empty() {
        let all = environments.values().flat_map(|env| &env.nodes);
        let known: Vec<_> = all.map(|node| node.node.clone()).collect();
        fleet::unknown(place, &known)?
    } else {
        Vec::new()
    };
    Ok(FleetView {
        place,
        environments,
        unknown,
    })
}

/// The time by which something has run out.
fn now(settings: &Settings) -> Result<Timestamp> {
    let Some(seconds) = settings.source_date_epoch()? else {
        return Ok(Timestamp::now());
    };
    let time = i64::try_from(seconds).ok().map(Timestamp::from_second);
    time.and_then(Result::ok).ok_or_else(|| {
        Error::usage(format!(
            "SOURCE_DATE_EPOCH={seconds} is after the year 9999"
        ))
    })
}
