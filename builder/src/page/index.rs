//! The first page: environments side by side, and each by itself.

use std::collections::{BTreeMap, BTreeSet};

use store::ImageName;

use super::Pairs;
use super::document::{self, PROGRAM, Place, heading};
use super::facts::{Env, Facts, Released, State};
use super::fleet::{self, FleetView};
use super::html::{Html, Notice};
use super::image::{self, Short};

/// Releases of one name and environment that the page lists.
const MOST_RELEASES: usize = 50;

/// What is known of manifests, by their digests.
pub(super) type Shorts = BTreeMap<String, Short>;

/// The whole page.
pub(super) fn page(
    facts: &Facts,
    shorts: &Shorts,
    pairs: &Pairs,
    nodes: Option<&FleetView<'_>>,
) -> String {
    let mut html = Html::default();
    let mut sections: Vec<(&'static str, String)> = Vec::new();
    for env in &facts.environments {
        for notice in &env.notices {
            html.notice(notice);
        }
    }
    heading(&mut html, "where", "Newest releases");
    sections.push(("where", "Newest releases".to_owned()));
    newest(&mut html, facts, shorts, pairs);
    if let Some(nodes) = nodes {
        heading(&mut html, "nodes", "Nodes");
        sections.push(("nodes", "Nodes".to_owned()));
        fleet::summary(&mut html, nodes, facts);
    }
    heading(&mut html, "releases", "All releases");
    sections.push(("releases", "All releases".to_owned()));
    for env in &facts.environments {
        releases(&mut html, env, pairs);
    }
    heading(&mut html, "environments", "Environments");
    sections.push(("environments", "Environments".to_owned()));
    for env in &facts.environments {
        environment(&mut html, env);
    }
    let footer = |html: &mut Html| {
        html.element("p", &[], |html| {
            html.text(format_args!("Written by {PROGRAM}."));
            if let Some(newest) = facts.newest {
                html.text(format_args!(
                    " The newest entry of the environments' logs is of {newest}."
                ));
            }
        });
    };
    document::page(
        Place::Top,
        "What is released where",
        &sections,
        footer,
        &html,
    )
}

/// A row for each name, a column for each environment, and between two of them what differs.
fn newest(html: &mut Html, facts: &Facts, shorts: &Shorts, pairs: &Pairs) {
    let environments = &facts.environments;
    let names: BTreeSet<&ImageName> = environments
        .iter()
        .flat_map(|env| env.releases.keys())
        .collect();
    if names.is_empty() {
        html.raw("<p>Nothing is released yet.</p>\n");
        return;
    }
    let mut columns = vec!["Name".to_owned()];
    for (at, env) in environments.iter().enumerate() {
        if let Some(before) = at.checked_sub(1).map(|at| &environments[at]) {
            columns.push(format!("From {} to {}", before.name, env.name));
        }
        columns.push(env.name.to_string());
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let caption = "The newest release of each name in each environment, and what differs between one \
                   environment and the next";
    html.table(caption, &columns, |html| {
        for name in names {
            html.row(
                |html| html.text(name),
                |html| {
                    for (at, env) in environments.iter().enumerate() {
                        let here = env.newest(name);
                        if let Some(before) = at.checked_sub(1).map(|at| &environments[at]) {
                            html.element("td", &[], |html| {
                                between(html, (before, before.newest(name)), (env, here), pairs);
                            });
                        }
                        html.element("td", &[], |html| match here {
                            Some(here) => release(html, here, facts, shorts),
                            None => html.text("not released"),
                        });
                    }
                },
            );
        }
    });
}

fn between(
    html: &mut Html,
    (before, old): (&Env, Option<&Released>),
    (after, new): (&Env, Option<&Released>),
    pairs: &Pairs,
) {
    match (old, new) {
        (Some(old), Some(new)) => image::difference(html, old, new, pairs, Place::Top),
        (Some(_), None) => html.text(format_args!("only in {}", before.name)),
        (None, Some(_)) => html.text(format_args!("only in {}", after.name)),
        (None, None) => html.text("in neither"),
    }
}

fn release(html: &mut Html, one: &Released, facts: &Facts, shorts: &Shorts) {
    let store::tuf::Release {
        name, seq, custom, ..
    } = &one.release;
    let label = format!("Release {seq} of {name} in {}", custom.env);
    html.element("p", &[], |html| {
        html.element(
            "a",
            &[("href", &image::path(&one.image())), ("aria-label", &label)],
            |html| html.text(format_args!("Release {seq}")),
        );
        html.raw(" ");
        html.digest(&one.image().hex());
    });
    html.element("p", &[("class", "soft")], |html| match one.time {
        Some(time) => html.day(time),
        None => html.text("date not recorded"),
    });
    let short = shorts.get(&one.manifest);
    if let Some(short) = short {
        html.element("p", &[("class", "soft")], |html| {
            html.text("recipe ");
            html.digest(&short.recipe);
        });
        for commit in &short.commits {
            html.element("p", &[("class", "soft")], |html| {
                html.text("commit ");
                html.element("code", &[("title", commit)], |html| {
                    html.outside(&commit.chars().take(12).collect::<String>());
                });
            });
        }
    }
    let mut notices = facts.notices(&one.image(), Some(&one.release.custom.env));
    if one.state == State::TooOld {
        notices.push(Notice::bad("nodes may not go back to it"));
    }
    notices.extend(short.iter().flat_map(|short| short.notices.clone()));
    notices.sort();
    for notice in notices {
        html.notice(&notice);
    }
}

fn releases(html: &mut Html, env: &Env, pairs: &Pairs) {
    let columns = [
        "Release",
        "Date",
        "State",
        "From",
        "Signed by",
        "Since the one before",
    ];
    for (name, all) in &env.releases {
        let caption = format!("{name} in {}, the newest first", env.name);
        html.table(caption, &columns, |html| {
            let numbered = all.iter().enumerate().rev().take(MOST_RELEASES);
            for (at, one) in numbered {
                let before = at.checked_sub(1).map(|at| &all[at]);
                let to = image::path(&one.image());
                image::release_row(html, one, before, pairs, Some(&to), Place::Top);
            }
        });
        let more = all.len().saturating_sub(MOST_RELEASES);
        if more > 0 {
            html.tag(
                "p",
                format_args!(
                    "{more} earlier releases of {name} in {} are left out here.",
                    env.name
                ),
            );
        }
    }
}

fn environment(html: &mut Html, env: &Env) {
    html.tag("h3", &env.name);
    html.open("dl", &[]);
    html.pair("First root", |html| html.tag("code", &env.fingerprint));
    for (role, time, over) in &env.expiries {
        html.pair("Signed until", |html| {
            html.text(format_args!("{role}: "));
            html.day(*time);
            if *over {
                html.text(", ran out");
            }
        });
    }
    for line in &env.policy {
        html.pair("Policy", |html| html.outside(line));
    }
    if env.policy.is_empty() {
        html.pair("Policy", |html| html.text("none"));
    }
    html.close("dl");
    if env.revoked.is_empty() {
        return;
    }
    let caption = format!("Revoked in {}", env.name);
    html.table(caption, &["Image", "Date", "Reason"], |html| {
        for (image, revocation) in &env.revoked {
            html.row(
                |html| html.digest(&image.hex()),
                |html| {
                    html.element("td", &[], |html| match revocation.time {
                        Some(time) => html.day(time),
                        None => html.text("not recorded"),
                    });
                    let reason = revocation.reason.as_deref();
                    html.tag_outside("td", reason.unwrap_or("not given"));
                },
            );
        }
    });
}
