//! One entry of an index of packages, as deb-control(5) has it.
//!
//! A signature says who made an index, not that it is harmless: names become
//! words of apt's answers and of command lines, paths become parts of
//! addresses. Names are checked in every entry, the rest in those that apt
//! chose (Debian Policy 5.6).

use std::path::Path;

use memchr::memmem;
use store::digest::Sha256;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile;
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

/// The fields of a stanza in their order: names as they are written, values with the lines that
/// continue them.
#[derive(Default)]
pub(super) struct Fields<'s>(Vec<(&'s [u8], &'s [u8])>);

impl<'s> Fields<'s> {
    /// Reads a stanza; an error when it says something twice.
    pub(super) fn read(stanza: &'s [u8]) -> std::result::Result<Self, String> {
        let mut fields: Vec<(&[u8], &[u8])> = Vec::with_capacity(32);
        // Which kinds of names there were, by their length and ends: few must be compared.
        let mut kinds = 0_u128;
        let mut start = 0;
        while start < stanza.len() {
            let mut end = line_end(stanza, start);
            while matches!(stanza.get(end + 1), Some(b' ' | b'\t')) {
                end = line_end(stanza, end + 1);
            }
            let line = &stanza[start..end];
            start = end + 1;
            let Some(colon) = memchr::memchr(b':', line).filter(|_| !line[0].is_ascii_whitespace())
            else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let kind = 1 << (kind_of(name) & 127);
            // Names of fields know no case; a second one would be another answer.
            if kinds & kind != 0
                && fields
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                return Err(format!("it says `{}` twice: {}", shown(name), shown(value)));
            }
            kinds |= kind;
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    /// The value of a field; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &'s [u8] {
        let mut fields = self.0.iter();
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| *value).unwrap_or_default()
    }

    /// A field that becomes a word of commands and paths.
    fn word(&self, name: &str) -> std::result::Result<&'s str, String> {
        let value = self.get(name);
        if value.is_empty() {
            return Err(format!("an entry has no field {name}"));
        }
        let text = std::str::from_utf8(value).ok();
        text.filter(|text| lockfile::is_word(text)).ok_or_else(|| {
            format!(
                "the field {name} of `{}` is `{}`",
                shown(self.get("Package")),
                shown(value)
            )
        })
    }

    /// Its name, version and architecture; an error when they are not sound.
    pub(super) fn id(&self) -> std::result::Result<(&'s str, &'s str, &'s str), String> {
        Ok((
            self.word("Package")?,
            self.word("Version")?,
            self.word("Architecture")?,
        ))
    }
}

/// Where the line ends that begins there.
fn line_end(text: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |found| start + found)
}

/// Nearly a different number for each name of a field that a stanza has.
fn kind_of(name: &[u8]) -> usize {
    let of = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default() | 0x20);
    name.len() + 5 * of(name.first()) + 11 * of(name.last())
}

/// Where the stanzas of a Packages file are, without the empty ones.
pub(super) fn stanza_ranges(packages: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut ends = memmem::find_iter(packages, b"\n\n")
        .map(|at| at + 1)
        .chain([packages.len()]);
    let mut start = 0;
    std::iter::from_fn(move || {
        loop {
            let end = ends.next()?;
            let from = start;
            start = end + 1;
            let range = from.min(end)..end;
            if !packages[range.clone()].trim_ascii().is_empty() {
                return Some(range);
            }
        }
    })
}

/// The packages of a Packages file, which is `of` something.
pub(super) fn stanzas(packages: &[u8], of: &str) -> Result<Vec<(Id, Candidate)>> {
    let stanzas = stanza_ranges(packages).map(|range| &packages[range]);
    stanzas
        .map(|stanza| parse_stanza(stanza).map_err(|defect| not_sound(of, defect)))
        .collect()
}

/// The error for an index that is `of` something.
pub(super) fn not_sound(of: &str, defect: String) -> Error {
    let what = format!("the index of packages {of} is not sound");
    Error::new(ErrorKind::Refused, what)
        .detail(defect)
        .hint("tell whoever runs that archive, or drop its [[source]]")
}

/// A stanza of a Packages file; an error when even its names are not sound.
pub(super) fn parse_stanza(stanza: &[u8]) -> std::result::Result<(Id, Candidate), String> {
    let stanza = stanza.trim_ascii_end();
    let fields = Fields::read(stanza)?;
    let (name, version, architecture) = fields.id()?;
    let text = |name: &str| std::str::from_utf8(fields.get(name)).unwrap_or("?");
    let size = text("Size").parse().unwrap_or(0);
    let sha256 = Sha256::from_hex(text("SHA256")).ok();
    let wrong = |name| Some(format!("its field {name} is `{}`", shown(fields.get(name))));
    let defect = if !lockfile::is_relative(text("Filename")) {
        wrong("Filename")
    } else if size == 0 || size > MAX_PACKAGE {
        wrong("Size")
    } else if sha256.is_none() {
        wrong("SHA256")
    } else {
        None
    };
    let candidate = Candidate {
        stanza: String::from_utf8_lossy(stanza).into_owned(),
        archive: None,
        path: text("Filename").to_owned(),
        size,
        sha256: sha256.unwrap_or_else(|| Sha256::of(b"")),
        defect,
    };
    let id = (name.to_owned(), version.to_owned(), architecture.to_owned());
    Ok((id, candidate))
}

/// Somebody else's text in a line of ours.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let short: String = text.trim().chars().take(80).collect();
    short.escape_debug().to_string()
}

/// A .deb beside the recipe, described as an index would.
pub(super) fn local_candidate(path: &Path, relative: &str) -> Result<(Id, Candidate)> {
    let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
    let control = Tool::new("dpkg-deb").arg("--field").arg(path).output()?;
    let control = String::from_utf8_lossy(&control);
    let sha256 = Sha256::of(&bytes);
    let size = bytes.len();
    let stanza = format!(
        "{}\nFilename: {relative}\nSize: {size}\nSHA256: {}",
        control.trim_end(),
        sha256.hex()
    );
    parse_stanza(stanza.as_bytes()).map_err(|defect| {
        Error::failed(format!(
            "{} is no Debian package with name and version",
            path.display()
        ))
        .detail(defect)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::index::Index;
    use super::*;

    pub(in super::super) const GOOD: &str = "Package: tool\nVersion: 1:1.0~rc1-2+b1\nArchitecture: all\n\
        Filename: pool/t/tool_1.0.deb\nSize: 7\nDescription: a\n Size: 9\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn hostile_fields_are_named() {
        let (id, good) = parse_stanza(GOOD.as_bytes()).unwrap();
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
            let why = parse_stanza(stanza.as_bytes()).err().unwrap();
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
            let (id, candidate) = parse_stanza(GOOD.replacen(from, to, 1).as_bytes()).unwrap();
            let defect = candidate.defect.clone().unwrap();
            assert!(defect.contains(field), "{defect}");
            let mut index = Index::default();
            index.add(id.clone(), candidate);
            let error = index.chosen(&id, "").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert_eq!(error.causes()[0], defect);
        }
    }

    #[test]
    fn stanzas_are_split_at_empty_lines() {
        let split = |text: &str| -> Vec<String> {
            let ranges = stanza_ranges(text.as_bytes());
            ranges
                .map(|range| text[range].trim_end().to_owned())
                .collect()
        };
        assert_eq!(split("a: 1\nb: 2\n\nc: 3\n"), ["a: 1\nb: 2", "c: 3"]);
        assert_eq!(split("\n\n\na: 1\n\n\n\n \n\nb: 2"), ["\na: 1", "b: 2"]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn a_value_has_the_lines_that_continue_it() {
        let text = b" stray: 0\nDepends: a,\n b\n\tc\nPackage: x\nno field\nempty:\n";
        let fields = Fields::read(text).unwrap();
        assert_eq!(fields.get("depends"), b"a,\n b\n\tc");
        assert_eq!(fields.get("PACKAGE"), b"x");
        assert_eq!(
            (fields.get("empty"), fields.get("stray")),
            (&b""[..], &b""[..])
        );
        assert!(Fields::read(b"Bulk: 1\nBark: 2\nbulk: 3\n").is_err());
    }
}
