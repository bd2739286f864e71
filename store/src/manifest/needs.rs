//! What the sessions of an image need from the node that runs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::strict;

/// What a node must give to the sessions of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Needs {
    /// Directories whose content is the node's and outlives generations: data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<String>,
    /// Directories whose content is the node's and can be made again: caches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<String>,
    /// Directories of logs, whose content is the node's as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// Names of secrets, which processes find as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Environment variables whose values are secrets of these names.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "strict::unique_map"
    )]
    pub secret_environment: BTreeMap<String, String>,
    /// Environment variables whose values are the node's to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Whose names of hosts count.
    #[serde(skip_serializing_if = "Resolver::is_default")]
    pub resolver: Resolver,
}

/// Whose `/etc/resolv.conf` and `/etc/hosts` a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolver {
    /// Those of the node.
    #[default]
    Node,
    /// Those of the image.
    Image,
}

impl Resolver {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Needs {
    /// Whether nothing is needed, and the node's resolver does.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// All directories, in the order of their kinds.
    pub fn directories(&self) -> impl Iterator<Item = (DirectoryKind, &str)> {
        let kinds = [
            (DirectoryKind::State, &self.state),
            (DirectoryKind::Cache, &self.cache),
            (DirectoryKind::Logs, &self.logs),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, paths)| paths.iter().map(move |path| (kind, path.as_str())))
    }

    /// Refuses what a node could not do safely. The error says why.
    pub(super) fn check(&self) -> Result<(), String> {
        for (_, path) in self.directories() {
            if !is_plain_path(path) {
                return Err(format!("`{}` is not a path to bind", path.escape_debug()));
            }
        }
        for name in self.secrets.iter().chain(self.secret_environment.values()) {
            if !is_secret_name(name) {
                return Err(format!(
                    "`{}` is not a name of a secret",
                    name.escape_debug()
                ));
            }
        }
        let unlisted = self.secret_environment.values();
        if let Some(name) = unlisted.into_iter().find(|n| !self.secrets.contains(n)) {
            return Err(format!("the secret {name} is used and not listed"));
        }
        for name in self.settings.iter().chain(self.secret_environment.keys()) {
            if !is_variable(name) {
                let name = name.escape_debug();
                return Err(format!("`{name}` is not a name of an environment variable"));
            }
        }
        Ok(())
    }
}

/// What a directory of the node's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirectoryKind {
    /// Data that cannot be made again.
    State,
    /// What can be made again.
    Cache,
    /// Logs.
    Logs,
}

impl DirectoryKind {
    /// Its word: `state`, `cache` or `logs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Cache => "cache",
            Self::Logs => "logs",
        }
    }
}

/// Whether a path is absolute, below `/`, and has no `.` and `..`.
pub fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
    })
}

/// Whether a word can name a secret: a file name of letters, digits, `.`, `_` and `-`.
pub fn is_secret_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(fits)
}

fn is_variable(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first)
        && name
            .bytes()
            .all(|byte| first(byte) || byte.is_ascii_digit())
}
