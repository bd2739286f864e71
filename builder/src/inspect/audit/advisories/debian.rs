//! The JSON of Debian's security tracker: source packages, in each the ids, in each the releases.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{Advisories, Affected, Ecosystem, Keys, Record, Wanted, unsound};
use crate::error::Result;
use crate::inspect::audit::severity::{Severity, of_word};

#[derive(Deserialize)]
#[serde(expecting = "an issue with its releases")]
struct Issue {
    #[serde(default)]
    description: Option<String>,
    releases: BTreeMap<String, Release>,
}

/// An issue of a source that nobody asked for: that it is one, and no more.
#[derive(Deserialize)]
#[serde(expecting = "an issue with its releases")]
struct Passed {
    #[serde(rename = "releases")]
    _releases: Keys,
}

#[derive(Deserialize)]
#[serde(expecting = "a release with its status")]
struct Release {
    status: Status,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Open,
    Undetermined,
    Resolved,
}

/// Reads what the tracker says about the sources that are wanted; of the others, whatever they say,
/// nothing is kept in memory.
pub(super) fn read(
    name: &str,
    bytes: &[u8],
    wanted: &Wanted,
    found: &mut Advisories,
) -> Result<()> {
    let mut at = String::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let sources = Sources {
        wanted,
        found,
        at: &mut at,
    };
    let read = sources.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|e| unsound(name, &format!("{at}{e}")))
}

struct Sources<'a> {
    wanted: &'a Wanted,
    found: &'a mut Advisories,
    /// The entry that is being read, for errors.
    at: &'a mut String,
}

impl<'de> DeserializeSeed<'de> for Sources<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source packages of Debian's security tracker")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_empty = true;
        while let Some(source) = map.next_key::<String>()? {
            *self.at = format!("{source}: ");
            if !self.wanted.sources.contains(&source) {
                // Other files have such keys as well: what is no issue of the tracker says nothing.
                let passed = map.next_value::<BTreeMap<String, Passed>>()?;
                is_empty &= passed.is_empty();
                continue;
            }
            for (id, issue) in map.next_value::<BTreeMap<String, Issue>>()? {
                is_empty = false;
                take(&source, &id, issue, self.found);
            }
        }
        self.at.clear();
        if is_empty {
            let what = "it has no issue of any source package of Debian's security tracker";
            return Err(serde::de::Error::custom(what));
        }
        Ok(())
    }
}

fn take(source: &str, id: &str, issue: Issue, found: &mut Advisories) {
    let summary: String = issue
        .description
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect();
    for (suite, release) in issue.releases {
        let affected = match (release.status, release.fixed_version) {
            // The tracker's way to say that this release never had it.
            (Status::Resolved, Some(fixed)) if fixed == "0" => continue,
            (Status::Resolved, Some(fixed)) => Affected::before(Some(fixed)),
            (Status::Resolved, None) => continue,
            (Status::Open | Status::Undetermined, _) => Affected::before(None),
        };
        let urgency = release.urgency.as_deref();
        found.add(Record {
            id: id.to_owned(),
            aliases: std::collections::BTreeSet::new(),
            ecosystem: Ecosystem::Debian,
            release: Some(suite),
            package: source.to_owned(),
            affected,
            severity: urgency.map_or(Severity::Unknown, of_word),
            summary: summary.clone(),
        });
    }
}
