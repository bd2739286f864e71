//! `imgbuild fleet ...`: which images run on which nodes, by what these say

mod enrol;
mod metrics;
mod prune;
mod show;
pub(super) mod status;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use store::name::NodeName;
use store::tuf::{Environment, Policy, Release};
use store::{EnvName, Store};

use super::env::environment;
use crate::cli::args::{FleetArgs, FleetCommand};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fleet::Place;
use crate::fleet::cache::Cache;
use crate::fleet::judge::{NodeStatus, Standard};
use crate::fleet::members::{self, Members};
use crate::fleet::read::{self, Seen};
use crate::release::ceremony::{self, releases};
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::ui::Ui;

/// Where the receipts of each node begin, for who cannot list them. Nobody signs it.
const KEPT: &str = "fleet/kept.json";

/// Hours without a receipt after which a node is overdue, where nobody says otherwise.
pub(in crate::cli::commands) const OVERDUE: u32 = 26;

/// How many nodes an error names.
const SHOWN: usize = 8;

/// The longest such file.
const MAX_KEPT: u64 = 8 << 20;

pub(super) fn run(args: &FleetArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    match &args.command {
        FleetCommand::Status(args) => status::run(args, settings, ui),
        FleetCommand::Show(args) => show::run(args, settings, ui),
        FleetCommand::Enrol(args) => enrol::run(args, settings, ui),
        FleetCommand::Prune(args) => prune::run(args, settings, ui),
    }
}

/// An environment that somebody here has vouched for, as it stands.
pub(super) fn admitted<'s>(
    store: &'s Store,
    name: &EnvName,
    settings: &Settings,
) -> Result<Environment<'s>> {
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    ceremony::admitted(store, name, &keyring)
}

/// The environments that have nodes, or the one that a person named.
pub(super) fn names(named: Option<&str>, place: &Place) -> Result<Vec<EnvName>> {
    if let Some(name) = named {
        return Ok(vec![environment(name)?]);
    }
    members::environments(place)?.ok_or_else(|| {
        Error::usage(format!("{} does not list its environments", place.url)).hint("name one")
    })
}

/// A node by name, with what its receipts say.
pub(super) struct Found<'s> {
    pub(super) env: Environment<'s>,
    pub(super) members: Members,
    pub(super) node: store::fleet::Node,
    pub(super) seen: Seen,
}

impl Found<'_> {
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.env.policy()
    }
}

/// Looks for the one node of that name, in an environment or in all that have nodes.
pub(super) fn find<'s>(
    name: &str,
    env: Option<&str>,
    place: &Place,
    store: &'s Store,
    settings: &Settings,
) -> Result<Found<'s>> {
    let wanted = node_name(name)?;
    let mut found = Vec::new();
    for env in names(env, place)? {
        let env = admitted(store, &env, settings)?;
        let members = members::read(place, &env, settings)?;
        if let Some(node) = members.fleet.node(&wanted).cloned() {
            found.push((env, members, node));
        }
    }
    let envs: Vec<_> = found
        .iter()
        .map(|(env, ..)| env.name().to_string())
        .collect();
    let (Some((env, members, node)), true) = (found.pop(), envs.len() <= 1) else {
        return Err(if envs.is_empty() {
            Error::usage(format!("no node `{wanted}` is enrolled"))
                .hint("imgbuild fleet status --all shows those that are")
        } else {
            Error::usage(format!(
                "there is a node {wanted} in {}",
                envs.join(" and in ")
            ))
            .hint("choose one with --env ENV")
        });
    };
    let kept = kept(place)?;
    let begin = kept.get(&node.name).copied().unwrap_or(1);
    let seen = read::look(place, &node, None, begin, |_| false)?;
    Ok(Found {
        env,
        members,
        node,
        seen,
    })
}

pub(super) fn node_name(text: &str) -> Result<NodeName> {
    text.parse()
        .map_err(|e| Error::usage("this cannot name a node").because(&e))
}

/// The nodes of an environment, as their receipts show them.
pub(in crate::cli::commands) struct Observed {
    members: Members,
    releases: Vec<Release>,
    pub(in crate::cli::commands) nodes: Vec<NodeStatus>,
}

/// Reads what is new of the nodes of an environment, and judges them: at this time, and overdue
/// after so many hours.
pub(in crate::cli::commands) fn observe(
    env: &Environment<'_>,
    place: &Place,
    (overdue, now): (u32, Timestamp),
    settings: &Settings,
    ui: &Ui,
) -> Result<Observed> {
    let members = members::read(place, env, settings)?;
    let releases = releases(env)?;
    let standard = standard(env, &releases, overdue, now);
    let (fleet, kept) = (&members.fleet, kept(place)?);
    let mut cache = Cache::read(fleet, &place.url, settings);
    let read = fleet.nodes.par_iter().map(|node| {
        let begin = kept.get(&node.name).copied().unwrap_or(1);
        let before = cache.nodes.get(&node.name);
        let fresh = |newest: &read::Newest| standard.is_fresh(newest);
        read::look(place, node, before, begin, fresh).map(|seen| (node.name.clone(), seen))
    });
    let read: BTreeMap<NodeName, Seen> = read.collect::<Result<_>>()?;
    let judged = fleet.nodes.iter();
    let judged = judged.map(|node| standard.judge(node, &read[&node.name]));
    let nodes = judged.collect();
    cache.nodes = read;
    if let Err(error) = cache.write(fleet, &place.url, settings) {
        ui.note(&format!(
            "warning: what was read is not kept for the next time: {error}"
        ));
    }
    Ok(Observed {
        members,
        releases,
        nodes,
    })
}

/// What the receipts of an environment's nodes are compared with.
fn standard(env: &Environment<'_>, releases: &[Release], hours: u32, now: Timestamp) -> Standard {
    Standard::new(env.name().clone(), releases, now, hours)
}

/// Where receipts begin. Whatever is wrong with that, they are looked for from the first.
fn kept(place: &Place) -> Result<BTreeMap<NodeName, u64>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Kept {
        schema: u32,
        nodes: BTreeMap<NodeName, u64>,
    }
    let what = || format!("cannot read {KEPT} in {}", place.url);
    let bytes = match place.folder.get(KEPT, MAX_KEPT) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(e) if e.kind() == store::ErrorKind::Corrupt => Vec::new(),
        Err(e) => return Err(stores::failed(what(), &e)),
    };
    let read: Option<Kept> = serde_json::from_slice(&bytes).ok();
    let read = read.filter(|kept| kept.schema == 1);
    Ok(read.map(|kept| kept.nodes).unwrap_or_default())
}

/// Receipts that are not those of their nodes end a command with 3, everything else that was found
/// with 4.
fn verdict(distrusted: &[String], found: usize) -> Result<()> {
    if !distrusted.is_empty() {
        let shown = &distrusted[..distrusted.len().min(SHOWN)];
        let more = match distrusted.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = shown.join(", ");
        let text = format!("receipts of {shown}{more} cannot be believed");
        return Err(Error::new(ErrorKind::Refused, text).hint(
            "look at each: imgbuild fleet show NODE; docs/fleet.md says what each finding means",
        ));
    }
    if found == 0 {
        return Ok(());
    }
    let text = format!("there is something to say of {}", status::count(found));
    Err(Error::new(ErrorKind::Found, text))
}

/// The folders of nodes that nobody has enrolled anywhere here.
pub(super) fn unknown(place: &Place, known: &[NodeName]) -> Result<Vec<String>> {
    let what = || format!("cannot list what is in {}", place.url);
    let folders = place.folder.folders(store::receipt::FOLDER).context(what)?;
    let mut folders = folders.unwrap_or_default();
    let known: BTreeSet<&str> = known.iter().map(NodeName::as_str).collect();
    folders.retain(|folder| !known.contains(folder.as_str()));
    Ok(folders)
}
