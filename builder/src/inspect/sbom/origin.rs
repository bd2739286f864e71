//! Where an installed Python distribution came from.
//!
//! An advisory of `PyPI` is about the project of that name there, and a name says nothing about who
//! uses it elsewhere. `direct_url.json` beside the metadata tells (PEP 610). A build takes that file
//! away with all that it tells of the builder; recipe and lock tell instead.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use store::Sha256;

use super::purl;
use crate::lockfile::{Git, Lock};
use crate::stores::ancestry::BuiltFrom;

/// What virtualenv(1) and the venv module put into each virtualenv: of `PyPI`, whoever has it.
const SEEDS: [&str; 4] = ["pip", "setuptools", "wheel", "pkg-resources"];

/// Where a distribution came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::inspect) enum Origin {
    /// A package index, as far as can be told.
    Index,
    /// A directory or a file of whoever made the image, or a repository that not everybody reaches.
    Own,
    /// A repository: `VCS+URL@COMMIT`.
    Repository(String),
}

/// `direct_url.json`, <https://packaging.python.org/en/latest/specifications/direct-url/>.
#[derive(Deserialize)]
struct DirectUrl {
    url: String,
    dir_info: Option<serde_json::Value>,
    vcs_info: Option<VcsInfo>,
}

#[derive(Deserialize)]
struct VcsInfo {
    vcs: String,
    commit_id: String,
}

impl Origin {
    /// What `direct_url.json` says; an index where it is not what it should be. An archive with an
    /// address is what somebody published, by the name that it has there.
    pub(super) fn of_direct_url(text: &str) -> Self {
        let Ok(direct) = serde_json::from_str::<DirectUrl>(text) else {
            return Self::Index;
        };
        match direct.vcs_info {
            Some(of) => Self::of_repository(&of.vcs, &direct.url, &of.commit_id),
            None if direct.dir_info.is_some() || direct.url.starts_with("file:") => Self::Own,
            None => Self::Index,
        }
    }

    fn of_repository(vcs: &str, url: &str, commit: &str) -> Self {
        let is_word = |text: &str| {
            let mut bytes = text.bytes();
            !text.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric())
        };
        // No path of a machine and no credential of anybody.
        let rest = url.strip_prefix("https://");
        let host = rest.and_then(|rest| rest.split('/').next());
        let is_public = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
        let is_plain = url.bytes().all(|b| b.is_ascii_graphic());
        if is_public && is_plain && is_word(vcs) && is_word(commit) {
            Self::Repository(format!("{vcs}+{url}@{commit}"))
        } else {
            Self::Own
        }
    }
}

/// What recipe and lock of an image, and of those below it, say about its distributions.
pub(super) struct Origins<'b> {
    /// By virtualenv, normalised name and version.
    locked: BTreeMap<(String, String, String), (Sha256, Origin)>,
    virtualenvs: BTreeMap<String, Own<'b>>,
}

/// What a recipe puts into one of its virtualenvs besides distributions.
#[derive(Default)]
struct Own<'b> {
    directories: usize,
    repositories: Vec<&'b Git>,
}

impl<'b> Origins<'b> {
    pub(super) fn of(built: &'b [BuiltFrom]) -> Self {
        let mut origins = Self {
            locked: BTreeMap::new(),
            virtualenvs: BTreeMap::new(),
        };
        for one in built {
            origins.add_locked(&one.lock);
            let virtualenvs = one.recipe.iter().flat_map(|recipe| &recipe.virtualenvs);
            for virtualenv in virtualenvs {
                let path = virtualenv.path.to_string();
                let git = one.lock.git.iter().filter(|git| git.virtualenv == path);
                let own = origins.virtualenvs.entry(path.clone()).or_default();
                own.directories += virtualenv.local.len();
                own.repositories.extend(git);
            }
        }
        origins
    }

    fn add_locked(&mut self, lock: &Lock) {
        let beside: BTreeSet<&Sha256> = lock.files.iter().map(|file| &file.sha256).collect();
        for python in lock.python.iter().filter(|python| !python.build_only) {
            let origin = if beside.contains(&python.sha256) {
                Origin::Own
            } else {
                Origin::Index
            };
            let id = (
                python.virtualenv.clone(),
                purl::normal(&python.name),
                python.version.clone(),
            );
            self.locked.entry(id).or_insert((python.sha256, origin));
        }
    }

    /// The file that was installed, and where it came from, where a lock names it.
    pub(super) fn locked(
        &self,
        virtualenv: &str,
        name: &str,
        version: &str,
    ) -> Option<&(Sha256, Origin)> {
        self.locked.get(&(
            virtualenv.to_owned(),
            purl::normal(name),
            version.to_owned(),
        ))
    }

    /// Where so many distributions of a virtualenv came from that no lock names.
    ///
    /// They are the recipe's own projects: each makes one distribution, and no lock has its name. Where
    /// there are more, something else was installed as well, and nobody can tell which that is: an
    /// advisory is rather reported than missed.
    pub(super) fn unlocked(&self, virtualenv: &str, count: usize) -> Origin {
        let Some(own) = self.virtualenvs.get(virtualenv) else {
            return Origin::Index;
        };
        if count > own.directories + own.repositories.len() {
            return Origin::Index;
        }
        match (own.directories, &own.repositories[..]) {
            (0, [git]) => Origin::of_repository("git", &git.url, &git.commit),
            _ => Origin::Own,
        }
    }
}

/// Whether making a virtualenv has brought it.
pub(super) fn is_seed(name: &str) -> bool {
    SEEDS.contains(&purl::normal(name).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_urls_say_whose_a_distribution_is() {
        let repository = |text: &str| Origin::Repository(text.to_owned());
        for (text, expected) in [
            (r#"{"url": "file:///srv/own", "dir_info": {}}"#, Origin::Own),
            (
                r#"{"url": "file:///srv/own-1.whl", "archive_info": {"hash": "sha256=0"}}"#,
                Origin::Own,
            ),
            (
                r#"{"url": "https://h.example/own-1.whl", "archive_info": {}}"#,
                Origin::Index,
            ),
            (
                r#"{"url": "https://g.example/own.git", "vcs_info": {"vcs": "git",
                    "requested_revision": "v1", "commit_id": "0ab1"}, "subdirectory": "py"}"#,
                repository("git+https://g.example/own.git@0ab1"),
            ),
            (
                r#"{"url": "https://me:secret@g.example/own", "vcs_info": {"vcs": "git", "commit_id": "0"}}"#,
                Origin::Own,
            ),
            (
                r#"{"url": "ssh://git@g.example/own", "vcs_info": {"vcs": "git", "commit_id": "0"}}"#,
                Origin::Own,
            ),
            (
                r#"{"url": "https://g.example/own", "vcs_info": {"vcs": "git", "commit_id": "0 1"}}"#,
                Origin::Own,
            ),
            ("{}", Origin::Index),
            ("[", Origin::Index),
        ] {
            assert_eq!(Origin::of_direct_url(text), expected, "{text}");
        }
    }
}
