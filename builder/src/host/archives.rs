//! Where this machine gets Debian archives from.
//!
//! A recipe names an archive (`debian`, `debian-security`, or one of its own);
//! the address comes from `--archive NAME=URL`, the variable
//! `IMGBUILD_ARCHIVE_NAME`, or the machine's own apt sources, in this order. Of these,
//! none is Debian's that is signed by another keyring than Debian's; one that says it is
//! comes first, then one at the path that Debian's has on mirrors.
//! An address in which `@SNAPSHOTID@` stands, as in apt's own settings, is for the
//! archive at some moment: `debian@20260901T000000Z`.
//! See sources.list(5) for both file formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::percent;

use crate::error::{Error, Result};

/// What stands for the moment in the address of a dated archive.
pub(crate) const MOMENT: &str = "@SNAPSHOTID@";

/// Part of the name of the keyring that signs Debian's archives.
const KEYRING_NAME: &str = "debian-archive";

/// The addresses by archive name, without a trailing slash; those for dated
/// archives by that name with an `@`.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    known: BTreeMap<String, String>,
    /// The file of apt's that says so; none for what was named.
    files: BTreeMap<String, PathBuf>,
}

/// One line or stanza of apt's configuration.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Its keyrings or keys.
    signed_by: Option<String>,
}

impl Entry {
    /// How surely this is an archive of Debian's that is called so; less is surer.
    fn doubt(&self, name: &str) -> Option<(u8, String)> {
        let uri = self.uris.first()?.trim_end_matches('/');
        let is_security = self.suites.iter().any(|suite| suite.ends_with("-security"));
        let has_suite = self.suites.iter().any(|suite| is_debian(suite));
        let at_path = uri.rsplit('/').next() == Some(name);
        let is_it = match name {
            "debian" => !is_security && (has_suite || at_path),
            _ => is_security,
        };
        if !is_it || !self.components.iter().any(|component| component == "main") {
            return None;
        }
        let doubt = match &self.signed_by {
            Some(keys) if keys.contains(KEYRING_NAME) => 0,
            Some(_) => return None,
            None if at_path && has_suite => 1,
            None if at_path => 2,
            None => 3,
        };
        Some((doubt, uri.to_owned()))
    }
}

impl Archives {
    /// Reads the machine's apt sources below `etc_apt`; `named` come first.
    pub fn read(etc_apt: &Path, named: &BTreeMap<String, String>) -> Result<Self> {
        let mut files = vec![etc_apt.join("sources.list")];
        if let Ok(dir) = fs::read_dir(etc_apt.join("sources.list.d")) {
            files.extend(dir.filter_map(|e| Some(e.ok()?.path())));
        }
        files.sort();
        let mut entries = Vec::new();
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            let found: Vec<Entry> = match file.extension().and_then(|e| e.to_str()) {
                Some("list") => text.lines().filter_map(one_line).collect(),
                Some("sources") => text.split("\n\n").filter_map(stanza).collect(),
                _ => continue,
            };
            entries.extend(found.into_iter().map(|entry| (file.clone(), entry)));
        }
        let mut archives = Self::from_entries(&entries);
        for (name, url) in named {
            archives
                .known
                .insert(name.clone(), url.trim_end_matches('/').to_owned());
            archives.files.remove(name);
        }
        Ok(archives)
    }

    fn from_entries(entries: &[(PathBuf, Entry)]) -> Self {
        let mut archives = Self::default();
        for name in ["debian", "debian-security"] {
            let found = entries.iter().filter_map(|(file, entry)| {
                let (doubt, uri) = entry.doubt(name)?;
                Some((doubt, uri, file))
            });
            if let Some((_, uri, file)) = found.min_by_key(|(doubt, ..)| *doubt) {
                archives.know(name, uri, file);
            }
        }
        let main = archives.known.get("debian");
        if let Some(main) = main.and_then(|main| main.strip_suffix("/debian"))
            && !archives.known.contains_key("debian-security")
        {
            let (beside, file) = (format!("{main}/debian-security"), &archives.files["debian"]);
            archives.know("debian-security", beside, &file.clone());
        }
        archives
    }

    fn know(&mut self, name: &str, uri: String, file: &Path) {
        self.known.insert(name.to_owned(), uri);
        self.files.insert(name.to_owned(), file.to_owned());
    }

    /// The file of apt's from which an address is; none when it was named by a flag or
    /// variable.
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.files.get(name).map(PathBuf::as_path)
    }

    /// The address of an archive.
    pub fn url(&self, name: &str) -> Result<String> {
        if let Some((archive, moment)) = name.split_once('@') {
            let template = self.known.get(&format!("{archive}@"));
            return match template {
                Some(template) => Ok(template.replace(MOMENT, moment)),
                None => Err(Error::failed(format!(
                    "this machine knows no address for the archive `{archive}` of former days"
                ))
                .hint(format!(
                    "name one in which {MOMENT} stands for {moment}: --archive \
                     {archive}=URL, or the variable {}",
                    variable(archive).replacen("ARCHIVE", "SNAPSHOT", 1)
                ))),
            };
        }
        self.known.get(name).cloned().ok_or_else(|| {
            Error::failed(format!(
                "this machine knows no address for the archive `{name}`"
            ))
            .hint(format!(
                "name one: --archive {name}=URL, or the variable {}",
                variable(name)
            ))
        })
    }

    /// The address of an archive without credentials; `netrc` has them.
    pub fn site(&self, name: &str) -> Result<String> {
        let url = self.url(name)?;
        Ok(without_credentials(&url).map_or(url, |found| found.0))
    }

    /// The credentials of the addresses, as `apt_auth.conf(5)` has them.
    pub(super) fn netrc(&self) -> String {
        // What stands before the moment is the same on all days.
        let fixed = |url: &String| {
            url.split(MOMENT)
                .next()
                .map(|url| url.trim_end_matches('/').to_owned())
        };
        let known = self.known.values().filter_map(fixed);
        let known = known.filter_map(|url| without_credentials(&url));
        known
            .map(|(site, user, password)| {
                format!("machine {site}/ login {user} password {password}\n")
            })
            .collect()
    }

    /// Every host name in the addresses; none of them may reach an image.
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = self.known.values().filter_map(|u| host_of(u)).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// The credentials in the addresses.
    pub fn secrets(&self) -> Vec<String> {
        self.known.values().flat_map(|u| credentials(u)).collect()
    }
}

/// The `user:password` of an address and the password alone, when it has them.
pub(crate) fn credentials(url: &str) -> Vec<String> {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', ' ', '\t', '"']).next().unwrap_or("");
    let Some((user, _)) = authority.rsplit_once('@') else {
        return Vec::new();
    };
    let mut parts = vec![user.to_owned()];
    if let Some((_, password)) = user.split_once(':') {
        parts.push(password.to_owned());
        // As a program may say it that has decoded it.
        parts.extend(decoded(password).filter(|plain| plain != password));
    }
    parts.retain(|part| part.len() > 3);
    parts
}

/// An address without its credentials, and them, decoded (RFC 3986, 3.2.1).
/// None when there are none, or when a netrc file could not say them.
fn without_credentials(url: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (user, password) = (decoded(user)?, decoded(password)?);
    let sayable = |word: &str| {
        !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if !sayable(&user) || !sayable(&password) {
        return None;
    }
    Some((format!("{scheme}://{host}{path}"), user, password))
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent::decode(text.as_bytes())?).ok()
}

/// The environment variable that names an archive's address.
pub(super) fn variable(name: &str) -> String {
    format!("IMGBUILD_ARCHIVE_{}", name.to_uppercase().replace('-', "_"))
}

/// The host of an address, unless it is this very machine.
fn host_of(url: &str) -> Option<String> {
    let (_, host) = super::authority(url)?;
    let own = host == "localhost" || host == "::1" || host.starts_with("127.");
    (!own).then(|| host.to_owned())
}

fn is_debian(suite: &str) -> bool {
    let suite = suite.trim_end_matches("-updates");
    [
        "stable",
        "oldstable",
        "testing",
        "unstable",
        "sid",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
    ]
    .contains(&suite)
}

/// `deb [options] uri suite component…`
fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.trim_start();
    if !line.starts_with("deb ") && !line.starts_with("deb\t") && !line.starts_with("deb[") {
        return None;
    }
    let mut signed_by = None;
    if let Some(after) = rest.strip_prefix('[') {
        let (options, after) = after.split_once(']')?;
        let mut options = options.split_whitespace();
        signed_by = options.find_map(|option| option.strip_prefix("signed-by=").map(str::to_owned));
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uris = vec![words.next()?];
    let suites = vec![words.next()?];
    Some(Entry {
        uris,
        suites,
        components: words.collect(),
        signed_by,
    })
}

/// A deb822 stanza; continuation lines start with a blank.
fn stanza(text: &str) -> Option<Entry> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.trim().to_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    if fields
        .get("enabled")
        .is_some_and(|e| matches!(e.as_str(), "no" | "false" | "0"))
    {
        return None;
    }
    let words = |name: &str| -> Vec<String> {
        fields
            .get(name)
            .map(|v| v.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    if !words("types").iter().any(|t| t == "deb") {
        return None;
    }
    Some(Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: fields.get("signed-by").cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        fs::write(
            dir.path().join("sources.list"),
            "# a comment\ndeb [arch=amd64] http://mirror.example/debian/ bookworm main # tail\n\
             deb-src http://src.example/debian bookworm main\n",
        )
        .unwrap();
        fs::write(
            dir.path().join("sources.list.d/debian.sources"),
            "Types: deb\nURIs: http://sec.example/x/debian-security\nSuites: bookworm-security\n\
             Components: main\n contrib\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\n\
             Suites: sid\nComponents: main\n",
        )
        .unwrap();
        let archives = Archives::read(dir.path(), &BTreeMap::new()).unwrap();
        assert_eq!(
            archives.url("debian").unwrap(),
            "http://mirror.example/debian"
        );
        assert_eq!(
            archives.url("debian-security").unwrap(),
            "http://sec.example/x/debian-security"
        );
        assert_eq!(archives.hosts(), ["mirror.example", "sec.example"]);
        let error = archives.url("ours").unwrap_err();
        assert!(error.advice().unwrap().contains("IMGBUILD_ARCHIVE_OURS"));
    }

    #[test]
    fn what_is_debians_own_is_told_from_what_others_signed() {
        let dir = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let lists = dir.path().join("sources.list.d");
            fs::create_dir_all(&lists).unwrap();
            fs::write(lists.join(name), text).unwrap();
        };
        let found = || {
            let archives = Archives::read(dir.path(), &BTreeMap::new()).unwrap();
            ["debian", "debian-security"].map(|name| archives.url(name).unwrap_or_default())
        };
        // Signed by somebody else, or elsewhere than mirrors have it.
        list(
            "a.list",
            "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://a.example/debian bookworm main\n\
             deb [signed-by=/usr/share/keyrings/a.gpg] http://a.example/s bookworm-security main\n\
             deb http://b.example/repo stable main\n",
        );
        list(
            "b.sources",
            "Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\nComponents: main\n\
             Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xyz\n",
        );
        assert_eq!(found(), ["http://b.example/repo", ""]);
        list("c.list", "deb http://d.example/x/debian bookworm main\n");
        let beside = "http://d.example/x/debian-security";
        assert_eq!(found(), ["http://d.example/x/debian", beside]);
        list(
            "z.sources",
            "Types: deb\nURIs: http://e.example/mirror\nSuites: bookworm\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        );
        assert_eq!(found()[0], "http://e.example/mirror");
        let archives = Archives::read(dir.path(), &BTreeMap::new()).unwrap();
        let file = archives.file("debian").unwrap();
        assert!(file.ends_with("sources.list.d/z.sources"));
        let named = BTreeMap::from([("debian".to_owned(), "file:/x".to_owned())]);
        let archives = Archives::read(dir.path(), &named).unwrap();
        assert_eq!(archives.file("debian"), None);
    }

    #[test]
    fn hosts_and_credentials_of_addresses_are_found() {
        for (url, host) in [
            ("http://mirror.example/debian", Some("mirror.example")),
            (
                "http://u:p@mirror.example:80/debian",
                Some("mirror.example"),
            ),
            ("http://[fd00::7]:80/debian", Some("fd00::7")),
            ("http://127.0.0.1:3142/debian", None),
            ("http://[::1]/debian", None),
            ("file:///srv/mirror", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
        let found = credentials("http://user:s3cret@mirror.example/x@y");
        assert_eq!(found, ["user:s3cret", "s3cret"]);
        assert_eq!(credentials("https://token@index.example/"), ["token"]);
        assert!(credentials("https://index.example/a@b").is_empty());
    }

    #[test]
    fn credentials_leave_the_address() {
        let named = BTreeMap::from([(
            "ours".to_owned(),
            "http://me:p%40ss%2Fword@mirror.example:81/a/".to_owned(),
        )]);
        let etc = tempfile::tempdir().unwrap();
        let archives = Archives::read(etc.path(), &named).unwrap();
        assert_eq!(archives.site("ours").unwrap(), "http://mirror.example:81/a");
        assert_eq!(
            archives.netrc(),
            "machine http://mirror.example:81/a/ login me password p@ss/word\n"
        );
        let secrets = ["me:p%40ss%2Fword", "p%40ss%2Fword", "p@ss/word"];
        assert_eq!(archives.secrets(), secrets);
    }

    #[test]
    fn dated_archives_have_addresses_of_their_own() {
        let named = BTreeMap::from([
            ("debian".to_owned(), "http://now.example/debian".to_owned()),
            (
                "debian@".to_owned(),
                "http://me:secret@then.example/debian/@SNAPSHOTID@/".to_owned(),
            ),
        ]);
        let etc = tempfile::tempdir().unwrap();
        let archives = Archives::read(etc.path(), &named).unwrap();
        assert_eq!(
            archives.site("debian@20260901T000000Z").unwrap(),
            "http://then.example/debian/20260901T000000Z"
        );
        assert_eq!(
            archives.site("debian").unwrap(),
            "http://now.example/debian"
        );
        assert_eq!(
            archives.netrc(),
            "machine http://then.example/debian/ login me password secret\n"
        );
        assert_eq!(archives.hosts(), ["now.example", "then.example"]);
        let error = archives.url("ours@20260901T000000Z").unwrap_err();
        assert!(error.advice().unwrap().contains("IMGBUILD_SNAPSHOT_OURS"));
    }

    #[test]
    fn the_security_archive_is_beside_the_main_one_and_flags_win() {
        let entry = one_line("deb http://user:pw@mirror.example/a/debian trixie main").unwrap();
        let archives = Archives::from_entries(&[(PathBuf::from("list"), entry)]);
        assert_eq!(
            archives.url("debian-security").unwrap(),
            "http://user:pw@mirror.example/a/debian-security"
        );
        assert_eq!(archives.hosts(), ["mirror.example"]);
        let dir = tempfile::tempdir().unwrap();
        let named = BTreeMap::from([("debian".to_owned(), "file:/srv/mirror/".to_owned())]);
        let archives = Archives::read(dir.path(), &named).unwrap();
        assert_eq!(archives.url("debian").unwrap(), "file:/srv/mirror");
    }
}
