//! The first page about nodes.

use std::collections::{BTreeMap, BTreeSet};

use store::{EnvName, ImageId, ImageName};

use super::super::document::{self, Place, heading};
use super::super::facts::Facts;
use super::super::html::{Html, Notice};
use super::super::site::FLEET;
use super::{
    Count, EnvNodes, FleetView, MOST_OF_NODE, findings, footer, group, image_link, node, state,
};
use crate::fleet::judge::{Kind, NodeStatus};

/// Nodes that a sentence names.
const NAMED: usize = 8;

/// Nodes of an environment that somebody should look at, and that this page shows.
const MOST_NODES: usize = 100;

/// Releases of an environment that this page shows.
const MOST_RELEASES: usize = 200;

/// The whole page.
pub(super) fn page(view: &FleetView<'_>, facts: &Facts, images: &BTreeSet<ImageId>) -> String {
    let mut html = Html::default();
    let environments: Vec<(&EnvName, &EnvNodes)> = facts
        .environments
        .iter()
        .filter_map(|env| Some((&env.name, view.environments.get(&env.name)?)))
        .collect();
    for (name, env) in &environments {
        distrusted(&mut html, name, env);
    }
    if !view.unknown.is_empty() {
        let text = format!(
            "nobody has enrolled {}, and receipts of that name are there",
            named(view.unknown.iter().map(String::as_str))
        );
        html.notice(&Notice::bad(text));
    }
    let sections = [
        ("groups", "Groups".to_owned()),
        ("attention", "What to look at".to_owned()),
        ("waves", "Releases in waves".to_owned()),
        ("releases", "Which releases run".to_owned()),
    ];
    for (anchor, title) in &sections {
        heading(&mut html, anchor, title);
        for (name, env) in &environments {
            match *anchor {
                "groups" => groups(&mut html, name, env),
                "attention" => attention(&mut html, name, env),
                "waves" => waves(&mut html, name, env),
                _ => releases(&mut html, name, env, images),
            }
        }
    }
    let title = "What runs on which node";
    document::page(Place::Top, title, &sections, footer, &html)
}

/// Counts of all environments, and the way to the page.
pub(super) fn summary(html: &mut Html, view: &FleetView<'_>, facts: &Facts) {
    html.element("p", &[], |html| {
        html.link(FLEET, "What runs on which node");
    });
    let columns = ["Environment", "#Nodes", "#Current", "#With findings"];
    html.table("Nodes of each environment", &columns, |html| {
        for env in &facts.environments {
            let Some(of_env) = view.environments.get(&env.name) else {
                continue;
            };
            let count = Count::of(&of_env.nodes);
            html.row(
                |html| html.text(&env.name),
                |html| {
                    html.number(count.nodes);
                    html.number(count.current);
                    html.number(count.nodes - count.current);
                },
            );
        }
    });
}

fn distrusted(html: &mut Html, name: &EnvName, env: &EnvNodes) {
    let is_it = |node: &&NodeStatus| node.findings.iter().any(|one| one.kind.is_distrust());
    let all: Vec<&NodeStatus> = env.nodes.iter().filter(is_it).collect();
    if !all.is_empty() {
        let names = named(all.iter().map(|node| node.node.as_str()));
        let text = format!("receipts of nodes of {name} cannot be believed: {names}");
        html.notice(&Notice::bad(text));
    }
}

fn named<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let shown = all[..all.len().min(NAMED)].join(", ");
    match all.len() - all.len().min(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn groups(html: &mut Html, name: &EnvName, env: &EnvNodes) {
    let Some(signer) = &env.signer else {
        html.tag("p", format_args!("No nodes are enrolled in {name}."));
        return;
    };
    let whole = Count::of(&env.nodes);
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| whole.kinds.contains_key(kind))
        .collect();
    let mut columns = vec!["Group".to_owned(), "#Nodes".into(), "#current".into()];
    columns.extend(kinds.iter().map(|kind| format!("#{}", kind.name())));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let caption = format!(
        "Nodes of {name} by group and state; list {} of them, signed by {signer}",
        env.list
    );
    html.table(caption, &columns, |html| {
        let cells = |html: &mut Html, count: &Count| {
            html.number(count.nodes);
            html.number(count.current);
            for kind in &kinds {
                html.number(count.kinds.get(kind).copied().unwrap_or(0));
            }
        };
        for (group, nodes) in env.groups() {
            html.row(
                |html| html.link(&group::path(name, group, 1), group),
                |html| cells(html, &Count::of(nodes)),
            );
        }
        html.row(|html| html.text("All groups"), |html| cells(html, &whole));
    });
}

fn attention(html: &mut Html, name: &EnvName, env: &EnvNodes) {
    let mut all: Vec<&NodeStatus> = env.nodes.iter().collect();
    all.retain(|node| !node.findings.is_empty());
    if all.is_empty() {
        html.tag("p", format_args!("Nothing in {name}."));
        return;
    }
    // The worst finding of each is its first.
    all.sort_by_key(|node| std::cmp::Reverse(node.findings.first().map(|one| one.kind)));
    let caption = format!("Nodes of {name} of which there is something to say, the worst first");
    html.table(caption, &["Node", "Group", "State", "Findings"], |html| {
        for node in all.iter().take(MOST_NODES) {
            html.row(
                |html| html.link(&node::path(name, &node.node), &node.node),
                |html| {
                    html.tag("td", &node.group);
                    html.element("td", &[], |html| state(html, &node.findings));
                    html.element("td", &[], |html| {
                        findings(html, &node.findings, MOST_OF_NODE);
                    });
                },
            );
        }
    });
    if let Some(more @ 1..) = all.len().checked_sub(MOST_NODES) {
        html.tag(
            "p",
            format_args!("{more} more of {name} are on the pages of their groups."),
        );
    }
}

fn waves(html: &mut Html, name: &EnvName, env: &EnvNodes) {
    if env.waves.is_empty() {
        html.tag("p", format_args!("None in {name}."));
        return;
    }
    let caption = format!("The newest releases of {name} that have waves");
    let columns = [
        "Release", "Stage", "Since", "#Reached", "#Current", "#Failed", "#Doubted", "Halted",
    ];
    html.table(caption, &columns, |html| {
        for release in env.waves.iter().take(MOST_RELEASES) {
            html.row(
                |html| html.text(format_args!("{} {}", release.image_name, release.seq)),
                |html| {
                    html.tag("td", &release.standing);
                    html.element("td", &[], |html| html.moment(release.since));
                    html.number(release.reached.len());
                    html.number(release.current.len());
                    html.number(release.failed.len());
                    html.number(release.doubted.len());
                    match &release.halted {
                        Some(reason) => html.tag_outside("td", reason),
                        None => html.tag("td", "no"),
                    }
                },
            );
        }
    });
    if let Some(more @ 1..) = env.waves.len().checked_sub(MOST_RELEASES) {
        html.tag("p", format_args!("{more} more are in fleet status."));
    }
}

/// Systems with a release on them: how many, and how many of those run.
#[derive(Default)]
struct Systems {
    installed: usize,
    running: usize,
}

fn releases(html: &mut Html, name: &EnvName, env: &EnvNodes, images: &BTreeSet<ImageId>) {
    let mut all: BTreeMap<(&ImageName, std::cmp::Reverse<u64>, ImageId), Systems> = BTreeMap::new();
    for system in env.nodes.iter().flat_map(|node| &node.systems) {
        let key = (
            &system.image_name,
            std::cmp::Reverse(system.seq),
            system.image,
        );
        let systems = all.entry(key).or_default();
        systems.installed += 1;
        systems.running += usize::from(system.runs);
    }
    if all.is_empty() {
        html.tag("p", format_args!("None on nodes of {name}."));
        return;
    }
    let caption = format!("Releases on nodes of {name}, the newest of each name first");
    let columns = ["Release", "Image", "#Systems", "#Running"];
    html.table(caption, &columns, |html| {
        for ((image_name, seq, image), systems) in all.iter().take(MOST_RELEASES) {
            html.row(
                |html| html.text(format_args!("{image_name} {}", seq.0)),
                |html| {
                    html.element("td", &[], |html| image_link(html, image, images, ""));
                    html.number(systems.installed);
                    html.number(systems.running);
                },
            );
        }
    });
    if let Some(more @ 1..) = all.len().checked_sub(MOST_RELEASES) {
        html.tag(
            "p",
            format_args!("{more} more are on the pages of the groups."),
        );
    }
}
