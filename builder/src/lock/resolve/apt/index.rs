//! What apt verified and kept: Release files and indexes of packages.
//!
//! A suite of Debian has sixty thousand packages, of which an image needs some hundred: entries
//! are checked when they are read, and understood when somebody asks for them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use memchr::memmem;
use rayon::prelude::*;
use store::digest::Sha256;

use super::Apt;
use super::settings::Suite;
use super::stanza::{Candidate, Fields, Id, not_sound, parse_stanza, stanza_ranges};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::Release;

/// Entries of a list that are looked through in one go.
const PART: usize = 4096;

/// The fields in which an entry names packages (Debian Policy 7).
const MENTIONS: [&str; 10] = [
    "Package",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Provides",
];

/// What a package cannot do without.
pub(super) const DEPENDENCIES: [&str; 2] = ["Pre-Depends", "Depends"];

/// What the archives have, and what lies beside the recipe: one name, version and
/// architecture can be several files.
#[derive(Default)]
pub(super) struct Index {
    lists: Vec<List>,
    /// Where the entries of each name are.
    names: HashMap<String, Vec<Place>>,
    /// Packages which are in no list.
    others: BTreeMap<Id, Vec<Candidate>>,
    /// The packages that provide each virtual one (Debian Policy 7.5).
    providers: HashMap<String, BTreeSet<String>>,
}

/// One Packages file.
struct List {
    path: PathBuf,
    archive: String,
    /// Whose it is, as errors say it.
    of: String,
    text: Vec<u8>,
    entries: Vec<Range<usize>>,
}

impl List {
    fn stanza(&self, entry: usize) -> &[u8] {
        &self.text[self.entries[entry].clone()]
    }

    /// The entries with such a text and nothing but this value in the rest of its line.
    fn mentioning<'l>(&'l self, text: &'l str, value: &'l str) -> impl Iterator<Item = &'l [u8]> {
        let places = memmem::find_iter(&self.text, text).filter(move |at| {
            let rest = &self.text[at + text.len()..];
            let line = rest.split(|byte| *byte == b'\n').next();
            line.unwrap_or_default().trim_ascii() == value.as_bytes()
        });
        let entries = places.map(|at| self.entries.partition_point(|range| range.end <= at));
        let entries = entries.filter(|entry| *entry < self.entries.len());
        entries.map(|entry| self.stanza(entry))
    }

    /// The entry of each of these names that is the first to mention it.
    fn first_mentions(&self, names: &BTreeSet<String>) -> BTreeSet<usize> {
        let names: HashSet<&[u8]> = names.iter().map(String::as_bytes).collect();
        let of_part = |(part, entries): (usize, &[Range<usize>])| {
            let mut first: HashMap<&[u8], usize> = HashMap::new();
            for (entry, range) in (part * PART..).zip(entries) {
                let Ok(fields) = Fields::read(&self.text[range.clone()]) else {
                    continue;
                };
                let mentioned = MENTIONS.iter().flat_map(|name| related(fields.get(name)));
                for name in mentioned.filter(|name| names.contains(name)) {
                    first.entry(name).or_insert(entry);
                }
            }
            first
        };
        let parts = self.entries.par_chunks(PART).enumerate().map(of_part);
        let mut first: HashMap<&[u8], usize> = HashMap::new();
        for (name, entry) in parts.collect::<Vec<_>>().into_iter().flatten() {
            let known = first.entry(name).or_insert(entry);
            *known = entry.min(*known);
        }
        first.into_values().collect()
    }
}

/// An entry of a list, by their numbers.
#[derive(Clone, Copy)]
struct Place {
    list: usize,
    entry: usize,
}

impl Index {
    /// Reads a Packages file; every entry is checked.
    fn read(&mut self, path: PathBuf, archive: &str, of: String) -> Result<()> {
        let text = fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        let entries: Vec<Range<usize>> = stanza_ranges(&text).collect();
        let list = self.lists.len();
        for (entry, range) in entries.iter().enumerate() {
            let fields = Fields::read(&text[range.clone()]).and_then(|fields| {
                fields.id()?;
                Ok(fields)
            });
            let fields = fields.map_err(|defect| not_sound(&of, defect))?;
            self.note(&fields).push(Place { list, entry });
        }
        self.lists.push(List {
            path,
            archive: archive.to_owned(),
            of,
            text,
            entries,
        });
        Ok(())
    }

    /// Learns of a package that is in no list; the same bytes count once.
    pub(super) fn add(&mut self, id: Id, candidate: Candidate) {
        if let Ok(fields) = Fields::read(candidate.stanza.as_bytes()) {
            self.note(&fields);
        }
        let known = self.others.entry(id).or_default();
        if !known.iter().any(|k| k.sha256 == candidate.sha256) {
            known.push(candidate);
        }
    }

    /// Learns what a package is called and what it provides; the places of its name.
    fn note(&mut self, fields: &Fields<'_>) -> &mut Vec<Place> {
        let text = |name| String::from_utf8_lossy(fields.get(name)).into_owned();
        let name = text("Package");
        for provided in related(fields.get("Provides")) {
            let provided = String::from_utf8_lossy(provided).into_owned();
            let providers = self.providers.entry(provided).or_default();
            providers.insert(name.clone());
        }
        self.names.entry(name).or_default()
    }

    /// All packages of a name.
    pub(super) fn of_name(&self, name: &str) -> Vec<(Id, Candidate)> {
        let places = self.names.get(name).into_iter().flatten();
        // Reading the list has checked each of them.
        let mut found: Vec<_> = places.filter_map(|place| self.parse(*place).ok()).collect();
        let from = (name.to_owned(), String::new(), String::new());
        let others = self.others.range(from..);
        for (id, known) in others.take_while(|((found, ..), _)| found == name) {
            found.extend(known.iter().map(|one| (id.clone(), one.clone())));
        }
        found
    }

    fn stanza(&self, place: Place) -> &[u8] {
        self.lists[place.list].stanza(place.entry)
    }

    fn parse(&self, place: Place) -> std::result::Result<(Id, Candidate), String> {
        let List { archive, of, .. } = &self.lists[place.list];
        let (id, mut candidate) = parse_stanza(self.stanza(place))?;
        candidate.archive = Some(archive.clone());
        candidate.defect = candidate.defect.map(|defect| format!("{defect} {of}"));
        Ok((id, candidate))
    }

    /// The names of an archive's packages whose field Priority is this one (Debian
    /// Policy 2.5). apt has a pattern for it only since version 2.3.
    pub(super) fn of_priority(&self, archive: &str, priority: &str) -> Vec<String> {
        let lists = self.lists.iter().filter(|list| list.archive == archive);
        let listed = lists.flat_map(|list| list.mentioning("Priority:", priority));
        let others = self.others.values().flatten();
        let others = others.filter(|one| one.archive.as_deref() == Some(archive));
        let others = others.map(|one| one.stanza.as_bytes());
        let stanzas = listed.chain(others);
        let fields = stanzas.filter_map(|stanza| Fields::read(stanza).ok());
        let names: BTreeSet<_> = fields
            .filter(|fields| fields.get("Priority") == priority.as_bytes())
            .map(|fields| String::from_utf8_lossy(fields.get("Package")).into_owned())
            .collect();
        names.into_iter().collect()
    }

    /// All files of this name, version and architecture.
    pub(super) fn of(&self, id: &Id) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for (_, candidate) in self
            .of_name(&id.0)
            .into_iter()
            .filter(|(known, _)| known == id)
        {
            if !found.iter().any(|known| known.sha256 == candidate.sha256) {
                found.push(candidate);
            }
        }
        found
    }

    /// The file that apt chose, if something can be made of it; `bytes` are the
    /// addresses and digests that apt names, where it could be several.
    pub(super) fn chosen(&self, id: &Id, bytes: &str) -> Result<Candidate> {
        let mut several = self.of(id);
        let found = if several.len() == 1 {
            several.pop()
        } else {
            let named = |c: &Candidate| bytes.contains(&c.sha256.hex());
            // A file beside the recipe has no address.
            let beside = |c: &Candidate| c.archive.is_none();
            let at = several.iter().position(named);
            at.or(several.iter().position(beside))
                .map(|at| several.swap_remove(at))
        };
        let found = found.ok_or_else(|| {
            Error::failed(format!(
                "apt chose {} {}, which no index of the recipe has",
                id.0, id.1
            ))
            .hint("the archive may have changed in between: run the command again")
        })?;
        let Some(defect) = found.defect else {
            return Ok(found);
        };
        let what = format!("the index's entry of {} {} cannot be used", id.0, id.1);
        Err(Error::new(ErrorKind::Refused, what)
            .detail(defect)
            .hint("tell whoever runs that archive, or choose another version of the package"))
    }

    /// The first of the words for apt whose package, or whose version of it, no
    /// index has: `name`, `name=version`, `name-`.
    pub(super) fn unknown(&self, wanted: &[String]) -> Option<String> {
        // Paths of files and patterns of apt name nothing.
        let mut named = wanted.iter().filter(|word| !word.starts_with('/'));
        named.find_map(|word| {
            let (name, version) = name_and_version(word);
            let is_known = self.names.contains_key(name);
            match version {
                Some(version) if is_known => {
                    let all = self.of_name(name);
                    let has_it = all.iter().any(|(id, _)| id.1 == version);
                    (!has_it).then(|| format!("{version} of {name}"))
                }
                None if is_known || self.providers.contains_key(name) => None,
                _ => Some(name.to_owned()),
            }
        })
    }

    /// The names of packages which are in no list.
    pub(super) fn others(&self) -> impl Iterator<Item = String> {
        self.others.keys().map(|(name, ..)| name.clone())
    }

    /// The names of packages that apt can come to install when it is asked for these: they, what
    /// they depend on, whoever provides that, and so on; with `recommends` what they recommend too.
    pub(super) fn reachable(
        &self,
        roots: impl IntoIterator<Item = String>,
        recommends: bool,
    ) -> BTreeSet<String> {
        let mut relations = DEPENDENCIES.to_vec();
        relations.extend(recommends.then_some("Recommends"));
        let mut waiting: Vec<String> = roots.into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if seen.contains(&name) {
                continue;
            }
            waiting.extend(self.providers.get(&name).into_iter().flatten().cloned());
            let places = self.names.get(&name).into_iter().flatten();
            let listed = places.map(|place| self.stanza(*place));
            let from = (name.clone(), String::new(), String::new());
            let others = self.others.range(from..);
            let others = others.take_while(|((found, ..), _)| *found == name);
            let others =
                others.flat_map(|(_, known)| known.iter().map(|one| one.stanza.as_bytes()));
            for stanza in listed.chain(others) {
                waiting.extend(relatives(stanza, &relations));
            }
            seen.insert(name);
        }
        seen
    }

    /// The entries of a Packages file that are of these names, as they are there; and those that
    /// first mention one of them.
    ///
    /// Of providers that are equally good, apt takes the one that it has read of first, be it in
    /// what another package conflicts with: the order in which it hears of names must stay.
    pub(super) fn extract(&self, path: &std::path::Path, names: &BTreeSet<String>) -> Vec<u8> {
        // Two sources may have one list.
        let Some(number) = self.lists.iter().position(|list| list.path == path) else {
            return Vec::new();
        };
        let list = &self.lists[number];
        let places = names.iter().filter_map(|name| self.names.get(name));
        let places = places.flatten().filter(|place| place.list == number);
        let mut entries: BTreeSet<usize> = places.map(|place| place.entry).collect();
        entries.extend(list.first_mentions(names));
        let mut text = Vec::new();
        for entry in entries {
            text.extend_from_slice(list.stanza(entry).trim_ascii_end());
            text.extend_from_slice(b"\n\n");
        }
        text
    }
}

/// The package, and its version if one is asked for, of a word for apt: `name`, `name=version`,
/// `name-`.
pub(super) fn name_and_version(word: &str) -> (&str, Option<&str>) {
    let (name, version) = match word.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (word.strip_suffix('-').unwrap_or(word), None),
    };
    (name.split(':').next().unwrap_or(name), version)
}

/// The packages that a stanza names in these fields.
pub(super) fn relatives(stanza: &[u8], relations: &[&str]) -> Vec<String> {
    let Ok(fields) = Fields::read(stanza) else {
        return Vec::new();
    };
    let named = relations.iter().flat_map(|name| related(fields.get(name)));
    named
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// The names in a field of relations (Debian Policy 7.1).
fn related(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let all = value.split(|byte| matches!(byte, b',' | b'|'));
    all.filter_map(|one| {
        let one = one.trim_ascii();
        let is_over = |byte: &u8| byte.is_ascii_whitespace() || b"(:[<".contains(byte);
        let name = &one[..one.iter().position(is_over).unwrap_or(one.len())];
        (!name.is_empty()).then_some(name)
    })
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
                let of = format!(
                    "in the suite {} of the archive `{}`",
                    suite.name, suite.archive
                );
                index.read(path, &suite.archive, of)?;
            }
        }
        Ok(index)
    }
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

/// RFC 2822 as archives write it: `Sat, 09 Aug 2025 09:16:30 UTC`.
pub(super) fn parse_date(text: &str) -> Option<u64> {
    let text = text.trim().replace("UTC", "+0000");
    let zoned = jiff::fmt::rfc2822::parse(&text).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::stanza::tests::GOOD;
    use super::*;

    #[test]
    fn names_that_no_index_has_are_found() {
        let stanza = GOOD.replacen("Size", "Provides: mta, tool-api (= 1)\nSize", 1);
        let (id, candidate) = parse_stanza(stanza.as_bytes()).unwrap();
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

    /// An index of lists: archive, and what its Packages file says.
    fn index_of(lists: &[(&str, String)]) -> Index {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::default();
        for (number, (archive, text)) in lists.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            fs::write(&path, text).unwrap();
            index.read(path, archive, format!("of {archive}")).unwrap();
        }
        index
    }

    fn entry(name: &str, more: &str) -> String {
        let named = GOOD.replacen("Package: tool", &format!("Package: {name}"), 1);
        format!("{named}\n{more}\n\n")
    }

    #[test]
    fn what_is_required_says_the_archive_of_the_bootstrap() {
        let ours = entry("agent", "Priority: required");
        let debian = [
            entry("tool", "Priority: required"),
            entry("part", "Priority: optional"),
            entry("plain", "Homepage: x\n Priority: required"),
            entry("last", "Priority:required"),
        ];
        let mut index = index_of(&[("debian", debian.concat()), ("ours", ours)]);
        assert_eq!(index.of_priority("debian", "required"), ["last", "tool"]);
        // What only the store has any more was required when it was locked.
        let retained = entry("gone", "Priority: required");
        let (id, mut candidate) = parse_stanza(retained.as_bytes()).unwrap();
        candidate.archive = Some("debian".to_owned());
        index.add(id, candidate);
        let with_retained = ["gone", "last", "tool"];
        assert_eq!(index.of_priority("debian", "required"), with_retained);
        assert_eq!(index.of_priority("debian", "important"), [""; 0]);
    }

    #[test]
    fn what_dependencies_lead_to_is_reachable_and_nothing_else() {
        let list = [
            entry("first", "Breaks: postfix"),
            entry("second", "Breaks: postfix"),
            entry(
                "web",
                "Depends: libc (>= 2), mta | mail [amd64],\n folded:any\nSuggests: doc",
            ),
            entry("libc", "Pre-Depends: base <!nocheck>\nConflicts: enemy"),
            entry("postfix", "Provides: other, mta (= 1)\nRecommends: certs"),
            entry("folded", "Provides: web"),
            entry("certs", ""),
            entry("unrelated", "Depends: web"),
        ];
        let index = index_of(&[("debian", list.concat())]);
        let reach = |recommends| index.reachable(["web".to_owned()], recommends);
        let names = ["base", "folded", "libc", "mail", "mta", "postfix", "web"];
        assert!(reach(false).iter().eq(names.iter()));
        assert!(reach(true).contains("certs"));
        let path = &index.lists[0].path;
        let text = String::from_utf8(index.extract(path, &reach(false))).unwrap();
        let kept: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Package: "))
            .collect();
        assert_eq!(kept, ["first", "web", "libc", "postfix", "folded"]);
        assert!(text.contains(list[2].trim_end()));
    }

    #[test]
    fn one_version_may_be_several_files() {
        let other = entry("tool", "").replacen("SHA256: 00", "SHA256: 01", 1);
        let index = index_of(&[
            ("debian", entry("tool", "")),
            ("ours", other + &entry("tool", "")),
        ]);
        let id = ("tool".into(), "1:1.0~rc1-2+b1".into(), "all".into());
        let archives = index
            .of(&id)
            .into_iter()
            .map(|found| found.archive.unwrap());
        assert!(archives.eq(["debian", "ours"]));
        let named = format!("01{}", "0".repeat(62));
        assert_eq!(index.chosen(&id, &named).unwrap().archive.unwrap(), "ours");
        assert!(index.chosen(&id, "").is_err());
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
