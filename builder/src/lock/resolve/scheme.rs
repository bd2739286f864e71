//! How a package takes its version from Git, and what Git says.

use std::path::Path;

use toml::Value;

use crate::error::{Error, Result};
use crate::lockfile::Described;
use crate::process::Tool;

/// Files that may say so, at the root of a package or of its repository.
pub(crate) const FILES: [&str; 5] = [
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    ".git_archival.txt",
    "PKG-INFO",
];
/// What the files of whoever does have in them.
const READ: [&str; 8] = [
    "setuptools_scm",
    "setuptools-scm",
    "vcs-versioning",
    "hatch-vcs",
    "use_scm_version",
    "describe-name",
    "dunamai",
    "dynamic-versioning",
];
/// The same of pbr.
const PBR: [&str; 4] = ["\"pbr", "'pbr", "pbr=True", "pbr = True"];
/// Tools that ask git itself and believe nobody else.
const ASK_GIT: [&str; 3] = [
    "versioningit",
    "setuptools-git-versioning",
    "setuptools_git_versioning",
];
/// The tags that count when nothing else is said.
const TAGS: &str = "*[0-9]*";

/// What the files of a package say about its version.
#[derive(Debug, Default)]
pub(crate) struct Scheme {
    /// Whether it comes from Git.
    pub(crate) is_git: bool,
    /// Whether it stands in the files as well.
    is_static: bool,
    /// The tool that makes it, where that matters.
    maker: Option<Maker>,
    /// Which tags count.
    tags: Vec<String>,
}

/// A tool that is unlike the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// Its variable is heard by all packages of its kind.
    Pbr,
    /// It reads what `git archive` fills in.
    Versioneer,
    /// It asks git itself and believes nobody else.
    Stubborn(&'static str),
}

impl Scheme {
    /// Whether pbr's variable is for it.
    pub(crate) fn is_pbr(&self) -> bool {
        self.maker == Some(Maker::Pbr)
    }

    /// From the texts of [`FILES`], by name.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = (&'a str, String)>) -> Self {
        let mut scheme = Self::default();
        for (name, text) in texts {
            let has = |word: &&&str| text.contains(**word);
            scheme.is_git |= READ.iter().any(|word| has(&word));
            // Archives that others made say it themselves.
            scheme.is_static |=
                name == "PKG-INFO" || (name == ".git_archival.txt" && !text.contains("$Format"));
            if let Some(name) = ASK_GIT.iter().find(has) {
                scheme.maker = Some(Maker::Stubborn(name));
            } else if text.contains("versioneer") {
                scheme.maker = scheme.maker.or(Some(Maker::Versioneer));
            } else if PBR.iter().any(|word| has(&word)) {
                scheme.maker = scheme.maker.or(Some(Maker::Pbr));
            }
            let table = (name == "pyproject.toml").then(|| text.parse::<toml::Table>());
            let Some(Ok(table)) = table else { continue };
            let table = Value::Table(table);
            let at = |path: &[&str]| path.iter().try_fold(&table, |value, key| value.get(key));
            scheme.is_static |= at(&["project", "version"]).is_some();
            let pdm = at(&["tool", "pdm", "version", "source"]).and_then(Value::as_str);
            scheme.is_git |= pdm == Some("scm");
            for command in [
                at(&["tool", "setuptools_scm", "git_describe_command"]),
                at(&[
                    "tool",
                    "hatch",
                    "version",
                    "raw-options",
                    "git_describe_command",
                ]),
                at(&["tool", "setuptools_scm", "scm", "git", "describe_command"]),
            ] {
                scheme.tags.extend(matched(command));
            }
        }
        scheme.is_git |= scheme.maker.is_some();
        scheme
    }

    /// The same of a directory on this machine.
    pub(crate) fn of_directory(dir: &Path) -> Self {
        Self::of(
            FILES
                .into_iter()
                .filter_map(|name| Some((name, std::fs::read_to_string(dir.join(name)).ok()?))),
        )
    }

    /// What git says of a commit; where no tag is before it, as if 0.0 were before the first.
    pub(crate) fn describe(&self, git: &dyn Fn() -> Tool, commit: &str) -> Option<Described> {
        let text = |tool: Tool| {
            let out = tool.output().ok()?;
            Some(String::from_utf8_lossy(&out).trim().to_owned())
        };
        let mut describe = git().args(["describe", "--tags", "--long", "--abbrev=7"]);
        for tags in &self.tags {
            describe = describe.args(["--match", tags]);
        }
        if self.tags.is_empty() {
            describe = describe.args(["--match", TAGS]);
        }
        let describe = text(describe.arg(commit)).or_else(|| {
            let count = text(git().args(["rev-list", "--count", commit]))?;
            let short = text(git().args(["rev-parse", "--short=7", commit]))?;
            Some(format!("0.0-{count}-g{short}"))
        })?;
        // `git show` would run the checkout's `gpg.program` where `log.showSignature` is set.
        let shown = text(git().args(["rev-list", "--max-count=1", "--format=%cI", commit]))?;
        Described::new(&describe, shown.lines().last()?)
    }

    /// Refuses a package whose version would be missing or made up.
    pub(crate) fn check(
        &self,
        place: &str,
        is_local: bool,
        described: Option<&Described>,
    ) -> Result<()> {
        if self.is_static || !self.is_git {
            return Ok(());
        }
        let refuse = |what: &str, hint: &str| {
            Err(Error::usage(format!("{place} takes its version from Git, {what}")).hint(hint))
        };
        if let Some(Maker::Stubborn(tool)) = self.maker {
            return refuse(
                &format!("with {tool}, which wants the whole repository"),
                "write the version into pyproject.toml, or let setuptools_scm or hatch-vcs say it",
            );
        }
        let Some(described) = described else {
            return refuse(
                "but no repository has it",
                "lock it in a checkout with its tags, name the repository under `git`, or name the \
                 version in `environment` (SETUPTOOLS_SCM_PRETEND_VERSION)",
            );
        };
        let is_filled_in = self.maker == Some(Maker::Versioneer);
        if is_filled_in && is_local {
            return refuse(
                "with versioneer, which needs the repository or an archive that git made",
                "name the repository under `git`",
            );
        }
        if is_filled_in && described.tag().is_none() {
            return refuse(
                &format!("and no tag is on the commit ({described})"),
                "name a commit that has a tag",
            );
        }
        Ok(())
    }
}

/// The patterns after `--match` in a command for `git describe`.
fn matched(command: Option<&Value>) -> Vec<String> {
    let words: Vec<String> = match command {
        Some(Value::String(line)) => line.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(words)) => words
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    let mut patterns = Vec::new();
    let mut words = words.iter().map(|word| word.trim_matches(['"', '\'']));
    while let Some(word) = words.next() {
        let pattern = match word.strip_prefix("--match") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        patterns.extend(pattern.map(str::to_owned));
    }
    patterns
}

/// What git says of the checkout that a directory is part of; nothing when it is in none.
pub(crate) fn of_checkout(dir: &Path, scheme: &Scheme) -> Option<Described> {
    // Root may look at what a user owns, whose settings in `.git/config` may name programs:
    // these commands write no index and look at no working tree, and transports, which a
    // partial clone would use for what it lacks, are off (git(1), GIT_ALLOW_PROTOCOL).
    let git = || {
        Tool::new("git")
            .tied()
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
            .arg("-C")
            .arg(dir)
    };
    let tracked = git().args(["ls-files", "-z", "--", "."]).output().ok()?;
    if tracked.is_empty() {
        return None;
    }
    scheme.describe(&git, "HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of a checkout name programs, and an object is missing that it would fetch.
    #[test]
    fn a_checkout_runs_no_program_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("ran");
        let program = dir.path().join("program");
        std::fs::write(&program, format!("#!/bin/sh\n: > {}\n", marker.display())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let checkout = dir.path().join("checkout");
        std::fs::create_dir(&checkout).unwrap();
        std::fs::write(checkout.join("pyproject.toml"), "").unwrap();
        let script = "git init -q && git config user.name a && git config user.email a@a.example\n\
                      git add . && git commit -qm first && git tag v1.2\n\
                      for key in core.fsmonitor core.hooksPath core.pager gpg.program; do\n\
                      git config $key \"$1\"\ndone\n\
                      git config log.showSignature true\n\
                      git config extensions.partialClone origin\n\
                      git config remote.origin.promisor true\n\
                      git config remote.origin.url \"ext::$1\"\n\
                      git config protocol.ext.allow always\n";
        let run = |script: &str| {
            let script = format!("cd \"$2\"\n{script}");
            let sh = Tool::new("sh").args(["-euc", &script, "sh"]);
            sh.arg(&program).arg(&checkout).output().unwrap();
        };
        run(script);
        let described = of_checkout(&checkout, &Scheme::default()).unwrap();
        assert_eq!(described.tag(), Some("v1.2"));
        run("object=$(git rev-parse HEAD)\n\
             git -c core.hooksPath=/nonexistent commit -q --allow-empty -m second\n\
             rm -f .git/objects/$(echo $object | cut -c1-2)/$(echo $object | cut -c3-)\n");
        let _ = std::fs::remove_file(&marker);
        assert!(of_checkout(&checkout, &Scheme::default()).is_none());
        assert!(!marker.exists(), "a program of the checkout ran");
    }

    #[test]
    fn files_say_how_a_version_is_made() {
        let of = |text: &str| Scheme::of(std::iter::once(("pyproject.toml", text.to_owned())));
        let plain = of("[project]\nname = \"a\"\nversion = \"1\"\n");
        assert!(!plain.is_git && plain.check("a", true, None).is_ok());
        let scm = of(
            "[build-system]\nrequires = [\"setuptools-scm\"]\n[project]\nname = \"a\"\n\
                      [tool.setuptools_scm]\ngit_describe_command = \"git describe --match 'lib-*'\"\n",
        );
        assert_eq!(scm.tags, ["lib-*"]);
        assert!(scm.check("a", true, None).is_err());
        let off = Described::new("lib-1-2-gabcdef1", "2026-01-01T00:00:00Z");
        assert!(scm.check("a", true, off.as_ref()).is_ok());
        let versioneer = of("[build-system]\nrequires = [\"versioneer\"]\n");
        assert!(versioneer.check("a", false, off.as_ref()).is_err());
        let on = Described::new("lib-1-0-gabcdef1", "2026-01-01T00:00:00Z");
        assert!(versioneer.check("a", false, on.as_ref()).is_ok());
        assert!(versioneer.check("a", true, on.as_ref()).is_err());
        assert!(
            of("requires = [\"versioningit\"]")
                .check("a", true, on.as_ref())
                .is_err()
        );
    }
}
