//! Pages of nodes that say whatever they like, and of very many.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use store::ImageId;
use store::receipt::{self, LastOperation, Operation, Outcome};

use super::super::tests::{Marks, facts};
use super::{EnvNodes, FleetView, group, made_from, node, overview, summary};
use crate::fleet::Place;
use crate::fleet::judge::{Finding, Kind, Last, NodeStatus, SystemStatus};
use crate::fleet::recent::Recent;
use crate::fleet::rollout::Rollout;
use crate::page::html::Html;

fn time() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

/// A node with so many systems, and as many findings.
fn status(name: &str, group: &str, systems: usize, text: &mut dyn FnMut() -> String) -> NodeStatus {
    let image = ImageId::of(b"image");
    let names: Vec<String> = (0..systems).map(|_| text()).collect();
    let system = |system: &String, reason: String| SystemStatus {
        system: system.clone(),
        image_name: "web".parse().unwrap(),
        image,
        seq: 3,
        generation: 2,
        runs: false,
        behind: None,
        last: Some(LastOperation {
            operation: Operation::Upgrade,
            result: Outcome::Failed,
            reason: Some(reason),
            time: time(),
        }),
    };
    NodeStatus {
        node: name.parse().unwrap(),
        group: group.parse().unwrap(),
        key: "00".repeat(32),
        last: Some(Last {
            counter: 7,
            time: time(),
            received: None,
            imgnode: text(),
        }),
        findings: names
            .iter()
            .map(|system| Finding {
                kind: Kind::Failed,
                system: Some(system.clone()),
                text: text(),
            })
            .collect(),
        systems: names.iter().map(|name| system(name, text())).collect(),
    }
}

/// A view of prod, and where its receipts would be.
fn view(
    place: &Place,
    nodes: Vec<NodeStatus>,
    signer: String,
    unknown: Vec<String>,
) -> FleetView<'_> {
    let env = EnvNodes {
        list: 1,
        waves: vec![Rollout {
            image_name: "web".parse().unwrap(),
            seq: 3,
            stage: 2,
            stages: 4,
            since: time(),
            halted: Some(signer.clone()),
            reached: nodes.iter().map(|node| node.node.clone()).collect(),
            current: Vec::new(),
            failed: Vec::new(),
            doubted: Vec::new(),
            standing: "halted at stage 2 of 4 (10 %)".to_owned(),
        }],
        signer: Some(signer),
        nodes,
    };
    FleetView {
        place,
        environments: BTreeMap::from([("prod".parse().unwrap(), env)]),
        unknown,
    }
}

fn place(dir: &tempfile::TempDir) -> Place {
    let url: store::StoreUrl = dir.path().to_str().unwrap().parse().unwrap();
    Place {
        folder: store::ObjectFolder::open(&url, &store::ClientOptions::default()).unwrap(),
        url,
    }
}

#[test]
fn no_word_of_a_node_is_markup() {
    let env = "prod".parse().unwrap();
    let images = BTreeSet::from([ImageId::of(b"image")]);
    let mut marks = Marks::default();
    let of_node = status("web01", "eu", 2, &mut || marks.text());
    let mut receipt = receipt::Receipt::new(
        "web01".parse().unwrap(),
        "eu".parse().unwrap(),
        &marks.text(),
        time(),
    );
    receipt.event.system = Some(marks.text());
    receipt.event.reason = Some(marks.text());
    let receipts = [
        Recent {
            name: "000000000007.json".to_owned(),
            signed: true,
            receipt: Some(receipt),
        },
        Recent {
            name: "000000000008.json".to_owned(),
            signed: false,
            receipt: None,
        },
    ];
    marks.check(&node::page(&env, &of_node, &receipts, &images));

    let mut marks = Marks::default();
    let mut of_node = status("web01", "eu", 2, &mut || marks.text());
    // On its own page alone.
    of_node.last.as_mut().unwrap().imgnode = String::new();
    of_node
        .systems
        .iter_mut()
        .for_each(|system| system.last = None);
    let group_name = "eu".parse().unwrap();
    let group: String = group::pages(&env, &group_name, &[&of_node], &images).collect();
    for bad in ["<script", "\u{202e}", "\u{0}", "\u{1b}", "'x"] {
        assert!(!group.contains(bad), "{bad:?}");
    }
    for finding in &of_node.findings {
        let mark = finding.text.split('<').next().unwrap();
        assert!(group.contains(&format!("{mark}&lt;script&gt;")), "{mark}");
    }

    let mut marks = Marks::default();
    let (signer, unknown) = (marks.text(), vec![marks.text()]);
    let dir = tempfile::tempdir().unwrap();
    let place = place(&dir);
    let view = view(&place, vec![of_node], signer, unknown);
    let facts = facts(Vec::new(), BTreeMap::new());
    let mut first = Html::default();
    summary(&mut first, &view, &facts);
    let page = overview::page(&view, &facts, &images);
    assert!(page.contains("halted at stage 2 of 4 (10 %)"), "{page}");
    marks.check(&(page + &first.into_string()));
}

#[test]
fn ten_thousand_nodes_are_many_pages_and_none_is_large() {
    const MOST: usize = 3 << 20;
    let env = "prod".parse().unwrap();
    let images = BTreeSet::new();
    let mut long = || "x".repeat(500);
    // One group has nearly all, and its nodes have as much to say as a receipt takes.
    let mut nodes: Vec<NodeStatus> = (0..10_000)
        .map(|n| status(&format!("web{n:05}"), "eu", 5, &mut long))
        .collect();
    nodes.push(status("full", "us", receipt::MAX_SYSTEMS, &mut long));
    let full = node::page(&env, &nodes[10_000], &[], &images);
    assert!(full.len() < MOST, "{}", full.len());
    assert_eq!(full.matches("<tr>").count(), 2 * (receipt::MAX_SYSTEMS + 1));

    let all: Vec<&NodeStatus> = nodes.iter().take(10_000).collect();
    let group_name = "eu".parse().unwrap();
    let pages: Vec<String> = group::pages(&env, &group_name, &all, &images).collect();
    assert_eq!(pages.len(), 40);
    let rows = |page: &String| page.matches("<th scope=\"row\">").count();
    assert_eq!(pages.iter().map(rows).sum::<usize>(), 10_000);
    for (at, page) in pages.iter().enumerate() {
        assert!(page.len() < MOST, "{}", page.len());
        // Each other page can be reached from each.
        let ways = (1..=40).filter(|to| page.contains(&group::path(&env, &group_name, *to)));
        assert_eq!(ways.count(), 39, "page {}", at + 1);
    }

    let dir = tempfile::tempdir().unwrap();
    let place = place(&dir);
    let view = view(&place, nodes, "ann".to_owned(), vec!["y".to_owned(); 5000]);
    let page = overview::page(&view, &facts(Vec::new(), BTreeMap::new()), &images);
    assert!(page.len() < MOST, "{}", page.len());
    for words in [
        "<td class=\"n\">10001</td>",
        "9901 more of prod are on the pages of their groups.",
        "and 4992 more",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_page_is_made_again_when_something_on_it_is_new() {
    let mut text = || "text".to_owned();
    let one = status("web01", "eu", 1, &mut text);
    let image = BTreeSet::from([one.systems[0].image]);
    let names = ["000000000007.json".to_owned()];
    let made = made_from(&one, &names, &image);
    assert_eq!(made, made_from(&one.clone(), &names, &image));
    let mut other = one.clone();
    other.findings[0].text.push('.');
    for different in [
        made_from(&other, &names, &image),
        made_from(&one, &[], &image),
        made_from(&one, &names, &BTreeSet::new()),
    ] {
        assert_ne!(made, different);
    }
}
