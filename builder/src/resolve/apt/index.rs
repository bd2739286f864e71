//! What apt verified and kept: Release files and indexes of packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use store::digest::Sha256;

use super::Apt;
use crate::error::{Context, Error, Result};
use crate::lock::Release;
use crate::process::Tool;

/// A binary package as the archive's index describes it.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) stanza: String,
    pub(super) archive: Option<String>,
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: Sha256,
}

/// (name, version, architecture)
pub(super) type Id = (String, String, String);

impl Apt<'_> {
    /// The files that apt keeps of a suite, by the ending of their names.
    fn lists(&self, suite: &(String, String, String, String)) -> Result<Vec<(String, PathBuf)>> {
        let url = self.archives.url(&suite.0)?;
        let trimmed = url
            .split_once("://")
            .map_or_else(|| url.trim_start_matches("file:"), |u| u.1);
        // apt drops credentials and encodes the address as a file name.
        let place = trimmed.rsplit_once('@').map_or(trimmed, |(_, host)| host);
        let prefix = format!(
            "{}_dists_{}_",
            place.replace('/', "_"),
            suite.1.replace('/', "_")
        );
        let lists = self.dir.join("lists");
        let unreadable = || format!("cannot read {}", lists.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&lists).context(unreadable)? {
            let entry = entry.context(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(&prefix) {
                found.push((rest.to_owned(), entry.path()));
            }
        }
        Ok(found)
    }

    pub(super) fn releases(&self) -> Result<Vec<Release>> {
        let mut releases = Vec::new();
        for suite in self.suites() {
            let files = self.lists(&suite)?;
            let file = files
                .iter()
                .find(|f| f.0 == "InRelease")
                .or(files.iter().find(|f| f.0 == "Release"));
            let Some((_, path)) = file else {
                return Err(Error::failed(format!(
                    "apt kept no Release file of the suite {}",
                    suite.1
                ))
                .hint("check the address of the archive: its path must not redirect elsewhere"));
            };
            let bytes = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
            let text = String::from_utf8_lossy(&bytes);
            let date = text
                .lines()
                .find_map(|l| l.strip_prefix("Date:"))
                .and_then(parse_date);
            let Some(date) = date else {
                return Err(Error::failed(format!(
                    "the Release file of {} has no Date",
                    suite.1
                )));
            };
            releases.push(Release {
                archive: suite.0,
                suite: suite.1,
                date,
                sha256: Sha256::of(&bytes),
            });
        }
        Ok(releases)
    }

    /// Every package of the indexes that apt verified.
    pub(super) fn index(&self) -> Result<BTreeMap<Id, Candidate>> {
        let mut index = BTreeMap::new();
        for suite in self.suites() {
            for (name, path) in self.lists(&suite)? {
                if !name.ends_with("_Packages") {
                    continue;
                }
                let text = fs::read_to_string(&path)
                    .context(|| format!("cannot read {}", path.display()))?;
                for stanza in text.split("\n\n") {
                    if let Some((id, mut candidate)) = parse_stanza(stanza.trim_end()) {
                        candidate.archive = Some(suite.0.clone());
                        index.entry(id).or_insert(candidate);
                    }
                }
            }
        }
        Ok(index)
    }
}

/// A stanza of a Packages file; none when it lacks what a package must have.
fn parse_stanza(stanza: &str) -> Option<(Id, Candidate)> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for line in stanza.lines().filter(|l| !l.starts_with([' ', '\t'])) {
        if let Some((name, value)) = line.split_once(':') {
            fields.insert(name, value.trim());
        }
    }
    let get = |name: &str| fields.get(name).map(|v| (*v).to_owned());
    let id = (get("Package")?, get("Version")?, get("Architecture")?);
    let candidate = Candidate {
        stanza: stanza.to_owned(),
        archive: None,
        path: get("Filename")?,
        size: get("Size")?.parse().ok()?,
        sha256: Sha256::from_hex(&get("SHA256")?).ok()?,
    };
    Some((id, candidate))
}

/// A .deb beside the recipe, described as an index would.
pub(super) fn local_candidate(path: &Path, relative: &str) -> Result<(Id, Candidate)> {
    let bytes = fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let control = Tool::new("dpkg-deb").arg("--field").arg(path).output()?;
    let control = String::from_utf8_lossy(&control);
    let sha256 = Sha256::of(&bytes);
    let size = bytes.len();
    let stanza = format!(
        "{}\nFilename: {relative}\nSize: {size}\nSHA256: {}",
        control.trim_end(),
        sha256.hex()
    );
    parse_stanza(&stanza).ok_or_else(|| {
        Error::failed(format!(
            "{} is no Debian package with name and version",
            path.display()
        ))
    })
}

/// RFC 2822 as archives write it: `Sat, 09 Aug 2025 09:16:30 UTC`.
fn parse_date(text: &str) -> Option<u64> {
    let text = text.trim().replace("UTC", "+0000");
    let zoned = jiff::fmt::rfc2822::parse(&text).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_releases_are_understood() {
        assert_eq!(
            parse_date(" Sat, 09 Aug 2025 09:16:30 UTC"),
            Some(1_754_730_990)
        );
        assert_eq!(parse_date("yesterday"), None);
    }
}
