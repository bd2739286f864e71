//! Git sources: a tag or commit becomes the tar archive of its tree.
//!
//! git(1) of the host does the work and never asks on the terminal. Of the
//! host's configuration it sees what reaches servers and nothing else, so that a
//! commit is the same bytes on every machine. What is kept is `git archive` of
//! the commit, without history.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use store::{Inputs, Sha256};

use crate::error::{Context, Error, Result};
use crate::lockfile::Git as Locked;
use crate::process::Tool;
use crate::recipe::Git;

/// Bytes a second below which a server is given up...
const SLOWEST: &str = "1024";
/// ...after so many seconds.
const PATIENCE: &str = "60";

/// Variables that git needs from the caller to reach servers.
const PASSED: [&str; 13] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// How `%h` of `export-subst` is written: in full, since the length of a short
/// one follows from whatever else was fetched. Locks of older versions have it
/// short.
const ABBREVIATIONS: [&str; 2] = ["40", "auto"];

/// How a pointer of Git LFS begins, and a size that none has.
const LFS: &str = "^version https://git-lfs";
const LARGEST_POINTER: u64 = 1024;

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A repository of ours for one source.
struct Repository<'a> {
    dir: tempfile::TempDir,
    url: &'a str,
    environment: Environment<'a>,
}

impl<'a> Repository<'a> {
    fn new(url: &'a str, environment: Environment<'a>) -> Result<Self> {
        let dir = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
        let here = Self {
            dir,
            url,
            environment,
        };
        let lent = here.dir.path().join("lent");
        fs::create_dir(here.dir.path().join("home"))
            .context(|| "cannot make a temporary directory".into())?;
        here.alone()
            .args(["init", "--quiet", "--bare", "--template="])
            .output()?;
        let all = here
            .lending()
            .args(["config", "--null", "--list"])
            .output()?;
        fs::write(&lent, lent_settings(&String::from_utf8_lossy(&all)))
            .context(|| format!("cannot write {}", lent.display()))?;
        Ok(here)
    }

    fn tool(&self) -> Tool {
        Tool::new("git")
            .tied()
            .env("GIT_DIR", self.dir.path().join("repository"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ATTR_NOSYSTEM", "1")
    }

    /// Git that sees nothing of the host.
    fn alone(&self) -> Tool {
        self.tool()
            .env("HOME", self.dir.path().join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
    }

    /// Git with the caller's variables and configuration.
    fn lending(&self) -> Tool {
        let mut tool = self
            .tool()
            .env("GIT_HTTP_LOW_SPEED_LIMIT", SLOWEST)
            .env("GIT_HTTP_LOW_SPEED_TIME", PATIENCE);
        for name in PASSED {
            if let Some(value) = (self.environment)(name) {
                tool = tool.env(name, value);
            }
        }
        tool
    }

    /// Git that can reach servers.
    fn online(&self) -> Tool {
        self.lending()
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.dir.path().join("lent"))
    }

    /// Fetches a tag or a commit and returns the commit.
    fn fetch(&self, reference: &str, is_commit: bool) -> Result<String> {
        let one = |what: &[&str]| {
            let arguments = ["fetch", "--quiet", "--no-tags"];
            let tool = self.online().args(arguments).args(what);
            tool.output()
        };
        let fetched = match one(&["--depth=1", self.url, reference]) {
            // Servers may refuse to hand out a commit by its id: take all then.
            Err(_) if is_commit => one(&[self.url, "+refs/*:refs/fetched/*"]),
            other => other,
        };
        let name = if is_commit { reference } else { "FETCH_HEAD" };
        fetched
            .and_then(|_| {
                let commit = format!("{name}^{{commit}}");
                self.alone()
                    .args(["rev-parse", "--verify", &commit])
                    .output()
            })
            .map(|commit| String::from_utf8_lossy(&commit).trim().to_owned())
            .map_err(|e| unreachable_source(self.url, reference, &e))
    }

    /// Retains the tree of a commit; where its digest is known, the older way to
    /// write it is tried as well.
    fn keep(
        &self,
        commit: &str,
        expected: Option<Sha256>,
        inputs: &Inputs,
    ) -> Result<(Sha256, u64)> {
        // `%d` would name what else was fetched.
        let fetched = self.dir.path().join("repository/refs/fetched");
        let packed = self.dir.path().join("repository/packed-refs");
        if fetched.exists() {
            fs::remove_dir_all(&fetched).context(|| "cannot forget references".into())?;
        }
        if packed.exists() {
            fs::remove_file(&packed).context(|| "cannot forget references".into())?;
        }
        let archive = self.dir.path().join("tree.tar");
        let mut first = None;
        for abbreviation in ABBREVIATIONS {
            self.alone()
                .args(["-c", "tar.umask=0002", "-c", "core.autocrlf=false"])
                .args(["-c", "core.attributesFile=/dev/null"])
                .args(["-c", &format!("core.abbrev={abbreviation}")])
                .args(["archive", "--format=tar"])
                .arg(format!("--output={}", archive.display()))
                .arg(commit)
                .output()?;
            let kept = retain(&archive, inputs)?;
            if expected.is_none_or(|e| e == kept.0) {
                return Ok(kept);
            }
            first.get_or_insert(kept);
        }
        first.ok_or_else(|| Error::failed("git wrote no archive"))
    }
}

impl Repository<'_> {
    /// Refuses a commit whose archive would lack what a checkout has: submodules
    /// and the content of Git LFS.
    fn refuse_incomplete(&self, commit: &str) -> Result<()> {
        let listed = self
            .alone()
            .args(["ls-tree", "-r", "-l", "-z", "--full-tree", commit])
            .output()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let entries = listed.split('\0').filter_map(|entry| {
            let (about, path) = entry.split_once('\t')?;
            let mut about = about.split_whitespace();
            let (mode, _, id, size) = (about.next()?, about.next()?, about.next()?, about.next()?);
            Some((mode, id, size, path))
        });
        // An answer of 1 says that nothing matches.
        let grep = ["grep", "-l", "-z", "--full-name", "-a", "-e"];
        let (_, pointers) = self.alone().args(grep).args([LFS, commit]).capture()?;
        let pointers = String::from_utf8_lossy(&pointers).into_owned();
        let prefix = format!("{commit}:");
        let pointers: BTreeSet<&str> = pointers
            .split('\0')
            .filter_map(|p| p.strip_prefix(&prefix))
            .collect();
        for (mode, id, size, path) in entries {
            if mode == "160000" {
                return Err(self.incomplete(
                    commit,
                    path,
                    "is a submodule, whose content would be missing",
                ));
            }
            let small = size.parse().is_ok_and(|size: u64| size < LARGEST_POINTER);
            if small && pointers.contains(path) {
                let blob = self.alone().args(["cat-file", "blob", id]).output()?;
                if blob.starts_with(LFS.trim_start_matches('^').as_bytes()) {
                    return Err(self.incomplete(
                        commit,
                        path,
                        "is a pointer of Git LFS, not the content",
                    ));
                }
            }
        }
        Ok(())
    }

    fn incomplete(&self, commit: &str, path: &str, what: &str) -> Error {
        Error::failed(format!("`{path}` in {} {what}", self.url))
            .detail(format!("commit {commit}"))
            .hint(
                "check it out in full beside the recipe (`git clone --recurse-submodules`, \
                 `git lfs pull`) and name that directory under `local`",
            )
    }
}

/// The settings that reach servers, as a configuration file.
fn lent_settings(listed: &str) -> String {
    let mut file = String::new();
    for entry in listed.split('\0').filter(|e| !e.is_empty()) {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        let Some((section, rest)) = key.split_once('.') else {
            continue;
        };
        let (below, name) = match rest.rsplit_once('.') {
            Some((below, name)) => (Some(below), name),
            None => (None, rest),
        };
        let lent = match section {
            "credential" | "http" | "ssh" | "safe" => true,
            "url" => name == "insteadof",
            "core" => matches!(name, "sshcommand" | "askpass" | "gitproxy"),
            _ => false,
        };
        if !lent {
            continue;
        }
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let below = below.map_or(String::new(), |b| format!(" \"{}\"", quoted(b)));
        let value = quoted(value).replace('\n', "\\n");
        let _ = writeln!(file, "[{section}{below}]\n\t{name} = \"{value}\"");
    }
    file
}

/// Tag or commit as the recipe has it.
pub fn reference(source: &Git) -> &str {
    match (&source.tag, &source.commit) {
        (Some(tag), _) => tag.as_str(),
        (None, Some(commit)) => commit.as_str(),
        (None, None) => "HEAD",
    }
}

/// Resolves one Git source and retains its tree.
pub fn resolve(
    source: &Git,
    virtualenv: &str,
    index: usize,
    environment: Environment<'_>,
    inputs: &Inputs,
) -> Result<Locked> {
    let repository = Repository::new(source.url.as_str(), environment)?;
    let commit = match &source.tag {
        Some(tag) => repository.fetch(&format!("refs/tags/{tag}"), false)?,
        None => repository.fetch(reference(source), source.commit.is_some())?,
    };
    repository.refuse_incomplete(&commit)?;
    let (sha256, size) = repository.keep(&commit, None, inputs)?;
    Ok(Locked {
        virtualenv: virtualenv.to_owned(),
        index,
        url: source.url.to_string(),
        reference: reference(source).to_owned(),
        commit,
        size,
        sha256,
    })
}

/// Retains the tree of a locked commit again, wherever its tag is now, and
/// returns the digest of what was found.
pub fn fetch(
    source: &Git,
    locked: &Locked,
    environment: Environment<'_>,
    inputs: &Inputs,
) -> Result<Sha256> {
    let repository = Repository::new(source.url.as_str(), environment)?;
    let commit = repository.fetch(&locked.commit, true)?;
    let (found, _) = repository.keep(&commit, Some(locked.sha256), inputs)?;
    Ok(found)
}

/// What to say of a locked tag that the repository has elsewhere now.
pub fn moved(source: &Git, locked: &Locked, environment: Environment<'_>) -> Option<String> {
    let (tag, url) = (source.tag.as_ref()?, source.url.as_str());
    let name = format!("refs/tags/{tag}");
    let peeled = format!("{name}^{{}}");
    let listed = Repository::new(url, environment).and_then(|repository| {
        let tool = repository.online().args(["ls-remote", url]);
        tool.args([&name, &peeled]).output()
    });
    let Ok(listed) = listed else {
        return Some(format!(
            "{url} does not answer; the lock keeps {tag} at {:.12}",
            locked.commit
        ));
    };
    let listed = String::from_utf8_lossy(&listed);
    let of = |wanted: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, name)| *name == wanted).map(|(id, _)| id)
    };
    let now = of(&peeled).or_else(|| of(&name));
    let now = match now {
        Some(id) if id == locked.commit => return None,
        Some(id) => format!("is now {id:.12}"),
        None => "is gone".to_owned(),
    };
    Some(format!(
        "the tag {tag} of {url} {now}; the lock keeps {:.12} until `--upgrade={}`",
        locked.commit,
        locked.name()
    ))
}

fn retain(archive: &Path, inputs: &Inputs) -> Result<(Sha256, u64)> {
    let mut file = std::fs::File::open(archive).context(|| "cannot read git's archive".into())?;
    inputs
        .insert(&mut file, None)
        .context(|| "cannot keep git's archive in the store".into())
}

fn unreachable_source(url: &str, reference: &str, error: &Error) -> Error {
    let mut explained = Error::failed(format!("cannot fetch {reference} of {url}"));
    for line in error.causes() {
        explained = explained.detail(line.clone());
    }
    explained.hint("check that the tag or commit is published and that git can reach the server")
}

#[cfg(test)]
mod tests;
