//! What `imgbuild fleet status` says as metrics, for the textfile collector of Prometheus' node
//! exporter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::status::ShownEnv;
use crate::fleet::judge::{Kind, NodeStatus};
use crate::fleet::rollout::Rollout;

/// All metrics. Names of nodes, groups, environments and systems need no escaping: letters, digits, `.`,
/// `_`, `-`.
pub(super) fn text(environments: &[ShownEnv]) -> String {
    let mut all = String::new();
    let mut head = |name: &str, help: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(all, "# HELP {name} {help}\n# TYPE {name} gauge");
        name.to_owned()
    };
    let mut lines = Vec::new();
    let nodes = head("imgbuild_fleet_nodes", "Enrolled nodes.");
    for env in environments {
        let mut groups: BTreeMap<_, usize> = BTreeMap::new();
        for node in &env.nodes {
            *groups.entry(&node.group).or_default() += 1;
        }
        for (group, count) in groups {
            let env = &env.environment;
            lines.push(format!(
                "{nodes}{{environment=\"{env}\",group=\"{group}\"}} {count}"
            ));
        }
    }
    let mut text = all + &joined(lines);
    each(
        &mut text,
        environments,
        "imgbuild_fleet_node_last_seconds",
        "When a node wrote its newest receipt, since 1970, by its clock.",
        |node| {
            let last = node.last.as_ref();
            last.map(|last| (String::new(), last.time.as_second()))
                .into_iter()
                .collect()
        },
    );
    each(
        &mut text,
        environments,
        "imgbuild_fleet_node_finding",
        "Whether something of that kind is to be said of a node.",
        |node| {
            let found = |kind: Kind| node.findings.iter().any(|one| one.kind == kind);
            let one = |kind: Kind| (format!(",kind=\"{}\"", kind.name()), i64::from(found(kind)));
            Kind::ALL.into_iter().map(one).collect()
        },
    );
    each(
        &mut text,
        environments,
        "imgbuild_fleet_releases_behind",
        "How many releases are newer than what runs.",
        |node| {
            let systems = node.systems.iter().filter_map(|system| {
                let labels = format!(",system=\"{}\"", system.system);
                Some((labels, i64::try_from(system.behind?).ok()?))
            });
            systems.collect()
        },
    );
    waves(&mut text, environments);
    text
}

/// How far releases with waves are.
fn waves(text: &mut String, environments: &[ShownEnv]) {
    let mut of_each = |name: &str, help: &str, values: &dyn Fn(&Rollout) -> Vec<(&str, usize)>| {
        let mut lines = Vec::new();
        for env in environments {
            for rollout in &env.waves {
                for (label, value) in values(rollout) {
                    lines.push(format!(
                        "{name}{{environment=\"{}\",image=\"{}\"{label}}} {value}",
                        env.environment, rollout.image_name
                    ));
                }
            }
        }
        if !lines.is_empty() {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            *text += &joined(lines);
        }
    };
    of_each(
        "imgbuild_fleet_wave_stage",
        "The stage that the newest release has reached.",
        &|rollout| vec![("", rollout.stage)],
    );
    of_each(
        "imgbuild_fleet_wave_stages",
        "How many stages the newest release has.",
        &|rollout| vec![("", rollout.stages)],
    );
    of_each(
        "imgbuild_fleet_wave_halted",
        "Whether the newest release is halted.",
        &|rollout| vec![("", usize::from(rollout.halted.is_some()))],
    );
    of_each(
        "imgbuild_fleet_wave_nodes",
        "Nodes that the newest release has reached, that run it, and on which it failed.",
        &|rollout| {
            vec![
                (",state=\"reached\"", rollout.reached.len()),
                (",state=\"current\"", rollout.current.len()),
                (",state=\"failed\"", rollout.failed.len()),
            ]
        },
    );
}

fn each(
    text: &mut String,
    environments: &[ShownEnv],
    name: &str,
    help: &str,
    values: impl Fn(&NodeStatus) -> Vec<(String, i64)>,
) {
    let mut lines = Vec::new();
    for env in environments {
        for node in &env.nodes {
            for (labels, value) in values(node) {
                lines.push(format!(
                    "{name}{{environment=\"{}\",group=\"{}\",node=\"{}\"{labels}}} {value}",
                    env.environment, node.group, node.node
                ));
            }
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        *text += &joined(lines);
    }
}

fn joined(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line + "\n").collect()
}
