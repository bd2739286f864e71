//! What the changelog of a package says was mended (deb-changelog(5)).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::debian_version::compare;

/// The entries of a changelog: their versions, and the CVE ids in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changelog(Vec<(String, BTreeSet<String>)>);

impl Changelog {
    /// Reads a changelog. `None` when no entry is of that source.
    pub(super) fn parse(text: &str, source: &str) -> Option<Self> {
        let mut entries: Vec<(String, BTreeSet<String>)> = Vec::new();
        let mut is_ours = false;
        for line in text.lines() {
            if let Some((name, version)) = heading(line) {
                is_ours = name == source;
                if is_ours {
                    entries.push((version.to_owned(), BTreeSet::new()));
                }
            } else if is_ours && let Some((_, found)) = entries.last_mut() {
                found.extend(cve_ids(line));
            }
        }
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// The CVE ids of the entries above a version.
    pub(super) fn above(&self, version: &str) -> BTreeSet<String> {
        let newer = self.0.iter();
        let newer = newer.filter(|(entry, _)| compare(entry, version) == Ordering::Greater);
        newer.flat_map(|(_, ids)| ids.iter().cloned()).collect()
    }

    /// A line for each entry: its version and its CVE ids.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for (version, ids) in &self.0 {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let _ = writeln!(text, "{version} {}", ids.join(" "));
        }
        text
    }

    /// What [`to_text`](Self::to_text) has written; `None` of anything else.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let entry = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let version = words.next()?;
            let ids: BTreeSet<String> = words.collect();
            let sound = ids.iter().all(|id| cve_ids(id).next().as_ref() == Some(id));
            sound.then_some((version, ids))
        };
        let entries: Vec<_> = text.lines().map(entry).collect::<Option<_>>()?;
        (!entries.is_empty() && text.ends_with('\n')).then_some(Self(entries))
    }
}

/// `SOURCE (VERSION) DISTRIBUTION; urgency=...`
fn heading(line: &str) -> Option<(&str, &str)> {
    if line.starts_with(char::is_whitespace) {
        return None;
    }
    let (name, rest) = line.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?;
    (rest.contains(';') && !version.contains(char::is_whitespace)).then_some((name, version))
}

/// `CVE-YEAR-NUMBER`, wherever it stands.
pub(super) fn cve_ids(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("CVE-").filter_map(|(at, mark)| {
        let rest = &text.as_bytes()[at + mark.len()..];
        let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits(rest) != 4 || rest.get(4) != Some(&b'-') {
            return None;
        }
        let number = digits(&rest[5..]);
        (4..=19)
            .contains(&number)
            .then(|| text[at..at + mark.len() + 5 + number].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
openssl (3.0.17-1~deb12u3) bookworm-security; urgency=medium

  * CVE-2025-9230 (Out-of-bounds read & write)
  * also CVE-2025-9231,CVE-2025-9232; not CVE-25-1 or CVE-2025-12

 -- A <a@debian.example>  Sun, 28 Sep 2025 14:00:00 +0200

openssl (3.0.17-1~deb12u2) bookworm; urgency=medium

  * CVE-2024-1234

 -- A <a@debian.example>  Sun, 20 Jul 2025 14:00:00 +0200

other (9) unstable; urgency=low

  * CVE-2020-0001
";

    #[test]
    fn ids_above_the_installed_version_count() {
        let log = Changelog::parse(TEXT, "openssl").unwrap();
        let above = |version: &str| log.above(version).into_iter().collect::<Vec<_>>();
        assert_eq!(
            above("3.0.17-1~deb12u2"),
            ["CVE-2025-9230", "CVE-2025-9231", "CVE-2025-9232"]
        );
        assert_eq!(above("3.0.16-1").len(), 4);
        assert!(above("3.0.17-1~deb12u3").is_empty());
        assert_eq!(Changelog::from_text(&log.to_text()).unwrap(), log);
        assert_eq!(Changelog::parse(TEXT, "libssl3"), None);
        for damaged in ["", "3.0 CVE-2025-9230", "3.0 CVE-x\n", "\n"] {
            assert_eq!(Changelog::from_text(damaged), None, "{damaged:?}");
        }
    }
}
