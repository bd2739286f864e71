//! `imgbuild fleet status [ENV]`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use store::name::NodeName;
use store::tuf::Release;
use store::{EnvName, ImageName, Store};

use super::{admitted, metrics, names, observe, unknown, verdict};
use crate::cli::args::FleetStatusArgs;
use crate::error::Result;
use crate::fleet::Place;
use crate::fleet::judge::NodeStatus;
use crate::fleet::rollout::Rollout;
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    environments: Vec<ShownEnv>,
    /// Folders of receipts that no list has a node for.
    unknown: Vec<String>,
}

#[derive(Serialize)]
pub(in super::super) struct ShownEnv {
    pub(in super::super) environment: EnvName,
    /// The version of the list of nodes; 0 where there is none.
    pub(in super::super) list: u64,
    /// The key that signed it.
    pub(in super::super) signer: Option<String>,
    /// The newest releases that have waves, by name.
    pub(in super::super) waves: Vec<Rollout>,
    pub(in super::super) nodes: Vec<NodeStatus>,
}

pub(super) fn run(args: &FleetStatusArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let mut environments = Vec::new();
    for name in names(args.env.as_deref(), &place)? {
        let by = (args.overdue, Timestamp::now());
        environments.push(look(by, &name, &place, &store, settings, ui)?);
    }
    // With one environment alone nobody knows the nodes of the others.
    let unknown = match &args.env {
        None => {
            let all = environments.iter().flat_map(|env| &env.nodes);
            let known: Vec<NodeName> = all.map(|node| node.node.clone()).collect();
            unknown(&place, &known)?
        }
        Some(_) => Vec::new(),
    };
    if let Some(file) = &args.prometheus {
        crate::atomic_file::write(file, metrics::text(&environments).as_bytes())?;
    }
    let nodes = environments.iter().flat_map(|env| &env.nodes);
    let found: Vec<_> = nodes.filter(|node| !node.findings.is_empty()).collect();
    let distrusts = |node: &&&NodeStatus| node.findings.iter().any(|one| one.kind.is_distrust());
    let distrusted = found
        .iter()
        .filter(distrusts)
        .map(|one| one.node.to_string());
    let mut distrusted: Vec<String> = distrusted.collect();
    distrusted.extend(unknown.iter().cloned());
    let count = found.len();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            environments,
            unknown,
        });
    } else {
        for env in &environments {
            show(env, args.all, ui);
        }
        for name in &unknown {
            ui.result(&format!(
                "{name}: nobody has enrolled it, and it has receipts"
            ));
        }
    }
    verdict(&distrusted, count)
}

/// Reads what is new of the nodes of an environment, and compares it with the releases: at this time,
/// and overdue after so many hours.
pub(in super::super) fn look(
    (overdue, now): (u32, Timestamp),
    name: &EnvName,
    place: &Place,
    store: &Store,
    settings: &Settings,
    ui: &Ui,
) -> Result<ShownEnv> {
    let env = admitted(store, name, settings)?;
    let observed = observe(&env, place, (overdue, now), settings, ui)?;
    let names = Keyring::new(settings, Passphrase::Terminal, None).names(env.policy())?;
    let mut newest: BTreeMap<&ImageName, &Release> = BTreeMap::new();
    for release in &observed.releases {
        newest.insert(&release.name, release);
    }
    let waves = newest.into_values();
    let waves = waves.filter_map(|release| Rollout::of(name, release, &observed.nodes));
    Ok(ShownEnv {
        environment: name.clone(),
        list: observed.members.fleet.version,
        signer: observed.members.signer.map(|key| names.short(&key)),
        waves: waves.collect(),
        nodes: observed.nodes,
    })
}

fn show(env: &ShownEnv, all: bool, ui: &Ui) {
    match &env.signer {
        Some(signer) => ui.result(&format!(
            "{}  {}, list {} signed by {signer}",
            env.environment,
            count(env.nodes.len()),
            env.list
        )),
        None => ui.result(&format!("{}  no nodes are enrolled", env.environment)),
    }
    for rollout in &env.waves {
        ui.result(&format!("  {}", rollout.line()));
    }
    let mut groups: BTreeMap<&NodeName, Vec<&NodeStatus>> = BTreeMap::new();
    for node in &env.nodes {
        groups.entry(&node.group).or_default().push(node);
    }
    for (group, nodes) in groups {
        let good = nodes.iter().filter(|node| node.findings.is_empty());
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for node in &nodes {
            let mut kinds: Vec<_> = node.findings.iter().map(|one| one.kind).collect();
            kinds.dedup();
            for kind in kinds {
                *counts.entry(kind).or_default() += 1;
            }
        }
        let mut line = format!("  {group}: {} of {} current", good.count(), nodes.len());
        for (kind, count) in counts {
            // Writing to a String cannot fail.
            let _ = write!(line, ", {count} {}", kind.name());
        }
        ui.result(&line);
        for node in nodes {
            if all || !node.findings.is_empty() {
                self::node(node, ui);
            }
        }
    }
}

/// Nodes, as many as they are.
pub(super) fn count(nodes: usize) -> String {
    match nodes {
        1 => "1 node".to_owned(),
        more => format!("{more} nodes"),
    }
}

/// A node, in a line for each of its systems and each finding.
pub(super) fn node(node: &NodeStatus, ui: &Ui) {
    let heard = match &node.last {
        Some(last) => format!("receipt {} of {}", last.counter, last.time),
        None => "never heard of".to_owned(),
    };
    ui.result(&format!("    {:<20} {heard}", node.node));
    for system in &node.systems {
        let state = if system.runs { "runs" } else { "does not run" };
        ui.result(&format!(
            "      {:<18} {}/{} {}, {state}",
            system.system, system.image_name, system.seq, system.image
        ));
    }
    for finding in &node.findings {
        let system = finding.system.iter();
        let system: String = system.map(|system| format!("{system}: ")).collect();
        ui.result(&format!(
            "      {:<12} {system}{}",
            finding.kind.name(),
            finding.text
        ));
    }
}
