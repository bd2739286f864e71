//! What a policy asks of audits: how old they may be, and how much may be found.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::policy::{Quorum, one, somebody};
use crate::audit::{Audit, Finding, Severity};

const DAY: u64 = 24 * 60 * 60;

/// How far the clock of who audits may be ahead of ours, seconds.
const SKEW: u64 = 600;

/// Audits that an image needs, and what may be found in it all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Audited {
    /// How many different keys must have signed an audit that suffices.
    #[serde(default = "one")]
    pub count: u32,
    /// The names of the keys that count; all when empty.
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "somebody"
    )]
    pub keys: BTreeSet<String>,
    /// The most days since the time up to which the audit knows security updates.
    pub max_age_days: u32,
    /// The most source packages with pending security updates.
    #[serde(default)]
    pub pending_security: u32,
    /// The most advisories that may fit; where it is left out, they do not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisories: Option<u32>,
    /// The least severity that counts; what is unknown counts always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What does not count for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Exception>,
}

/// A fault that an image may have until some day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exception {
    /// An id, or the name of a package with all its faults.
    pub id: String,
    /// Why.
    pub reason: String,
    /// The last day, `YEAR-MONTH-DAY`, in UTC.
    pub expires: String,
}

/// Why an audit does not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFault {
    /// It does not know what came later.
    Age {
        /// Days; `None` when it is from the future.
        days: Option<u64>,
        /// The most.
        most: u32,
    },
    /// Too many sources have pending security updates.
    Pending {
        /// Each with its ids.
        found: Vec<String>,
        /// The most.
        most: u32,
    },
    /// It was not compared with advisories, and the policy asks for that.
    NoAdvisories,
    /// Too many advisories fit.
    Advisories {
        /// Each with its package.
        found: Vec<String>,
        /// The most.
        most: u32,
    },
    /// An exception that would have helped is over.
    Expired(Exception),
}

impl Exception {
    /// Seconds since 1970 at which its last day is over.
    fn end(&self) -> Option<u64> {
        let day: jiff::civil::Date = self.expires.parse().ok()?;
        let next = day
            .tomorrow()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?;
        u64::try_from(next.timestamp().as_second()).ok()
    }
}

impl Audited {
    pub(super) fn quorum(&self) -> Quorum {
        Quorum {
            count: self.count,
            keys: self.keys.clone(),
        }
    }

    /// What cannot be meant, as the end of a sentence.
    pub(super) fn defect(&self) -> Option<String> {
        if self.severity == Some(Severity::Unknown) {
            return Some("`severity` of `audited` is `unknown`, which is no threshold".to_owned());
        }
        self.except.iter().find_map(|except| {
            let id = except.id.escape_debug();
            if except.id.is_empty() {
                return Some("an exception of `audited` has no `id`".to_owned());
            }
            if except.reason.trim().is_empty() {
                return Some(format!(
                    "the exception of `audited` for {id} has no `reason`"
                ));
            }
            // Of all ways to write a date, the one that is shown.
            let is_date = except.expires.len() == 10 && except.end().is_some();
            (!is_date).then(|| {
                format!(
                    "the exception of `audited` for {id} `expires` on no day such as 2026-12-31"
                )
            })
        })
    }

    /// Why an audit does not suffice at this time; nothing when it does.
    pub(super) fn faults(&self, audit: &Audit, now: u64) -> Vec<AuditFault> {
        let mut faults = Vec::new();
        let days = (audit.as_of.max(audit.time) <= now + SKEW)
            .then(|| now.saturating_sub(audit.as_of) / DAY);
        let most = self.max_age_days;
        if days.is_none_or(|days| days > u64::from(most)) {
            faults.push(AuditFault::Age { days, most });
        }
        let mut expired: Vec<&Exception> = Vec::new();
        let mut counted = |findings: &[Finding], most: u32| {
            let mut over = Vec::new();
            let found = findings.iter();
            let found = found.filter_map(|finding| self.counted(finding, now, &mut over));
            let found: Vec<String> = found.collect();
            let too_many = found.len() as u64 > u64::from(most);
            if too_many {
                expired.extend(over);
            }
            too_many.then_some(found)
        };
        let most = self.pending_security;
        if let Some(found) = counted(&audit.pending, most) {
            faults.push(AuditFault::Pending { found, most });
        }
        if let Some(most) = self.advisories {
            if !audit.has_advisories {
                faults.push(AuditFault::NoAdvisories);
            } else if let Some(found) = counted(&audit.advisories, most) {
                faults.push(AuditFault::Advisories { found, most });
            }
        }
        expired.dedup();
        faults.extend(expired.into_iter().cloned().map(AuditFault::Expired));
        faults
    }

    /// A finding in words, if it counts; exceptions that would have helped and are over go to
    /// `over`.
    fn counted<'s>(
        &'s self,
        finding: &Finding,
        now: u64,
        over: &mut Vec<&'s Exception>,
    ) -> Option<String> {
        let mut excepted = |about: &dyn Fn(&str) -> bool| {
            let fitting = self.except.iter().filter(|except| about(&except.id));
            let (good, gone): (Vec<_>, Vec<_>) =
                fitting.partition(|except| except.end().is_some_and(|end| now < end));
            if good.is_empty() {
                over.extend(gone);
            }
            !good.is_empty()
        };
        if excepted(&|id| id == finding.package) {
            return None;
        }
        if finding.issues.is_empty() {
            return Some(finding.package.clone());
        }
        let counts = finding.issues.iter().filter(|issue| {
            issue.severity.counts(self.severity)
                && !excepted(&|id| issue.ids.iter().any(|known| known == id))
        });
        let ids: Vec<&str> = counts
            .map(|issue| issue.ids.first().map_or("", String::as_str))
            .collect();
        (!ids.is_empty()).then(|| format!("{} ({})", finding.package, ids.join(" ")))
    }

    /// What it asks for, after the keys.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut text = format!(
            "audited at most {} days ago, with at most {} pending security updates",
            self.max_age_days, self.pending_security
        );
        if let Some(most) = self.advisories {
            let _ = write!(text, " and {most} advisories");
        }
        if let Some(least) = self.severity {
            let _ = write!(text, " that are {} or worse, or unknown", least.name());
        }
        let excepted = self.except.iter().map(|except| {
            format!(
                "audited: {} does not count until {}: {}",
                except.id, except.expires, except.reason
            )
        });
        [text].into_iter().chain(excepted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Issue;

    const NOW: u64 = 1_800_000_000; // 2027-01-15

    fn policy() -> Audited {
        Audited {
            count: 1,
            keys: BTreeSet::new(),
            max_age_days: 7,
            pending_security: 0,
            advisories: None,
            severity: None,
            except: Vec::new(),
        }
    }

    fn finding(package: &str, issues: &[(&str, Severity)]) -> Finding {
        let issues = issues.iter().map(|(id, severity)| Issue {
            ids: vec![(*id).to_owned(), format!("ALIAS-{id}")],
            severity: *severity,
        });
        Finding {
            package: package.to_owned(),
            issues: issues.collect(),
        }
    }

    fn audit() -> Audit {
        Audit {
            time: NOW,
            as_of: NOW,
            pending: vec![finding(
                "foo",
                &[("CVE-1", Severity::Low), ("CVE-2", Severity::High)],
            )],
            advisories: vec![finding("bar", &[("OSV-1", Severity::Medium)])],
            has_advisories: true,
        }
    }

    fn except(id: &str, expires: &str) -> Exception {
        Exception {
            id: id.to_owned(),
            reason: "not reachable".to_owned(),
            expires: expires.to_owned(),
        }
    }

    fn pending(found: &str) -> AuditFault {
        let found = vec![found.to_owned()];
        AuditFault::Pending { found, most: 0 }
    }

    #[test]
    fn findings_count_by_their_severity() {
        let found = |change: &dyn Fn(&mut Audited)| {
            let mut policy = policy();
            change(&mut policy);
            policy.faults(&audit(), NOW)
        };
        assert_eq!(found(&|_| {}), [pending("foo (CVE-1 CVE-2)")]);
        let high = Some(Severity::High);
        assert_eq!(found(&|p| p.severity = high), [pending("foo (CVE-2)")]);
        assert_eq!(found(&|p| p.severity = Some(Severity::Critical)), []);
        assert_eq!(found(&|p| p.pending_security = 1), []);
        let advisories = found(&|p| {
            p.pending_security = 1;
            p.advisories = Some(0);
        });
        let bar = AuditFault::Advisories {
            found: vec!["bar (OSV-1)".to_owned()],
            most: 0,
        };
        assert_eq!(advisories, [bar]);
        let mut policy = policy();
        policy.severity = Some(Severity::Critical);
        policy.advisories = Some(0);
        let mut blind = audit();
        blind.has_advisories = false;
        // An update of which nobody knows why counts.
        blind.pending.push(finding("dark", &[]));
        blind
            .pending
            .push(finding("odd", &[("CVE-3", Severity::Unknown)]));
        let both = vec!["dark".to_owned(), "odd (CVE-3)".to_owned()];
        let both = AuditFault::Pending {
            found: both,
            most: 0,
        };
        assert_eq!(policy.faults(&blind, NOW), [both, AuditFault::NoAdvisories]);
    }

    #[test]
    fn an_audit_is_as_old_as_what_it_knows() {
        let faults = |time: u64, as_of: u64| {
            let audit = Audit {
                time,
                as_of,
                ..Audit::default()
            };
            policy().faults(&audit, NOW)
        };
        let age = |days| vec![AuditFault::Age { days, most: 7 }];
        assert_eq!(faults(NOW, NOW - 8 * DAY + 1), []);
        assert_eq!(faults(NOW, NOW - 8 * DAY), age(Some(8)));
        assert_eq!(faults(NOW + SKEW, NOW + SKEW), []);
        assert_eq!(faults(NOW + SKEW + 1, NOW), age(None));
        assert_eq!(faults(NOW, u64::MAX), age(None));
    }

    #[test]
    fn exceptions_hold_until_their_last_day_is_over() {
        let faults = |exceptions: &[Exception]| {
            let mut policy = policy();
            policy.except = exceptions.to_vec();
            assert_eq!(policy.defect(), None);
            policy.faults(&audit(), NOW)
        };
        let today = "2027-01-15";
        assert_eq!(faults(&[except("CVE-1", today)]), [pending("foo (CVE-2)")]);
        let both = [except("CVE-1", today), except("ALIAS-CVE-2", today)];
        assert_eq!(faults(&both), []);
        assert_eq!(faults(&[except("foo", today)]), []);
        let over = except("foo", "2027-01-14");
        let expected = [
            pending("foo (CVE-1 CVE-2)"),
            AuditFault::Expired(over.clone()),
        ];
        assert_eq!(faults(std::slice::from_ref(&over)), expected);
        assert_eq!(faults(&[over, except("foo", today)]), []);
        // What it was for is no longer found.
        let other = except("CVE-9", "2020-01-01");
        assert_eq!(faults(&[other, except("foo", today)]), []);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let defect = |change: &dyn Fn(&mut Audited)| {
            let mut policy = policy();
            policy.except = vec![except("CVE-1", "2027-01-15")];
            change(&mut policy);
            policy.defect().unwrap_or_default()
        };
        assert_eq!(defect(&|_| {}), "");
        assert!(defect(&|p| p.except[0].id.clear()).contains("no `id`"));
        assert!(defect(&|p| p.except[0].reason = " ".into()).contains("CVE-1 has no `reason`"));
        for day in [
            "",
            "tomorrow",
            "2027-02-30",
            "15.01.2027",
            "2027-01-15T00:00:00",
        ] {
            let said = defect(&|p| p.except[0].expires = day.into());
            assert!(said.contains("CVE-1 `expires` on no day"), "{day}: {said}");
        }
        assert!(defect(&|p| p.severity = Some(Severity::Unknown)).contains("no threshold"));
    }
}
