//! How a package takes its version from Git, and what Git says.

use std::path::Path;

use crate::error::{Error, Result};
use crate::lockfile::{Described, NO_TAG};
use crate::process::Tool;

use signs::{Maker, Sign, Signs, Weight};

mod script;
mod signs;

/// The tags that count when nothing else is said.
const TAGS: &str = "*[0-9]*";

/// What the files of a package say about its version.
#[derive(Debug, Default)]
pub(crate) struct Scheme {
    /// What says that it comes from Git; nothing where a version is stated.
    sign: Option<Sign>,
    /// Whether an archive that others made has it as well.
    is_archived: bool,
    /// Which tags count.
    tags: Vec<String>,
    /// Where setup.py asks git by itself.
    calls_git: Option<usize>,
}

impl Scheme {
    /// Whether it comes from Git.
    pub(crate) fn is_git(&self) -> bool {
        self.sign.is_some()
    }

    /// Whether pbr's variable is for it.
    pub(crate) fn is_pbr(&self) -> bool {
        let sign = self.sign.as_ref();
        sign.is_some_and(|sign| sign.maker == Maker::Pbr)
    }

    /// From the files of a package, by their paths in it.
    pub(crate) fn of(read: &dyn Fn(&str) -> Option<String>) -> Self {
        let Signs {
            sign,
            stated,
            tags,
            calls_git,
        } = Signs::of(read);
        let sign = sign.filter(|sign| stated.is_none_or(|stated| stated < sign.weight));
        // Archives that others made say it themselves, each to who reads it.
        let is_filled = |name| read(name).is_some_and(|text| !text.contains("$Format"));
        let is_archived = sign.as_ref().is_some_and(|sign| match sign.maker {
            Maker::Scm => is_filled(".git_archival.txt"),
            Maker::Dunamai(_) => is_filled(".git_archival.json"),
            _ => false,
        });
        let is_archived = is_archived || read("PKG-INFO").is_some();
        Self {
            sign,
            is_archived,
            tags,
            calls_git: calls_git.filter(|_| stated != Some(Weight::Ordered)),
        }
    }

    /// How the package in a directory of this machine takes its version.
    pub(crate) fn of_directory(dir: &Path) -> Self {
        Self::of(&|name| {
            let text = std::fs::read(dir.join(name)).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        })
    }

    /// What to say of a setup.py that asks git itself, in a tree that has no history.
    pub(crate) fn note(&self, place: &str) -> Option<String> {
        let line = self.calls_git?;
        Some(format!(
            "setup.py of {place} calls git (line {line}); it is built without a repository: \
             see that its version comes out right"
        ))
    }

    /// What git says of a commit; where no tag is before it, as if 0.0 were before the first.
    /// Nothing where a shallow repository lacks commits that count.
    pub(crate) fn describe(&self, git: &dyn Fn() -> Tool, commit: &str) -> Option<Described> {
        let mut describe = git().args(["describe", "--tags", "--long", "--abbrev=7"]);
        for tags in &self.tags {
            describe = describe.args(["--match", tags]);
        }
        if self.tags.is_empty() {
            describe = describe.args(["--match", TAGS]);
        }
        let describe = text(describe.arg(commit));
        if is_shallow(git) {
            let nearest = describe.as_deref()?.rsplit_once("-g")?.0;
            let (tag, _) = nearest.rsplit_once('-')?;
            // Commits whose parents are missing have none for git, like the very first one.
            let ends = git().args(["rev-list", "--max-parents=0", "--max-count=1", commit]);
            let ends = text(ends.arg(format!("^refs/tags/{tag}")));
            ends.filter(String::is_empty)?;
        }
        let describe = describe.or_else(|| {
            let count = text(git().args(["rev-list", "--count", commit]))?;
            let short = text(git().args(["rev-parse", "--short=7", commit]))?;
            Some(format!("{NO_TAG}-{count}-g{short}"))
        })?;
        // `git show` would run the checkout's `gpg.program` where `log.showSignature` is set.
        let shown = text(git().args(["rev-list", "--max-count=1", "--format=%cI", commit]))?;
        Described::new(&describe, shown.lines().last()?)
    }

    /// Refuses a package whose version would be missing or made up. Where nothing is described
    /// for want of history, `shallow` is the checkout, or the address, that lacks it.
    pub(crate) fn check(
        &self,
        place: &str,
        is_local: bool,
        described: Option<&Described>,
        shallow: Option<&str>,
    ) -> Result<()> {
        let Some(sign) = self.sign.as_ref().filter(|_| !self.is_archived) else {
            return Ok(());
        };
        let refuse = |what: &str, hint: &str| {
            let error = Error::usage(format!("{place} takes its version from Git, {what}"));
            let error = error.detail(sign.to_string());
            let Sign { word, file, .. } = sign;
            Err(error.hint(match sign.weight {
                Weight::Named => {
                    format!("{hint}; if it does not take it from there, remove `{word}` of {file}")
                }
                Weight::SetUp | Weight::Ordered => hint.to_owned(),
            }))
        };
        if let Maker::Stubborn(tool) = sign.maker {
            return refuse(
                &format!("with {tool}, which wants the whole repository"),
                "write the version into pyproject.toml, or let setuptools_scm or hatch-vcs say it",
            );
        }
        let is_filled_in = sign.maker == Maker::Versioneer;
        if is_filled_in && is_local {
            return refuse(
                "with versioneer, which needs the repository or an archive that git made",
                "name the repository under `git`, at a commit that has a tag",
            );
        }
        let Some(described) = described else {
            let (why, what_to_do) = match shallow {
                Some(checkout) if is_local => (
                    format!("but {checkout} is a shallow checkout, which lacks what it counts"),
                    format!("run `git fetch --unshallow --tags` in {checkout}"),
                ),
                Some(_) => (
                    "but the repository is shallow, and lacks what it counts".to_owned(),
                    "name a repository with its whole history, or complete that one there (`git \
                     fetch --unshallow --tags`)"
                        .to_owned(),
                ),
                None => (
                    "but no repository has it".to_owned(),
                    "lock it in a checkout with its tags, or name the repository under `git`"
                        .to_owned(),
                ),
            };
            let variable = sign.maker.variable().map_or(String::new(), |name| {
                format!(", or name the version in `environment` ({name})")
            });
            return refuse(&why, &format!("{what_to_do}{variable}"));
        };
        if is_filled_in && described.tag().is_none() {
            return refuse(
                &format!("and no tag is on the commit ({described})"),
                "name a commit that has a tag",
            );
        }
        Ok(())
    }
}

/// What a command of git writes, without blanks around it; nothing if it fails.
fn text(tool: Tool) -> Option<String> {
    let out = tool.output().ok()?;
    Some(String::from_utf8_lossy(&out).trim().to_owned())
}

/// Whether a repository has only a part of its history.
pub(crate) fn is_shallow(git: &dyn Fn() -> Tool) -> bool {
    let said = text(git().args(["rev-parse", "--is-shallow-repository"]));
    said.is_some_and(|said| said == "true")
}

/// The checkout that a directory is part of, if it is a shallow one.
pub(crate) fn shallow_checkout(dir: &Path) -> Option<String> {
    let git = || git_in(dir);
    is_shallow(&git).then(|| text(git().args(["rev-parse", "--show-toplevel"])))?
}

/// git in somebody's checkout. Root may look at what a user owns, whose settings in `.git/config`
/// may name programs: no command writes an index, and transports, which a partial clone would use
/// for what it lacks, are off (git(1), `GIT_ALLOW_PROTOCOL`).
pub(super) fn git_in(dir: &Path) -> Tool {
    Tool::new("git")
        .tied()
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ALLOW_PROTOCOL", "none")
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
        .arg("-C")
        .arg(dir)
}

/// What git says of the checkout that a directory is part of; nothing when it is in none.
pub(crate) fn of_checkout(dir: &Path, scheme: &Scheme) -> Option<Described> {
    let git = || git_in(dir);
    let tracked = git().args(["ls-files", "-z", "--", "."]).output().ok()?;
    if tracked.is_empty() {
        return None;
    }
    scheme.describe(&git, "HEAD")
}

#[cfg(test)]
mod tests;
