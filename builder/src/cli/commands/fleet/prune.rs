//! `imgbuild fleet prune ENV`

use serde_json::json;
use store::backend::Listed;
use store::fleet::Fleet;
use store::receipt::{self, FOLDER};

use super::{KEPT, admitted, kept};
use crate::cli::args::FleetPruneArgs;
use crate::cli::commands::env::environment;
use crate::error::{Context, Error, Result};
use crate::fleet::{Place, members};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

/// How many lists of nodes stay.
const KEPT_LISTS: u64 = 100;

pub(super) fn run(args: &FleetPruneArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let name = environment(&args.env)?;
    let env = admitted(&store, &name, settings)?;
    let list = members::read(&place, &env, settings)?.fleet;
    let what = || format!("cannot remove old receipts in {}", place.url);
    let mut begins = kept(&place)?;
    let mut old = Vec::new();
    for node in &list.nodes {
        let folder = format!("{FOLDER}/{}", node.name);
        let listed = place.folder.list(&folder).context(what)?.ok_or_else(|| {
            Error::usage(format!("{} does not list its receipts", place.url))
                .hint("do it where they are a directory")
        })?;
        let counters = listed.iter().filter_map(|one| receipt::counter(&one.name));
        let mut counters: Vec<u64> = counters.collect();
        counters.sort_unstable();
        counters.dedup();
        let Some(first) = counters
            .iter()
            .rev()
            .nth(args.keep.max(1) - 1)
            .or(counters.first())
        else {
            continue;
        };
        begins.insert(node.name.clone(), *first);
        let goes = |name: &&str| receipt::counter(name).is_some_and(|counter| counter < *first);
        let names = listed.iter().map(|one| one.name.as_str()).filter(goes);
        old.extend(names.map(|name| format!("{folder}/{name}")));
    }
    let receipts = old.len();
    // Readers begin with the newest list.
    let lists = place.folder.list(&Fleet::versions(&name)).context(what)?;
    let kept = list.version.saturating_sub(KEPT_LISTS);
    let version = |one: &Listed| one.name.strip_suffix(".json")?.parse::<u64>().ok();
    for one in lists.unwrap_or_default() {
        if let Some(version) = version(&one).filter(|version| *version <= kept) {
            old.push(Fleet::version_object(&name, version));
        }
    }
    if args.delete {
        // Before they are gone: who begins there finds some at any time.
        let hint = serde_json::to_vec(&json!({ "schema": 1, "nodes": begins })).context(what)?;
        place.folder.put(KEPT, &hint).context(what)?;
        for object in &old {
            place.folder.remove(object).context(what)?;
        }
    }
    let done = if args.delete { "were" } else { "would be" };
    let lists = match old.len() - receipts {
        0 => String::new(),
        lists => format!(" and {lists} lists of nodes"),
    };
    ui.note(&format!("{receipts} receipts{lists} {done} removed"));
    if !args.delete && !old.is_empty() {
        ui.note("--delete removes them");
    }
    if ui.is_json() {
        ui.result_json(&json!({
            "schema": ui::SCHEMA, "environment": name, "receipts": receipts, "deleted": args.delete,
        }));
    }
    Ok(())
}
