//! What is to be said of a node: its newest receipt beside the environment's releases.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use store::fleet::Node;
use store::name::NodeName;
use store::receipt::{self, Operation, Outcome};
use store::tuf::waves::{Member, Waves};
use store::tuf::{Release, revoked_images};
use store::{EnvName, ImageId, ImageName};

use super::read::{Fault, Newest, Seen};

/// How far a clock may be ahead of the one of where receipts lie, in seconds.
const AHEAD: i64 = 5 * 60;

/// How far a clock may be behind that one, in seconds: a receipt takes its time to get there.
const BEHIND: i64 = 15 * 60;

/// What is compared with: releases, and the time.
pub struct Standard {
    environment: EnvName,
    releases: BTreeMap<ImageName, Vec<(u64, ImageId)>>,
    /// The waves of releases that have some.
    waves: BTreeMap<(ImageName, u64), Waves>,
    revoked: BTreeSet<ImageId>,
    now: Timestamp,
    /// Seconds without a receipt after which a node is overdue.
    overdue: i64,
}

/// What is to be said of a node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// The group that the list has it in.
    pub group: NodeName,
    /// The public half of its key.
    pub key: String,
    /// Its newest receipt; none where it has never written one.
    pub last: Option<Last>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Its systems, as the newest receipt has them.
    pub systems: Vec<SystemStatus>,
}

/// The newest receipt.
#[derive(Clone, Debug, Serialize)]
pub struct Last {
    /// Its counter.
    pub counter: u64,
    /// When it was written, by the node's clock.
    pub time: Timestamp,
    /// When it was put where it lies, by the clock there, if that is known.
    pub received: Option<Timestamp>,
    /// The version of imgnode that wrote it.
    pub imgnode: String,
}

/// A system of a node.
#[derive(Clone, Debug, Serialize)]
pub struct SystemStatus {
    /// Its name on the node.
    pub system: String,
    /// The name of its image.
    pub image_name: ImageName,
    /// The image that runs, else the one that would.
    pub image: ImageId,
    /// The number of its release.
    pub seq: u64,
    /// Its generation on the node.
    pub generation: u64,
    /// Whether a session runs.
    pub runs: bool,
    /// How many releases that reach it are newer; none where the release is not known.
    pub behind: Option<u64>,
    /// The last operation that changed, or should have changed, what is active.
    pub last: Option<receipt::LastOperation>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The system that it is about, if it is about one.
    pub system: Option<String>,
    /// What it is, in words.
    pub text: String,
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Newer releases are there.
    Behind,
    /// The last operation failed.
    Failed,
    /// Somebody went back from a newer release.
    RolledBack,
    /// The image was revoked.
    Revoked,
    /// What runs is not a release of the environment.
    NotReleased,
    /// No receipt for too long.
    Overdue,
    /// No receipt ever.
    NeverSeen,
    /// What the node knows of the environment has run out.
    Expired,
    /// The node's clock is ahead.
    ClockAhead,
    /// The node's clock is behind.
    ClockBehind,
    /// Receipts are missing.
    Gap,
    /// Two receipts have one counter, or the chain is broken.
    CopiedKey,
    /// An old receipt lies under a new counter.
    Replayed,
    /// A receipt has a wrong signature, a wrong name or a wrong form.
    NotBelieved,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Behind,
        Self::Failed,
        Self::RolledBack,
        Self::Revoked,
        Self::NotReleased,
        Self::Overdue,
        Self::NeverSeen,
        Self::Expired,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::Gap,
        Self::CopiedKey,
        Self::Replayed,
        Self::NotBelieved,
    ];

    /// The word in tables, JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Failed => "failed",
            Self::RolledBack => "rolled-back",
            Self::Revoked => "revoked",
            Self::NotReleased => "not-released",
            Self::Overdue => "overdue",
            Self::NeverSeen => "never-seen",
            Self::Expired => "expired",
            Self::ClockAhead => "clock-ahead",
            Self::ClockBehind => "clock-behind",
            Self::Gap => "gap",
            Self::CopiedKey => "copied-key",
            Self::Replayed => "replayed",
            Self::NotBelieved => "not-believed",
        }
    }

    /// Whether it says that receipts are not what the node wrote, one after the other.
    pub fn is_distrust(self) -> bool {
        self >= Self::Gap
    }
}

impl Standard {
    /// The releases of an environment, at a time.
    pub fn new(environment: EnvName, all: &[Release], now: Timestamp, overdue_hours: u32) -> Self {
        let mut releases: BTreeMap<ImageName, Vec<(u64, ImageId)>> = BTreeMap::new();
        for release in all {
            let of_name = releases.entry(release.name.clone()).or_default();
            of_name.push((release.seq, release.image));
        }
        let waves = all.iter().filter_map(|release| {
            let waves = release.custom.waves.clone()?;
            Some(((release.name.clone(), release.seq), waves))
        });
        Self {
            waves: waves.collect(),
            environment,
            releases,
            revoked: revoked_images(all),
            now,
            overdue: i64::from(overdue_hours) * 3600,
        }
    }

    /// Whether a receipt is not too old, by the clock of its node and here.
    pub fn is_fresh(&self, newest: &Newest) -> bool {
        self.now.as_second() - newest.receipt.time.as_second() <= self.overdue
    }

    /// What is to be said of a node.
    pub fn judge(&self, node: &Node, seen: &Seen) -> NodeStatus {
        let mut findings: Vec<Finding> = seen.faults.iter().map(of_fault).collect();
        let mut systems = Vec::new();
        let mut last = None;
        match &seen.newest {
            None => findings.push(of_node(
                Kind::NeverSeen,
                "it has written no receipt".to_owned(),
            )),
            Some(newest) => {
                self.clocks(newest, &mut findings);
                let metadata = newest.receipt.metadata.as_ref();
                let expires = metadata.and_then(|metadata| metadata.expires);
                if let Some(at) = expires.filter(|at| *at <= self.now) {
                    let text = format!("what it knows of its environment ran out at {at}");
                    findings.push(of_node(Kind::Expired, text));
                }
                for system in &newest.receipt.systems {
                    systems.push(self.system(node, system, &mut findings));
                }
                let receipt = &newest.receipt;
                last = Some(Last {
                    counter: receipt.counter,
                    time: receipt.time,
                    received: newest.modified.and_then(time),
                    imgnode: receipt.imgnode.clone(),
                });
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
        NodeStatus {
            node: node.name.clone(),
            group: node.group.clone(),
            key: node.key().hex(),
            last,
            findings,
            systems,
        }
    }

    fn clocks(&self, newest: &Newest, findings: &mut Vec<Finding>) {
        let said = newest.receipt.time.as_second();
        let received = newest.modified.and_then(|at| i64::try_from(at).ok());
        let now = self.now.as_second();
        // What was not there yet cannot have been written.
        let latest = received.unwrap_or(now);
        if said - latest > AHEAD {
            let text = format!("its clock is ahead by {}", duration(said - latest));
            findings.push(of_node(Kind::ClockAhead, text));
        }
        match received {
            Some(received) if received - said > BEHIND => {
                let by = duration(received - said);
                let text = format!("its clock is behind by {by}, or its receipt came that late");
                findings.push(of_node(Kind::ClockBehind, text));
                self.overdue(received, findings);
            }
            Some(received) => self.overdue(said.min(received), findings),
            None => self.overdue(said, findings),
        }
    }

    fn overdue(&self, heard: i64, findings: &mut Vec<Finding>) {
        let silent = self.now.as_second() - heard;
        if silent > self.overdue {
            let text = format!("no receipt for {}", duration(silent));
            findings.push(of_node(Kind::Overdue, text));
        }
    }

    /// Whether a release is for a node, by the names that the list has.
    fn reaches(&self, name: &ImageName, seq: u64, node: &Node) -> bool {
        let member = Member {
            name: Some(&node.name),
            group: Some(&node.group),
        };
        let waves = self.waves.get(&(name.clone(), seq));
        waves.is_none_or(|waves| waves.reaches(&self.environment, name, seq, member))
    }

    fn system(
        &self,
        node: &Node,
        system: &receipt::System,
        findings: &mut Vec<Finding>,
    ) -> SystemStatus {
        let mut find = |kind, text| {
            findings.push(Finding {
                kind,
                system: Some(system.system.clone()),
                text,
            });
        };
        let shown = system.runs.as_ref().unwrap_or(&system.active);
        let of_name = self.releases.get(&system.image_name);
        let is_release = |(seq, image): &(u64, ImageId)| (seq, image) == (&shown.seq, &shown.image);
        let here = shown.environment == self.environment;
        let listed = here && of_name.is_some_and(|all| all.iter().any(is_release));
        let revoked = self.revoked.contains(&shown.image);
        let newer = of_name.map(|all| {
            let good = all
                .iter()
                .filter(|(_, image)| !self.revoked.contains(image));
            let newer = good.filter(|(seq, _)| {
                *seq > shown.seq && self.reaches(&system.image_name, *seq, node)
            });
            newer.count() as u64
        });
        let behind = newer.filter(|_| here);
        if revoked {
            find(Kind::Revoked, format!("{} was revoked", shown.image));
        } else if !listed {
            // Releases below the lowest that is allowed are not listed any more.
            let text = format!(
                "{} {} of {} is not a release of {}",
                system.image_name, shown.seq, shown.environment, self.environment
            );
            find(Kind::NotReleased, text);
        }
        let last = system.last.as_ref();
        let outcome = last.map(|last| last.result);
        if let (Some(last), Some(Outcome::Failed | Outcome::WentBack)) = (last, outcome) {
            let went = match last.result {
                Outcome::WentBack => "did not work, and the generation before goes on",
                _ => "failed",
            };
            let why = last.reason.as_deref().unwrap_or("no reason");
            let text = format!("{} at {} {went}: {why}", last.operation.name(), last.time);
            find(Kind::Failed, text);
        }
        if let Some(behind @ 1..) = behind {
            let back = |last: &&receipt::LastOperation| {
                matches!(last.operation, Operation::Rollback | Operation::Switch)
                    && last.result == Outcome::Done
            };
            let releases = match behind {
                1 => "1 release".to_owned(),
                more => format!("{more} releases"),
            };
            match last.filter(back) {
                Some(last) => find(
                    Kind::RolledBack,
                    format!("rolled back at {}, {releases} behind", last.time),
                ),
                None => find(Kind::Behind, format!("{releases} behind")),
            }
        }
        SystemStatus {
            system: system.system.clone(),
            image_name: system.image_name.clone(),
            image: shown.image,
            seq: shown.seq,
            generation: shown.generation,
            runs: system.runs.is_some(),
            behind,
            last: system.last.clone(),
        }
    }
}

fn of_node(kind: Kind, text: String) -> Finding {
    Finding {
        kind,
        system: None,
        text,
    }
}

fn of_fault(fault: &Fault) -> Finding {
    let kind = match fault {
        Fault::Gap { .. } | Fault::Gone { .. } => Kind::Gap,
        Fault::Twice { .. } | Fault::Chain { .. } => Kind::CopiedKey,
        Fault::Replayed { .. } => Kind::Replayed,
        Fault::Signature { .. } | Fault::Unreadable { .. } | Fault::Renamed { .. } => {
            Kind::NotBelieved
        }
    };
    of_node(kind, fault.to_string())
}

fn time(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

/// Seconds in the largest unit of which there are two.
pub fn duration(seconds: i64) -> String {
    for (unit, length) in [("d", 24 * 60 * 60), ("h", 60 * 60), ("min", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}
