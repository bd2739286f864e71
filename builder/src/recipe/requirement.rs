//! What pip and Git are asked for: requirement lines, repositories, refs.

use super::grammar::{Advice, Verdict, fits};
use super::word::{Unfit, word};
use super::{marker, version_clause};

word! {
    /// One PEP 508 line: a project, perhaps extras, versions and a marker.
    /// Pip has the last word; what no pip takes is refused when a recipe is loaded.
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

/// Says whether it is one, or may stand in the recipe of an image that was built before.
fn requirement(line: &str) -> Result<(), Advice> {
    match new_requirement(line) {
        Err(advice) if !was_taken(line) => Err(advice),
        _ => Ok(()),
    }
}

/// Whether it was once taken for a requirement: only its outline was looked at.
fn was_taken(line: &str) -> bool {
    let (wanted, condition) = line.split_once(';').unwrap_or((line, "none"));
    let odd = ['@', '/', '\\', '\n', '\r', '#'];
    if line.starts_with('-') || line.contains(odd) || line.trim() != line || wanted == "." {
        return false;
    }
    let rest = wanted.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "._-".contains(c));
    let name = &wanted[..wanted.len() - rest.len()];
    let (extras, versions) = match rest.trim().strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("[", "")),
        None => ("none", rest),
    };
    let versions = versions.trim();
    let versions = versions
        .strip_prefix('(')
        .and_then(|versions| versions.strip_suffix(')'))
        .unwrap_or(versions);
    let is_limit = |clause: &str| {
        let operators = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
        let version = operators
            .iter()
            .find_map(|sign| clause.trim().strip_prefix(sign))
            .unwrap_or_default()
            .trim();
        let is_usual = |b: u8| b.is_ascii_alphanumeric() || b".*+!-_".contains(&b);
        !version.is_empty() && version.bytes().all(is_usual)
    };
    project(name)
        && extras.split(',').all(|extra| project(extra.trim()))
        && (versions.is_empty() || versions.split(',').all(is_limit))
        && !condition.trim().is_empty()
}

fn new_requirement(line: &str) -> Result<(), Advice> {
    if line.starts_with('-') {
        if let Some(key) = git_as_key(line) {
            return Err(key.into());
        }
        if let Some(key) = option_as_key(line) {
            return Err(key.into());
        }
        return Err(
            "pip's options do not belong here: use `requirements-files`, `constraints`, \
             `environment`, or the machine's own settings for an index"
                .into(),
        );
    }
    if let Some(key) = git_as_key(line) {
        return Err(key.into());
    }
    if line.contains("://") {
        return Err(
            "write it into a file of `requirements-files`, best with its digest: \
             NAME @ URL --hash=sha256:DIGEST"
                .into(),
        );
    }
    if line.contains(['\n', '\r']) || line.trim() != line {
        return Err("one requirement, one string, nothing around it".into());
    }
    let (wanted, condition) = line
        .split_once(';')
        .map_or((line, None), |(wanted, condition)| {
            (wanted.trim_end(), Some(condition))
        });
    if wanted.contains('@') {
        return Err("packages come by name from the index, from `local` or from `git`".into());
    }
    if wanted.contains(['/', '\\']) || wanted == "." {
        return Err("a directory beside the recipe goes under `local`".into());
    }
    if wanted.contains('#') {
        return Err("one requirement, one string, nothing around it".into());
    }
    if is_archive(wanted) {
        return Err(Advice::new(
            "it is the name of a file",
            "write the project and its version, as `idna==3.10`, or let a `pylock.toml` of \
             `requirements-files` name the file",
        ));
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
                return Err("the extras are not closed by `]`".into());
            };
            let is_extra = |extra: &str| project(extra.trim());
            if !extras.trim().is_empty() && !extras.split(',').all(is_extra) {
                return Err(Advice::new(
                    format!("`[{extras}]` is no list of extras"),
                    "write names with commas between them, as [socks,http2]",
                ));
            }
            versions.trim()
        }
    };
    let versions = versions
        .strip_prefix('(')
        .and_then(|versions| versions.strip_suffix(')'))
        .map_or(versions, str::trim);
    if !versions.is_empty() {
        // A newer pip takes a comma at the end.
        let versions = match versions.strip_suffix(',') {
            Some(versions) if !versions.trim().is_empty() => versions,
            _ => versions,
        };
        let mut clauses = versions.split(',').map(str::trim);
        clauses.try_for_each(version_clause::check)?;
    }
    match condition {
        Some(condition) if condition.trim().is_empty() => Err(Advice::new(
            "no condition follows the `;`",
            "leave the `;` out",
        )),
        Some(condition) => marker::check(condition),
        None => Ok(()),
    }
}

/// What stands between the brackets behind a project's name, if it is not blank.
fn extras(requirement: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let rest = requirement.trim_start_matches(is_name).trim_start();
    let (extras, _) = rest.strip_prefix('[')?.split_once(']')?;
    Some(extras.trim()).filter(|extras| !extras.is_empty())
}

/// Whether pip takes this for a file, whatever its name is.
pub(super) fn is_archive(name: &str) -> bool {
    const ENDS: [&str; 12] = [
        ".whl",
        ".zip",
        ".tar",
        ".tar.gz",
        ".tgz",
        ".tar.bz2",
        ".tbz",
        ".tar.xz",
        ".txz",
        ".tlz",
        ".tar.lz",
        ".tar.lzma",
    ];
    let name = name.to_ascii_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
    name.chars().all(is_name) && ENDS.iter().any(|end| name.ends_with(end))
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
fn git_as_key(line: &str) -> Option<String> {
    PipGit::of(line).map(|git| git.as_key())
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

/// What to write instead of a file of another tool that no `requirements-files` can name, by its
/// path.
pub(crate) fn other_tools_file(path: &str) -> Option<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
    let hint = match name {
        "poetry.lock" => {
            "export it: poetry export --format pylock.toml --output pylock.toml \
             (with poetry-plugin-export), and name that file here"
        }
        "Pipfile.lock" | "Pipfile" => "export it: pipenv requirements --hash > requirements.txt",
        "pdm.lock" => "export it: pdm export --format pylock --output pylock.toml",
        "pyproject.toml" | "setup.py" | "setup.cfg" => {
            return Some(format!(
                "the project in that directory is installed with what it depends on by: \
                 local = [\"{dir}\"]"
            ));
        }
        "environment.yml" | "environment.yaml" => {
            "it is conda's: export what it has of Python's packages with \
             pip list --format=freeze > requirements.txt, and name that file here"
        }
        _ => return None,
    };
    Some(hint.to_owned())
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
    /// Refuses what each pip refuses or misreads. The recipes of images that were built before
    /// may have it.
    pub(super) fn check_new(&self) -> Result<(), Unfit> {
        let text = self.as_str();
        new_requirement(text).map_err(|advice| Unfit::new::<Self>(text, advice))
    }

    /// Refuses what limits versions and names extras, as pip since 20.3 does.
    pub(super) fn check_limit(&self) -> Result<(), Advice> {
        let Some(extras) = extras(self.as_str()) else {
            return Ok(());
        };
        Err(Advice::new(
            "a constraint only limits versions, and pip refuses one with extras",
            format!(
                "leave `[{extras}]` out, which belongs into the requirements; pip-compile does so \
                 with --strip-extras"
            ),
        ))
    }

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
            ("idna-3.20-py3-none-any.whl", "idna==3.10"),
            ("idna-3.20.tar.gz", "pylock.toml"),
            ("idna [a,]", "`[a,]`"),
            ("idna[a", "closed by `]`"),
            ("idna<!3", "`<3` or `!=3`"),
            ("idna >=1.0 <2 ; os_name == 'x'", "`>=1.0,<2`"),
            ("idna>=3,,<4", "beside a comma"),
            ("idna,", "beside a comma"),
            ("idna (>=3", "closed by `)`"),
            ("idna 3.1", "==3.1"),
            ("idna==3 --hash=sha256:0", "more than"),
            ("idna ; python_version < 3.8", "'3.8'"),
            ("idna ; platform = \"linux\"", "`sys_platform`"),
            ("idna;", "follows the `;`"),
        ] {
            let read = text.parse::<Requirement>();
            let unfit = read.and_then(|read| read.check_new()).unwrap_err();
            let said = format!("{unfit}: {}", unfit.hint.clone().unwrap_or_default());
            assert!(said.contains(hint), "{said}");
        }
    }

    #[test]
    fn what_pip_takes_is_a_requirement() {
        for text in [
            "idna",
            "idna[]>=3",
            "idna [ ] >= 3",
            "idna[a, b-c] (>=3, <4)",
            "idna>=3,",
            "idna (>=3,) ; os_name == 'posix'",
            "idna()",
            "idna===3.*-x",
            "idna>=3 ;python_version<'4'",
            "idna ; platform_version == '#1 a/b@c'",
            "zip",
            "backports.zip==1",
        ] {
            let read = text.parse::<Requirement>();
            read.and_then(|read| read.check_new())
                .unwrap_or_else(|unfit| panic!("{text}: {:?}", unfit.hint));
        }
    }

    #[test]
    fn what_an_image_may_have_in_its_recipe_is_still_read() {
        for text in [
            "idna>=3.*",
            "idna [a, b] (>=2.0+cu118, <!3)",
            "idna~=3 ; python_version < 3.8",
            "idna-3.20.tar.gz",
        ] {
            let read = text.parse::<Requirement>().unwrap();
            assert!(read.check_new().is_err(), "{text}");
        }
        for text in [
            "idna=3",
            "idna 3",
            "idna>=1 <2",
            "idna==",
            "idna;",
            "idna[a,]",
        ] {
            let read = text.parse::<Requirement>();
            assert!(read.is_err(), "{text}");
        }
    }

    #[test]
    fn other_tools_files_are_known_by_their_names() {
        for (path, said) in [
            ("poetry.lock", "poetry export"),
            ("app/pyproject.toml", "local = [\"app\"]"),
            ("setup.py", "local = [\".\"]"),
            ("a/b/setup.cfg", "local = [\"a/b\"]"),
            ("environment.yml", "pip list"),
        ] {
            assert!(other_tools_file(path).unwrap().contains(said), "{path}");
        }
        assert!(other_tools_file("requirements.txt").is_none());
        assert_eq!(ForeignLock::of("a/uv.lock"), Some(ForeignLock::Uv));
        assert_eq!(
            ForeignLock::of("pylock.dev.toml"),
            Some(ForeignLock::Pylock)
        );
        assert_eq!(ForeignLock::of("requirements.txt"), None);
    }
}
