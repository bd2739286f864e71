//! What indexes and addresses answered, each with a sentence and what to do.

use serde::Deserialize;

use crate::error::Error;
use crate::lock::resolve::python::names::{name_of, written_name};
use crate::recipe::Virtualenv;

/// What the gateway or the script that fetches says about indexes and files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub(in super::super) enum Fact {
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
    /// A directory inside an archive is wanted.
    InsideArchive { url: String },
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
pub(in super::super) struct Told {
    #[serde(flatten)]
    pub(in super::super) fact: Fact,
    by: Option<String>,
}

impl Told {
    /// The repository that is wanted.
    pub(in super::super) fn repository(&self) -> Option<String> {
        match &self.fact {
            Fact::Repository { url } => Some(url.clone()),
            _ => None,
        }
    }

    /// A sentence about what is wrong, and what to do.
    pub(super) fn explain(&self) -> Option<(String, String)> {
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
            Self::Absent { requirement } | Self::NoVersion { requirement, .. }
                if is_artefact(requirement) =>
            {
                (
                    format!("no index of this machine has {requirement}"),
                    "leave the line out: `pip freeze` of older Debian and Ubuntu writes it by \
                     mistake, and there is no such package"
                        .into(),
                )
            }
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
            Self::InsideArchive { url } => (
                format!(
                    "{url} is required, a directory inside an archive, which the build could not name"
                ),
                "bring the package by its repository, `git = [{ url, tag, subdirectory }]` of the \
                 [[virtualenv]], or under `local`"
                    .into(),
            ),
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
    pub(in super::super) fn warning(&self) -> Option<String> {
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
pub(in super::super) fn confused(virtualenv: &Virtualenv, facts: &[Told]) -> Option<Error> {
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

/// Whether it is what pip, as Debian and Ubuntu patched it for years, found in each virtualenv.
fn is_artefact(requirement: &str) -> bool {
    let version = &requirement[written_name(requirement).len()..];
    name_of(requirement) == "pkg-resources" && version.trim() == "==0.0.0"
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

/// What is said of an address to which nobody leads who may.
pub(in super::super) fn unnamed_host(url: &str) -> String {
    format!(
        "a package requires {url}, at a host that neither the recipe nor a project of its own names"
    )
}

/// What helps then.
pub(in super::super) const UNNAMED_HINT: &str =
    "if you trust that host, name the address in a requirements file: NAME @ ADDRESS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_pip_freeze_wrote_by_mistake_is_to_be_left_out() {
        let hint = |fact: Fact| fact.explain().unwrap().1;
        let absent = |requirement: &str| Fact::Absent {
            requirement: requirement.to_owned(),
        };
        let no_version = Fact::NoVersion {
            requirement: "pkg_resources==0.0.0".to_owned(),
            newest: Some("1.0".to_owned()),
        };
        for fact in [absent("pkg-resources==0.0.0"), no_version] {
            let said = hint(fact);
            assert!(
                said.starts_with("leave the line out: `pip freeze`"),
                "{said}"
            );
        }
        for other in ["pkg-resources==1.0", "pkg-resources", "idna==0.0.0"] {
            assert!(hint(absent(other)).starts_with("check the name"), "{other}");
        }
    }
}
