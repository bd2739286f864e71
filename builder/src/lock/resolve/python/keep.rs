//! Resolving a virtualenv again around what is locked.
//!
//! Locked versions are constraints, and their retained files lie beside the
//! index. Where the recipe now needs another version of something, pip names
//! the constraint in the way; that one is dropped and pip asked again. So only
//! what must move does, with pip old and new, which have no such mode of their
//! own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use store::Inputs;

use super::names::{name_of, normalise};
use crate::error::Error;
use crate::lockfile::Python;

/// Where pip finds the retained files.
pub(super) const RETAINED: &str = "/run/imgbuild/pip/retained";

/// Locked distributions by name, as long as nothing is in their way.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    by_name: BTreeMap<&'a str, &'a Python>,
}

impl<'a> Kept<'a> {
    /// Of a virtualenv's lock, what is installed or what only builds others.
    /// What `requirements` want in exactly another version, or from an address, is let go at once.
    /// Of a name that has several versions, for builds that need different ones, none is kept.
    pub(super) fn new(locked: &'a [Python], build_only: bool, requirements: &str) -> Self {
        let of_kind = || locked.iter().filter(|p| p.build_only == build_only);
        let single = |one: &&Python| {
            let mut others = of_kind().filter(|p| p.name == one.name);
            others.all(|other| other.version == one.version)
        };
        let mut by_name: BTreeMap<&str, &Python> = of_kind()
            .filter(single)
            .map(|p| (p.name.as_str(), p))
            .collect();
        for line in requirements.lines() {
            if line.contains("://") {
                by_name.remove(name_of(line).as_str());
            }
            if let Some((name, version)) = exact(line)
                && by_name
                    .get(name.as_str())
                    .is_some_and(|p| p.version != version)
            {
                by_name.remove(name.as_str());
            }
        }
        Self { by_name }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The lines that hold pip to the locked versions.
    pub(super) fn constraints(&self) -> String {
        self.by_name.values().fold(String::new(), |mut text, p| {
            let _ = writeln!(text, "{}=={}", p.name, p.version);
            text
        })
    }

    /// Their files.
    pub(super) fn files(&self) -> impl Iterator<Item = &'a Python> {
        self.by_name.values().copied()
    }

    /// Lets go of these; false when none of them is kept.
    pub(super) fn let_go<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> bool {
        let before = self.by_name.len();
        for name in names {
            self.by_name.remove(name);
        }
        self.by_name.len() < before
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
    }

    /// Lets go of what pip names as being in the way; false when it names
    /// nothing that is kept.
    pub(super) fn give_way(&mut self, error: &Error) -> bool {
        let before = self.by_name.len();
        for line in error.causes() {
            self.by_name.retain(|name, python| {
                !repeats(line, name, &python.version) && !quotes(line, name)
            });
        }
        let is_conflict = |line: &String| line.contains(CONFLICT);
        if self.by_name.len() == before && error.causes().iter().any(is_conflict) {
            // pip could not say which: none of them then.
            self.by_name.clear();
        }
        self.by_name.len() < before
    }

    /// The locked entry that `found` repeats in name and version, when the
    /// store has its file: then that file stays, whatever the index has now.
    pub(super) fn same(&self, found: &Python, inputs: &Inputs) -> Option<&'a Python> {
        let kept = *self.by_name.get(found.name.as_str())?;
        (kept.version == found.version && inputs.has(&kept.sha256)).then_some(kept)
    }
}

/// `name==version`, with nothing else asked for.
fn exact(line: &str) -> Option<(String, String)> {
    let wanted = line.split([';', '#']).next()?;
    let (name, version) = wanted.split_once("==")?;
    let version = version.split_whitespace().next()?;
    let name = name.split('[').next()?.trim();
    let plain = !version.contains(['*', ',', '=']) && !name.contains(['<', '>', '~', '!', ',']);
    plain.then(|| (normalise(name), version.to_owned()))
}

/// What pip's resolver calls versions that do not fit together: the name of its
/// exception, not a sentence.
const CONFLICT: &str = "ResolutionImpossible";

/// Whether a line of pip's repeats our constraint: a requirement (PEP 508) on
/// this project with `==` this version among its clauses.
fn repeats(line: &str, project: &str, version: &str) -> bool {
    line.split_whitespace().any(|word| {
        let end = word
            .find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
            .unwrap_or(word.len());
        let (name, clauses) = word.split_at(end);
        let mut clauses = clauses.split(',');
        normalise(name) == project
            && clauses.any(|clause| clause.trim().strip_prefix("==") == Some(version))
    })
}

/// Whether an old pip says that this project, which something wants from an address, has a
/// constraint: it takes none there, and names no version.
fn quotes(line: &str, project: &str) -> bool {
    let mut words = line.split('\'').skip(1).step_by(2);
    line.contains("constrain") && words.any(|word| normalise(word) == project)
}

#[cfg(test)]
mod tests {
    use store::Sha256;

    use super::*;

    fn locked(name: &str, version: &str) -> Python {
        Python {
            virtualenv: "/v".into(),
            name: name.into(),
            version: version.into(),
            file: format!("{name}-{version}.tar.gz"),
            build_only: false,
            url: None,
            size: 1,
            sha256: Sha256::of(name.as_bytes()),
        }
    }

    #[test]
    fn an_exact_wish_for_another_version_is_no_constraint() {
        let lock = [
            locked("a", "1.0"),
            locked("b-c", "2.0"),
            locked("d", "3"),
            locked("e", "4"),
        ];
        let wishes = "a==1.0\nB_c[x]==2.1 ; python_version > '3'\nd>=2\ne==4.*  # any\n";
        let kept = Kept::new(&lock, false, wishes);
        assert_eq!(kept.constraints(), "a==1.0\nd==3\ne==4\n");
        let elsewhere = "a @ https://h.example/a-1.0.zip\nhttps://h.example/d-3.zip\n";
        let kept = Kept::new(&lock, false, elsewhere);
        assert_eq!(kept.constraints(), "b-c==2.0\nd==3\ne==4\n");
        assert!(Kept::new(&lock, true, "").is_empty());
    }

    #[test]
    fn what_pip_names_gives_way() {
        let lock = [
            locked("requests", "2.12.4"),
            locked("urllib3", "1.20"),
            locked("x", "1"),
        ];
        let mut kept = Kept::new(&lock, false, "");
        let old = Error::failed("pip").detail(
            "ERROR: Could not satisfy constraints for 'X': installation from path or url cannot be \
             constrained to a version",
        );
        assert!(kept.give_way(&old));
        assert_eq!(kept.constraints(), "requests==2.12.4\nurllib3==1.20\n");
        let mut kept = Kept::new(&lock, false, "");
        let new = Error::failed("pip")
            .detail("    fanery 0.3 depends on requests>=2.20")
            .detail("    The user requested (constraint) requests==2.12.4")
            .detail("ERROR: ResolutionImpossible: see the documentation");
        assert!(kept.give_way(&new));
        assert_eq!(kept.constraints(), "urllib3==1.20\nx==1\n");
        let old = Error::failed("pip").detail(
            "ERROR: No matching distribution found for urllib3<1.27,==1.20,>=1.21 (from y)",
        );
        assert!(kept.give_way(&old));
        assert_eq!(kept.constraints(), "x==1\n");
        assert!(!kept.give_way(&Error::failed("pip").detail("the network is down")));
        let unclear = Error::failed("pip").detail("ERROR: ResolutionImpossible");
        assert!(kept.give_way(&unclear) && kept.is_empty());
        assert!(!kept.give_way(&unclear));
    }
}
