//! Waves: a release that reaches its nodes in stages.
//!
//! The stages are signed with the release, and so is which of them is reached: each step onward,
//! each halt and its end is a new signature of those who release. Which nodes a stage covers follows
//! from names alone, so a node that comes back after a month decides as one that was always there.
//! The page of the format is [`crate::format::environment`].

mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::stage::{Member, Stage};
use crate::name::{EnvName, ImageName};

/// The most stages that a release has.
pub const MAX_STAGES: usize = 20;

/// The most groups that its stages name together.
pub const MAX_GROUPS: usize = 64;

/// The longest reason of a halt, and of an entry of the log, in bytes.
pub(super) const MAX_REASON: usize = 1000;

/// The longest time that a rule asks for: 90 days.
const MAX_MINUTES: u32 = 90 * 24 * 60;

/// The stages of a release, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Value")]
pub struct Waves {
    stages: Vec<Stage>,
    rule: Option<Rule>,
    reached: usize,
    since: Timestamp,
    halted: Option<String>,
}

/// The JSON form of [`Waves`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    stages: Vec<Stage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    reached: usize,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    halted: Option<String>,
}

/// What the nodes must say before a stage is left without a person's judgement. A failure on a node
/// that was reached is in the way whatever the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For how many minutes the stage must have been reached.
    pub minutes: u32,
    /// How many nodes must run the release.
    pub nodes: u32,
}

/// A step of the waves of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// On to the next stage.
    Widen,
    /// Nobody gets the release who does not have it.
    Halt {
        /// Why; nodes say it.
        reason: String,
    },
    /// The halt is over; the stage begins anew.
    Resume,
}

impl Waves {
    /// Waves that have reached their first stage.
    pub fn begin(stages: Vec<Stage>, rule: Option<Rule>, now: Timestamp) -> Result<Self, String> {
        let waves = Self {
            stages,
            rule,
            reached: 1,
            since: whole_seconds(now),
            halted: None,
        };
        waves.check()?;
        Ok(waves)
    }

    /// The stages.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// What is asked before a stage is left, if anything was stated.
    pub fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// The number of the stage that is reached, from 1.
    pub fn reached(&self) -> usize {
        self.reached
    }

    /// When that stage was reached, or the halt there ended.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Why the release is halted, if it is.
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    /// Whether the release has reached its last stage.
    pub fn is_last(&self) -> bool {
        self.reached == self.stages.len()
    }

    /// Whether release `seq` of an image reaches a node that does not have it. One that is halted
    /// reaches none.
    pub fn reaches(
        &self,
        environment: &EnvName,
        image: &ImageName,
        seq: u64,
        node: Member<'_>,
    ) -> bool {
        self.halted.is_none() && self.covers(environment, image, seq, node)
    }

    /// Whether the stages up to the one that is reached cover a node, halted or not.
    pub fn covers(
        &self,
        environment: &EnvName,
        image: &ImageName,
        seq: u64,
        node: Member<'_>,
    ) -> bool {
        let place = node
            .name
            .map(|name| stage::place(environment, image, seq, name));
        let mut reached = self.stages.iter().take(self.reached);
        reached.any(|stage| stage.covers(node, place))
    }

    /// The waves after a step; says why it cannot be taken.
    pub fn after(&self, step: &Step, now: Timestamp) -> Result<Self, String> {
        let mut next = self.clone();
        match step {
            Step::Widen if self.halted.is_some() => return Err("it is halted".to_owned()),
            Step::Widen if self.is_last() => {
                return Err("it has reached its last stage".to_owned());
            }
            Step::Widen => {
                next.reached += 1;
                next.since = whole_seconds(now);
            }
            Step::Halt { .. } if self.halted.is_some() => {
                return Err("it is halted already".to_owned());
            }
            Step::Halt { reason } => next.halted = Some(reason.trim().to_owned()),
            Step::Resume if self.halted.is_none() => return Err("it is not halted".to_owned()),
            Step::Resume => {
                next.halted = None;
                next.since = whole_seconds(now);
            }
        }
        next.check()?;
        Ok(next)
    }

    /// The one step that leads from these waves to `next` at a time; none if no single step does.
    #[cfg(feature = "write")]
    pub(super) fn step_to(&self, next: &Self) -> Option<Step> {
        let halt = next.halted.clone().map(|reason| Step::Halt { reason });
        let steps = halt.into_iter().chain([Step::Widen, Step::Resume]);
        let leads = |step: &Step| {
            self.after(step, next.since)
                .is_ok_and(|after| after == *next)
        };
        steps.into_iter().find(leads)
    }

    /// What is reached, in words.
    pub fn standing(&self) -> String {
        let at = self.stages.get(self.reached - 1);
        let at = at.map_or_else(String::new, |stage| format!(" ({stage})"));
        let halted = if self.halted.is_some() {
            "halted at "
        } else {
            "at "
        };
        format!(
            "{halted}stage {} of {}{at}",
            self.reached,
            self.stages.len()
        )
    }

    /// Says what is against the format.
    fn check(&self) -> Result<(), String> {
        if self.stages.is_empty() || self.stages.len() > MAX_STAGES {
            return Err(format!("waves have 1 to {MAX_STAGES} stages"));
        }
        let (mut groups, mut percent) = (BTreeSet::new(), 0);
        for stage in &self.stages {
            match stage {
                Stage::Groups(names) if names.is_empty() => {
                    return Err("a stage names no group".to_owned());
                }
                Stage::Groups(names) => {
                    for name in names {
                        if !groups.insert(name) {
                            return Err(format!("the group {name} stands twice"));
                        }
                    }
                }
                Stage::Percent(next) if !(1..=100).contains(next) => {
                    return Err(format!("a stage has 1 to 100 %, not {next}"));
                }
                Stage::Percent(next) if *next <= percent => {
                    return Err(format!("{next} % does not come after {percent} %"));
                }
                Stage::Percent(next) => percent = *next,
            }
        }
        if self.stages.last() != Some(&Stage::Percent(100)) {
            return Err("the last stage is 100 %".to_owned());
        }
        if groups.len() > MAX_GROUPS {
            return Err(format!("waves name at most {MAX_GROUPS} groups"));
        }
        if self.reached == 0 || self.reached > self.stages.len() {
            return Err(format!("there is no stage {}", self.reached));
        }
        if let Some(rule) = self.rule
            && (rule.nodes == 0 || rule.minutes > MAX_MINUTES)
        {
            return Err(format!(
                "a rule asks for at least 1 node and at most {} days",
                MAX_MINUTES / 24 / 60
            ));
        }
        if self.since != whole_seconds(self.since) {
            return Err("its time has more than seconds".to_owned());
        }
        let is_reason = |reason: &str| {
            !reason.is_empty() && reason == reason.trim() && reason.len() <= MAX_REASON
        };
        if self.halted.as_deref().is_some_and(|why| !is_reason(why)) {
            return Err(format!("a halt needs a reason of 1 to {MAX_REASON} bytes"));
        }
        Ok(())
    }
}

impl From<Waves> for Written {
    fn from(waves: Waves) -> Self {
        Self {
            stages: waves.stages,
            rule: waves.rule,
            reached: waves.reached,
            since: waves.since,
            halted: waves.halted,
        }
    }
}

impl TryFrom<Value> for Waves {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| format!("its waves cannot be read: {why}");
        let written: Written = serde_json::from_value(value.clone()).map_err(|e| wrong(&e))?;
        let waves = Self {
            stages: written.stages,
            rule: written.rule,
            reached: written.reached,
            since: written.since,
            halted: written.halted,
        };
        waves.check().map_err(|e| wrong(&e))?;
        // A time, or a number, is written in one way.
        if serde_json::to_value(&waves).ok().as_ref() != Some(&value) {
            return Err(wrong(&"they are not written as they should be"));
        }
        Ok(waves)
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<_> = self.stages.iter().map(ToString::to_string).collect();
        f.write_str(&stages.join(", then "))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = match self.nodes {
            1 => "1 node runs".to_owned(),
            more => format!("{more} nodes run"),
        };
        let time = match self.minutes {
            0 => String::new(),
            minutes if minutes.is_multiple_of(60) => format!("{} h have passed, ", minutes / 60),
            minutes => format!("{minutes} min have passed, "),
        };
        write!(f, "{time}{nodes} the release and none has failed")
    }
}

impl Rule {
    /// When the minimum time of a stage is over that was reached at `since`.
    pub fn over(&self, since: Timestamp) -> Timestamp {
        let minutes = SignedDuration::from_mins(i64::from(self.minutes));
        since.saturating_add(minutes).unwrap_or(Timestamp::MAX)
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
