//! Advisories and statements about them, as files that somebody has fetched.
//!
//! ```text
//! osv      files of OSV, single, as lists, in a directory or an archive of zip
//! debian   the JSON of Debian's security tracker
//! vex      OpenVEX: which of them do not concern whom
//! csaf     the same as CSAF
//! purl     which packages such a statement names
//! zip      the files of an archive of zip
//! ```
//!
//! A file is known by what is in it and not by its name. Fields that are not known here are passed
//! over; one of another type than its format says is an error that names the file and the entry.

mod csaf;
mod debian;
mod osv;
mod purl;
mod vex;
mod zip;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use store::Sha256;

pub(super) use self::purl::Product;
pub(super) use self::vex::Statements;
use super::python_version;
use super::report::Datum;
use super::severity::Severity;
use crate::debian_version;
use crate::error::{Context, Error, Result};

/// No file is larger.
const MAX_FILE: u64 = 1 << 30;

/// What advisories are looked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Names of Debian source packages.
    pub(super) sources: BTreeSet<String>,
    /// Names of Python projects, normalised.
    pub(super) projects: BTreeSet<String>,
}

/// Where packages are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ecosystem {
    Debian,
    PyPi,
}

impl Ecosystem {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::PyPi => "pypi",
        }
    }

    pub(super) fn compare(self, a: &str, b: &str) -> std::cmp::Ordering {
        match self {
            Self::Debian => debian_version::compare(a, b),
            Self::PyPi => python_version::compare(a, b),
        }
    }
}

/// What an advisory says about one package.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    /// Other names of the same, such as its CVE id.
    pub(super) aliases: BTreeSet<String>,
    pub(super) ecosystem: Ecosystem,
    /// The Debian release that it is about, as a number or a code name; all when none.
    pub(super) release: Option<String>,
    /// The source package or the normalised project.
    pub(super) package: String,
    pub(super) affected: Affected,
    pub(super) severity: Severity,
    pub(super) summary: String,
}

/// Which versions an advisory is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Affected {
    pub(super) ranges: Vec<Range>,
    /// Single versions.
    pub(super) versions: Vec<String>,
}

/// Where a fault came, and where it went.
#[derive(Clone, Debug, Default)]
pub(super) struct Range {
    pub(super) introduced: Vec<String>,
    /// The first versions without it.
    pub(super) fixed: Vec<String>,
    /// The last versions with it.
    pub(super) last: Vec<String>,
}

impl Affected {
    /// All versions before one; all that there are without one.
    pub(super) fn before(fixed: Option<String>) -> Self {
        Self {
            ranges: vec![Range {
                introduced: vec!["0".to_owned()],
                fixed: fixed.into_iter().collect(),
                last: Vec::new(),
            }],
            versions: Vec::new(),
        }
    }

    /// Whether a version is one of them (OSV schema, "Evaluation").
    pub(super) fn has(&self, version: &str, ecosystem: Ecosystem) -> bool {
        let same = |other: &String| ecosystem.compare(version, other).is_eq();
        self.versions.iter().any(same) || self.ranges.iter().any(|r| r.has(version, ecosystem))
    }

    /// The least version above this one without the fault.
    pub(super) fn fixed_above(&self, version: &str, ecosystem: Ecosystem) -> Option<String> {
        let fixed = self.ranges.iter().flat_map(|range| &range.fixed);
        let above = fixed.filter(|fixed| ecosystem.compare(fixed, version).is_gt());
        above.min_by(|a, b| ecosystem.compare(a, b)).cloned()
    }
}

impl Range {
    /// What stands nearest below the version decides.
    fn has(&self, version: &str, ecosystem: Ecosystem) -> bool {
        // "0" is before all versions, whatever their scheme.
        let reached = |event: &&String| *event == "0" || ecosystem.compare(event, version).is_le();
        let before = |event: &&String| ecosystem.compare(event, version).is_lt();
        let newest = |events: &mut dyn Iterator<Item = &String>| {
            events.max_by(|a, b| ecosystem.compare(a, b)).cloned()
        };
        let Some(came) = newest(&mut self.introduced.iter().filter(reached)) else {
            return false;
        };
        let fixed = newest(&mut self.fixed.iter().filter(reached));
        let last = newest(&mut self.last.iter().filter(before));
        // Of a version at which it both went and came, it came.
        let came_after = |went: &String| came != "0" && ecosystem.compare(&came, went).is_ge();
        let came_after_last = |last: &String| came != "0" && ecosystem.compare(&came, last).is_gt();
        fixed.as_ref().is_none_or(came_after) && last.as_ref().is_none_or(came_after_last)
    }
}

/// All that files said.
#[derive(Debug, Default)]
pub(super) struct Advisories {
    pub(super) records: Vec<Record>,
    /// How bad what has an id is, where somebody says so.
    pub(super) severities: BTreeMap<String, Severity>,
    pub(super) data: Vec<Datum>,
}

impl Advisories {
    fn add(&mut self, record: Record) {
        let ids = record.aliases.iter().chain([&record.id]);
        for id in ids {
            let known = self.severities.entry(id.clone()).or_default();
            *known = record.severity.max(*known);
        }
        self.records.push(record);
    }
}

/// Reads advisories from files and directories; of these, all files whose names end with `.json`
/// or `.zip`, whatever is below.
pub(super) fn read(paths: &[PathBuf], wanted: &Wanted) -> Result<Advisories> {
    let mut found = Advisories::default();
    for path in paths {
        if path.is_dir() {
            let files = files_below(path)?;
            if files.is_empty() {
                let what = format!("{} has no file .json or .zip", path.display());
                return Err(Error::usage(what));
            }
            let mut digests = String::new();
            for file in files {
                let digest = read_one(&file, wanted, &mut found)?.1;
                let name = file.strip_prefix(path).unwrap_or(&file);
                let _ = writeln!(digests, "{}  {}", digest.hex(), name.display());
            }
            // As `sha256sum` writes them, so that it is one datum and not fifty thousand.
            let sha256 = Sha256::of(digests.as_bytes());
            found.data.push(Datum::of("directory", path, sha256));
        } else {
            let (kind, sha256) = read_one(path, wanted, &mut found)?;
            found.data.push(Datum::of(kind, path, sha256));
        }
    }
    Ok(found)
}

fn read_one(
    path: &Path,
    wanted: &Wanted,
    found: &mut Advisories,
) -> Result<(&'static str, Sha256)> {
    let bytes = bytes_of(path)?;
    let sha256 = Sha256::of(&bytes);
    let name = path.display().to_string();
    if zip::is(&bytes) {
        zip::files(&name, &bytes, &mut |entry, text| {
            let name = format!("{name}: {entry}");
            match shape(&name, text)? {
                Shape::Osv | Shape::OsvList => osv::read(&name, text, wanted, found),
                _ => Err(unknown(&name)),
            }
        })?;
        return Ok(("osv", sha256));
    }
    match shape(&name, &bytes)? {
        Shape::Osv | Shape::OsvList => {
            osv::read(&name, &bytes, wanted, found)?;
            Ok(("osv", sha256))
        }
        Shape::Tracker => {
            debian::read(&name, &bytes, wanted, found)?;
            Ok(("debian-tracker", sha256))
        }
        Shape::OpenVex | Shape::Csaf => Err(Error::usage(format!("{name} holds no advisories"))
            .hint(format!(
                "it says which advisories do not concern a product: --vex {name}"
            ))),
        Shape::Other => Err(unknown(&name)),
    }
}

/// Reads statements of `OpenVEX` and CSAF.
pub(super) fn read_vex(paths: &[PathBuf]) -> Result<(Statements, Vec<Datum>)> {
    let (mut statements, mut data) = (Statements::default(), Vec::new());
    for path in paths {
        let bytes = bytes_of(path)?;
        let name = path.display().to_string();
        let kind = match shape(&name, &bytes)? {
            Shape::OpenVex => {
                vex::read(&name, &bytes, &mut statements)?;
                "openvex"
            }
            Shape::Csaf => {
                csaf::read(&name, &bytes, &mut statements)?;
                "csaf"
            }
            Shape::Osv | Shape::OsvList | Shape::Tracker | Shape::Other => {
                return Err(Error::usage(format!(
                    "{name} is neither a document of OpenVEX nor one of CSAF"
                ))
                .hint("advisories are given with --advisories"));
            }
        };
        data.push(Datum::of(kind, path, Sha256::of(&bytes)));
    }
    Ok((statements, data))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    let file = File::open(path).context(failed)?;
    if !file.metadata().context(failed)?.is_file() {
        return Err(Error::usage(failed()).detail("it is neither a file nor a directory"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .context(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::usage(failed()).detail(format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut pending) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = pending.pop() {
        let failed = || format!("cannot list {}", dir.display());
        for entry in fs::read_dir(&dir).context(failed)? {
            let entry = entry.context(failed)?;
            let path = entry.path();
            let kind = entry.file_type().context(failed)?;
            let named = path
                .extension()
                .is_some_and(|end| end == "json" || end == "zip");
            if kind.is_dir() {
                pending.push(path);
            } else if named && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What a file holds, by its outermost keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Osv,
    OsvList,
    Tracker,
    OpenVex,
    Csaf,
    Other,
}

/// The keys of an object, without what they stand for.
struct Keys(BTreeSet<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
                    keys.insert(key);
                }
                Ok(Keys(keys))
            }
        }
        from.deserialize_map(Object)
    }
}

fn shape(name: &str, bytes: &[u8]) -> Result<Shape> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return Ok(Shape::OsvList);
    }
    let Keys(keys) = parse(name, bytes)?;
    let has = |key: &str| keys.contains(key);
    if has("results") && keys.len() == 1 {
        return Err(Error::usage(format!("{name} holds no advisories"))
            .detail("it is an answer to many questions at once, which names ids and nothing else")
            .hint("fetch each advisory itself by its id"));
    }
    Ok(if has("vulns") {
        Shape::OsvList
    } else if has("id") && (has("affected") || has("modified")) {
        Shape::Osv
    } else if has("@context") && has("statements") {
        Shape::OpenVex
    } else if has("document") && (has("vulnerabilities") || has("product_tree")) {
        Shape::Csaf
    } else if !keys.is_empty() && keys.iter().all(|key| is_source(key)) {
        Shape::Tracker
    } else {
        Shape::Other
    })
}

/// A name of a source package (Debian Policy 5.6.1).
fn is_source(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    name.len() > 1 && name.bytes().all(fits)
}

/// Reads JSON; an error says which file it is, and where in it.
fn parse<'de, T: Deserialize<'de>>(name: &str, bytes: &'de [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| unsound(name, &e.to_string()))
}

fn unsound(name: &str, why: &str) -> Error {
    Error::usage(format!("{name} cannot be used"))
        .detail(why.to_owned())
        .hint("fetch it again, or leave it out")
}

fn unknown(name: &str) -> Error {
    Error::usage(format!("{name} is in no format that is known here")).hint(
        "advisories are files of OSV (JSON, or the all.zip of an ecosystem) and the JSON of \
         Debian's security tracker",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(introduced: &[&str], fixed: &[&str], last: &[&str]) -> Range {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        Range {
            introduced: owned(introduced),
            fixed: owned(fixed),
            last: owned(last),
        }
    }

    #[test]
    fn ranges_are_evaluated_as_osv_says() {
        for (range, inside, outside) in [
            (
                range(&["0"], &["1.2"], &[]),
                vec!["0.1", "1.1", "1.2rc1"],
                vec!["1.2", "2"],
            ),
            (range(&["1"], &[], &[]), vec!["1", "9"], vec!["0.9"]),
            (
                range(&["1"], &[], &["2"]),
                vec!["1", "2"],
                vec!["2.0.1", "0.9"],
            ),
            (
                range(&["0", "2.0"], &["1.5", "2.3"], &[]),
                vec!["1.4", "2.0", "2.2"],
                vec!["1.5", "1.9", "2.3"],
            ),
            (range(&[], &["1.0"], &[]), vec![], vec!["0.5", "1.0"]),
            (range(&["0"], &["0"], &[]), vec![], vec!["0.5", "1.0"]),
        ] {
            let affected = Affected {
                ranges: vec![range],
                versions: Vec::new(),
            };
            for version in inside {
                assert!(
                    affected.has(version, Ecosystem::PyPi),
                    "{version} {affected:?}"
                );
            }
            for version in outside {
                assert!(
                    !affected.has(version, Ecosystem::PyPi),
                    "{version} {affected:?}"
                );
            }
        }
        let several = Affected {
            ranges: vec![range(&["0"], &["1:1.2-1+deb12u10", "1:1.2-1+deb12u9"], &[])],
            versions: vec!["7".into()],
        };
        let fixed = several.fixed_above("1:1.2-1", Ecosystem::Debian);
        assert_eq!(fixed.as_deref(), Some("1:1.2-1+deb12u9"));
        assert!(several.has("7", Ecosystem::Debian));
    }
}
