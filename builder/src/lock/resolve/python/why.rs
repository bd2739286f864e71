//! Why Python packages cannot be had, from what the indexes answered and what builds called.
//!
//! What pip says is evidence for people; what to do follows from facts alone.

use std::path::Path;

use serde::Deserialize;

use super::Sources;
use super::names::written_name;
use super::run::{LENT, SOURCES};
use crate::error::Error;
use crate::lock::acquire::decoded;
use crate::recipe::Virtualenv;

/// What the gateway or the script that fetches says about indexes and files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub(super) enum Fact {
    /// A server's certificate is not trusted.
    Certificate { host: Option<String> },
    /// A server wants other credentials.
    Credentials { host: Option<String> },
    /// A server does not answer, or not to its end.
    Unreachable { host: Option<String> },
    /// A server answers that it is broken (5xx).
    Broken { host: Option<String> },
    /// Nobody has a locked file.
    Lost { file: String },
    /// No index has the project.
    Absent { requirement: String },
    /// No index has such a version.
    NoVersion {
        requirement: String,
        newest: Option<String>,
    },
    /// All such versions were yanked (PEP 592).
    AllYanked {
        requirement: String,
        version: String,
        reason: String,
    },
    /// There are only files for other Pythons.
    OtherPython {
        requirement: String,
        version: String,
        offers: Vec<String>,
        own_python: String,
        newest: Option<String>,
    },
    /// There are only wheels of other platforms.
    OtherPlatform {
        requirement: String,
        version: String,
        offers: Vec<String>,
        own_platform: String,
        newest: Option<String>,
    },
    /// The project of a file.
    Of { file: String, name: String },
    /// A file was taken although it was yanked.
    Yanked {
        name: String,
        version: String,
        reason: String,
    },
    /// A package has no such extra.
    NoExtra {
        name: String,
        extra: String,
        has: Vec<String>,
    },
    /// A retained file is one of another index than the one that is meant.
    Misplaced { name: String },
    /// A file was taken by its address.
    Direct { file: String, url: String },
    /// A repository is wanted that is not here.
    Repository { url: String },
    /// No file can be had from an address.
    NothingThere { url: String, why: String },
    /// An address leads to a host that only a package names.
    UnnamedHost { url: String },
    /// An address carries credentials; it is shown without them.
    LoginInAddress { url: String },
    /// Files were taken from one index, and others have other files under the same names.
    SharedName {
        host: Option<String>,
        others: Vec<String>,
        names: Vec<String>,
    },
}

/// A fact, and the package whose requirement it is about.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Told {
    #[serde(flatten)]
    pub(super) fact: Fact,
    by: Option<String>,
}

impl Told {
    /// The repository that is wanted.
    pub(super) fn repository(&self) -> Option<String> {
        match &self.fact {
            Fact::Repository { url } => Some(url.clone()),
            _ => None,
        }
    }

    /// A sentence about what is wrong, and what to do.
    fn explain(&self) -> Option<(String, String)> {
        let (what, hint) = self.fact.explain()?;
        let (Some(by), Some(wanted)) = (&self.by, self.fact.requirement()) else {
            return Some((what, hint));
        };
        let name = by.split(' ').next().unwrap_or_default();
        Some((
            format!("{what} ({by} requires {wanted})"),
            format!("require another version of {name}, or leave it out"),
        ))
    }
}

impl Fact {
    /// The requirement that it is about.
    fn requirement(&self) -> Option<&str> {
        match self {
            Self::Absent { requirement }
            | Self::NoVersion { requirement, .. }
            | Self::AllYanked { requirement, .. }
            | Self::OtherPython { requirement, .. }
            | Self::OtherPlatform { requirement, .. } => Some(requirement),
            _ => None,
        }
    }

    /// A sentence about what is wrong, and what to do.
    fn explain(&self) -> Option<(String, String)> {
        Some(match self {
            Self::Certificate { host } => (
                format!(
                    "the certificate of {} is not trusted here",
                    server(host.as_deref())
                ),
                "name a CA bundle in PIP_CERT or pip.conf".into(),
            ),
            Self::Credentials { host } => (
                format!("{} wants other credentials", server(host.as_deref())),
                "see PIP_INDEX_URL, pip.conf and netrc of this machine".into(),
            ),
            Self::Unreachable { host } => (
                format!("{} cannot be reached", server(host.as_deref())),
                "its address comes from this machine's pip configuration".into(),
            ),
            Self::Broken { host } => (
                format!("{} says that it is broken (5xx)", server(host.as_deref())),
                "try again later, or name another index in this machine's pip configuration".into(),
            ),
            Self::Lost { file } => (
                format!("no index of this machine has the locked {file}"),
                "take it from a store that retains it, or lock again: `imgbuild lock --upgrade`, \
                 or the tool whose lock names it"
                    .into(),
            ),
            Self::Absent { requirement } => (
                format!("no index of this machine has {requirement}"),
                "check the name; which indexes there are is said by this machine's pip \
                 configuration"
                    .into(),
            ),
            Self::NoVersion {
                requirement,
                newest,
            } => (
                format!("no index of this machine has {requirement}"),
                write_instead(requirement, newest.as_deref())
                    .unwrap_or_else(|| "check the name and the version".into()),
            ),
            Self::AllYanked {
                requirement,
                version,
                reason,
            } => (
                format!(
                    "every release that fits {requirement} was yanked: {version}{}",
                    said(reason)
                ),
                format!(
                    "write {}=={version} to take it all the same",
                    written_name(requirement)
                ),
            ),
            Self::OtherPython {
                requirement,
                version,
                offers,
                own_python,
                newest,
            } => (
                format!(
                    "{} {version} is there for Python {} only; this one is {own_python}",
                    written_name(requirement),
                    offers.join(", ")
                ),
                write_instead(requirement, newest.as_deref()).unwrap_or_else(|| {
                    "no version of it fits: take another interpreter (`python` of the \
                     [[virtualenv]]), or leave it out"
                        .into()
                }),
            ),
            Self::OtherPlatform {
                requirement,
                version,
                offers,
                own_platform,
                newest,
            } => (
                format!(
                    "{} {version} has no source and wheels for {} only; this tree is \
                     {own_platform}",
                    written_name(requirement),
                    offers.join(", ")
                ),
                write_instead(requirement, newest.as_deref()).unwrap_or_else(|| {
                    format!(
                        "no version of it fits: leave it out, or give it a marker, such as \
                         {requirement} ; sys_platform == 'win32'"
                    )
                }),
            ),
            Self::NothingThere { url, why } => {
                let why = match why.as_str() {
                    "certificate" => "its server's certificate is not trusted here",
                    "unreachable" => "its server cannot be reached",
                    "credentials" => "its server wants credentials",
                    "broken" => "its server says that it is broken (5xx)",
                    status => &format!("its server answers {status}"),
                };
                (
                    format!("{url} is required and cannot be had: {why}"),
                    "see in pip's last lines who requires it, and whether it has moved".into(),
                )
            }
            Self::UnnamedHost { url } => (unnamed_host(url), UNNAMED_HINT.into()),
            Self::LoginInAddress { url } => (
                format!("the address {url} is required with credentials in it"),
                "they would end up in the lock: bring that file by a requirements file, without \
                 them, or the package under `local`"
                    .into(),
            ),
            Self::Of { .. }
            | Self::Direct { .. }
            | Self::Repository { .. }
            | Self::Yanked { .. }
            | Self::NoExtra { .. }
            | Self::Misplaced { .. }
            | Self::SharedName { .. } => return None,
        })
    }

    /// What a person should know although all went well.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Yanked {
                name,
                version,
                reason,
            } => Some(format!(
                "warning: {name} {version} was yanked from its index{}: require another version",
                said(reason)
            )),
            Self::NoExtra { name, extra, has } => Some(format!(
                "warning: {name} has no extra `{extra}`{}",
                match &has[..] {
                    [] => String::new(),
                    has => format!("; it has {}", has.join(", ")),
                }
            )),
            _ => None,
        }
    }
}

/// Refuses files that may be of another project than the one that was meant: where indexes are
/// several, a stranger can put a private name into a public one.
pub(super) fn confused(virtualenv: &Virtualenv, facts: &[Told]) -> Option<Error> {
    const MOST: usize = 6;
    let (host, others, names) = facts.iter().find_map(|told| match &told.fact {
        Fact::SharedName {
            host,
            others,
            names,
        } => Some((host, others, names)),
        _ => None,
    })?;
    let first = names.first()?;
    let more = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let listed = names[..names.len().min(MOST)].join(", ");
    let error = Error::usage(format!(
        "several indexes of this machine have other files under the same names: {listed}{more}"
    ));
    Some(
        error
            .detail(format!(
                "they would come from {}; also there: {}",
                server(host.as_deref()),
                others.join(", ")
            ))
            .hint(format!(
                "say in [[virtualenv]] {} which index is meant: index = {{ {first} = \"extra\" }} \
                 (of extra-index-url) or \"main\" (of index-url); \"*\" means all names",
                virtualenv.path
            )),
    )
}

/// What people call a server.
fn server(host: Option<&str>) -> String {
    host.map_or("the index".to_owned(), |host| {
        format!("the index at {host}")
    })
}

/// The reason that an index gives, if it gives one.
fn said(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

fn write_instead(requirement: &str, newest: Option<&str>) -> Option<String> {
    newest.map(|newest| {
        let name = written_name(requirement);
        format!("write {name}=={newest}, the newest that fits")
    })
}

/// A source that does not build, as a script found it.
#[derive(Debug, Deserialize)]
pub(super) struct Unbuildable {
    source: String,
    /// The version of Python, such as `3.11`.
    python: String,
    /// What it needs to be built and the index does not have.
    #[serde(default)]
    lines: Vec<String>,
    /// Last lines of the build.
    #[serde(default)]
    tail: Vec<String>,
    /// Headers that a compiler did not find.
    #[serde(default)]
    headers: Vec<String>,
    /// Programs that it called and the tree does not have.
    #[serde(default)]
    programs: Vec<String>,
}

impl Unbuildable {
    /// What people call the source.
    fn name(&self, sources: Option<&Sources>) -> String {
        let tree = sources.into_iter().flat_map(|sources| &sources.trees);
        let mut tree = tree.filter(|tree| {
            Path::new(&self.source) == Path::new(SOURCES).join(&tree.path).as_path()
        });
        if let Some(tree) = tree.next() {
            return tree.origin.clone();
        }
        let file = self.source.split('#').next().unwrap_or_default();
        if let Some((_, address)) = file.split_once("/direct/") {
            return shown(address);
        }
        file.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Whether the last lines of its build have one of these words.
    fn mentions(&self, words: &[&str]) -> bool {
        let mut lines = self.tail.iter();
        lines.any(|line| words.iter().any(|word| line.contains(word)))
    }

    fn advice(&self, reached: &[String]) -> String {
        let python = format!("python{}-dev", self.python);
        let mut packages: Vec<String> = Vec::new();
        let mut add = |package: String| {
            if !packages.contains(&package) {
                packages.push(package);
            }
        };
        for program in &self.programs {
            let package = package_of(program);
            add(package.to_owned());
            if package == "build-essential" {
                add(python.clone());
            }
        }
        if self.headers.iter().any(|h| h == "Python.h") {
            add(python.clone());
        }
        let mut header = self.headers.iter().filter(|h| *h != "Python.h");
        if !packages.is_empty() {
            let list: Vec<String> = packages.iter().map(|p| format!("\"{p}\"")).collect();
            format!(
                "add {} to `install` of a [[packages]] section of the recipe",
                list.join(", ")
            )
        } else if let Some(header) = header.next() {
            format!(
                "add the Debian package that has {header} to `install` of a [[packages]] section \
                 (`apt-file search {header}` names it)"
            )
        } else if self.mentions(&["pkg_resources", "setuptools.command.test", "use_2to3"]) {
            "it was written for an older setuptools: build-constraints = [\"setuptools<81\"] in the \
             [[virtualenv]] (or <58 for use_2to3)"
                .into()
        } else if self.source.starts_with(SOURCES)
            && self.mentions(&[&format!("{}/..", self.source)])
        {
            "of a package in `local` only its own directory is there: make what it reads beside \
             itself a link in it, or copy it there"
                .into()
        } else if !reached.is_empty() {
            "builds have no network: what it fetches must be a Debian package (a toolchain, a \
             library), or be part of the source"
                .into()
        } else {
            if self.source.starts_with(SOURCES) {
                "read the last lines of its build above: this is how its own pyproject.toml or \
                 setup.py builds it with this Python"
            } else {
                "read the last lines of its build above; a wheel, or another version, needs no \
                 build"
            }
            .into()
        }
    }
}

/// The Debian package that has a program which builds call.
fn package_of(program: &str) -> &str {
    match program {
        "cc" | "gcc" | "c99" | "g++" | "c++" | "make" => "build-essential",
        _ if program.ends_with("-gcc") || program.ends_with("-g++") => "build-essential",
        "clang" | "clang++" => "clang",
        "gfortran" | "f77" | "f95" => "gfortran",
        "rustc" | "cargo" => "cargo",
        "go" => "golang-go",
        "node" => "nodejs",
        "pg_config" => "libpq-dev",
        "mysql_config" | "mariadb_config" => "libmariadb-dev",
        "xml2-config" => "libxml2-dev",
        "xslt-config" => "libxslt1-dev",
        "curl-config" => "libcurl4-openssl-dev",
        "krb5-config" => "libkrb5-dev",
        "llvm-config" => "llvm-dev",
        "gdal-config" => "libgdal-dev",
        "geos-config" => "libgeos-dev",
        "protoc" => "protobuf-compiler",
        "ninja" => "ninja-build",
        other => other,
    }
}

/// What is known about a run that failed.
pub(super) struct Evidence<'a> {
    pub(super) virtualenv: &'a Virtualenv,
    pub(super) sources: Option<&'a Sources>,
    pub(super) facts: Vec<Told>,
    pub(super) unbuildable: Option<Unbuildable>,
    /// Whom it tried to reach besides the gateway.
    pub(super) reached: Vec<String>,
    /// The tool's own words.
    pub(super) output: Error,
}

impl Evidence<'_> {
    pub(super) fn into_error(self) -> Error {
        let path = &self.virtualenv.path;
        let explained: Vec<(String, String)> =
            self.facts.iter().filter_map(Told::explain).collect();
        let lost = self
            .facts
            .iter()
            .any(|told| matches!(told.fact, Fact::Lost { .. }));
        if lost && let [.., (what, hint)] = &explained[..] {
            let hint = explained.first().map_or(hint, |first| &first.1);
            let others = explained[..explained.len() - 1].iter();
            let error = Error::failed(what.clone());
            return others.fold(error, |e, (what, _)| e.detail(what)).hint(hint);
        }
        let mut error = Error::failed(format!("pip cannot resolve the virtualenv {path}"));
        for (what, _) in &explained {
            error = error.detail(what);
        }
        if let Some(unbuildable) = &self.unbuildable {
            return self.about_source(unbuildable, &error, explained.first().map(|e| &e.1));
        }
        error = error.detail(self.output.to_string());
        // pip names the gateway where it looks, which is nobody's address.
        let named = |line: &&String| !line.starts_with("Looking in ");
        for line in self.output.causes().iter().filter(named) {
            error = error.detail(self.readable(line));
        }
        match explained.first() {
            Some((_, hint)) => error.hint(hint),
            None => error.hint(
                "read pip's last lines above; the index comes from this machine's pip \
                 configuration",
            ),
        }
    }

    fn about_source(&self, source: &Unbuildable, before: &Error, hint: Option<&String>) -> Error {
        let (path, name) = (&self.virtualenv.path, source.name(self.sources));
        if !source.lines.is_empty() {
            let what = format!(
                "the virtualenv {path}: no index has what building {name} needs: {}",
                source.lines.join(", ")
            );
            let error = before
                .causes()
                .iter()
                .fold(Error::failed(what), Error::detail);
            return error.hint(hint.map_or(
                "these are wheels, for this Python and platform, of the versions that its \
                 pyproject.toml and its build backend name",
                |hint| hint,
            ));
        }
        let mut error = Error::failed(format!("the virtualenv {path}: {name} does not build"));
        for line in &source.tail {
            error = error.detail(format!("| {}", self.readable(line)));
        }
        if !source.programs.is_empty() {
            let programs = source.programs.join(", ");
            error = error.detail(format!("it calls {programs}, which the tree does not have"));
        }
        if !source.headers.is_empty() {
            let headers = source.headers.join(", ");
            error = error.detail(format!("its compiler does not find {headers}"));
        }
        if !self.reached.is_empty() {
            error = error.detail(format!("it tried to reach {}", self.reached.join(", ")));
        }
        error.hint(source.advice(&self.reached))
    }

    /// A line of pip's with the names that people gave, in place of those of the sandbox.
    fn readable(&self, line: &str) -> String {
        let mut line = line.to_owned();
        let trees = self.sources.into_iter().flat_map(|sources| &sources.trees);
        // The longest first: 10 begins like 1.
        for tree in trees.collect::<Vec<_>>().into_iter().rev() {
            let place = Path::new(SOURCES).join(&tree.path);
            line = line.replace(&*place.to_string_lossy(), &tree.origin);
        }
        for (file, words) in [
            (format!("{LENT}/requirements.txt"), "what is required"),
            (format!("{LENT}/constraints.txt"), "the constraints"),
        ] {
            line = line.replace(&file, words);
        }
        without_gateway(&line)
    }
}

/// An address as it stands in a path of the gateway, without who asks.
fn shown(path: &str) -> String {
    let address = decoded(path.split('/').next().unwrap_or_default());
    let login = address.split_once("://").and_then(|(_, rest)| {
        let authority = rest.split('/').next()?;
        Some(authority.rsplit_once('@')?.0.to_owned() + "@")
    });
    login.map_or(address.clone(), |login| address.replacen(&login, "", 1))
}

/// A line without the address of the gateway, under which pip knows the indexes.
fn without_gateway(line: &str) -> String {
    const BEGINS: &str = "http://127.0.0.1:";
    let mut rest = line;
    let mut readable = String::with_capacity(line.len());
    while let Some((before, after)) = rest.split_once(BEGINS) {
        readable.push_str(before);
        // PORT/file/NUMBER/ or PORT/index/NUMBER/, or PORT/direct/ADDRESS/NAME
        rest = after.splitn(4, '/').nth(3).unwrap_or_default();
        if let Some(("direct", address)) = after
            .split_once('/')
            .and_then(|(_, path)| path.split_once('/'))
        {
            readable += &shown(address);
            let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-%".contains(c));
            rest = name.map_or("", |end| &rest[end..]);
        }
    }
    readable + rest
}

/// What is said of an address to which nobody leads who may.
pub(super) fn unnamed_host(url: &str) -> String {
    format!(
        "a package requires {url}, at a host that neither the recipe nor a project of its own names"
    )
}

/// What helps then.
pub(super) const UNNAMED_HINT: &str =
    "if you trust that host, name the address in a requirements file: NAME @ ADDRESS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_says_has_no_address_of_the_gateway() {
        for (line, readable) in [
            (
                "idna from http://127.0.0.1:47119/file/69/idna-3-py3-none-any.whl#sha256=ab",
                "idna from idna-3-py3-none-any.whl#sha256=ab",
            ),
            (
                "link: http://127.0.0.1:1/index/0/idna/ (of http://127.0.0.1:1/index/1/x/)",
                "link: idna/ (of x/)",
            ),
            ("http://127.0.0.1:47119/none", ""),
            (
                "from http://127.0.0.1:1/direct/https%3A%2F%2Fh.example%2Fv1.zip/0f3a.zip (of a)",
                "from https://h.example/v1.zip (of a)",
            ),
            (
                "http://127.0.0.1:1/direct/https%3A%2F%2Fme%3Apw%40h.example%2Fv1/0f3a",
                "https://h.example/v1",
            ),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(without_gateway(line), readable);
        }
    }
}
