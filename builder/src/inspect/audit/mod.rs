//! What is known against what is installed: pending security updates, and advisories.
//!
//! ```text
//! report      what was found, as a table and as JSON
//! pending     security updates that the archive has and the image has not
//! ended       sources whose security support has ended
//! advisories  files of OSV and of Debian's tracker, statements of OpenVEX and CSAF
//! moved       what a lock took anew, with the CVE ids of its changelogs
//! installed   packages of an image or of a lock
//! changelog   CVE ids in the changelog of a package
//! severity    how bad something is
//! ```
//!
//! An audit is of what was read, so each report names the digest of every datum, and the time up
//! to which the archive's updates are known.

mod advisories;
mod changelog;
mod ended;
mod installed;
mod moved;
mod pending;
mod python_version;
mod report;
mod severity;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::clock::rfc3339;
use common::percent;
use store::Sha256;

use self::advisories::{Advisories, Ecosystem, Product, Statements, Wanted};
use self::pending::{SecurityArchive, Updates};
use crate::error::{Context, Error, Result};
use crate::settings::Settings;
use crate::ui::Ui;

pub use self::installed::Installed;
pub use self::moved::{Moved, moved};
pub use self::report::{Counts, Datum, Ended, Found, Pending, Report, Settled, found};
pub use self::severity::Severity;

/// Where the list of packages without security support is taken from.
#[derive(Clone, Debug, Default)]
pub enum SupportList {
    /// The image, if debian-security-support is installed in it.
    #[default]
    Image,
    /// The package debian-security-support of the archive.
    Archive,
    /// A file.
    File(PathBuf),
}

/// What an audit goes by.
pub struct AuditRequest<'a> {
    /// Places and addresses.
    pub settings: &'a Settings,
    /// Whether only what was kept before is read.
    pub offline: bool,
    /// Files and directories with advisories.
    pub advisories: &'a [PathBuf],
    /// Files with statements about them.
    pub vex: &'a [PathBuf],
    /// Which list says whose support has ended.
    pub support: &'a SupportList,
    /// The least severity that counts.
    pub least: Option<Severity>,
    /// The time, seconds since 1970.
    pub now: u64,
}

impl AuditRequest<'_> {
    /// Audits each of these; the reports are in the same order.
    pub fn run(&self, images: &[Installed], ui: &mut Ui) -> Result<Vec<Report>> {
        let mut wanted = Wanted::default();
        for image in images {
            let sources = image.packages.iter().map(|(_, source)| source.name.clone());
            wanted.sources.extend(sources);
            let projects = image.distributions.iter().map(|d| d.name.clone());
            wanted.projects.extend(projects);
        }
        // What a person gave is read first: its errors are the quicker ones.
        let advisories = advisories::read(self.advisories, &wanted)?;
        let (statements, said) = advisories::read_vex(self.vex)?;
        let mut archive = SecurityArchive::open(self.settings, self.offline)?;
        let mut reports = Vec::new();
        for image in images {
            let updates = archive.updates(image, ui)?;
            let mut report = self.report(image, updates, &advisories, &statements)?;
            self.support(image, &mut report, &mut archive, ui)?;
            report.count(self.least);
            report.data.extend(advisories.data.iter().cloned());
            report.data.extend(said.iter().cloned());
            reports.push(report);
        }
        Ok(reports)
    }

    fn report(
        &self,
        image: &Installed,
        updates: Updates,
        advisories: &Advisories,
        statements: &Statements,
    ) -> Result<Report> {
        let time = |seconds: u64| {
            rfc3339(seconds).ok_or_else(|| Error::failed(format!("{seconds} is no time")))
        };
        // What was kept knows nothing that came after it.
        let as_of = if self.offline {
            updates.date.min(self.now)
        } else {
            self.now
        };
        let mut report = Report {
            schema: Report::SCHEMA,
            event: "audited",
            name: image.name.clone(),
            image: image.image.clone(),
            suite: image.suite.clone(),
            architecture: image.architecture.clone(),
            time: time(self.now)?,
            as_of: time(as_of)?,
            least: None,
            counted: Counts::default(),
            pending: updates.pending,
            advisories: fitting(image, advisories),
            ended: Vec::new(),
            settled: Vec::new(),
            data: updates.data,
            notes: [image.notes.clone(), updates.notes, self.left_out(image)].concat(),
        };
        judge(&mut report, advisories);
        settle(&mut report, image, statements);
        Ok(report)
    }

    /// Says whose advisories were not looked for.
    fn left_out(&self, image: &Installed) -> Vec<String> {
        if self.advisories.is_empty() || image.own.is_empty() {
            return Vec::new();
        }
        let own = image.own.iter();
        let own = own.map(|own| {
            let texts = [&own.name, &own.version].map(|text| percent::encode(text, b"+!"));
            texts.join(" ")
        });
        let own = own.collect::<Vec<_>>().join(", ");
        vec![format!(
            "taken from no index, so that no advisory of PyPI is about it: {own}"
        )]
    }

    /// Looks for sources whose support has ended.
    fn support(
        &self,
        image: &Installed,
        report: &mut Report,
        archive: &mut SecurityArchive<'_>,
        ui: &mut Ui,
    ) -> Result<()> {
        let (name, text) = match self.support {
            SupportList::File(path) => {
                let text =
                    std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
                (path.display().to_string(), text)
            }
            SupportList::Archive => archive.support_list(image, ui)?,
            SupportList::Image => match &image.support_list {
                Some(text) => (
                    "the image's list of ended support".to_owned(),
                    text.clone().into_bytes(),
                ),
                None => return Ok(()),
            },
        };
        let mut sources: Vec<(&str, &str)> = Vec::new();
        for (_, source) in &image.packages {
            let source = (source.name.as_str(), source.version.as_str());
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources.sort_unstable();
        let listed = String::from_utf8_lossy(&text);
        report.ended = ended::ended(&name, &listed, &sources, self.now)?;
        report.data.push(Datum {
            kind: "support-ended",
            name,
            sha256: Sha256::of(&text).hex(),
            date: None,
        });
        Ok(())
    }
}

/// The advisories that fit what is installed, each once for each package.
fn fitting(image: &Installed, advisories: &Advisories) -> Vec<Found> {
    let releases = image.releases();
    let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, source) in &image.packages {
        let versions = sources.entry(&source.name).or_default();
        if !versions.contains(&source.version.as_str()) {
            versions.push(&source.version);
        }
    }
    let mut projects: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for distribution in &image.distributions {
        let versions = projects.entry(&distribution.name).or_default();
        versions.push(&distribution.version);
    }
    let mut found: BTreeMap<(&str, &str, &str), Found> = BTreeMap::new();
    for record in &advisories.records {
        let ecosystem = record.ecosystem;
        let release = record.release.as_ref();
        if ecosystem == Ecosystem::Debian && release.is_some_and(|r| !releases.contains(r)) {
            continue;
        }
        let installed = match ecosystem {
            Ecosystem::Debian => sources.get(record.package.as_str()),
            Ecosystem::PyPi => projects.get(record.package.as_str()),
        };
        for version in installed.into_iter().flatten() {
            if !record.affected.has(version, ecosystem) {
                continue;
            }
            let known = found.entry((&record.package, version, &record.id));
            let known = known.or_insert_with(|| Found {
                id: record.id.clone(),
                aliases: Vec::new(),
                ecosystem: ecosystem.name(),
                package: record.package.clone(),
                installed: (*version).to_owned(),
                fixed: record.affected.fixed_above(version, ecosystem),
                severity: Severity::Unknown,
                summary: record.summary.clone(),
            });
            // Several files may say the same.
            let news = record
                .aliases
                .iter()
                .filter(|id| !known.aliases.contains(id));
            let news: Vec<String> = news.cloned().collect();
            known.aliases.extend(news);
            known.severity = known.severity.max(record.severity);
        }
    }
    found.into_values().collect()
}

/// Says how bad things are, by all that the advisories say about their ids.
fn judge(report: &mut Report, advisories: &Advisories) {
    let known = |id: &String| advisories.severities.get(id).copied().unwrap_or_default();
    for pending in &mut report.pending {
        for cve in &mut pending.cves {
            cve.severity = known(&cve.id);
        }
        pending.severity = worst(&pending.cves);
    }
    for found in &mut report.advisories {
        if found.severity == Severity::Unknown {
            let ids = found.aliases.iter().chain([&found.id]);
            found.severity = ids.map(known).max().unwrap_or_default();
        }
    }
}

/// The worst of several; unknown if that of one is, unless another is critical anyway.
fn worst(cves: &[report::Cve]) -> Severity {
    let severities = || cves.iter().map(|cve| cve.severity);
    match severities().max() {
        Some(Severity::Critical) => Severity::Critical,
        _ if severities().any(|s| s == Severity::Unknown) => Severity::Unknown,
        worst => worst.unwrap_or_default(),
    }
}

/// Sets aside what statements settle: an advisory by one of its ids, an update by all of its own.
fn settle(report: &mut Report, image: &Installed, statements: &Statements) {
    let distros = image.releases();
    let mut settled = Vec::new();
    report.advisories.retain(|found| {
        let debian = found.ecosystem == Ecosystem::Debian.name();
        let mut names = vec![(found.package.as_str(), found.installed.as_str())];
        if debian {
            names.extend(binaries(image, &found.package));
        }
        let product = Product {
            ecosystem: if debian {
                Ecosystem::Debian
            } else {
                Ecosystem::PyPi
            },
            names: &names,
            distros: &distros,
        };
        let ids: Vec<&str> = found
            .aliases
            .iter()
            .chain([&found.id])
            .map(String::as_str)
            .collect();
        let Some(statement) = statements.settles(&ids, &product) else {
            return true;
        };
        settled.push(statement.settled(&found.id, &found.package));
        false
    });
    report.pending.retain_mut(|pending| {
        let names = [(pending.source.as_str(), pending.installed.as_str())];
        let binaries = pending.binaries.iter();
        let binaries = binaries.map(|b| (b.package.as_str(), b.installed.as_str()));
        let names: Vec<_> = names.into_iter().chain(binaries).collect();
        let product = Product {
            ecosystem: Ecosystem::Debian,
            names: &names,
            distros: &distros,
        };
        let said: Vec<_> = pending
            .cves
            .iter()
            .map(|cve| statements.settles(&[&cve.id], &product))
            .collect();
        let is_settled = !said.is_empty() && said.iter().all(Option::is_some);
        let mut said = said.into_iter();
        let open = pending
            .cves
            .iter()
            .filter(|cve| match said.next().flatten() {
                Some(statement) => {
                    settled.push(statement.settled(&cve.id, &pending.source));
                    false
                }
                None => true,
            });
        let open: Vec<_> = open.cloned().collect();
        pending.severity = worst(&open);
        if !is_settled {
            pending.cves = open;
        }
        !is_settled
    });
    settled.sort_by(|a, b| (&a.package, &a.id).cmp(&(&b.package, &b.id)));
    settled.dedup_by(|a, b| (&a.package, &a.id) == (&b.package, &b.id));
    report.settled = settled;
}

/// What is installed of a source.
fn binaries<'i>(image: &'i Installed, source: &str) -> Vec<(&'i str, &'i str)> {
    let of_source = image.packages.iter().filter(|(_, of)| of.name == source);
    let named = of_source.map(|(package, _)| (package.name.as_str(), package.version.as_str()));
    named.collect()
}
