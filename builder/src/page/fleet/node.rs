//! A page of one node: its systems, and its last receipts.

use std::collections::BTreeSet;

use store::name::NodeName;
use store::receipt::{self, LastOperation};
use store::{EnvName, ImageId};

use super::super::document::{self, Place, heading};
use super::super::html::Html;
use super::{class, crumbs, footer, release, since, state, word};
use crate::fleet::judge::NodeStatus;
use crate::fleet::recent::Recent;

/// Where the page of a node is.
pub(super) fn path(env: &EnvName, node: &NodeName) -> String {
    format!("node/{env}~{node}.html")
}

/// The whole page.
pub(super) fn page(
    env: &EnvName,
    node: &NodeStatus,
    receipts: &[Recent],
    images: &BTreeSet<ImageId>,
) -> String {
    let mut html = Html::default();
    crumbs(&mut html, env, Some(&node.group));
    html.open("dl", &[]);
    html.pair("State", |html| state(html, &node.findings));
    html.pair("Environment", |html| html.text(env));
    html.pair("Group", |html| html.text(&node.group));
    html.pair("Key", |html| html.tag("code", &node.key));
    match &node.last {
        None => html.pair("Newest receipt", |html| html.text("none")),
        Some(last) => {
            html.pair("Newest receipt", |html| html.text(last.counter));
            html.pair("Written at", |html| html.moment(last.time));
            html.pair("Received at", |html| match last.received {
                Some(received) => html.moment(received),
                None => html.text("not known"),
            });
            html.pair("Written by", |html| {
                html.text("imgnode ");
                html.outside(&last.imgnode);
            });
        }
    }
    html.close("dl");
    let sections = [
        ("findings", "Findings".to_owned()),
        ("systems", "Systems".to_owned()),
        ("receipts", "Last receipts".to_owned()),
    ];
    for (anchor, title) in &sections {
        heading(&mut html, anchor, title);
        match *anchor {
            "findings" => findings(&mut html, node),
            "systems" => systems(&mut html, node, images),
            _ => last_receipts(&mut html, node, receipts),
        }
    }
    let title = format!("{} in {env}", node.node);
    document::page(Place::Folder, &title, &sections, footer, &html)
}

fn findings(html: &mut Html, node: &NodeStatus) {
    if node.findings.is_empty() {
        html.raw("<p>Nothing: it is current.</p>\n");
        return;
    }
    let caption = format!("What is not as it should be on {}", node.node);
    html.table(caption, &["Finding", "System", "What it is"], |html| {
        for finding in &node.findings {
            html.row(
                |html| word(html, class(finding.kind), finding.kind.name()),
                |html| {
                    html.tag_outside("td", finding.system.as_deref().unwrap_or("the node"));
                    html.tag_outside("td", &finding.text);
                },
            );
        }
    });
}

fn systems(html: &mut Html, node: &NodeStatus, images: &BTreeSet<ImageId>) {
    if node.systems.is_empty() {
        html.raw("<p>It has told of none.</p>\n");
        return;
    }
    let caption = format!("What is installed on {}, by its newest receipt", node.node);
    let columns = [
        "System",
        "Release",
        "#Generation",
        "Runs",
        "Since",
        "#Behind",
        "Last operation",
    ];
    html.table(caption, &columns, |html| {
        for system in &node.systems {
            html.row(
                |html| html.outside(&system.system),
                |html| {
                    html.element("td", &[], |html| release(html, system, images));
                    html.number(system.generation);
                    html.tag("td", if system.runs { "runs" } else { "does not run" });
                    html.element("td", &[], |html| since(html, system));
                    match system.behind {
                        Some(behind) => html.number(behind),
                        None => html.number("not known"),
                    }
                    html.element("td", &[], |html| match &system.last {
                        Some(last) => operation(html, last),
                        None => html.text("none"),
                    });
                },
            );
        }
    });
}

fn operation(html: &mut Html, last: &LastOperation) {
    html.text(format_args!(
        "{}, {}, ",
        last.operation.name(),
        last.result.name()
    ));
    html.moment(last.time);
    if let Some(reason) = &last.reason {
        html.text(": ");
        html.outside(reason);
    }
}

fn last_receipts(html: &mut Html, node: &NodeStatus, receipts: &[Recent]) {
    if receipts.is_empty() {
        html.raw("<p>There are none.</p>\n");
        return;
    }
    let caption = format!(
        "What lies as receipts of {}, the newest first; only what is signed with its key counts",
        node.node
    );
    let columns = [
        "Receipt",
        "Time",
        "Operation",
        "System",
        "Result",
        "Reason",
        "Signed by",
    ];
    html.table(caption, &columns, |html| {
        for one in receipts.iter().rev() {
            let counter = receipt::counter(&one.name).unwrap_or(0);
            html.row(
                |html| html.text(counter),
                |html| receipt_cells(html, node, one),
            );
        }
    });
}

fn receipt_cells(html: &mut Html, node: &NodeStatus, one: &Recent) {
    let Some(said) = one.receipt.as_ref().filter(|_| one.signed) else {
        for _ in 0..5 {
            html.tag("td", "not believed");
        }
        html.element("td", &[], |html| {
            let who = match one.receipt {
                Some(_) => "somebody else",
                None => "nobody: it is no receipt",
            };
            word(html, "word removed", who);
        });
        return;
    };
    let event = &said.event;
    html.element("td", &[], |html| html.moment(said.time));
    html.tag("td", event.operation.name());
    html.tag_outside("td", event.system.as_deref().unwrap_or("none"));
    html.tag("td", event.result.name());
    html.tag_outside("td", event.reason.as_deref().unwrap_or("none"));
    html.element("td", &[], |html| {
        html.text(format_args!("{}, imgnode ", said.node));
        html.outside(&said.imgnode);
        if said.node != node.node {
            html.text(", by another name");
        }
    });
}
