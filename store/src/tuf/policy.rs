//! What an image must show before it is released in an environment.
//!
//! The policy is signed with the environment's root, so whoever can sign releases
//! cannot also decide what they need. It is plain data; [`Policy::unmet`] compares it
//! with what is known of an image and names each point that is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::audited::{AuditFault, Audited};
use super::error::{Error, ErrorKind, Result};
use crate::audit::Audit;
use crate::keys::PublicKey;
use crate::name::EnvName;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The policy of an environment: what a release into it needs. Absent fields need
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// The version of the form, 1.
    #[serde(default = "schema")]
    schema: u32,
    /// The keys of people and machines, by the names that the other fields use:
    /// ed25519 public keys in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// The keys of which some must have signed SLSA build provenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Quorum>,
    /// Who says that its tests passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<Quorum>,
    /// Who got the same bytes in a build of their own: other keys than those that
    /// say that they built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<Quorum>,
    /// The keys of which some must have approved it for this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Quorum>,
    /// Who has signed the environment's log as it stands before the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<Quorum>,
    /// Who has audited it, how old that may be, and what may be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Audited>,
    /// The most days since the image's epoch, which is the time of its lock; since the first
    /// signed word about it where that is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_days: Option<u32>,
    /// The Debian suites that are allowed; all when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub suites: BTreeSet<String>,
    /// Paths that must not be setuid or setgid files; `*` stands for all of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forbidden_setuid: BTreeSet<String>,
    /// The environments of which one must have released it before; none when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub from: BTreeSet<EnvName>,
    /// The environments of which one must have the image released that it begins with; an image
    /// that begins with none meets it. Any when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub base_from: BTreeSet<EnvName>,
    /// Whether the release that it begins with must be the newest of its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub base_newest: bool,
}

/// A number of keys out of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quorum {
    /// How many different keys it takes.
    #[serde(default = "one")]
    pub count: u32,
    /// The names of the keys that count, from [`Policy::keys`]; all of those when empty.
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "somebody"
    )]
    pub keys: BTreeSet<String>,
}

/// Names that count. A list that names nobody is no way to write that all do.
pub(super) fn somebody<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<BTreeSet<String>, D::Error> {
    let names = BTreeSet::deserialize(from)?;
    if names.is_empty() {
        let text = "`keys = []` names nobody: list names, or leave `keys` out where all count";
        return Err(serde::de::Error::custom(text));
    }
    Ok(names)
}

fn schema() -> u32 {
    SCHEMA
}

pub(super) fn one() -> u32 {
    1
}

/// A claim about an image that a key can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Built it.
    Built,
    /// Saw its tests pass.
    Tested,
    /// Got the same bytes.
    Rebuilt,
    /// Approves of it.
    Approved,
    /// Has seen what was released before.
    Witnessed,
    /// Has audited it.
    Audited,
}

/// The facts that a policy is checked against.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The claims and the keys that signed them, verified, for this environment.
    pub words: Vec<(Claim, PublicKey)>,
    /// Audits of it and the keys that signed them, verified.
    pub audits: Vec<(PublicKey, Audit)>,
    /// The time, seconds since 1970.
    pub now: u64,
    /// Days since the image's epoch, or since the first signed word about it where that is
    /// earlier; `None` when both lie in the future.
    pub age_days: Option<u64>,
    /// Its Debian suite.
    pub suite: String,
    /// Paths of its setuid and setgid files.
    pub setuid: Vec<String>,
    /// The environments that have it released and not revoked.
    pub released: BTreeSet<EnvName>,
    /// The image that it begins with.
    pub base: BaseFact,
}

/// What is known of the image that another one begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BaseFact {
    /// It begins with none.
    #[default]
    None,
    /// Nobody can say: the store has its lock no more.
    Unknown,
    /// It begins with this one.
    Base {
        /// What it is called: `ENV/NAME/NUMBER`, or its digest.
        name: String,
        /// The environments that have it released and not revoked.
        released: BTreeSet<EnvName>,
        /// The newest release of its name, where that is another image.
        newer: Option<String>,
    },
}

/// A rule of a policy that an image does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Too few words of a kind.
    Words {
        /// Which kind.
        word: Claim,
        /// How many it takes.
        needed: u32,
        /// The names of those who gave it.
        given: Vec<String>,
        /// The names of those who could.
        missing: Vec<String>,
    },
    /// Too few audits that suffice.
    Audits {
        /// How many keys it takes.
        needed: u32,
        /// The names of those whose newest audit suffices.
        given: Vec<String>,
        /// The names of those who have not audited it.
        missing: Vec<String>,
        /// The names of the others, and why their newest audit does not suffice.
        faults: Vec<(String, Vec<AuditFault>)>,
    },
    /// It is too old.
    Age {
        /// Its age in days; `None` when it has a date in the future.
        days: Option<u64>,
        /// The most.
        most: u32,
    },
    /// Its suite is not one that is allowed.
    Suite {
        /// Its suite.
        suite: String,
        /// Those that are.
        allowed: Vec<String>,
    },
    /// It has setuid files that it must not have.
    Setuid(Vec<String>),
    /// None of these environments has it.
    From(Vec<EnvName>),
    /// It cannot be said what it begins with.
    UnknownBase,
    /// None of these environments has what it begins with, or has revoked it.
    BaseFrom {
        /// What it begins with.
        base: String,
        /// Those environments.
        from: Vec<EnvName>,
    },
    /// What it begins with has a newer release.
    BaseOutdated {
        /// What it begins with.
        base: String,
        /// The newest.
        newer: String,
    },
}

impl Policy {
    /// Refuses a policy that nothing could ever meet, or whose names mean nothing.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| {
            Error::new(
                ErrorKind::Range,
                format!("the policy cannot be used: {why}"),
            )
        };
        if self.schema != SCHEMA {
            return Err(wrong(format!("its schema is {}", self.schema)));
        }
        let mut seen = BTreeMap::new();
        for (name, hex) in &self.keys {
            let key: PublicKey = hex
                .parse()
                .map_err(|e| wrong(format!("the key of {name} is none: {e}")))?;
            if let Some(other) = seen.insert(key.id(), name) {
                return Err(wrong(format!("{other} and {name} have the same key")));
            }
        }
        for (point, votes) in self.points() {
            let point = point.point();
            if let Some(name) = votes
                .keys
                .iter()
                .find(|name| !self.keys.contains_key(*name))
            {
                return Err(wrong(format!(
                    "`{point}` names {name}, whose key it does not have"
                )));
            }
            let most = self.voters(&votes).count() as u64;
            if votes.count == 0 || u64::from(votes.count) > most {
                let count = votes.count;
                return Err(wrong(format!("`{point}` asks for {count} of {most} keys")));
            }
        }
        if let Some(why) = self.audited.as_ref().and_then(Audited::defect) {
            return Err(wrong(why));
        }
        if let (Some(built), Some(rebuilt)) = (&self.built, &self.rebuilt) {
            let names = |votes| self.voters(votes).map(|(name, _)| name).collect();
            let (builders, others): (BTreeSet<_>, BTreeSet<_>) = (names(built), names(rebuilt));
            // Who says that they built it does not count as somebody else.
            let alone = builders.difference(&others).count() as u64;
            let taken = u64::from(built.count).saturating_sub(alone);
            let left = (others.len() as u64).saturating_sub(taken);
            if left < u64::from(rebuilt.count) {
                return Err(wrong(format!(
                    "`rebuilt` asks for {} that did not build it, and there {} {left}",
                    rebuilt.count,
                    if left == 1 { "is" } else { "are" }
                )));
            }
        }
        Ok(())
    }

    /// The points that ask for words.
    pub fn points(&self) -> impl Iterator<Item = (Claim, Quorum)> {
        [
            (Claim::Built, self.built.clone()),
            (Claim::Tested, self.tested.clone()),
            (Claim::Rebuilt, self.rebuilt.clone()),
            (Claim::Approved, self.approvals.clone()),
            (Claim::Witnessed, self.witnessed.clone()),
            (Claim::Audited, self.audited.as_ref().map(Audited::quorum)),
        ]
        .into_iter()
        .filter_map(|(word, votes)| Some((word, votes?)))
    }

    fn voters<'p>(&'p self, votes: &'p Quorum) -> impl Iterator<Item = (&'p String, &'p String)> {
        let counts = |name: &String| votes.keys.is_empty() || votes.keys.contains(name);
        self.keys.iter().filter(move |(name, _)| counts(name))
    }

    /// Whether a claim of this key counts, where the policy asks for such claims; `None` where it
    /// does not.
    pub fn listens_to(&self, word: Claim, key: &PublicKey) -> Option<bool> {
        let (_, votes) = self.points().find(|(point, _)| *point == word)?;
        let is_key = |hex: &String| hex.parse().is_ok_and(|known: PublicKey| known == *key);
        Some(self.voters(&votes).any(|(_, hex)| is_key(hex)))
    }

    /// The names of those whose claims of a kind count.
    pub fn names_of(&self, word: Claim) -> Vec<String> {
        let votes = self.points().filter(|(point, _)| *point == word);
        let mut names = Vec::new();
        for (_, votes) in votes {
            names.extend(self.voters(&votes).map(|(name, _)| name.clone()));
        }
        names
    }

    /// Lets a key take another one's place, under a name of its own. The old name stays where there
    /// is none, or where it is another key's. False if the old key has no place.
    pub fn replace_key(&mut self, old: &PublicKey, new: &PublicKey, name: Option<&str>) -> bool {
        let named = |wanted: &PublicKey| {
            let is = |hex: &String| hex.parse().is_ok_and(|key: PublicKey| key == *wanted);
            let found = self.keys.iter().find(|(_, hex)| is(hex));
            found.map(|(name, _)| name.clone())
        };
        let Some(before) = named(old) else {
            return false;
        };
        let free = name.filter(|name| !self.keys.contains_key(*name));
        let after = named(new).or_else(|| free.map(str::to_owned));
        let after = after.unwrap_or_else(|| before.clone());
        self.keys.remove(&before);
        self.keys.insert(after.clone(), new.hex());
        let points = [
            &mut self.built,
            &mut self.tested,
            &mut self.rebuilt,
            &mut self.approvals,
            &mut self.witnessed,
        ];
        let votes = points.into_iter().flatten().map(|votes| &mut votes.keys);
        let audits = self.audited.iter_mut().map(|audited| &mut audited.keys);
        for keys in votes.chain(audits) {
            if keys.remove(&before) {
                keys.insert(after.clone());
            }
        }
        true
    }

    /// What an image with these facts does not meet.
    pub fn violations(&self, facts: &Facts) -> Vec<Violation> {
        let mut unmet = Vec::new();
        let gave = |word: Claim, hex: &String| {
            let wanted = hex.parse::<PublicKey>().ok();
            let by = |(kind, key): &(Claim, PublicKey)| *kind == word && Some(*key) == wanted;
            facts.words.iter().any(by)
        };
        for (word, votes) in self.points().filter(|(word, _)| *word != Claim::Audited) {
            // Who built it cannot also be the other one who did.
            let counts = |hex: &String| word != Claim::Rebuilt || !gave(Claim::Built, hex);
            let voters = self.voters(&votes).filter(|(_, hex)| counts(hex));
            let (given, missing): (Vec<_>, Vec<_>) = voters.partition(|(_, hex)| gave(word, hex));
            if (given.len() as u64) < u64::from(votes.count) {
                let names = |list: Vec<(&String, &String)>| {
                    list.into_iter().map(|(name, _)| name.clone()).collect()
                };
                unmet.push(Violation::Words {
                    word,
                    needed: votes.count,
                    given: names(given),
                    missing: names(missing),
                });
            }
        }
        unmet.extend(self.audited.as_ref().and_then(|a| self.audits(a, facts)));
        if let Some(most) = self.max_age_days
            && facts.age_days.is_none_or(|days| days > u64::from(most))
        {
            let days = facts.age_days;
            unmet.push(Violation::Age { days, most });
        }
        if !self.suites.is_empty() && !self.suites.contains(&facts.suite) {
            unmet.push(Violation::Suite {
                suite: facts.suite.clone(),
                allowed: self.suites.iter().cloned().collect(),
            });
        }
        let forbidden = |path: &&String| {
            self.forbidden_setuid.contains("*")
                || self
                    .forbidden_setuid
                    .iter()
                    .any(|listed| listed.trim_start_matches('/') == path.trim_start_matches('/'))
        };
        let setuid: Vec<_> = facts.setuid.iter().filter(forbidden).cloned().collect();
        if !setuid.is_empty() {
            unmet.push(Violation::Setuid(setuid));
        }
        if !self.from.is_empty() && self.from.is_disjoint(&facts.released) {
            unmet.push(Violation::From(self.from.iter().cloned().collect()));
        }
        if self.asks_for_base() {
            unmet.extend(self.of_base(&facts.base));
        }
        unmet
    }

    /// Whether it matters what an image begins with.
    pub fn asks_for_base(&self) -> bool {
        self.base_newest || !self.base_from.is_empty()
    }

    fn of_base(&self, base: &BaseFact) -> Vec<Violation> {
        let (name, released, newer) = match base {
            BaseFact::None => return Vec::new(),
            BaseFact::Unknown => return vec![Violation::UnknownBase],
            BaseFact::Base {
                name,
                released,
                newer,
            } => (name, released, newer),
        };
        let mut unmet = Vec::new();
        if !self.base_from.is_empty() && self.base_from.is_disjoint(released) {
            unmet.push(Violation::BaseFrom {
                base: name.clone(),
                from: self.base_from.iter().cloned().collect(),
            });
        }
        if let Some(newer) = newer.as_ref().filter(|_| self.base_newest) {
            unmet.push(Violation::BaseOutdated {
                base: name.clone(),
                newer: newer.clone(),
            });
        }
        unmet
    }

    /// Which audits lack: of each key its newest counts.
    fn audits(&self, audited: &Audited, facts: &Facts) -> Option<Violation> {
        let (mut given, mut missing, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let votes = audited.quorum();
        for (name, hex) in self.voters(&votes) {
            let wanted = hex.parse::<PublicKey>().ok();
            let own = facts.audits.iter().filter(|(key, _)| Some(*key) == wanted);
            let newest = own.clone().map(|(_, audit)| audit.time).max();
            // Of several that were made in one second, each must suffice.
            let newest: Vec<&Audit> = own
                .map(|(_, audit)| audit)
                .filter(|audit| Some(audit.time) == newest)
                .collect();
            let why = newest.iter().map(|audit| audited.faults(audit, facts.now));
            match why.max_by_key(Vec::len) {
                None => missing.push(name.clone()),
                Some(why) if why.is_empty() => given.push(name.clone()),
                Some(why) => faults.push((name.clone(), why)),
            }
        }
        (given.len() < audited.count as usize).then_some(Violation::Audits {
            needed: audited.count,
            given,
            missing,
            faults,
        })
    }

    /// The policy in sentences, one a point.
    pub fn sentences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (word, votes) in self.points() {
            let names: Vec<_> = self.voters(&votes).map(|(name, _)| &**name).collect();
            let names = names.join(", ");
            lines.push(format!(
                "{} by at least {} of {names}",
                word.point(),
                votes.count
            ));
        }
        lines.extend(self.audited.iter().flat_map(Audited::sentences));
        lines.extend(
            self.max_age_days
                .map(|days| format!("at most {days} days old")),
        );
        let list = |what: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        lines.extend(list("suite", self.suites.iter().cloned().collect()));
        let setuid = self.forbidden_setuid.iter().cloned().collect();
        lines.extend(list("no setuid or setgid file", setuid));
        let from = self.from.iter().map(ToString::to_string).collect();
        lines.extend(list("released before in", from));
        let from = self.base_from.iter().map(ToString::to_string).collect();
        lines.extend(list("what it begins with released in", from));
        lines.extend(
            self.base_newest
                .then(|| "what it begins with the newest release".to_owned()),
        );
        for (name, key) in &self.keys {
            lines.push(format!("{name} is the key {key}"));
        }
        lines
    }
}

impl Claim {
    /// What a policy calls it.
    pub fn point(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Tested => "tested",
            Self::Rebuilt => "rebuilt",
            Self::Approved => "approvals",
            Self::Witnessed => "witnessed",
            Self::Audited => "audited",
        }
    }
}

#[cfg(test)]
mod tests;
