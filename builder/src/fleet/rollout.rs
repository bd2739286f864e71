//! A release that is on its way to its nodes: which of them it has reached, and how it went there.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use store::name::NodeName;
use store::tuf::Release;
use store::tuf::waves::{Member, Rule};
use store::{EnvName, ImageName};

use super::judge::{Kind, NodeStatus};

/// How many nodes a sentence names.
const SHOWN: usize = 8;

/// The newest release of a name, where it has waves, and its nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Rollout {
    /// The name of the image.
    pub image_name: ImageName,
    /// The number of the release.
    pub seq: u64,
    /// The stage that is reached, from 1.
    pub stage: usize,
    /// How many there are.
    pub stages: usize,
    /// When the stage was reached.
    pub since: Timestamp,
    /// Why it is halted, if it is.
    pub halted: Option<String>,
    /// The nodes that have a system of the image and that the stages so far cover, by the list's names
    /// and groups.
    pub reached: Vec<NodeName>,
    /// Those of them that run the release, by receipts that are fresh and their own.
    pub current: Vec<NodeName>,
    /// Those on which the last operation failed, or from which somebody went back.
    pub failed: Vec<NodeName>,
    /// Those whose receipts cannot be believed.
    pub doubted: Vec<NodeName>,
    /// What is reached, in words.
    #[serde(skip)]
    standing: String,
}

impl Rollout {
    /// Looks at the nodes of a release; none where it has no waves.
    pub fn of(environment: &EnvName, release: &Release, nodes: &[NodeStatus]) -> Option<Self> {
        let waves = release.custom.waves.as_ref()?;
        let mut rollout = Self {
            image_name: release.name.clone(),
            seq: release.seq,
            stage: waves.reached(),
            stages: waves.stages().len(),
            since: waves.since(),
            halted: waves.halted().map(str::to_owned),
            reached: Vec::new(),
            current: Vec::new(),
            failed: Vec::new(),
            doubted: Vec::new(),
            standing: waves.standing(),
        };
        for node in nodes {
            let member = Member {
                name: Some(&node.node),
                group: Some(&node.group),
            };
            let of_image = |name: &ImageName| *name == release.name;
            let mut systems = node.systems.iter();
            if !waves.covers(environment, &release.name, release.seq, member)
                || !systems.any(|system| of_image(&system.image_name))
            {
                continue;
            }
            rollout.add(node, release);
        }
        Some(rollout)
    }

    /// Counts a node that is reached.
    fn add(&mut self, node: &NodeStatus, release: &Release) {
        let name = || node.node.clone();
        self.reached.push(name());
        let systems = node.systems.iter();
        let systems = systems.filter(|system| system.image_name == release.name);
        let failed = |system: &str| {
            node.findings.iter().any(|finding| {
                matches!(finding.kind, Kind::Failed | Kind::RolledBack)
                    && finding.system.as_deref() == Some(system)
            })
        };
        let (mut runs, mut failures) = (false, false);
        for system in systems {
            let has = (system.seq, system.image) == (release.seq, release.image);
            runs |= has && !failed(&system.system);
            failures |= failed(&system.system);
        }
        let found = |is: &dyn Fn(Kind) -> bool| node.findings.iter().any(|one| is(one.kind));
        if failures {
            self.failed.push(name());
        } else if found(&Kind::is_distrust) {
            self.doubted.push(name());
        } else if runs && !found(&|kind| kind == Kind::Overdue) {
            self.current.push(name());
        }
    }

    /// A line about it.
    pub fn line(&self) -> String {
        let Self {
            image_name, seq, ..
        } = self;
        let mut line = format!(
            "{image_name}/{seq} {} since {}: {} reached, {} current, {} failed",
            self.standing,
            self.since,
            nodes(self.reached.len()),
            self.current.len(),
            self.failed.len()
        );
        if let Some(reason) = &self.halted {
            // Writing to a String cannot fail.
            let _ = write!(line, "; {reason}");
        }
        line
    }

    /// What keeps the release at its stage, by its rule; nothing where it is clean.
    pub fn in_the_way(&self, rule: Rule, now: Timestamp) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(reason) = &self.halted {
            reasons.push(format!("it is halted: {reason}"));
        }
        if !self.failed.is_empty() {
            reasons.push(format!("it failed on {}", named(&self.failed)));
        }
        if !self.doubted.is_empty() {
            let who = named(&self.doubted);
            reasons.push(format!("the receipts of {who} cannot be believed"));
        }
        let over = rule.over(self.since);
        if now < over {
            reasons.push(format!("its stage lasts until {over}"));
        }
        let current = self.current.len();
        if u64::try_from(current).unwrap_or(u64::MAX) < u64::from(rule.nodes) {
            reasons.push(format!(
                "{} run it by fresh receipts, and {} are to",
                nodes(current),
                rule.nodes
            ));
        }
        reasons
    }
}

fn nodes(count: usize) -> String {
    match count {
        1 => "1 node".to_owned(),
        more => format!("{more} nodes"),
    }
}

fn named(nodes: &[NodeName]) -> String {
    let shown: Vec<_> = nodes.iter().take(SHOWN).map(NodeName::as_str).collect();
    let more = match nodes.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}
