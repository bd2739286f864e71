//! What a virtualenv wants of indexes: requirements, and files that are decided already.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Serialize;
use store::Sha256;

use super::names::{normalise, split_name};
use crate::error::{Context, Error, Result};
use crate::lockfile::Python;
use crate::recipe::requirements_file::{self, Line, Purpose};
use crate::recipe::{Beside, ForeignLock, Virtualenv};

/// Everything that the recipe and its requirements files want.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Lines for pip, one requirement each.
    pub(super) lines: Vec<String>,
    /// Options of pip that stand in a requirements file.
    pub(super) options: Vec<String>,
    /// Lines that only limit.
    pub(super) constraints: Vec<String>,
    /// Files by address and digest.
    pub(super) files: Vec<WantedFile>,
    /// Locks of other tools.
    pub(super) locks: Vec<Foreign>,
    /// Extras of directories and repositories in requirements files, of which pip passes over
    /// those that nobody has.
    pub(super) lax_extras: BTreeSet<String>,
}

/// A file that is known before pip is asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WantedFile {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) file: String,
    pub(super) sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// The condition under which it is wanted (PEP 508); only the tree's Python can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) marker: Option<String>,
}

/// A lock of another tool, for the script that chooses from it.
#[derive(Debug, Serialize)]
pub(super) struct Foreign {
    name: String,
    kind: ForeignLock,
    /// Its directory, from the recipe's.
    dir: String,
    data: toml::Value,
}

impl Wanted {
    pub(super) fn read(virtualenv: &Virtualenv, beside: &Path) -> Result<Self> {
        let mut wanted = Self::default();
        let own = virtualenv.requirements.iter();
        wanted.lines.extend(own.map(ToString::to_string));
        for path in &virtualenv.requirements_files {
            let text = read(beside, path)?;
            match ForeignLock::of(path.as_str()) {
                Some(kind) => wanted.locks.push(Foreign::read(path, kind, &text)?),
                None => wanted.add(path, &text)?,
            }
        }
        let own = virtualenv.constraints.iter();
        wanted.constraints.extend(own.map(ToString::to_string));
        for path in &virtualenv.constraints_files {
            let lines = lines(path, &read(beside, path)?, Purpose::Constraints)?;
            wanted
                .constraints
                .extend(lines.into_iter().filter_map(|line| match line {
                    Line::Requirement(line) => Some(line),
                    _ => None,
                }));
        }
        Ok(wanted)
    }

    fn add(&mut self, path: &Beside, text: &str) -> Result<()> {
        for line in lines(path, text, Purpose::Requirements)? {
            let line = match line {
                Line::Requirement(line) => {
                    self.lines.push(line);
                    continue;
                }
                Line::Option(option) => {
                    self.options.push(option);
                    continue;
                }
                Line::Address(line) => line,
                // The recipe has them.
                Line::Directory(_, extras) | Line::Git(_, extras) => {
                    let names = extras.iter().map(|extra| normalise(extra.as_str()));
                    self.lax_extras.extend(names);
                    continue;
                }
                Line::Requirements(_) | Line::Constraints(_) | Line::Distribution(_) => continue,
            };
            match by_address(&line) {
                Some((file, line)) => {
                    self.files.push(file);
                    self.lines.push(line);
                }
                None => self.lines.push(for_pip(&line)),
            }
        }
        Ok(())
    }

    /// Adds a file that is here.
    pub(super) fn add_file(&mut self, python: &Python) {
        self.lines
            .push(format!("{}=={}", python.name, python.version));
        self.files.push(WantedFile {
            name: python.name.clone(),
            version: python.version.clone(),
            file: python.file.clone(),
            sha256: python.sha256.hex(),
            url: None,
            marker: None,
        });
    }

    /// Whether some lines name digests and something else has none: pip refuses that
    /// mixture.
    pub(super) fn is_mixed(&self, has_others: bool) -> bool {
        let hashed = self.lines.iter().filter(|line| is_hashed(line)).count();
        hashed > 0 && (has_others || hashed < self.lines.len())
    }

    /// The lines with digests, which are taken away.
    pub(super) fn take_hashed(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.lines);
        let (hashed, rest) = lines.into_iter().partition(|line| is_hashed(line));
        self.lines = rest;
        hashed
    }
}

impl Foreign {
    fn read(path: &Beside, kind: ForeignLock, text: &str) -> Result<Self> {
        let data = toml::from_str(text)
            .map_err(|e| Error::usage(format!("{path} is not TOML: {}", e.message())))?;
        let (dir, _) = path.as_str().rsplit_once('/').unwrap_or(("", ""));
        Ok(Self {
            name: path.to_string(),
            kind,
            dir: dir.to_owned(),
            data,
        })
    }
}

fn is_hashed(line: &str) -> bool {
    line.contains("--hash=")
}

fn read(beside: &Path, path: &Beside) -> Result<String> {
    let path = beside.join(path.as_path());
    let bytes = fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
    requirements_file::decode(&bytes)
        .ok_or_else(|| Error::usage(format!("{} is no text in UTF-8", path.display())))
}

/// The lines of a file in pip's format.
fn lines(path: &Beside, text: &str, purpose: Purpose) -> Result<Vec<Line>> {
    let lines = requirements_file::read(text, purpose).map_err(|bad| {
        let error = Error::usage(format!("{path}: {}", bad.message));
        error.hint(bad.hint.unwrap_or_default())
    })?;
    Ok(lines.into_iter().map(|(line, _)| line).collect())
}

/// `NAME[EXTRAS] @ URL#FRAGMENT ; MARKER --hash=sha256:DIGEST`.
struct ByAddress<'l> {
    /// The name and its extras, if they are there.
    project: &'l str,
    url: &'l str,
    fragment: &'l str,
    marker: Option<&'l str>,
    /// What follows `--hash=sha256:`.
    hash: &'l str,
}

impl<'l> ByAddress<'l> {
    fn read(line: &'l str) -> Self {
        let (line, hash) = line.split_once("--hash=sha256:").unwrap_or((line, ""));
        let (project, address) = match line.find("://").map(|at| line[..at].rfind('@')) {
            Some(Some(at)) => (line[..at].trim(), line[at + 1..].trim()),
            _ => ("", line.trim()),
        };
        let (address, marker) = match address
            .split_once(" ;")
            .or_else(|| address.split_once("; "))
        {
            Some((address, marker)) => (address.trim(), Some(marker.trim())),
            None => (address, None),
        };
        let (url, fragment) = address.split_once('#').unwrap_or((address, ""));
        Self {
            project,
            url,
            fragment,
            marker,
            hash: hash.split(' ').next().unwrap_or_default(),
        }
    }
}

/// The line of an address whose file only pip can name, with its digest where pip looks for it.
fn for_pip(line: &str) -> String {
    let line = ByAddress::read(line);
    let parts = line.fragment.split('&').filter(|part| !part.is_empty());
    let (eggs, mut rest): (Vec<&str>, Vec<&str>) = parts.partition(|p| p.starts_with("egg="));
    let digest = format!("sha256={}", line.hash);
    if !line.hash.is_empty() && !line.fragment.contains("sha256=") {
        rest.push(&digest);
    }
    let fragment = match rest.join("&") {
        rest if rest.is_empty() => rest,
        rest => format!("#{rest}"),
    };
    let egg = eggs.first().map_or("", |egg| &egg["egg=".len()..]);
    let end = egg.find(['=', '<', '>', '!', '~']).unwrap_or(egg.len());
    let project = match line.project {
        "" => &egg[..end],
        project => project,
    };
    let (url, marker) = (line.url, line.marker);
    if project.is_empty() {
        // As pip separates them.
        let marker = marker.map_or_else(String::new, |marker| format!("; {marker}"));
        return format!("{url}{fragment}{marker}");
    }
    let marker = marker.map_or_else(String::new, |marker| format!(" ; {marker}"));
    format!("{project} @ {url}{fragment}{marker}")
}

/// A line whose file has a telling name and a digest, as that file and as the line that wants it.
fn by_address(line: &str) -> Option<(WantedFile, String)> {
    let ByAddress {
        project,
        url,
        fragment,
        marker,
        hash,
    } = ByAddress::read(line);
    let marker = marker.map(str::to_owned);
    let of_fragment = fragment
        .split('&')
        .find_map(|part| part.strip_prefix("sha256="));
    let digest = of_fragment.unwrap_or(hash);
    let path = url.split('?').next()?;
    let file = crate::lock::acquire::decoded(path.rsplit('/').next()?);
    let (name, version) = split_name(&file, None)?;
    let (wanted, extras) = project.split_once('[').unwrap_or((project, ""));
    if !wanted.is_empty() && normalise(wanted.trim()) != name {
        return None;
    }
    let extras = extras
        .strip_suffix(']')
        .map_or(String::new(), |e| format!("[{e}]"));
    let condition = marker.as_ref().map(|marker| format!(" ; {marker}"));
    let condition = condition.unwrap_or_default();
    let line = format!("{name}{extras}=={version}{condition}");
    Sha256::from_hex(digest).ok()?;
    let file = WantedFile {
        name,
        version,
        file,
        sha256: digest.to_owned(),
        url: Some(url.to_owned()),
        marker,
    };
    Some((file, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_addresses_become_files() {
        let digest = "ab".repeat(32);
        let text = format!(
            "# made by a tool\nflask==3.0 \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{digest}\n\n\
             a-b[x] @ https://h.example/p/a_b-1.0-py3-none-any.whl ; python_version > '3' --hash=sha256:{digest}\n"
        );
        let mut wanted = Wanted::default();
        wanted.add(&"r.txt".parse().unwrap(), &text).unwrap();
        let [flask, line] = &wanted.lines[..] else {
            panic!("{:?}", wanted.lines)
        };
        assert!(flask.starts_with("flask==3.0") && flask.ends_with(&digest));
        let file = &wanted.files[0];
        assert_eq!(line, "a-b[x]==1.0 ; python_version > '3'");
        assert_eq!(
            file.url.as_deref(),
            Some("https://h.example/p/a_b-1.0-py3-none-any.whl")
        );
        assert_eq!(file.sha256, digest);
        assert_eq!(file.marker.as_deref(), Some("python_version > '3'"));
        let bare = format!("https://h.example/c-2.tar.gz#sha256={digest}");
        assert_eq!(by_address(&bare).unwrap().1, "c==2");
        let other = format!("d @ {bare}");
        assert!(by_address(&other).is_none());
    }

    #[test]
    fn what_only_pip_can_name_stays_an_address() {
        let digest = "ab".repeat(32);
        let url = "https://h.example/x/a/archive/refs/tags/v1.0.tar.gz";
        for (line, for_pip) in [
            (url.to_owned(), url.to_owned()),
            (format!("a[x] @ {url}"), format!("a[x] @ {url}")),
            (
                format!("{url}#egg=a[x] ; os_name == 'nt'"),
                format!("a[x] @ {url} ; os_name == 'nt'"),
            ),
            (
                format!("{url}#egg=a==1.0&sha256={digest}"),
                format!("a @ {url}#sha256={digest}"),
            ),
            (
                format!("{url} ; os_name == 'nt' --hash=sha256:{digest}"),
                format!("{url}#sha256={digest}; os_name == 'nt'"),
            ),
            (
                "git+ssh://git@h.example/a@v1#egg=a&subdirectory=py ; os_name == 'nt'".to_owned(),
                "a @ git+ssh://git@h.example/a@v1#subdirectory=py ; os_name == 'nt'".to_owned(),
            ),
        ] {
            let mut wanted = Wanted::default();
            wanted.add(&"r.txt".parse().unwrap(), &line).unwrap();
            assert_eq!(wanted.lines, [for_pip], "{line}");
            assert!(wanted.files.is_empty());
        }
    }
}
