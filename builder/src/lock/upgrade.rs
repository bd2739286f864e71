//! Which locked inputs are to be taken anew.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::lockfile::{self, Lock};

/// What the base is called.
const BASE: &str = "base";

/// What the packages are called for which the archive of security updates has a newer version.
const SECURITY: &str = "security";

/// What `--upgrade` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing: what is locked stays.
    #[default]
    Nothing,
    /// Everything.
    All,
    /// Debian packages, Python distributions and Git sources of these names, and
    /// what must follow them.
    Only(BTreeSet<String>),
}

impl Upgrade {
    /// The newest release of the base.
    pub fn base() -> Self {
        Self::Only(BTreeSet::from([BASE.to_owned()]))
    }

    /// As typed: `--upgrade`, `--upgrade=NAME`, repeated or with commas.
    pub fn typed(values: &[String]) -> Self {
        if values.is_empty() {
            Self::Nothing
        } else if values.iter().any(String::is_empty) {
            Self::All
        } else {
            // Python distributions are locked under their normalised names.
            Self::Only(values.iter().map(|v| v.trim().to_lowercase()).collect())
        }
    }

    /// The names, where it is about names.
    pub(super) fn names(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Only(names) => Some(names),
            Self::Nothing | Self::All => None,
        }
    }

    /// Whether an input of this name is to be taken anew.
    pub(super) fn takes(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Only(names) => names
                .iter()
                .any(|n| n == name || n.replace(['_', '.'], "-") == name),
        }
    }

    /// Whether the base is to be taken anew.
    pub(super) fn takes_base(&self) -> bool {
        self.takes(BASE)
    }

    /// Whether security updates are to be taken.
    pub(super) fn takes_security(&self) -> bool {
        self.names().is_some_and(|names| names.contains(SECURITY))
    }

    /// Whether Debian packages must be resolved for it.
    pub(super) fn concerns_packages(&self, lock: &Lock) -> bool {
        *self == Self::All
            || lock.base.is_some() && self.takes_base()
            || self.takes_security()
            || lock.debs.iter().any(|d| self.takes(&d.name))
    }

    /// Whether a virtualenv must be resolved for it.
    pub(super) fn concerns_virtualenv(&self, lock: &Lock, path: &str) -> bool {
        let mut own = lock.python.iter().filter(|p| p.virtualenv == path);
        let mut sources = lock.git.iter().filter(|g| g.virtualenv == path);
        *self == Self::All
            || own.any(|p| self.takes(&p.name))
            || sources.any(|g| self.takes(&g.name()))
    }

    /// Refuses names that the lock does not have.
    pub(super) fn check(&self, lock: Option<&Lock>) -> Result<()> {
        let Some(names) = self.names() else {
            return Ok(());
        };
        let Some(lock) = lock else {
            return Err(
                Error::usage("there is no lock yet in which a package could be upgraded")
                    .hint("run `imgbuild lock RECIPE` without --upgrade first"),
            );
        };
        let sources: Vec<String> = lock.git.iter().map(lockfile::Git::name).collect();
        for name in names {
            if lock.base.is_some() && name == BASE || name == SECURITY {
                continue;
            }
            if name == BASE {
                return Err(Error::usage("the lock has no base that could move")
                    .hint("`base` of [bootstrap] names one; `--upgrade` alone moves everything"));
            }
            let beside = lock
                .debs
                .iter()
                .find(|d| d.archive.is_none() && d.name == *name);
            if let Some(deb) = beside {
                return Err(Error::usage(format!(
                    "the package `{name}` is the file {} beside the recipe",
                    deb.path
                ))
                .hint("replace that file; the next build notices it"));
            }
            let only = Self::Only(BTreeSet::from([name.clone()]));
            let known = || {
                let debs = lock.debs.iter().map(|d| d.name.as_str());
                debs.chain(lock.python.iter().map(|p| p.name.as_str()))
                    .chain(sources.iter().map(String::as_str))
            };
            if !known().any(|k| only.takes(k)) {
                let error = unknown(name, &mut known());
                return Err(match &lock.base {
                    Some(base) => error.detail(format!(
                        "what the base {base} has is upgraded there; `--upgrade=base` takes its \
                         newest release"
                    )),
                    None => error,
                });
            }
        }
        Ok(())
    }
}

fn unknown(name: &str, known: &mut dyn Iterator<Item = &str>) -> Error {
    let nearest = known
        .map(|k| (strsim::damerau_levenshtein(k, name), k))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let error = Error::usage(format!(
        "the lock names no Debian package, Python distribution or Git source `{name}`"
    ));
    match nearest {
        Some((_, near)) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`--upgrade` without a name resolves everything afresh"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_values_are_nothing_all_or_names() {
        let typed = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            Upgrade::typed(&values)
        };
        assert_eq!(typed(&[]), Upgrade::Nothing);
        assert_eq!(typed(&["", "bash"]), Upgrade::All);
        let only = typed(&["bash", "Zope.Interface"]);
        assert!(only.takes("bash") && only.takes("zope-interface"));
        assert!(!only.takes("dash"));
    }

    #[test]
    fn a_mistyped_upgrade_is_answered_with_the_nearest_name() {
        let names = ["openssl", "bash"];
        let error = unknown("opnssl", &mut names.into_iter());
        assert_eq!(error.advice(), Some("did you mean `openssl`?"));
        let error = unknown("nothing-like-it", &mut names.into_iter());
        assert!(error.advice().unwrap().contains("without a name"));
    }
}
