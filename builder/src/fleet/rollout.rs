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
    pub standing: String,
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
            let wanted = rule.nodes;
            reasons.push(format!(
                "only {current} of {wanted} nodes run it, by fresh receipts"
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

#[cfg(test)]
mod tests {
    use store::ImageId;
    use store::tuf::ReleaseCustom;
    use store::tuf::waves::{Step, Waves};

    use super::super::judge::{Finding, SystemStatus};
    use super::*;

    const RULE: Rule = Rule {
        minutes: 120,
        nodes: 2,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn image(seq: u64) -> ImageId {
        ImageId::of(&seq.to_be_bytes())
    }

    /// Release 2 of web, at its canaries since noon.
    fn release() -> Release {
        let stages = ["canary", "100%"].map(|one| one.parse().unwrap()).into();
        let waves = Waves::begin(stages, Some(RULE), at("2030-01-01T12:00:00Z")).unwrap();
        Release {
            name: "web".parse().unwrap(),
            seq: 2,
            image: image(2),
            target_path: String::new(),
            custom: ReleaseCustom {
                image: image(2),
                env: "prod".parse().unwrap(),
                arch: "amd64".to_owned(),
                seq: 2,
                min_seq: 1,
                size: 1,
                revoked: Vec::new(),
                waves: Some(waves),
            },
            new: false,
        }
    }

    /// A node that runs release `seq` of an image.
    fn node(name: &str, group: &str, image_name: &str, seq: u64, findings: &[Kind]) -> NodeStatus {
        let finding = |kind: &Kind| Finding {
            kind: *kind,
            system: Some("Web".to_owned()),
            text: String::new(),
        };
        NodeStatus {
            node: name.parse().unwrap(),
            group: group.parse().unwrap(),
            key: String::new(),
            last: None,
            findings: findings.iter().map(finding).collect(),
            systems: vec![SystemStatus {
                system: "Web".to_owned(),
                image_name: image_name.parse().unwrap(),
                image: image(seq),
                seq,
                generation: 1,
                runs: true,
                behind: None,
                last: None,
            }],
        }
    }

    fn rollout(release: &Release, nodes: &[NodeStatus]) -> Rollout {
        Rollout::of(&"prod".parse().unwrap(), release, nodes).unwrap()
    }

    #[test]
    fn only_nodes_that_run_it_by_their_own_fresh_word_are_current() {
        let nodes = [
            node("good", "canary", "web", 2, &[]),
            node("old", "canary", "web", 1, &[Kind::Behind]),
            node("silent", "canary", "web", 2, &[Kind::Overdue]),
            node("bad", "canary", "web", 1, &[Kind::Failed]),
            node("back", "canary", "web", 1, &[Kind::RolledBack]),
            node("copy", "canary", "web", 2, &[Kind::CopiedKey]),
            // Neither of these is asked.
            node("other", "canary", "db", 2, &[Kind::Failed]),
            node("later", "eu", "web", 1, &[Kind::Failed]),
        ];
        let seen = rollout(&release(), &nodes);
        let names = |nodes: &[NodeName]| nodes.iter().map(NodeName::to_string).collect::<Vec<_>>();
        assert_eq!(seen.reached.len(), 6);
        assert_eq!(names(&seen.current), ["good"]);
        assert_eq!(names(&seen.failed), ["bad", "back"]);
        assert_eq!(names(&seen.doubted), ["copy"]);
        let reasons = seen.in_the_way(RULE, at("2030-01-01T13:59:59Z"));
        assert_eq!(
            reasons,
            [
                "it failed on bad, back",
                "the receipts of copy cannot be believed",
                "its stage lasts until 2030-01-01T14:00:00Z",
                "only 1 of 2 nodes run it, by fresh receipts",
            ]
        );
    }

    #[test]
    fn a_stage_is_clean_when_its_rule_is_met_and_not_before() {
        let nodes = ["n1", "n2"].map(|name| node(name, "canary", "web", 2, &[]));
        let mut release = release();
        let clean = |release: &Release, nodes: &[NodeStatus], now: &str| {
            rollout(release, nodes).in_the_way(RULE, at(now)).is_empty()
        };
        let (early, late) = ("2030-01-01T13:59:59Z", "2030-01-01T14:00:00Z");
        assert!(clean(&release, &nodes, late));
        assert!(!clean(&release, &nodes, early));
        assert!(!clean(&release, &nodes[..1], late));
        assert!(!clean(&release, &[], late));
        let halt = Step::Halt {
            reason: "no".to_owned(),
        };
        let waves = release.custom.waves.as_ref().unwrap();
        release.custom.waves = waves.after(&halt, at(late)).ok();
        assert!(!clean(&release, &nodes, late));
        assert!(
            rollout(&release, &nodes)
                .line()
                .ends_with("2 current, 0 failed; no")
        );
    }
}
