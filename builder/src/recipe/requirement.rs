//! What pip and Git are asked for: requirement lines, repositories, refs.

use super::grammar::{Verdict, fits};
use super::word::word;

word! {
    /// One PEP 508 line: a project, perhaps extras, versions and a marker.
    /// Only its outline is checked; pip has the last word.
    pub struct Requirement: "a requirement",
        "a project with versions, such as `gunicorn==23.0.0` or `requests[socks]>=2; python_version < \"4\"`",
        requirement;
    /// The address of a Git repository.
    pub struct GitUrl: "a Git URL",
        "`https://HOST/PATH`, `ssh://git@HOST/PATH` or `file:///PATH`", git_url;
    /// The address of a file.
    pub struct DownloadUrl: "the address of a file",
        "`https://HOST/PATH` or `file:///PATH`", download_url;
    /// An extra of a project.
    pub struct Extra: "an extra", "a name, such as `postgres`",
        |text| fits(project(text));
    /// A dependency group of a project.
    pub struct Group: "a dependency group",
        "a name, such as `production`", |text| fits(project(text));
    /// Projects of an index.
    pub struct Projects: "the name of a project",
        "a name, or the beginning of names and a `*`, such as `acme-*`",
        |text| fits(text == "*" || project(text) || text.strip_suffix('*').is_some_and(|begin| {
            project(begin.trim_end_matches(['-', '_', '.']))
        }));
    /// A tag.
    pub struct RefName: "a tag",
        "the name of a tag, such as `v0.0.1`", ref_name;
    /// A directory inside a repository.
    pub struct Subdirectory: "a directory in the repository",
        "a relative path that stays in the repository, such as `python`",
        super::grammar::relative;
    /// A commit in full.
    pub struct Commit: "a commit",
        "40 lower-case hexadecimal digits",
        |text| match text.len() {
            _ if !text.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Err("a name goes under `tag`".to_owned())
            }
            40 => fits(!text.contains(char::is_uppercase)),
            _ => Err("a short commit may one day mean another one: write all 40 digits".to_owned()),
        };
}

fn requirement(line: &str) -> Verdict {
    if line.starts_with('-') {
        if let Some(key) = git_as_key(line) {
            return Err(key);
        }
        if let Some(key) = option_as_key(line) {
            return Err(key);
        }
        return Err(
            "pip's options do not belong here: use `requirements-files`, `constraints`, \
             `environment`, or the machine's own settings for an index"
                .to_owned(),
        );
    }
    if let Some(key) = git_as_key(line) {
        return Err(key);
    }
    if line.contains("://") {
        return Err(
            "write it into a file of `requirements-files`, with its hash: \
             NAME @ URL --hash=sha256:DIGEST"
                .to_owned(),
        );
    }
    if line.contains('@') {
        return Err("packages come by name from the index, from `local` or from `git`".to_owned());
    }
    if line.contains(['/', '\\']) || line == "." {
        return Err("a directory beside the recipe goes under `local`".to_owned());
    }
    if line.contains(['\n', '\r', '#']) || line.trim() != line {
        return Err("one requirement, one string, nothing around it".to_owned());
    }
    let (wanted, marker) = line
        .split_once(';')
        .map_or((line, None), |(wanted, marker)| {
            (wanted.trim_end(), Some(marker))
        });
    if marker.is_some_and(|marker| marker.trim().is_empty()) {
        return Err("a condition should follow the `;`".to_owned());
    }
    let name_end = wanted
        .find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
        .unwrap_or(wanted.len());
    let (name, rest) = wanted.split_at(name_end);
    fits(project(name))?;
    let versions = match rest.trim_start().strip_prefix('[') {
        None => rest.trim(),
        Some(rest) => {
            let Some((extras, versions)) = rest.split_once(']') else {
                return Err("the extras are not closed by `]`".to_owned());
            };
            fits(extras.split(',').all(|extra| project(extra.trim())))?;
            versions.trim()
        }
    };
    let versions = versions
        .strip_prefix('(')
        .and_then(|versions| versions.strip_suffix(')'))
        .unwrap_or(versions);
    if versions.is_empty() {
        return Ok(());
    }
    versions.split(',').map(str::trim).try_for_each(version)
}

/// A Git repository as pip writes it: `NAME @ git+URL@REFERENCE#egg=NAME&subdirectory=PATH`.
pub(super) struct PipGit<'l> {
    /// The address, without `git+` and without credentials.
    pub(super) url: String,
    /// A tag, a branch or a commit.
    pub(super) reference: Option<&'l str>,
    pub(super) subdirectory: Option<&'l str>,
    /// `NAME[EXTRAS]`, where it stands behind the address.
    pub(super) egg: &'l str,
    /// What the address says about who asks.
    pub(super) has_credentials: bool,
}

impl<'l> PipGit<'l> {
    /// Reads what follows `git+` in a line.
    pub(super) fn of(line: &'l str) -> Option<Self> {
        let (_, address) = line.split_once("git+")?;
        let address = address.split([' ', '\t', ';']).next().unwrap_or_default();
        let (address, fragment) = address.split_once('#').unwrap_or((address, ""));
        let path = address.find("://").map_or(0, |at| at + 3);
        let path = address[path..].find('/').map_or(path, |at| path + at);
        let (url, reference) = match address[path..].split_once('@') {
            Some((before, reference)) => (&address[..path + before.len()], Some(reference)),
            None => (address, None),
        };
        // Credentials are no part of it; the user of ssh is.
        let without = url.split_once("://").and_then(|(scheme, rest)| {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (_, host) = authority.rsplit_once('@').filter(|_| scheme != "ssh")?;
            Some(format!("{scheme}://{host}/{path}"))
        });
        let part = |key: &str| {
            let mut parts = fragment.split('&').rev();
            parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
        };
        Some(Self {
            has_credentials: without.is_some(),
            url: without.unwrap_or_else(|| url.to_owned()),
            reference,
            subdirectory: part("subdirectory").map(|path| path.trim_matches('/')),
            egg: part("egg").unwrap_or_default(),
        })
    }

    /// The recipe's line for it.
    pub(super) fn as_key(&self) -> String {
        let reference = self.reference.unwrap_or("…");
        let key = if reference.parse::<Commit>().is_ok() {
            "commit"
        } else {
            "tag"
        };
        let below = self
            .subdirectory
            .map_or(String::new(), |path| format!(", subdirectory = \"{path}\""));
        let url = &self.url;
        format!(
            "write it in the recipe: git = [{{ url = \"{url}\", {key} = \"{reference}\"{below} }}]"
        )
    }
}

/// The recipe's line for a Git repository as pip writes it, if the line names one.
pub(crate) fn git_as_key(line: &str) -> Option<String> {
    PipGit::of(line).map(|git| git.as_key())
}

/// The repository that a line names as pip writes it.
pub(crate) fn pip_git_url(line: &str) -> Option<String> {
    PipGit::of(line).map(|git| git.url)
}

/// The recipe's key for one of pip's options that names a file or a directory.
fn option_as_key(line: &str) -> Option<String> {
    let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
    let (option, value) = line.split_at(end);
    let value = value.trim_start_matches([' ', '\t', '=']).trim();
    let key = match option {
        _ if value.is_empty() || value.contains("://") => return None,
        "-r" | "--requirement" => "requirements-files",
        "-c" | "--constraint" => "constraints-files",
        "-e" | "--editable" => "local",
        _ => return None,
    };
    Some(format!("it has a key of its own: {key} = [\"{value}\"]"))
}

/// What to do with a lock file of another tool that has no addresses of files.
pub(crate) fn other_tools_lock(name: &str) -> Option<&'static str> {
    match name {
        "poetry.lock" => Some(
            "export it: poetry export --format pylock.toml --output pylock.toml \
             (with poetry-plugin-export), and name that file here",
        ),
        "Pipfile.lock" => Some("export it: pipenv requirements --hash > requirements.txt"),
        "pdm.lock" => Some("export it: pdm export --format pylock --output pylock.toml"),
        _ => None,
    }
}

/// A lock of another tool that is taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignLock {
    /// `uv.lock`.
    Uv,
    /// `pylock.toml` and `pylock.NAME.toml` (PEP 751).
    Pylock,
}

impl ForeignLock {
    /// By the name of a file.
    pub fn of(file: &str) -> Option<Self> {
        let name = file.rsplit('/').next().unwrap_or(file);
        match name {
            "uv.lock" => Some(Self::Uv),
            "pylock.toml" => Some(Self::Pylock),
            _ => {
                let named = name.strip_prefix("pylock.")?.strip_suffix(".toml")?;
                (!named.is_empty()).then_some(Self::Pylock)
            }
        }
    }
}

/// One version clause: an operator and a version.
fn version(clause: &str) -> Verdict {
    const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
    let Some(version) = OPERATORS.iter().find_map(|op| clause.strip_prefix(op)) else {
        return Err(match clause.strip_prefix('=') {
            Some(version) => format!("pip's equality has two signs: =={}", version.trim()),
            None => String::new(),
        });
    };
    let version = version.trim();
    fits(
        !version.is_empty()
            && version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".*+!-_".contains(&b)),
    )
}

/// A project or extra name.
fn project(name: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(name.bytes().next())
        && ends(name.bytes().next_back())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn git_url(url: &str) -> Verdict {
    if url.starts_with("git+") {
        return Err("leave out `git+`: it is pip's way to say it".to_owned());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(match url.split_once(':') {
            Some((host, path)) if host.contains('@') => format!("write it as ssh://{host}/{path}"),
            _ if url.starts_with('/') => format!("write it as file://{url}"),
            _ => String::new(),
        });
    };
    if url.contains(char::is_whitespace) || url.contains(char::is_control) || url.contains('#') {
        return Err(String::new());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some((who, _)) = authority.rsplit_once('@')
        && (scheme != "ssh" || who.contains(':'))
    {
        return Err(
            "it carries credentials, which would end up in the lock and in the image: \
                 leave them out and let Git ask the machine's credential helper"
                .to_owned(),
        );
    }
    if path.contains('@') {
        return Err("the version goes under `tag` or `commit`".to_owned());
    }
    fits(
        !path.is_empty()
            && match scheme {
                "https" | "http" | "ssh" => !authority.is_empty(),
                "file" => authority.is_empty(),
                _ => false,
            },
    )
}

fn download_url(url: &str) -> Verdict {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(String::new());
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "\"'\\`<>^{|}#".contains(c);
    if url.contains(is_odd) || !url.is_ascii() {
        return Err("write other characters as %20 and the like, and leave out `#...`".to_owned());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(
            "it carries credentials, which would end up in the lock and in the image: put them \
             into the machine's /etc/apt/auth.conf"
                .to_owned(),
        );
    }
    fits(
        !path.is_empty()
            && match scheme {
                "https" | "http" => !authority.is_empty(),
                "file" => authority.is_empty(),
                _ => false,
            },
    )
}

fn ref_name(name: &str) -> Verdict {
    fits(
        !name.is_empty()
            && !name.starts_with(['-', '/', '.'])
            && !name.ends_with(['/', '.'])
            && !name.contains("..")
            && !name.contains("//")
            && !name.contains("@{")
            && !name.contains(char::is_whitespace)
            && !name.contains(char::is_control)
            && !name.contains(['~', '^', ':', '?', '*', '[', '\\']),
    )
}

impl Requirement {
    /// The project's name in the index's normal form: lower case, one `-` for
    /// any run of `-`, `_` and `.`. A requirement with a condition keeps it, as
    /// one project may be asked for under several.
    pub fn project(&self) -> String {
        let (wanted, marker) = self.as_str().split_once(';').unwrap_or((self.as_str(), ""));
        let name_end = wanted
            .find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
            .unwrap_or(wanted.len());
        let mut name = String::new();
        for c in wanted[..name_end].chars() {
            match c {
                '-' | '_' | '.' if name.ends_with('-') => {}
                '-' | '_' | '.' => name.push('-'),
                c => name.push(c.to_ascii_lowercase()),
            }
        }
        if !marker.trim().is_empty() {
            name.push_str("; ");
            name.push_str(marker.trim());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_requirement_is_answered_with_the_key_to_write() {
        for (text, hint) in [
            ("-r base.txt", "requirements-files = [\"base.txt\"]"),
            ("--constraint=c.txt", "constraints-files = [\"c.txt\"]"),
            ("-e ./app", "local = [\"./app\"]"),
            (
                "a @ git+https://git.example/x/a@v1#subdirectory=py",
                "git = [{ url = \"https://git.example/x/a\", tag = \"v1\", subdirectory = \"py\" }]",
            ),
            (
                "-e git+ssh://git@git.example/a@3b18e512dba79e4c8300dd08aeb37f8e728b8dad#egg=a",
                "commit = \"3b18e512",
            ),
            (
                "a @ git+https://me:pw@git.example/a@v1",
                "url = \"https://git.example/a\", tag",
            ),
            ("./app", "goes under `local`"),
        ] {
            let unfit = text.parse::<Requirement>().unwrap_err();
            assert!(unfit.hint.unwrap_or_default().contains(hint), "{text}");
        }
    }

    #[test]
    fn other_tools_locks_are_known_by_their_names() {
        assert!(
            other_tools_lock("poetry.lock")
                .unwrap()
                .contains("poetry export")
        );
        assert!(other_tools_lock("requirements.txt").is_none());
        assert_eq!(ForeignLock::of("a/uv.lock"), Some(ForeignLock::Uv));
        assert_eq!(
            ForeignLock::of("pylock.dev.toml"),
            Some(ForeignLock::Pylock)
        );
        assert_eq!(ForeignLock::of("requirements.txt"), None);
    }
}
