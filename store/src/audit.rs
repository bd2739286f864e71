//! What an audit says: findings with their severities, and the time up to which they are known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A severity. Where nobody has said one it is unknown, and no threshold passes it over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody has said.
    #[default]
    Unknown,
    /// Debian calls it `unimportant`; a CVSS score of 0.
    Negligible,
    /// A CVSS score below 4.
    Low,
    /// A CVSS score from 4.
    Medium,
    /// A CVSS score from 7.
    High,
    /// A CVSS score from 9.
    Critical,
}

impl Severity {
    /// Those that can be a threshold, from the least.
    pub const THRESHOLDS: [Self; 5] = [
        Self::Negligible,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// The word in tables, JSON and policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Whether this severity reaches the threshold `least`; an unknown one does, as does any where none is
    /// set.
    pub fn counts(self, least: Option<Self>) -> bool {
        self == Self::Unknown || least.is_none_or(|least| self >= least)
    }
}

/// What an audit found in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// When it was made, seconds since 1970.
    pub time: u64,
    /// The time up to which security updates are known, seconds since 1970.
    pub as_of: u64,
    /// Sources with pending security updates.
    pub pending: Vec<Finding>,
    /// Advisories that fit.
    pub advisories: Vec<Finding>,
    /// Whether it was compared with advisories at all.
    pub has_advisories: bool,
}

/// A package with a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The source package or the project.
    pub package: String,
    /// What is wrong with it. Empty when nobody knows.
    pub issues: Vec<Issue>,
}

/// One fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issue {
    /// Its ids, of which the first is shown.
    pub ids: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    time: String,
    as_of: String,
    pending: Vec<SaidPending>,
    advisories: Vec<SaidAdvisory>,
    data: Vec<SaidDatum>,
}

#[derive(Deserialize)]
struct SaidPending {
    source: String,
    cves: Vec<SaidCve>,
}

#[derive(Deserialize)]
struct SaidCve {
    id: String,
    severity: Severity,
}

#[derive(Deserialize)]
struct SaidAdvisory {
    id: String,
    aliases: BTreeSet<String>,
    package: String,
    severity: Severity,
}

#[derive(Deserialize)]
struct SaidDatum {
    kind: String,
}

impl Audit {
    /// Reads the predicate of an audit; none where it does not say what an audit must.
    pub fn read(predicate: &Value) -> Option<Self> {
        let said = Said::deserialize(predicate).ok()?;
        let seconds = |text: &str| {
            let time: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(time.as_second()).ok()
        };
        let pending = said.pending.into_iter().map(|found| {
            let issues = found.cves.into_iter().map(|cve| Issue {
                ids: vec![cve.id],
                severity: cve.severity,
            });
            Finding {
                package: found.source,
                issues: issues.collect(),
            }
        });
        let advisories = said.advisories.into_iter().map(|found| {
            let ids = [found.id].into_iter().chain(found.aliases);
            let issue = Issue {
                ids: ids.collect(),
                severity: found.severity,
            };
            Finding {
                package: found.package,
                issues: vec![issue],
            }
        });
        let of_advisories = ["osv", "debian-tracker", "directory"];
        let mut kinds = said.data.iter().map(|datum| datum.kind.as_str());
        Some(Self {
            time: seconds(&said.time)?,
            as_of: seconds(&said.as_of)?,
            pending: pending.collect(),
            advisories: advisories.collect(),
            has_advisories: kinds.any(|kind| of_advisories.contains(&kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unknown_is_never_below_a_threshold() {
        assert!(Severity::Unknown.counts(Some(Severity::Critical)));
        assert!(!Severity::Medium.counts(Some(Severity::High)));
        assert!(Severity::High.counts(Some(Severity::High)));
        assert!(Severity::Negligible.counts(None));
    }

    #[test]
    fn an_audit_says_all_that_it_must() {
        let whole = json!({
            "time": "1970-01-01T00:00:20Z", "asOf": "1970-01-01T00:00:10Z",
            "pending": [{ "source": "foo", "cves": [{ "id": "CVE-1", "severity": "high" }] }],
            "advisories": [{ "id": "A", "aliases": ["B"], "package": "bar", "severity": "unknown" }],
            "data": [{ "kind": "osv" }], "settled": [],
        });
        let read = Audit::read(&whole).unwrap();
        assert_eq!((read.time, read.as_of, read.has_advisories), (20, 10, true));
        assert_eq!(read.pending[0].issues[0].severity, Severity::High);
        assert_eq!(read.advisories[0].issues[0].ids, ["A", "B"]);
        for field in ["time", "asOf", "pending", "advisories", "data"] {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(field);
            assert_eq!(Audit::read(&less), None, "{field}");
        }
        for (field, value) in [
            ("time", json!("now")),
            ("asOf", json!("1969-01-01T00:00:00Z")),
            (
                "pending",
                json!([{ "source": "foo", "cves": [{ "id": "CVE-1", "severity": "none" }] }]),
            ),
        ] {
            let mut other = whole.clone();
            other[field] = value;
            assert_eq!(Audit::read(&other), None, "{field}");
        }
    }
}
