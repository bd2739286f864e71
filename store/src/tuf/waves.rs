//! Waves: a release that reaches its nodes in stages.
//!
//! The stages are signed with the release, and so is which of them is reached: each step onward,
//! each halt and its end is a new signature of those who release. Which nodes a stage covers follows
//! from names alone, so a node that comes back after a month decides as one that was always there.
//! The page of the format is [`crate::format::environment`].

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Sha256;
use crate::name::{EnvName, ImageName, NodeName};

/// The most stages that a release has.
pub const MAX_STAGES: usize = 20;

/// The most groups that its stages name together.
pub const MAX_GROUPS: usize = 64;

/// The longest reason of a halt, and of an entry of the log, in bytes.
pub(super) const MAX_REASON: usize = 1000;

/// The longest time that a rule asks for: 90 days.
const MAX_MINUTES: u32 = 90 * 24 * 60;

/// What comes before the names whose hash is a node's place in a release.
const DOMAIN: &[u8] = b"imgbuild-wave-1";

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

/// The nodes that a stage covers, beside those of the stages before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// The nodes of these groups.
    Groups(Vec<NodeName>),
    /// Of a hundred nodes so many, by a hash of their names.
    Percent(u8),
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

/// A node, as stages know it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name; a node without one is covered by its group, and by a stage of 100 %.
    pub name: Option<&'a NodeName>,
    /// The group that it is in.
    pub group: Option<&'a NodeName>,
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
        let place = node.name.map(|name| place(environment, image, seq, name));
        let mut reached = self.stages.iter().take(self.reached);
        reached.any(|stage| match stage {
            Stage::Groups(groups) => node.group.is_some_and(|group| groups.contains(group)),
            Stage::Percent(100) => true,
            Stage::Percent(percent) => place.is_some_and(|place| is_below(place, *percent)),
        })
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

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent} %"),
            Self::Groups(names) => {
                let names: Vec<_> = names.iter().map(NodeName::as_str).collect();
                let noun = if names.len() == 1 { "group" } else { "groups" };
                write!(f, "{noun} {}", names.join(" and "))
            }
        }
    }
}

/// `10%`, the name of a group, or several with `+` between them.
impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_suffix('%') {
            let percent = number.trim().parse().ok();
            let percent = percent.filter(|percent| (1..=100).contains(percent));
            let wrong = || format!("`{}` is not 1% to 100%", text.escape_debug());
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let names = text.split('+').map(|name| name.trim().parse::<NodeName>());
        let names = names.collect::<Result<_, _>>();
        names.map(Self::Groups).map_err(|e| e.to_string())
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

/// The place of a node among all, for one release: another release asks other nodes first.
fn place(environment: &EnvName, image: &ImageName, seq: u64, node: &NodeName) -> u64 {
    let seq = seq.to_string();
    let parts = [environment.as_str(), image.as_str(), &seq, node.as_str()];
    let mut text = DOMAIN.to_vec();
    for part in parts {
        // No name has this byte.
        text.push(0);
        text.extend_from_slice(part.as_bytes());
    }
    // The first eight bytes, big-endian.
    u64::from_str_radix(&Sha256::of(&text).hex()[..16], 16).unwrap_or(u64::MAX)
}

fn is_below(place: u64, percent: u8) -> bool {
    u128::from(place) * 100 < u128::from(percent) << 64
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stages(text: &str) -> Vec<Stage> {
        text.split(',').map(|one| one.parse().unwrap()).collect()
    }

    fn waves(text: &str) -> Waves {
        Waves::begin(stages(text), None, at("2030-01-01T12:00:00Z")).unwrap()
    }

    fn halt(reason: &str) -> Step {
        let reason = reason.to_owned();
        Step::Halt { reason }
    }

    fn covers(waves: &Waves, seq: u64, name: &str, group: &str) -> bool {
        let (name, group) = (name.parse().unwrap(), group.parse().ok());
        let node = Member {
            name: Some(&name),
            group: group.as_ref(),
        };
        let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
        waves.covers(&env, &image, seq, node)
    }

    #[test]
    fn a_place_is_what_the_format_says() {
        let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let name = "web07".parse().unwrap();
        let digest = Sha256::of(b"imgbuild-wave-1\0prod\0web\x007\0web07").hex();
        let place = place(&env, &image, 7, &name);
        assert_eq!(format!("{place:016x}"), digest[..16]);
        assert!(is_below(u64::MAX, 100) && is_below(0, 1));
        let half = 1 << 63;
        assert!(is_below(half - 1, 50) && !is_below(half, 50));
    }

    #[test]
    fn a_percentage_is_about_that_many_nodes_and_others_for_each_release() {
        let mut of_release = Vec::new();
        for seq in [7, 8] {
            let mut all = waves("10%,50%,100%");
            for (percent, reached) in [(10, 1), (50, 2), (100, 3)] {
                all.reached = reached;
                let nodes = (0..10_000).filter(|n| covers(&all, seq, &format!("n{n}"), ""));
                let nodes: Vec<_> = nodes.collect();
                let expected = percent * 100;
                let off = nodes.len().abs_diff(expected);
                // Five standard deviations of such a draw are at most 250.
                assert!(off <= 250, "{percent} %: {}", nodes.len());
                if percent == 10 {
                    of_release.push(nodes);
                }
            }
        }
        assert_ne!(of_release[0], of_release[1]);
    }

    proptest! {
        #[test]
        fn whom_a_stage_covers_the_next_covers(
            name in "[a-z0-9][a-z0-9._-]{0,63}", group in "(canary|eu|us)", seq in 1..1000_u64,
            first in 1..50_u8, second in 50..100_u8,
        ) {
            let mut all = waves(&format!("canary,{first}%,eu,{second}%,100%"));
            let mut before = false;
            for reached in 1..=5 {
                all.reached = reached;
                let now = covers(&all, seq, &name, &group);
                prop_assert!(now || !before);
                prop_assert!(now || group != "canary");
                before = now;
            }
            prop_assert!(before);
        }

        #[test]
        fn what_is_read_is_written_the_same(reached in 1..=4_usize, minutes in 0..9000_u32,
                                            nodes in 1..900_u32, halted in "[ -~]{0,20}") {
            let mut all = waves("canary+eu,10%,50%,100%");
            all.reached = reached;
            all.rule = Some(Rule { minutes, nodes });
            let trimmed = halted.trim();
            all.halted = (!trimmed.is_empty()).then(|| trimmed.to_owned());
            let value = serde_json::to_value(&all).unwrap();
            prop_assert_eq!(serde_json::from_value::<Waves>(value).unwrap(), all);
        }
    }

    #[test]
    fn a_group_without_a_name_counts_and_a_hash_needs_one() {
        let mut all = waves("canary,99%,100%");
        let group = "canary".parse().unwrap();
        let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
        let covers =
            |waves: &Waves, group| waves.reaches(&env, &image, 1, Member { name: None, group });
        assert!(covers(&all, Some(&group)) && !covers(&all, None));
        all.reached = 2;
        assert!(!covers(&all, None));
        all.reached = 3;
        assert!(covers(&all, None));
        all.halted = Some("it burns".to_owned());
        assert!(!covers(&all, None) && !covers(&all, Some(&group)));
    }

    #[test]
    fn each_step_is_the_next_one() {
        let later = at("2030-01-02T12:00:00.5Z");
        let first = waves("canary,100%");
        assert_eq!(first.standing(), "at stage 1 of 2 (group canary)");
        let second = first.after(&Step::Widen, later).unwrap();
        assert_eq!(
            (second.reached, second.since),
            (2, at("2030-01-02T12:00:00Z"))
        );
        assert!(second.after(&Step::Widen, later).is_err());
        assert!(first.after(&Step::Resume, later).is_err());
        assert!(first.after(&halt(" "), later).is_err());
        let halted = first.after(&halt("no "), later).unwrap();
        assert_eq!((halted.halted(), halted.since), (Some("no"), first.since));
        assert!(halted.after(&Step::Widen, later).is_err());
        assert!(halted.after(&halt("no"), later).is_err());
        let resumed = halted.after(&Step::Resume, later).unwrap();
        assert_eq!((resumed.reached, resumed.since), (1, second.since));
    }

    #[cfg(feature = "write")]
    #[test]
    fn what_is_no_step_is_found() {
        let later = at("2030-01-02T12:00:00Z");
        let first = waves("canary,10%,100%");
        let second = first.after(&Step::Widen, later).unwrap();
        let halted = first.after(&halt("no"), later).unwrap();
        let third = second.after(&Step::Widen, later).unwrap();
        assert_eq!(first.step_to(&second), Some(Step::Widen));
        assert_eq!(first.step_to(&halted), Some(halt("no")));
        let resumed = halted.after(&Step::Resume, later).unwrap();
        assert_eq!(halted.step_to(&resumed), Some(Step::Resume));
        let other = waves("canary,20%,100%").after(&Step::Widen, later).unwrap();
        let mut ruled = second.clone();
        ruled.rule = Some(Rule {
            minutes: 0,
            nodes: 1,
        });
        let mut dated = halted.clone();
        dated.since = later;
        for next in [&first, &third, &other, &ruled, &dated] {
            assert_eq!(first.step_to(next), None, "{next:?}");
        }
        assert_eq!(second.step_to(&first), None);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let good = json!({
            "stages": [{ "groups": ["canary"] }, { "percent": 10 }, { "percent": 100 }],
            "rule": { "minutes": 120, "nodes": 2 }, "reached": 1,
            "since": "2030-01-01T12:00:00Z", "halted": "no",
        });
        serde_json::from_value::<Waves>(good.clone()).unwrap();
        let many: Vec<_> = (0..=MAX_STAGES)
            .map(|n| json!({ "groups": [format!("g{n}")] }))
            .collect();
        for (path, value, why) in [
            ("/reached", json!(0), "no stage 0"),
            ("/reached", json!(4), "no stage 4"),
            ("/reached", json!("1"), "invalid type"),
            ("/stages", json!([]), "1 to 20 stages"),
            ("/stages", json!(many), "1 to 20 stages"),
            ("/stages/2/percent", json!(99), "last stage is 100"),
            (
                "/stages/2/percent",
                json!(10),
                "10 % does not come after 10 %",
            ),
            ("/stages/1/percent", json!(0), "1 to 100 %, not 0"),
            ("/stages/1/percent", json!(101), "1 to 100 %, not 101"),
            ("/stages/1/percent", json!(300), "invalid value"),
            ("/stages/0/groups", json!([]), "names no group"),
            ("/stages/0/groups", json!(["a", "a"]), "stands twice"),
            ("/stages/0/groups", json!(["A b"]), "not the name"),
            (
                "/stages/0",
                json!({ "percent": 1, "groups": ["a"] }),
                "single key",
            ),
            ("/stages/0", json!({ "nodes": ["a"] }), "unknown variant"),
            (
                "/since",
                json!("2030-01-01T12:00:00.5Z"),
                "more than seconds",
            ),
            (
                "/since",
                json!("2030-01-01T13:00:00+01:00"),
                "not written as they should be",
            ),
            ("/rule/nodes", json!(0), "at least 1 node"),
            ("/rule/minutes", json!(MAX_MINUTES + 1), "at most 90 days"),
            ("/rule", json!({ "nodes": 1 }), "missing field"),
            ("/rule", Value::Null, "not written as they should be"),
            ("/halted", json!(""), "a reason"),
            ("/halted", json!("x".repeat(MAX_REASON + 1)), "a reason"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = value;
            let e = serde_json::from_value::<Waves>(bad)
                .unwrap_err()
                .to_string();
            assert!(e.contains(why), "{path} {why}: {e}");
        }
        let mut more = good;
        more["also"] = json!(1);
        let e = serde_json::from_value::<Waves>(more)
            .unwrap_err()
            .to_string();
        assert!(e.contains("unknown field `also`"), "{e}");
    }

    #[test]
    fn stages_are_typed_as_people_say_them() {
        assert_eq!(stages("canary,eu+us,10%").len(), 3);
        assert_eq!(
            waves("eu+us,100%").to_string(),
            "groups eu and us, then 100 %"
        );
        for bad in ["0%", "101%", "%", "ten%", "A", "a+", ""] {
            assert!(bad.parse::<Stage>().is_err(), "{bad}");
        }
        let rule = Rule {
            minutes: 90,
            nodes: 1,
        };
        assert_eq!(
            rule.to_string(),
            "90 min have passed, 1 node runs the release and none has failed"
        );
    }
}
