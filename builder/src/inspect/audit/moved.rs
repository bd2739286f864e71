//! What a lock took anew, for robots that tell people about it.

use std::collections::BTreeMap;

use serde::Serialize;
use store::manifest::Package;
use store::{Inputs, Sha256};

use super::pending::{Looked, look};
use crate::dpkg_status::SourcePackage;
use crate::error::Result;
use crate::lockfile::{Changes, Deb, Lock, is_security};
use crate::mirror;
use crate::settings::Settings;

/// One input that came, went or changed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// `base`, `deb`, `python`, `git`, `download` or `file`.
    pub kind: &'static str,
    /// Its name; a Python distribution is named with its virtualenv.
    pub name: String,
    /// What it was; null where it came.
    pub before: Option<Version>,
    /// What it is; null where it went.
    pub after: Option<Version>,
    /// Whether it is of the archive of security updates.
    pub security: bool,
    /// The CVE ids in its changelog above the version before; null where that could not be read,
    /// and of what is no package of Debian or was not there before.
    pub cves: Option<Vec<String>>,
}

/// A version of an input.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// As its lock has it.
    pub version: String,
    /// Bytes.
    pub size: u64,
}

/// What differs between two locks whose inputs are retained. Where nothing of the older one is known,
/// everything is added.
pub fn moved(
    old: Option<&Lock>,
    new: &Lock,
    inputs: &Inputs,
    settings: &Settings,
) -> Result<Vec<Moved>> {
    let changes = Changes::between(old, new).changes.into_iter();
    let changes = changes.filter(|change| change.kind != "lock");
    let version = |(version, size): (String, u64)| Version { version, size };
    let one = |change: crate::lockfile::Change| {
        let is_deb = change.kind == "deb";
        let name = change.name.split(' ').next().unwrap_or_default();
        let deb = |lock: &'_ Lock| {
            let mut last = lock.debs_after().into_iter();
            last.find(|deb| is_deb && deb.name == name).cloned()
        };
        let (before, after) = (old.and_then(deb), deb(new));
        let cves = match (&before, &after) {
            (Some(before), Some(after)) => cves(before, after, new, inputs, settings)?,
            _ => None,
        };
        Ok(Moved {
            change: match (&change.before, &change.after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            },
            kind: change.kind,
            name: change.name,
            before: change.before.map(version),
            after: change.after.map(version),
            security: after.is_some_and(|deb| is_security(&deb)),
            cves,
        })
    };
    changes.map(one).collect()
}

/// What the changelog of a package names above an older one of it; none where there is nothing to read.
fn cves(
    before: &Deb,
    after: &Deb,
    lock: &Lock,
    inputs: &Inputs,
    settings: &Settings,
) -> Result<Option<Vec<String>>> {
    let here = |deb: &&Deb| inputs.has(&deb.sha256);
    let both: Vec<&Deb> = [before, after].into_iter().filter(here).collect();
    if !both.contains(&after) {
        return Ok(None);
    }
    let digests: Vec<Sha256> = both.iter().map(|deb| deb.sha256).collect();
    let controls = mirror::controls(&digests, inputs, &settings.work.join(mirror::CONTROLS))?;
    let controls: BTreeMap<Sha256, String> = digests.into_iter().zip(controls).collect();
    let source = |deb: &Deb| {
        let package = Package {
            name: deb.name.clone(),
            version: deb.version.clone(),
            arch: deb.architecture.clone(),
        };
        let control = controls.get(&deb.sha256);
        SourcePackage::of_paragraph(control.map_or("", String::as_str), &package)
    };
    let (from, to) = (source(before), source(after));
    let mut at = after;
    // The documentation of a package can be that of another one, once.
    for _ in 0..2 {
        // A package without a changelog that can be read says nothing.
        match look(&inputs.path(&at.sha256), &to.name, &at.name) {
            Ok(Looked::Changelog(log)) => {
                return Ok(Some(log.above(&from.version).into_iter().collect()));
            }
            Ok(Looked::Elsewhere(name)) => {
                let mut others = lock.debs_after().into_iter();
                let other = others.find(|deb| deb.name == name && inputs.has(&deb.sha256));
                match other {
                    Some(other) => at = other,
                    None => return Ok(None),
                }
            }
            Ok(Looked::Nothing) | Err(_) => return Ok(None),
        }
    }
    Ok(None)
}
