//! Advisories of OSV, <https://ossf.github.io/osv-schema/>.

use serde::Deserialize;

use super::{Advisories, Affected, Ecosystem, Range, Record, Wanted, parse, unsound};
use crate::error::Result;
use crate::inspect::audit::severity::{Severity, of_cvss, of_word};
use crate::inspect::sbom::purl::normal;

#[derive(Deserialize)]
#[serde(expecting = "an advisory of OSV")]
struct Advisory {
    id: String,
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    upstream: Option<Vec<String>>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    severity: Option<Vec<Score>>,
    #[serde(default)]
    affected: Option<Vec<Package>>,
    #[serde(default)]
    database_specific: Option<serde_json::Value>,
}

impl Advisory {
    /// Whether it says nothing but that it exists, as an answer to many questions at once has it.
    fn is_bare(&self) -> bool {
        let said = self.withdrawn.is_some()
            || self.affected.is_some()
            || self.severity.is_some()
            || self.summary.is_some()
            || self.details.is_some();
        !said
    }
}

#[derive(Deserialize)]
struct Score {
    score: String,
}

#[derive(Deserialize)]
struct Package {
    #[serde(rename = "package", default)]
    named: Option<Named>,
    #[serde(default)]
    severity: Option<Vec<Score>>,
    #[serde(default)]
    ranges: Option<Vec<Events>>,
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    ecosystem_specific: Option<serde_json::Value>,
    #[serde(default)]
    database_specific: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Named {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct Events {
    #[serde(rename = "type")]
    kind: String,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    introduced: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    last_affected: Option<String>,
}

/// What the interface of osv.dev answers.
#[derive(Deserialize)]
struct Answer {
    vulns: Vec<serde_json::Value>,
}

/// Reads one advisory, a list of them, or an answer of osv.dev.
pub(super) fn read(
    name: &str,
    bytes: &[u8],
    wanted: &Wanted,
    found: &mut Advisories,
) -> Result<()> {
    let value: serde_json::Value = parse(name, bytes)?;
    let list = match value {
        serde_json::Value::Array(list) => list,
        value if value.get("vulns").is_some() => {
            let answer: Answer =
                serde_json::from_value(value).map_err(|e| unsound(name, &e.to_string()))?;
            answer.vulns
        }
        value => vec![value],
    };
    for (number, value) in (1..).zip(list) {
        let id = value.get("id").and_then(serde_json::Value::as_str);
        let entry = id.map_or_else(|| format!("entry {number}"), str::to_owned);
        let advisory: Advisory =
            serde_json::from_value(value).map_err(|e| unsound(name, &format!("{entry}: {e}")))?;
        if advisory.is_bare() {
            let why = format!(
                "{entry}: it has an id and nothing else, as an answer to many questions at once"
            );
            return Err(unsound(name, &why).hint("fetch each advisory itself by its id"));
        }
        take(advisory, wanted, found);
    }
    Ok(())
}

fn take(advisory: Advisory, wanted: &Wanted, found: &mut Advisories) {
    if advisory.withdrawn.is_some() {
        return;
    }
    let others = [advisory.aliases, advisory.upstream].into_iter().flatten();
    let aliases: std::collections::BTreeSet<String> = others.flatten().collect();
    let general = severity(
        advisory.severity.as_deref(),
        advisory.database_specific.as_ref(),
    );
    let text = advisory.summary.or(advisory.details).unwrap_or_default();
    let summary = text.lines().next().unwrap_or_default().chars().take(200);
    let summary: String = summary.collect();
    let affected = advisory.affected.unwrap_or_default();
    if affected.is_empty() || general != Severity::Unknown {
        // A CVE's own record says how bad it is where the ecosystem's does not.
        for id in aliases.iter().chain([&advisory.id]) {
            let known = found.severities.entry(id.clone()).or_default();
            *known = general.max(*known);
        }
    }
    for package in affected {
        let Some(named) = package.named else {
            continue;
        };
        let (system, release) = match named.ecosystem.split_once(':') {
            Some((system, release)) => (system, Some(release.to_owned())),
            None => (named.ecosystem.as_str(), None),
        };
        let (ecosystem, name, is_wanted) = match system {
            "Debian" => {
                let is_wanted = wanted.sources.contains(&named.name);
                (Ecosystem::Debian, named.name, is_wanted)
            }
            "PyPI" => {
                let name = normal(&named.name);
                let is_wanted = wanted.projects.contains(&name);
                (Ecosystem::PyPi, name, is_wanted)
            }
            _ => continue,
        };
        if !is_wanted {
            continue;
        }
        let own = severity(
            package.severity.as_deref(),
            package.database_specific.as_ref(),
        );
        let urgency = package.ecosystem_specific.as_ref();
        let urgency = urgency.and_then(|v| v.get("urgency")?.as_str());
        let urgency = urgency.map_or(Severity::Unknown, of_word);
        let severity = [own, general, urgency].into_iter();
        let severity = severity.clone().find(|s| *s != Severity::Unknown);
        let ranges = package.ranges.unwrap_or_default().into_iter();
        // Commits of Git are nothing that is installed.
        let ranges = ranges.filter(|range| range.kind != "GIT").map(|range| {
            let mut all = Range::default();
            for event in range.events {
                all.introduced.extend(event.introduced);
                all.fixed.extend(event.fixed);
                all.last.extend(event.last_affected);
            }
            all
        });
        found.add(Record {
            id: advisory.id.clone(),
            aliases: aliases.clone(),
            ecosystem,
            release,
            package: name,
            affected: Affected {
                ranges: ranges.collect(),
                versions: package.versions.unwrap_or_default(),
            },
            severity: severity.unwrap_or_default(),
            summary: summary.clone(),
        });
    }
}

/// What a database says in a word, else the worst of the scores.
fn severity(scores: Option<&[Score]>, specific: Option<&serde_json::Value>) -> Severity {
    let word = specific.and_then(|value| value.get("severity")?.as_str());
    match word.map_or(Severity::Unknown, of_word) {
        Severity::Unknown => {
            let scores = scores.unwrap_or_default().iter();
            let words = scores.map(|score| match score.score.as_str() {
                text if text.starts_with("CVSS:") => of_cvss(text),
                text => of_word(text),
            });
            words.max().unwrap_or_default()
        }
        known => known,
    }
}
