//! What apt verified and kept: Release files and indexes of packages.
//!
//! A signature says who made an index, not that it is harmless: names become
//! words of apt's answers and of command lines, paths become parts of
//! addresses. Names are checked in every stanza, the rest in those that apt
//! chose (deb-control(5), Debian Policy 5.6).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use store::digest::Sha256;

use super::Apt;
use super::settings::Suite;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::{self, Release};
use crate::process::Tool;

/// No package is larger: a bound before work.
const MAX_PACKAGE: u64 = 16 << 30;

/// A binary package as the archive's index describes it.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) stanza: String,
    pub(super) archive: Option<String>,
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: Sha256,
    /// Why nothing may be made of it.
    pub(super) defect: Option<String>,
}

/// (name, version, architecture)
pub(super) type Id = (String, String, String);

/// What the archives have, and what lies beside the recipe: one name, version and
/// architecture can be several files.
#[derive(Default)]
pub(super) struct Index(BTreeMap<Id, Vec<Candidate>>);

impl Index {
    /// Learns of a package; the same bytes count once.
    pub(super) fn add(&mut self, id: Id, candidate: Candidate) {
        let known = self.0.entry(id).or_default();
        if !known.iter().any(|k| k.sha256 == candidate.sha256) {
            known.push(candidate);
        }
    }

    /// The versions of a package that there are, of all architectures.
    pub(super) fn versions(&self, name: &str) -> impl Iterator<Item = (&str, &Candidate)> {
        let from = (name.to_owned(), String::new(), String::new());
        let of_name = self
            .0
            .range(from..)
            .take_while(move |((found, ..), _)| *found == name);
        of_name.flat_map(|((_, version, _), all)| all.iter().map(|one| (version.as_str(), one)))
    }

    /// The names of an archive's packages whose field Priority is this one (Debian
    /// Policy 2.5). apt has a pattern for it only since version 2.3.
    pub(super) fn of_priority(&self, archive: &str, priority: &str) -> Vec<String> {
        let is_wanted = |candidate: &Candidate| {
            let mut lines = candidate.stanza.lines();
            let found = lines.find_map(|line| line.strip_prefix("Priority:"));
            candidate.archive.as_deref() == Some(archive)
                && found.is_some_and(|found| found.trim() == priority)
        };
        let found = self
            .0
            .iter()
            .filter(|(_, known)| known.iter().any(is_wanted));
        let names: BTreeSet<_> = found.map(|(id, _)| id.0.clone()).collect();
        names.into_iter().collect()
    }

    /// All files of this name, version and architecture.
    pub(super) fn of(&self, id: &Id) -> &[Candidate] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// The file that apt chose, if something can be made of it; `bytes` are the
    /// addresses and digests that apt names, where it could be several.
    pub(super) fn chosen(&self, id: &Id, bytes: &str) -> Result<&Candidate> {
        let found = match self.of(id) {
            [only] => Some(only),
            several => {
                let named = |c: &&Candidate| bytes.contains(&c.sha256.hex());
                // A file beside the recipe has no address.
                let beside = |c: &&Candidate| c.archive.is_none();
                several.iter().find(named).or(several.iter().find(beside))
            }
        };
        let found = found.ok_or_else(|| {
            Error::failed(format!(
                "apt chose {} {}, which no index of the recipe has",
                id.0, id.1
            ))
            .hint("the archive may have changed in between: run the command again")
        })?;
        let Some(defect) = &found.defect else {
            return Ok(found);
        };
        let what = format!("the index's entry of {} {} cannot be used", id.0, id.1);
        Err(Error::new(ErrorKind::Refused, what)
            .detail(defect.clone())
            .hint("tell whoever runs that archive, or choose another version of the package"))
    }

    /// The first of the words for apt whose package, or whose version of it, no
    /// index has: `name`, `name=version`, `name-`.
    pub(super) fn unknown(&self, wanted: &[String]) -> Option<String> {
        // Paths of files and patterns of apt name nothing.
        let mut named = wanted.iter().filter(|word| !word.starts_with('/'));
        named.find_map(|word| {
            let (name, version) = match word.split_once('=') {
                Some((name, version)) => (name, Some(version)),
                None => (word.strip_suffix('-').unwrap_or(word), None),
            };
            let name = name.split(':').next().unwrap_or(name);
            let mut of_name = self.0.keys().filter(|id| id.0 == name).peekable();
            let is_known = of_name.peek().is_some();
            match version {
                Some(version) if is_known => {
                    (!of_name.any(|id| id.1 == version)).then(|| format!("{version} of {name}"))
                }
                None if is_known || self.0.values().flatten().any(|c| provides(c, name)) => None,
                _ => Some(name.to_owned()),
            }
        })
    }
}

impl Apt<'_> {
    /// The files that apt keeps of a suite, by the ending of their names.
    pub(super) fn lists(&self, suite: &Suite) -> Result<Vec<(String, PathBuf)>> {
        let url = self.archives.site(&suite.archive)?;
        let prefix = file_name(&format!("{url}/dists/{}/", suite.name));
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
                    suite.name
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
                    suite.name
                )));
            };
            let sha256 = Sha256::of(&bytes);
            if let Some(wanted) = suite.release.filter(|wanted| *wanted != sha256) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!(
                        "the suite {} of the archive `{}` has another Release file than the \
                         recipe names",
                        suite.name, suite.archive
                    ),
                )
                .detail(format!("it has sha256:{}", sha256.hex()))
                .detail(format!("the recipe says sha256:{}", wanted.hex()))
                .hint("change `release` in the recipe, or use a mirror that still has that one"));
            }
            releases.push(Release {
                archive: suite.archive,
                suite: suite.name,
                date,
                sha256,
            });
        }
        Ok(releases)
    }

    /// Every package of the indexes that apt verified.
    pub(super) fn index(&self) -> Result<Index> {
        let mut index = Index::default();
        for suite in self.suites() {
            for (name, path) in self.lists(&suite)? {
                if !name.ends_with("_Packages") {
                    continue;
                }
                let text = fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
                let of = format!(
                    "in the suite {} of the archive `{}`",
                    suite.name, suite.archive
                );
                for (id, mut candidate) in stanzas(&text, &of)? {
                    candidate.archive = Some(suite.archive.clone());
                    candidate.defect = candidate.defect.map(|defect| format!("{defect} {of}"));
                    index.add(id, candidate);
                }
            }
        }
        Ok(index)
    }
}

/// Whether a package provides a virtual one (Debian Policy 7.5).
fn provides(candidate: &Candidate, name: &str) -> bool {
    let lines = candidate.stanza.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix("Provides:"));
    values.any(|value| {
        let mut names = value
            .split(',')
            .map(|one| one.trim().split([' ', '(']).next());
        names.any(|one| one == Some(name))
    })
}

/// What apt calls the file of an address among its lists: without scheme,
/// encoded, with underscores for slashes.
pub(super) fn file_name(site: &str) -> String {
    let place = site
        .split_once("://")
        .map_or_else(|| site.trim_start_matches("file:"), |(_, rest)| rest);
    let mut name = String::new();
    for byte in place.bytes() {
        let encoded = b"\\|{}[]<>\"^~_=!@#$%^&*".contains(&byte) || !(0x21..0x7f).contains(&byte);
        match byte {
            b'/' => name.push('_'),
            _ if encoded => {
                let _ = write!(name, "%{byte:02x}");
            }
            _ => name.push(char::from(byte)),
        }
    }
    name
}

/// The packages of a Packages file, which is `of` something.
pub(super) fn stanzas(packages: &[u8], of: &str) -> Result<Vec<(Id, Candidate)>> {
    let text = String::from_utf8_lossy(packages);
    let stanzas = text.split("\n\n").filter(|s| !s.trim().is_empty());
    let parsed = stanzas.map(|stanza| {
        parse_stanza(stanza.trim_end()).map_err(|defect| {
            Error::new(
                ErrorKind::Refused,
                format!("the index of packages {of} is not sound"),
            )
            .detail(defect)
            .hint("tell whoever runs that archive, or drop its [[source]]")
        })
    });
    parsed.collect()
}

/// A stanza of a Packages file; an error when even its names are not sound.
fn parse_stanza(stanza: &str) -> std::result::Result<(Id, Candidate), String> {
    let mut fields: BTreeMap<String, &str> = BTreeMap::new();
    for line in stanza.lines().filter(|l| !l.starts_with([' ', '\t'])) {
        if let Some((name, value)) = line.split_once(':') {
            // Names of fields know no case; a second one would be another answer.
            let before = fields.insert(name.to_ascii_lowercase(), value.trim());
            if before.is_some() {
                return Err(format!("it says `{}` twice: {}", shown(name), shown(value)));
            }
        }
    }
    let word = |name: &str| -> std::result::Result<String, String> {
        let value = fields.get(name.to_ascii_lowercase().as_str());
        let value = value.ok_or_else(|| format!("an entry has no field {name}"))?;
        if lockfile::is_word(value) {
            return Ok((*value).to_owned());
        }
        let package = fields.get("package").copied().unwrap_or_default();
        Err(format!(
            "the field {name} of `{}` is `{}`",
            shown(package),
            shown(value)
        ))
    };
    let id = (word("Package")?, word("Version")?, word("Architecture")?);
    let text = |name: &str| fields.get(name).copied().unwrap_or_default();
    let size = text("size").parse().unwrap_or(0);
    let sha256 = Sha256::from_hex(text("sha256")).ok();
    let wrong = |name: &str, value: &str| Some(format!("its field {name} is `{}`", shown(value)));
    let defect = if !lockfile::is_relative(text("filename")) {
        wrong("Filename", text("filename"))
    } else if size == 0 || size > MAX_PACKAGE {
        wrong("Size", text("size"))
    } else if sha256.is_none() {
        wrong("SHA256", text("sha256"))
    } else {
        None
    };
    let candidate = Candidate {
        stanza: stanza.to_owned(),
        archive: None,
        path: text("filename").to_owned(),
        size,
        sha256: sha256.unwrap_or_else(|| Sha256::of(b"")),
        defect,
    };
    Ok((id, candidate))
}

/// Somebody else's text in a line of ours.
fn shown(text: &str) -> String {
    let short: String = text.trim().chars().take(80).collect();
    short.escape_debug().to_string()
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
    parse_stanza(&stanza).map_err(|defect| {
        Error::failed(format!(
            "{} is no Debian package with name and version",
            path.display()
        ))
        .detail(defect)
    })
}

/// RFC 2822 as archives write it: `Sat, 09 Aug 2025 09:16:30 UTC`.
pub(super) fn parse_date(text: &str) -> Option<u64> {
    let text = text.trim().replace("UTC", "+0000");
    let zoned = jiff::fmt::rfc2822::parse(&text).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Package: tool\nVersion: 1:1.0~rc1-2+b1\nArchitecture: all\n\
        Filename: pool/t/tool_1.0.deb\nSize: 7\nDescription: a\n Size: 9\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn hostile_fields_are_named() {
        let (id, good) = parse_stanza(GOOD).unwrap();
        assert_eq!((id.0.as_str(), id.1.as_str()), ("tool", "1:1.0~rc1-2+b1"));
        assert_eq!((good.size, good.defect), (7, None));
        for (from, to, field) in [
            ("Package: tool", "Package: ../tool", "the field Package"),
            ("Package: tool", "Package: a tool", "the field Package"),
            ("Package: tool", "Package: 'tool", "the field Package"),
            ("Package: tool", "Package: -o", "the field Package"),
            ("Version: ", "Version: 2 ", "the field Version"),
            (
                "Architecture: all",
                "Architecture: a/b",
                "the field Architecture",
            ),
            ("Architecture: all\n", "", "no field Architecture"),
            ("Size: 7", "Size: 7\nsize: 8", "twice"),
        ] {
            let stanza = GOOD.replacen(from, to, 1);
            assert_ne!(stanza, GOOD);
            let why = parse_stanza(&stanza).err().unwrap();
            assert!(why.contains(field), "{why}");
        }
        for (from, to, field) in [
            (
                "pool/t",
                "../../etc",
                "Filename is `../../etc/tool_1.0.deb`",
            ),
            ("pool/t", "/etc", "Filename"),
            ("pool/t", "pool t", "Filename"),
            ("pool/t", "pool\"t", "Filename"),
            ("Size: 7", "Size: -1", "Size"),
            ("Size: 7", "Size: 99999999999999999999", "Size"),
            ("Size: 7\n", "", "Size"),
            ("SHA256: 0", "SHA256: x", "SHA256"),
        ] {
            let (id, candidate) = parse_stanza(&GOOD.replacen(from, to, 1)).unwrap();
            let mut index = Index::default();
            index.add(id.clone(), candidate);
            let error = index.chosen(&id, "").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.causes()[0].contains(field), "{:?}", error.causes());
        }
    }

    #[test]
    fn names_that_no_index_has_are_found() {
        let stanza = GOOD.replacen("Size", "Provides: mta, tool-api (= 1)\nSize", 1);
        let (id, candidate) = parse_stanza(&stanza).unwrap();
        let mut index = Index::default();
        index.add(id, candidate);
        let unknown = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            index.unknown(&words)
        };
        let fine = ["/a/b.deb", "tool", "mta", "tool-api", "tool-"];
        assert_eq!(unknown(&fine), None);
        assert_eq!(unknown(&["tool=1:1.0~rc1-2+b1"]), None);
        assert_eq!(unknown(&["tool", "toool"]).as_deref(), Some("toool"));
        assert_eq!(unknown(&["toool=1"]).as_deref(), Some("toool"));
        assert_eq!(unknown(&["tool=2"]).as_deref(), Some("2 of tool"));
        assert_eq!(unknown(&["nothing-"]).as_deref(), Some("nothing"));
    }

    #[test]
    fn what_is_required_says_the_archive_of_the_bootstrap() {
        let mut index = Index::default();
        for (name, archive, priority) in [
            ("tool", "debian", "Priority: required\n"),
            ("part", "debian", "Priority: optional\n"),
            ("plain", "debian", ""),
            ("agent", "ours", "Priority: required\n"),
        ] {
            let stanza = GOOD.replacen("Package: tool", &format!("Package: {name}"), 1);
            let (id, mut candidate) = parse_stanza(&format!("{priority}{stanza}")).unwrap();
            candidate.archive = Some(archive.to_owned());
            index.add(id, candidate);
        }
        assert_eq!(index.of_priority("debian", "required"), ["tool"]);
        assert_eq!(index.of_priority("debian", "important"), [""; 0]);
    }

    #[test]
    fn lists_are_found_under_the_names_that_apt_gives_them() {
        for (site, name) in [
            ("http://a.example/debian", "a.example_debian"),
            (
                "http://a.example:81/~me/my_own",
                "a.example:81_%7eme_my%5fown",
            ),
            ("file:/srv/a", "_srv_a"),
            ("file:///srv/a", "_srv_a"),
            ("http://[::1]/a", "%5b::1%5d_a"),
        ] {
            assert_eq!(file_name(site), name);
        }
    }

    #[test]
    fn dates_of_releases_are_understood() {
        assert_eq!(
            parse_date(" Sat, 09 Aug 2025 09:16:30 UTC"),
            Some(1_754_730_990)
        );
        assert_eq!(parse_date("yesterday"), None);
    }
}
