//! What an audit has found, as a table and as JSON.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use store::Sha256;

use super::severity::Severity;
use crate::error::{Error, ErrorKind};

/// The form of the JSON.
const SCHEMA: u32 = 1;

/// What was found in one image or lock.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub(super) schema: u32,
    pub(super) event: &'static str,
    /// What it is called.
    pub name: String,
    /// The image; none of a recipe that was not built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its Debian suite.
    pub suite: String,
    /// dpkg's name of the architecture.
    pub architecture: String,
    /// When it was audited.
    pub time: String,
    /// The time up to which the archive's updates are known.
    pub as_of: String,
    /// The least severity that counts; all count when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<Severity>,
    /// What counts.
    pub counted: Counts,
    /// Security updates that are not installed.
    pub pending: Vec<Pending>,
    /// Advisories that fit what is installed.
    pub advisories: Vec<Found>,
    /// Sources whose security support has ended, or will before that of their release.
    pub ended: Vec<Ended>,
    /// What was found and does not count, because a statement settles it.
    pub settled: Vec<Settled>,
    /// All that was read to find this.
    pub data: Vec<Datum>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

/// How much of it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Source packages with pending security updates.
    pub pending: usize,
    /// Advisories.
    pub advisories: usize,
    /// Sources without security support.
    pub ended: usize,
}

/// A source package whose security support ends before that of its release.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// The source package.
    pub source: String,
    /// Its version that is installed.
    pub installed: String,
    /// The last version with support.
    pub last: String,
    /// The day on which it ends, in UTC.
    pub date: String,
    /// Whether that day has come.
    pub over: bool,
    /// Why.
    pub why: String,
}

/// A source package with a pending security update.
#[derive(Clone, Debug, Serialize)]
pub struct Pending {
    /// The source package.
    pub source: String,
    /// Its version that is installed.
    pub installed: String,
    /// Its version in the security archive.
    pub fixed: String,
    /// The worst of its CVE ids.
    pub severity: Severity,
    /// What the new changelog says was mended since.
    pub cves: Vec<Cve>,
    /// Whether the new changelog was read.
    pub changelog: bool,
    /// What is installed of it.
    pub binaries: Vec<Binary>,
}

/// A CVE id.
#[derive(Clone, Debug, Serialize)]
pub struct Cve {
    /// The id.
    pub id: String,
    /// How bad it is, where an advisory says so.
    pub severity: Severity,
}

/// A binary package with an update.
#[derive(Clone, Debug, Serialize)]
pub struct Binary {
    /// Its name.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version that is installed.
    pub installed: String,
    /// Its version in the security archive.
    pub fixed: String,
}

/// An advisory that fits a package.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Other ids of the same.
    pub aliases: Vec<String>,
    /// `debian` or `pypi`.
    pub ecosystem: &'static str,
    /// The source package or the project.
    pub package: String,
    /// Its version that is installed.
    pub installed: String,
    /// The first version without the fault, if there is one.
    pub fixed: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in a line.
    pub summary: String,
}

/// A finding that a statement settles.
#[derive(Clone, Debug, Serialize)]
pub struct Settled {
    /// The id.
    pub id: String,
    /// The package.
    pub package: String,
    /// `not_affected` or `fixed`.
    pub status: &'static str,
    /// Why.
    pub why: String,
    /// The file that says so.
    pub file: String,
}

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Datum {
    /// `release`, `packages`, `changelog`, `support-ended`, `osv`, `debian-tracker`, `directory`, `openvex`,
    /// `csaf`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its digest.
    pub sha256: String,
    /// Its own date, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

impl Datum {
    pub(super) fn of(kind: &'static str, path: &Path, sha256: Sha256) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            kind,
            name: name.to_string_lossy().into_owned(),
            sha256: sha256.hex(),
            date: None,
        }
    }
}

impl Report {
    pub(super) const SCHEMA: u32 = SCHEMA;

    /// Counts what is as bad as `least`, or worse, or of unknown severity.
    pub(super) fn count(&mut self, least: Option<Severity>) {
        self.least = least;
        self.counted = Counts {
            pending: count(self.pending.iter().map(|found| found.severity), least),
            advisories: count(self.advisories.iter().map(|found| found.severity), least),
            ended: self.ended.iter().filter(|ended| ended.over).count(),
        };
    }

    /// Whether there is nothing that counts.
    pub fn is_clean(&self) -> bool {
        self.counted == Counts::default()
    }

    /// The lines of the table.
    pub fn lines(&self) -> Vec<String> {
        let image = self.image.as_deref().unwrap_or("not built");
        let mut lines = vec![format!(
            "{}  {image}  {} {}",
            self.name, self.suite, self.architecture
        )];
        let sources = plural(self.pending.len(), "source", "sources");
        lines.push(format!("pending security updates: {sources}"));
        let rows = self.pending.iter().map(|found| {
            let cves: Vec<_> = found.cves.iter().map(|cve| cve.id.as_str()).collect();
            let cves = match (found.changelog, cves.is_empty()) {
                (false, _) => "changelog not read".to_owned(),
                (true, true) => "-".to_owned(),
                (true, false) => cves.join(" "),
            };
            let names: Vec<_> = found.binaries.iter().map(|b| b.package.as_str()).collect();
            vec![
                found.source.clone(),
                found.installed.clone(),
                found.fixed.clone(),
                found.severity.name().to_owned(),
                names.join(" "),
                cves,
            ]
        });
        let head = [
            "SOURCE",
            "INSTALLED",
            "FIXED",
            "SEVERITY",
            "BINARIES",
            "CVES",
        ];
        lines.extend(table(&head, &rows.collect::<Vec<_>>()));
        if !self.advisories.is_empty() || self.data.iter().any(Datum::is_advisory) {
            lines.push(format!("advisories: {}", self.advisories.len()));
        }
        let rows = self.advisories.iter().map(|found| {
            let cves = found.aliases.iter().filter(|id| id.starts_with("CVE-"));
            let ids: Vec<_> = [&found.id].into_iter().chain(cves).cloned().collect();
            vec![
                found.package.clone(),
                found.installed.clone(),
                found.fixed.clone().unwrap_or_else(|| "-".to_owned()),
                found.severity.name().to_owned(),
                ids.join(" "),
                found.summary.clone(),
            ]
        });
        let head = ["PACKAGE", "INSTALLED", "FIXED", "SEVERITY", "ID", "SUMMARY"];
        lines.extend(table(&head, &rows.collect::<Vec<_>>()));
        if !self.ended.is_empty() {
            let sources = plural(self.ended.len(), "source", "sources");
            lines.push(format!("security support that ends early: {sources}"));
            let rows = self.ended.iter().map(|found| {
                vec![
                    found.source.clone(),
                    found.installed.clone(),
                    found.date.clone(),
                    if found.over { "ended" } else { "will end" }.to_owned(),
                    found.why.clone(),
                ]
            });
            let head = ["SOURCE", "INSTALLED", "DAY", "SUPPORT", "WHY"];
            lines.extend(table(&head, &rows.collect::<Vec<_>>()));
        }
        if !self.settled.is_empty() {
            lines.push(format!("settled by statements: {}", self.settled.len()));
            let rows = self.settled.iter().map(|found| {
                vec![
                    found.package.clone(),
                    found.id.clone(),
                    found.status.to_owned(),
                    found.why.clone(),
                ]
            });
            let head = ["PACKAGE", "ID", "STATUS", "WHY"];
            lines.extend(table(&head, &rows.collect::<Vec<_>>()));
        }
        lines.push(format!(
            "data, as of {}, read at {}:",
            self.as_of, self.time
        ));
        for datum in &self.data {
            let date = datum.date.as_deref().map(|date| format!("  of {date}"));
            lines.push(format!(
                "  {:<14} sha256:{}  {}{}",
                datum.kind,
                datum.sha256,
                datum.name,
                date.unwrap_or_default()
            ));
        }
        lines
    }
}

impl Datum {
    fn is_advisory(&self) -> bool {
        matches!(self.kind, "osv" | "debian-tracker" | "directory")
    }
}

/// The error with which an audit ends that has found something; none if it has not.
pub fn found(reports: &[Report]) -> Option<Error> {
    let counted: Vec<&Report> = reports.iter().filter(|report| !report.is_clean()).collect();
    let first = counted.first()?;
    let what = match counted.len() {
        1 => format!("{} has known faults", first.name),
        many => format!("{many} of {} images have known faults", reports.len()),
    };
    let mut error = Error::new(ErrorKind::Found, what);
    for report in &counted {
        let Counts {
            pending,
            advisories,
            ended,
        } = report.counted;
        let mut parts = Vec::new();
        if pending > 0 {
            let sources = plural(pending, "source has", "sources have");
            parts.push(format!("{sources} a pending security update"));
        }
        if advisories > 0 {
            let fit = plural(advisories, "advisory fits", "advisories fit");
            parts.push(format!("{fit} what is installed"));
        }
        if ended > 0 {
            let sources = plural(ended, "source has", "sources have");
            parts.push(format!("{sources} no security support any more"));
        }
        error = error.detail(format!("{}: {}", report.name, parts.join(", ")));
    }
    Some(error.hint(advice(&counted)))
}

/// What takes away what counts, as far as somebody knows.
fn advice(reports: &[&Report]) -> String {
    let mut upgrades: BTreeSet<&str> = BTreeSet::new();
    for report in reports {
        if report.counted.pending > 0 {
            upgrades.insert("security");
        }
        let counted = report.advisories.iter();
        let counted = counted.filter(|found| found.severity.counts(report.least));
        upgrades.extend(counted.filter(|found| found.fixed.is_some()).map(|found| {
            // An update of Debian's is in its security archive, if anywhere.
            match found.ecosystem {
                "debian" => "security",
                _ => found.package.as_str(),
            }
        }));
    }
    let upgrades: Vec<&str> = upgrades.into_iter().collect();
    let first = match &upgrades[..] {
        [] => {
            "no newer version is known that mends it: leave the package out, or take another suite"
                .into()
        }
        names => format!(
            "imgbuild lock RECIPE --upgrade={}, then build",
            names.join(",")
        ),
    };
    format!("{first}; what does not concern the image is said with --vex FILE")
}

fn count(severities: impl Iterator<Item = Severity>, least: Option<Severity>) -> usize {
    severities.filter(|severity| severity.counts(least)).count()
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Rows below a head, each column as wide as it must be; nothing without rows.
fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([&head])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    // A list of many packages does not push what follows out of sight.
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).min(40))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let text: String = cells
            .map(|(cell, width)| format!("  {cell:<width$}"))
            .collect();
        text.trim_end().to_owned()
    };
    [&head].into_iter().chain(rows).map(line).collect()
}
