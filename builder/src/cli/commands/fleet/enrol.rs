//! `imgbuild fleet enrol FILE...`

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use jiff::Timestamp;
use store::receipt::Enrolment;
use store::tuf::KeyGroup;

use super::super::promote::{consent, keyring};
use super::node_name;
use super::status::count;
use crate::cli::args::FleetEnrolArgs;
use crate::cli::commands::env::environment;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fleet::Place;
use crate::fleet::members;
use crate::release::ceremony;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

/// The longest file of lines.
const MAX_LINES: u64 = 16 << 20;

pub(super) fn run(args: &FleetEnrolArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let name = environment(&args.env)?;
    let keyring = keyring(&args.signing, settings)?;
    let env = ceremony::admitted(&store, &name, &keyring)?;
    ceremony::check_clock(&env)?;
    let mut list = members::read(&place, &env, settings)?.fleet;
    let now = Timestamp::now();
    let mut changes = Vec::new();
    for node in &args.remove {
        let node = node_name(node)?;
        if !list.remove(&node, now) {
            return Err(Error::usage(format!("{node} is not enrolled in {name}")));
        }
        changes.push(format!("{node} is taken off the list"));
    }
    for file in &args.files {
        for line in lines(file)? {
            let shown = file.display();
            let new: Enrolment = line.parse().map_err(|e: store::Error| {
                Error::usage(format!("{shown} enrols nobody")).because(&e)
            })?;
            let done = list.enrol(&new, args.replace, now).map_err(|e| {
                Error::new(ErrorKind::Refused, format!("{} is not enrolled", new.name))
                    .because(&e)
                    .hint("where a node was made anew, --replace lets its new key count")
            })?;
            if done {
                changes.push(format!(
                    "{} in the group {} has the key {}",
                    new.name,
                    new.group,
                    new.key.hex()
                ));
            }
        }
    }
    if changes.is_empty() {
        ui.note("nothing is to be changed");
        return Ok(());
    }
    ui.note(&format!(
        "changes of the nodes of {name}, list {}:",
        list.version + 1
    ));
    for change in &changes {
        ui.note(&format!("  {change}"));
    }
    let consent = consent(args.consenting);
    if consent.show_only {
        ui.note("nothing was signed");
        return Ok(());
    }
    let names = keyring.names(env.policy())?;
    let wanted = env
        .key_set(KeyGroup::Targets)
        .map_err(|e| ceremony::unreadable(&name, &e))?
        .keys;
    let mut here = None;
    for key in &wanted {
        if here.is_none() && keyring.would_open(key)? {
            here = Some(*key);
        }
    }
    let Some(key) = here else {
        let keys: Vec<_> = wanted.iter().map(|key| names.full(key)).collect();
        let text = format!("no key here signs for the nodes of {name}");
        return Err(Error::new(ErrorKind::Refused, text)
            .detail(format!("who signs its releases does: {}", keys.join(", "))));
    };
    ceremony::ask(
        &format!("sign this with {}?", names.short(&key)),
        consent,
        ui,
    )?;
    let opened = keyring.open(&[key])?;
    let signer = opened.all();
    let signer = signer
        .first()
        .ok_or_else(|| Error::failed(format!("the key {} is gone", names.short(&key))))?;
    let bytes = list
        .sign(*signer, now)
        .context(|| format!("the nodes of {name} are not signed"))?;
    members::publish(&place, &list, &bytes, settings)?;
    ui.note(&format!(
        "list {} of {name} has {}",
        list.version,
        count(list.nodes.len())
    ));
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "enrolled", "environment": name,
            "list": list.version, "nodes": list.nodes.len(), "changes": changes,
        }));
    }
    Ok(())
}

/// The lines of a file that say something.
fn lines(file: &Path) -> Result<Vec<String>> {
    let what = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(stdin())
    } else {
        Box::new(File::open(file).context(what)?)
    };
    input
        .take(MAX_LINES + 1)
        .read_to_string(&mut text)
        .context(what)?;
    if text.len() as u64 > MAX_LINES {
        return Err(Error::usage(what()).detail(format!("it is longer than {MAX_LINES} bytes")));
    }
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}
