//! Where this machine gets Debian archives from.
//!
//! A recipe names an archive (`debian`, `debian-security`, or one of its own);
//! the address comes from `--archive NAME=URL`, the variable
//! `IMGBUILD_ARCHIVE_NAME`, or the machine's own apt sources, in this order.
//! See sources.list(5) for both file formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::process::Tool;

/// The addresses by archive name, without a trailing slash.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    known: BTreeMap<String, String>,
}

/// One line or stanza of apt's configuration.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
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
            match file.extension().and_then(|e| e.to_str()) {
                Some("list") => entries.extend(text.lines().filter_map(one_line)),
                Some("sources") => entries.extend(text.split("\n\n").filter_map(stanza)),
                _ => {}
            }
        }
        let mut archives = Self::from_entries(&entries);
        for (name, url) in named {
            archives
                .known
                .insert(name.clone(), url.trim_end_matches('/').to_owned());
        }
        Ok(archives)
    }

    fn from_entries(entries: &[Entry]) -> Self {
        let mut known = BTreeMap::new();
        for entry in entries {
            // Debian's own archive has a component main; others mostly not a
            // path that ends in the archive's name.
            let Some(uri) = entry.uris.first() else {
                continue;
            };
            let uri = uri.trim_end_matches('/');
            let security = entry.suites.iter().any(|s| s.ends_with("-security"));
            if !entry.components.iter().any(|c| c == "main") {
                continue;
            }
            if security {
                known
                    .entry("debian-security".to_owned())
                    .or_insert_with(|| uri.to_owned());
            } else if uri.ends_with("/debian") || entry.suites.iter().any(|s| is_debian(s)) {
                known
                    .entry("debian".to_owned())
                    .or_insert_with(|| uri.to_owned());
            }
        }
        if let Some(main) = known
            .get("debian")
            .and_then(|m: &String| m.strip_suffix("/debian"))
        {
            let beside = format!("{main}/debian-security");
            known.entry("debian-security".to_owned()).or_insert(beside);
        }
        Self { known }
    }

    /// The address of an archive.
    pub fn url(&self, name: &str) -> Result<&str> {
        self.known.get(name).map(String::as_str).ok_or_else(|| {
            Error::failed(format!(
                "this machine knows no address for the archive `{name}`"
            ))
            .hint(format!(
                "name one: --archive {name}=URL, or the variable {}",
                variable(name)
            ))
        })
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
    let password = user.split_once(':').map(|(_, password)| password);
    let parts = [Some(user), password].into_iter().flatten();
    parts.filter(|p| p.len() > 3).map(str::to_owned).collect()
}

/// The environment variable that names an archive's address.
pub(super) fn variable(name: &str) -> String {
    format!("IMGBUILD_ARCHIVE_{}", name.to_uppercase().replace('-', "_"))
}

/// The host of an address, unless it is this very machine.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?.rsplit('@').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    let own = host == "localhost" || host == "::1" || host.starts_with("127.");
    (!host.is_empty() && !own).then(|| host.to_owned())
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
    if rest.starts_with('[') {
        rest = rest.split_once(']')?.1;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uris = vec![words.next()?];
    let suites = vec![words.next()?];
    Some(Entry {
        uris,
        suites,
        components: words.collect(),
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
    })
}

/// The machine's apt settings for reaching servers (proxies, time-outs, client
/// certificates), in the syntax of apt.conf(5).
pub fn acquire_settings() -> Result<String> {
    let dump = Tool::new("apt-config").arg("dump").output()?;
    let dump = String::from_utf8(dump).context(|| "apt-config prints no UTF-8".into())?;
    let wanted = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::Retries",
        "Acquire::ForceIPv",
    ];
    let lines = dump
        .lines()
        .filter(|l| wanted.iter().any(|w| l.starts_with(w)));
    Ok(lines.map(|l| format!("{l}\n")).collect())
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
    fn the_security_archive_is_beside_the_main_one_and_flags_win() {
        let entry = one_line("deb http://user:pw@mirror.example/a/debian trixie main").unwrap();
        let archives = Archives::from_entries(&[entry]);
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
