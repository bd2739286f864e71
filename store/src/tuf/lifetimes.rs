//! How long signatures last.

use std::fmt;

use jiff::{RoundMode, SignedDuration, Timestamp as Time, TimestampRound, Unit};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Error, ErrorKind, Result};

/// For how many days a new signature of each role is good.
///
/// Signed into the root, so that whoever renews a signature years later gives
/// it the time that was agreed on, and not the default of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetimes {
    /// Root: which keys count.
    pub root: u32,
    /// Targets: which releases there are.
    pub targets: u32,
    /// Snapshot: which targets are current.
    pub snapshot: u32,
    /// Time: which snapshot is current. Also how long a node can be held
    /// on old metadata before it notices.
    pub timestamp: u32,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            root: 365,
            targets: 90,
            snapshot: 14,
            timestamp: 7,
        }
    }
}

impl Lifetimes {
    /// Ten years: longer is a typing error, not a policy.
    const LONGEST: u32 = 3660;

    pub(super) fn check(&self) -> Result<()> {
        for (role, days) in [
            ("root", self.root),
            ("targets", self.targets),
            ("snapshot", self.snapshot),
            ("timestamp", self.timestamp),
        ] {
            if days == 0 || days > Self::LONGEST {
                let text = format!(
                    "signatures of the {role} role cannot last {days} days: the range is 1 to {}",
                    Self::LONGEST
                );
                return Err(Error::new(ErrorKind::Range, text));
            }
        }
        Ok(())
    }
}

/// When a signature runs out, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expires(Time);

impl Expires {
    pub(super) fn at(time: Time) -> Self {
        let seconds = TimestampRound::new()
            .smallest(Unit::Second)
            .mode(RoundMode::Trunc);
        Self(time.round(seconds).unwrap_or(time))
    }

    pub(super) fn time(self) -> Time {
        self.0
    }
}

impl fmt::Display for Expires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Expires {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expires {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// When a signature made `now` runs out. Whole seconds: TUF 4.2.1 has no others.
pub(super) fn expiry(now: Time, days: u32) -> Result<Expires> {
    let end = now.checked_add(SignedDuration::from_hours(24 * i64::from(days)));
    end.map(Expires::at).map_err(|_| {
        Error::new(
            ErrorKind::Range,
            format!("{days} days after {now} cannot be written as a date"),
        )
    })
}

/// Refuses a signature that would run out before the one that it replaces: this machine's
/// clock is behind, and nodes would take good metadata for metadata that has run out.
pub(super) fn forward(what: &str, old: Expires, new: Expires, now: Time) -> Result<()> {
    /// Clocks of machines that work together differ by less.
    const SKEW: SignedDuration = SignedDuration::from_hours(1);
    if old.time().duration_since(new.time()) <= SKEW {
        return Ok(());
    }
    let text = format!(
        "the clock of this machine says {}, and the {what} that it would replace was signed \
         later: it runs out at {old}, the new one at {new}",
        Expires::at(now)
    );
    Err(Error::new(ErrorKind::Clock, text)
        .with_hint("set the clock; if it is right, replace the key that signed with a wrong one"))
}

/// Whether it is time to renew a signature: less than a third of its life is
/// left. A timer that runs once a day never comes too late, and a release that
/// follows another one soon leaves all that is fresh alone.
pub(super) fn due(now: Time, expires: Expires, days: u32) -> bool {
    let left = expires.time().duration_since(now);
    left < SignedDuration::from_hours(8 * i64::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_due_in_its_last_third() {
        let now: Time = "2030-01-01T00:00:00.9Z".parse().unwrap();
        let end = expiry(now, 9).unwrap();
        assert_eq!(end.to_string(), "2030-01-10T00:00:00Z");
        let at = |text: &str| text.parse().unwrap();
        assert!(!due(now, end, 9));
        assert!(!due(at("2030-01-07T00:00:00Z"), end, 9));
        assert!(due(at("2030-01-07T00:00:01Z"), end, 9));
        assert!(due(at("2031-01-01T00:00:00Z"), end, 9));
    }

    #[test]
    fn lifetimes_have_a_range() {
        Lifetimes::default().check().unwrap();
        let none = Lifetimes {
            timestamp: 0,
            ..Lifetimes::default()
        };
        assert_eq!(none.check().unwrap_err().kind(), ErrorKind::Range);
        let ages = Lifetimes {
            root: 36_500,
            ..Lifetimes::default()
        };
        assert_eq!(ages.check().unwrap_err().kind(), ErrorKind::Range);
        assert_eq!(expiry(Time::MAX, 1).unwrap_err().kind(), ErrorKind::Range);
    }
}
