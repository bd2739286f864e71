//! Pages about nodes: which images run where, by what the nodes say.
//!
//! ```text
//! overview  fleet.html: groups by state, what somebody should look at, which releases run
//! group     fleet/ENV~GROUP~N.html: every node of a group, so many on a page
//! node      node/ENV~NODE.html: systems and last receipts of a node
//! ```
//!
//! What is said of a node is what `imgbuild fleet status` says. A page of a node that would be the
//! same is not made again, nor are its receipts read.

mod group;
mod node;
mod overview;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use store::name::NodeName;
use store::{EnvName, ImageId, Sha256};

use super::document::{self, PROGRAM};
use super::facts::Facts;
use super::html::Html;
use super::image;
use super::site::{FLEET, Site};
use crate::error::{Error, Result};
use crate::fleet::judge::{Finding, Kind, NodeStatus, SystemStatus};
use crate::fleet::rollout::Rollout;
use crate::fleet::{self, recent};
use crate::ui::{Ui, Unit};

/// Nodes whose receipts are read at a time.
const BATCH: usize = 256;

/// The last receipts that the page of a node shows.
const MOST_RECEIPTS: usize = 20;

/// Systems and findings of a node that a table of nodes shows; its own page shows all.
const MOST_OF_NODE: usize = 4;

/// The nodes of environments.
pub struct FleetView<'a> {
    /// Where their receipts are.
    pub place: &'a fleet::Place,
    /// By environment.
    pub environments: BTreeMap<EnvName, EnvNodes>,
    /// Folders of receipts that no list has a node for.
    pub unknown: Vec<String>,
}

/// The nodes of an environment.
pub struct EnvNodes {
    /// The version of the list of nodes; 0 where there is none.
    pub list: u64,
    /// Who signed it.
    pub signer: Option<String>,
    /// The newest releases that have waves.
    pub waves: Vec<Rollout>,
    /// What is to be said of each, by name.
    pub nodes: Vec<NodeStatus>,
}

impl EnvNodes {
    /// The nodes by group.
    fn groups(&self) -> BTreeMap<&NodeName, Vec<&NodeStatus>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in &self.nodes {
            groups.entry(&node.group).or_default().push(node);
        }
        groups
    }
}

/// How many nodes are as they should be, and of how many there is something to say.
struct Count {
    nodes: usize,
    current: usize,
    kinds: BTreeMap<Kind, usize>,
}

impl Count {
    fn of<'n>(nodes: impl IntoIterator<Item = &'n NodeStatus>) -> Self {
        let mut count = Self {
            nodes: 0,
            current: 0,
            kinds: BTreeMap::new(),
        };
        for node in nodes {
            count.nodes += 1;
            count.current += usize::from(node.findings.is_empty());
            let kinds: BTreeSet<Kind> = node.findings.iter().map(|one| one.kind).collect();
            for kind in kinds {
                *count.kinds.entry(kind).or_default() += 1;
            }
        }
        count
    }
}

/// Adds the pages of all nodes.
pub(super) fn put_all(
    view: &FleetView<'_>,
    facts: &Facts,
    site: &mut Site,
    ui: &mut Ui,
) -> Result<()> {
    let images: BTreeSet<ImageId> = facts.releases().map(super::Released::image).collect();
    let all: Vec<(&EnvName, &NodeStatus)> = facts
        .environments
        .iter()
        .filter_map(|env| Some((&env.name, view.environments.get(&env.name)?)))
        .flat_map(|(name, env)| env.nodes.iter().map(move |node| (name, node)))
        .collect();
    let (total, mut read) = (all.len() as u64, 0);
    let mut phase = ui.phase("describe nodes");
    for (number, batch) in all.chunks(BATCH).enumerate() {
        phase.progress((number * BATCH) as u64, total, Unit::Steps);
        let names = batch.par_iter().map(|(_, status)| {
            let last = status.last.as_ref().map_or(0, |last| last.counter);
            recent::names(view.place, &status.node, last, MOST_RECEIPTS)
        });
        let names: Vec<Vec<String>> = names.collect::<Result<_>>()?;
        let mut wanted = Vec::new();
        for ((env, status), names) in batch.iter().zip(names) {
            let (path, made) = (
                node::path(env, &status.node),
                made_from(status, &names, &images),
            );
            if site.reuse(&path, &made).is_none() {
                wanted.push((*env, *status, names, path, made));
            }
        }
        read += wanted.len();
        let pages = wanted
            .into_par_iter()
            .map(|(env, status, names, path, made)| {
                let key = status.key.parse().map_err(|_| {
                    Error::failed(format!(
                        "the key of {} is none: {}",
                        status.node, status.key
                    ))
                })?;
                let receipts = recent::read(view.place, &status.node, &key, names)?;
                Ok((path, node::page(env, status, &receipts, &images), made))
            });
        for (path, page, made) in pages.collect::<Result<Vec<_>>>()? {
            site.put(&path, &page, Some((&made, "")))?;
        }
    }
    phase.finish(&format!("{read} of {total} described"));
    for env in &facts.environments {
        let Some(of_env) = view.environments.get(&env.name) else {
            continue;
        };
        for (group, nodes) in of_env.groups() {
            for (number, page) in group::pages(&env.name, group, &nodes, &images).enumerate() {
                site.put(&group::path(&env.name, group, number + 1), &page, None)?;
            }
        }
    }
    site.put(FLEET, &overview::page(view, facts, &images), None)
}

/// Counts of all environments, for the first page.
pub(super) fn summary(html: &mut Html, view: &FleetView<'_>, facts: &Facts) {
    overview::summary(html, view, facts);
}

/// All that a page of a node is made from, in a word.
fn made_from(status: &NodeStatus, names: &[String], images: &BTreeSet<ImageId>) -> String {
    let linked: Vec<bool> = status
        .systems
        .iter()
        .map(|s| images.contains(&s.image))
        .collect();
    let all = serde_json::to_vec(&(status, names, linked)).unwrap_or_default();
    format!("{} {}", document::edition(), Sha256::of(&all).hex())
}

/// The foot of these pages: nothing in it changes with what others do.
fn footer(html: &mut Html) {
    html.tag("p", format_args!("Written by {PROGRAM}."));
}

/// In a word and a class how a node is: nothing is said by colour alone.
fn state(html: &mut Html, findings: &[Finding]) {
    let kinds: BTreeSet<Kind> = findings.iter().map(|finding| finding.kind).collect();
    if kinds.is_empty() {
        word(html, "word added", "current");
    }
    // What is worse stands last in the list of kinds.
    for (number, kind) in kinds.iter().rev().enumerate() {
        if number > 0 {
            html.text(", ");
        }
        word(html, class(*kind), kind.name());
    }
}

fn word(html: &mut Html, class: &'static str, word: &str) {
    html.element("span", &[("class", class)], |html| html.text(word));
}

fn class(kind: Kind) -> &'static str {
    let is_bad = kind.is_distrust() || matches!(kind, Kind::Failed | Kind::Revoked);
    if is_bad {
        "word removed"
    } else {
        "word changed"
    }
}

/// What is to be said of a node: so much of it, each in a line of its own.
fn findings(html: &mut Html, all: &[Finding], most: usize) {
    for finding in all.iter().take(most) {
        html.element("p", &[], |html| {
            if let Some(system) = &finding.system {
                html.outside(system);
                html.text(": ");
            }
            html.outside(&finding.text);
        });
    }
    more(html, all.len(), most);
}

fn more(html: &mut Html, all: usize, most: usize) {
    if let Some(more @ 1..) = all.checked_sub(most) {
        html.tag("p", format_args!("and {more} more, on its page"));
    }
}

/// The release of a system, and its image by its first digits, with a link where that has a page.
fn release(html: &mut Html, system: &SystemStatus, images: &BTreeSet<ImageId>) {
    html.text(format_args!("{} {} ", system.image_name, system.seq));
    image_link(html, &system.image, images, "../");
}

fn image_link(html: &mut Html, id: &ImageId, images: &BTreeSet<ImageId>, root: &str) {
    if images.contains(id) {
        let to = format!("{root}{}", image::path(id));
        html.element("a", &[("href", &to)], |html| html.digest(&id.hex()));
    } else {
        html.digest(&id.hex());
    }
}

/// Since when it is as it is: the last operation that changed it.
fn since(html: &mut Html, system: &SystemStatus) {
    match &system.last {
        Some(last) if last.result == store::receipt::Outcome::Done => html.moment(last.time),
        _ => html.text("not said"),
    }
}

/// The way back to the first page about nodes, and where this one is.
fn crumbs(html: &mut Html, env: &EnvName, group: Option<&NodeName>) {
    html.element("p", &[], |html| {
        html.link("../fleet.html", "All nodes");
        if let Some(group) = group {
            html.text(" › ");
            let to = format!("../{}", group::path(env, group, 1));
            html.link(&to, format_args!("{group} in {env}"));
        }
    });
}
