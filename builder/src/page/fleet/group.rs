//! The nodes of a group, so many on a page.

use std::collections::BTreeSet;

use store::name::NodeName;
use store::{EnvName, ImageId};

use super::super::document::{self, Place};
use super::super::html::Html;
use super::{MOST_OF_NODE, crumbs, findings, footer, more, node, release, since, state};
use crate::fleet::judge::NodeStatus;

/// Nodes on a page: with all that a node may say, one has less than 3 MB.
const NODES: usize = 250;

/// Where the n-th page of a group is. No name has a `~`.
pub(super) fn path(env: &EnvName, group: &NodeName, number: usize) -> String {
    format!("fleet/{env}~{group}~{number}.html")
}

/// The pages, in the order of the nodes' names.
pub(super) fn pages<'a>(
    env: &'a EnvName,
    group: &'a NodeName,
    nodes: &'a [&NodeStatus],
    images: &'a BTreeSet<ImageId>,
) -> impl Iterator<Item = String> + 'a {
    let all = nodes.len().div_ceil(NODES);
    let parts = nodes.chunks(NODES).enumerate();
    parts.map(move |(at, part)| page((env, group), part, (at + 1, all), images))
}

fn page(
    (env, group): (&EnvName, &NodeName),
    nodes: &[&NodeStatus],
    (number, all): (usize, usize),
    images: &BTreeSet<ImageId>,
) -> String {
    let mut html = Html::default();
    crumbs(&mut html, env, None);
    let name = format!("Nodes of {group} in {env}");
    let title = if all == 1 {
        name
    } else {
        format!("{name}, page {number} of {all}")
    };
    turn(
        &mut html,
        (env, group),
        (number, all),
        "Pages of this group",
    );
    let (first, last) = (nodes.first(), nodes.last());
    let span = first.zip(last);
    let span = span.map_or_else(String::new, |(first, last)| {
        format!(", from {} to {}", first.node, last.node)
    });
    let caption = format!(
        "Nodes of {group} in {env}{span}: what their newest receipts say, compared with the releases"
    );
    let columns = [
        "Node",
        "State",
        "Runs",
        "Since",
        "Findings",
        "Newest receipt",
    ];
    html.table(caption, &columns, |html| {
        for node in nodes {
            row(html, env, node, images);
        }
    });
    turn(
        &mut html,
        (env, group),
        (number, all),
        "Pages of this group, again",
    );
    document::page(Place::Folder, &title, &[], footer, &html)
}

fn row(html: &mut Html, env: &EnvName, node: &NodeStatus, images: &BTreeSet<ImageId>) {
    html.row(
        |html| html.link(&format!("../{}", node::path(env, &node.node)), &node.node),
        |html| {
            html.element("td", &[], |html| state(html, &node.findings));
            html.element("td", &[], |html| {
                for system in node.systems.iter().take(MOST_OF_NODE) {
                    html.element("p", &[], |html| {
                        html.outside(&system.system);
                        html.text(": ");
                        release(html, system, images);
                        if !system.runs {
                            html.text(", does not run");
                        }
                    });
                }
                more(html, node.systems.len(), MOST_OF_NODE);
            });
            html.element("td", &[], |html| {
                for system in node.systems.iter().take(MOST_OF_NODE) {
                    html.element("p", &[], |html| since(html, system));
                }
            });
            html.element("td", &[], |html| {
                findings(html, &node.findings, MOST_OF_NODE);
            });
            html.element("td", &[], |html| match &node.last {
                Some(last) => {
                    html.text(format_args!("{} of ", last.counter));
                    html.moment(last.time);
                }
                None => html.text("none"),
            });
        },
    );
}

/// The ways to the other pages of a group.
fn turn(
    html: &mut Html,
    (env, group): (&EnvName, &NodeName),
    (number, all): (usize, usize),
    label: &str,
) {
    if all == 1 {
        return;
    }
    html.element("nav", &[("class", "on"), ("aria-label", label)], |html| {
        html.raw("<ul>");
        for to in 1..=all {
            html.element("li", &[], |html| {
                if to == number {
                    html.tag("strong", format_args!("Page {to}"));
                } else {
                    let path = path(env, group, to);
                    html.link(&format!("../{path}"), format_args!("Page {to}"));
                }
            });
        }
        html.raw("</ul>");
    });
}
