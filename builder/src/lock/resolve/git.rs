//! Git sources: a tag or commit becomes the tar archive of its tree.
//!
//! git(1) of the host does the work and never asks on the terminal. Of the
//! host's configuration it sees what reaches servers and nothing else, so that a
//! commit is the same bytes on every machine. What is kept is `git archive` of
//! the commit, without history, with its submodules and with what Git LFS has.

mod modules;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use store::{Inputs, Sha256};

use super::scheme::{self, Scheme};
use crate::error::{Context, Error, Result};
use crate::lockfile::{Described, Git as Locked};
use crate::process::Tool;
use crate::recipe::Git;

/// The slowest transfer that is waited for, in bytes a second.
const SLOWEST: &str = "1024";
/// Seconds after which a transfer slower than that is given up.
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

/// Files that a project leaves out of its releases are part of a checkout, which is what pip
/// builds. Locks of older versions lack them.
const WHOLE: &str = "* -export-ignore\n";

/// All tags, under their own names.
const TAGS: &str = "+refs/tags/*:refs/tags/*";

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether submodules may come from an address.
pub type Reach<'a> = &'a dyn Fn(&str) -> bool;

/// Rules for fetching a Git source: the recipe's own sources get others than those that a package requires.
pub struct Terms<'a> {
    /// Its build is told its version by other means.
    pub is_told: bool,
    /// A branch of that name will do: a package, and not the recipe, requires the source.
    pub may_be_branch: bool,
    /// Where its submodules may be.
    pub reach: Reach<'a>,
}

/// A repository of ours for one source.
struct Repository<'a> {
    dir: tempfile::TempDir,
    url: String,
    environment: Environment<'a>,
    reach: Reach<'a>,
}

impl<'a> Repository<'a> {
    fn new(url: &str, environment: Environment<'a>, reach: Reach<'a>) -> Result<Self> {
        let dir = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
        let here = Self {
            dir,
            url: url.to_owned(),
            environment,
            reach,
        };
        let lent = here.dir.path().join("lent");
        fs::create_dir(here.dir.path().join("home"))
            .context(|| "cannot make a temporary directory".into())?;
        here.alone()
            .args(["init", "--quiet", "--bare", "--template="])
            .output()?;
        here.set_attributes(WHOLE)?;
        let all = here
            .lending()
            .args(["config", "--null", "--list"])
            .output()?;
        fs::write(&lent, lent_settings(&String::from_utf8_lossy(&all)))
            .context(|| format!("cannot write {}", lent.display()))?;
        Ok(here)
    }

    /// Sets what overrides the attributes that a tree itself has.
    fn set_attributes(&self, text: &str) -> Result<()> {
        let info = self.dir.path().join("repository/info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("attributes"), text))
            .context(|| format!("cannot write {}", info.display()))
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
        let fetched = match one(&["--depth=1", &self.url, reference]) {
            // Servers may refuse to hand out a commit by its id: take all then.
            Err(_) if is_commit => one(&[&self.url, "+refs/*:refs/fetched/*"]),
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
            .map_err(|e| unreachable_source(&self.url, reference, &e))
    }

    /// What to say of a tag that is a branch.
    fn branch(&self, name: &str) -> Option<Error> {
        let tool = self.online().args(["ls-remote", "--heads", &self.url]);
        let listed = tool.arg(format!("refs/heads/{name}")).output().ok()?;
        let listed = String::from_utf8_lossy(&listed);
        let (commit, _) = listed.split_once('\t')?;
        let what = format!("{name} is a branch of {}, and a branch moves", self.url);
        Some(Error::usage(what).hint(format!(
            "name a tag, or the commit where it is now: commit = \"{commit}\""
        )))
    }

    /// Refuses a directory that a commit does not have.
    fn check_directory(&self, commit: &str, reference: &str, below: &str) -> Result<()> {
        // Directories and, of a kind of their own, submodules, which may have it.
        let tool = self.alone().args(["ls-tree", "-z", "-d", "-r", "-t"]);
        let listed = tool.arg(commit).output()?;
        let listed = String::from_utf8_lossy(&listed);
        let entries = listed
            .split('\0')
            .filter_map(|entry| entry.split_once('\t'));
        let mut entries = entries.map(|(what, name)| (what.contains(" commit "), name));
        let has_it = |(is_module, name): (bool, &str)| {
            let inside = below.strip_prefix(name);
            inside.is_some_and(|rest| rest.is_empty() || is_module && rest.starts_with('/'))
        };
        if entries.clone().any(has_it) {
            return Ok(());
        }
        let nearest: Vec<&str> = entries
            .by_ref()
            .filter_map(|(_, name)| (!name.contains('/')).then_some(name))
            .take(6)
            .collect();
        let error = Error::usage(format!(
            "{reference} of {} has no directory `{below}`",
            self.url
        ));
        Err(error.hint(if nearest.is_empty() {
            "it has none at all: leave `subdirectory` out".to_owned()
        } else {
            format!("it has {}", nearest.join(", "))
        }))
    }

    /// How the package in a commit takes its version from Git.
    fn scheme(&self, commit: &str, below: Option<&str>) -> Scheme {
        let place = below.map_or(String::new(), |below| format!("{below}/"));
        let read = |path: &str| {
            let blob = format!("{commit}:{path}");
            let text = self.alone().args(["cat-file", "blob", &blob]).output();
            Some(String::from_utf8_lossy(&text.ok()?).into_owned())
        };
        Scheme::of(&|name| {
            // What `git archive` fills in may be of the repository as a whole.
            let whole = || name.starts_with(".git_archival").then(|| read(name))?;
            read(&format!("{place}{name}")).or_else(whole)
        })
    }

    /// Fetches the history and the tags that are before a commit. A tree whose version comes
    /// from Git is always archived with it: `%d` also says where a history was cut off.
    fn fetch_history(&self, reference: &str) -> Result<()> {
        let is_shallow = scheme::is_shallow(&|| self.alone());
        let fetch = |what: &[&str]| {
            let tool = self.online().args(["fetch", "--quiet", "--no-tags"]);
            let tool = tool.args(is_shallow.then_some("--unshallow"));
            tool.arg(&self.url).args(what).output()
        };
        // Servers may refuse to hand out a commit by its id: take all then.
        fetch(&[TAGS, reference])
            .or_else(|_| fetch(&[TAGS, "+refs/*:refs/fetched/*"]))
            .map(drop)
            .map_err(|e| unreachable_source(&self.url, reference, &e))
    }

    /// Retains the tree of a commit; where its digest is known, the older ways to
    /// write it are tried as well.
    fn keep(
        &self,
        commit: &str,
        described: Option<&Described>,
        expected: Option<Sha256>,
        inputs: &Inputs,
    ) -> Result<(Sha256, u64)> {
        // `%d` would name what else was fetched: of the tags, the one stays that says the version.
        let repository = self.dir.path().join("repository");
        for name in ["refs/fetched", "refs/tags"] {
            if repository.join(name).exists() {
                fs::remove_dir_all(repository.join(name))
                    .context(|| "cannot forget references".into())?;
            }
        }
        let packed = repository.join("packed-refs");
        if packed.exists() {
            fs::remove_file(&packed).context(|| "cannot forget references".into())?;
        }
        if let Some(tag) = described.and_then(Described::tag) {
            let name = format!("refs/tags/{tag}");
            self.alone().args(["update-ref", &name, commit]).output()?;
        }
        let contents = self.contents(commit)?;
        let modules = self.modules(commit, &contents, 0)?;
        let archive = self.dir.path().join("tree.tar");
        let mut first = None;
        let full = ABBREVIATIONS.map(|abbreviation| (WHOLE, abbreviation));
        let without = ABBREVIATIONS.map(|abbreviation| ("", abbreviation));
        for (attributes, abbreviation) in full.into_iter().chain(without) {
            self.set_attributes(attributes)?;
            self.archive(commit, "", abbreviation, contents.has_pointers, &archive)?;
            if !modules.is_empty() {
                // As locks of older versions have it.
                if expected.is_some() {
                    let kept = retain(&archive, inputs)?;
                    if expected == Some(kept.0) {
                        return Ok(kept);
                    }
                }
                modules::join(&archive, &modules, abbreviation)?;
            }
            let kept = retain(&archive, inputs)?;
            if expected.is_none_or(|e| e == kept.0) {
                return Ok(kept);
            }
            first.get_or_insert(kept);
        }
        first.ok_or_else(|| Error::failed("git wrote no archive"))
    }

    /// Writes the tree of a commit, below a directory of the archive.
    fn archive(
        &self,
        commit: &str,
        prefix: &str,
        abbreviation: &str,
        has_pointers: bool,
        to: &Path,
    ) -> Result<()> {
        let tool = if has_pointers {
            modules::with_lfs(self.online(), &self.url)?
        } else {
            self.alone()
        };
        let archived = tool
            .args(["-c", "tar.umask=0002", "-c", "core.autocrlf=false"])
            .args(["-c", "core.attributesFile=/dev/null"])
            .args(["-c", &format!("core.abbrev={abbreviation}")])
            .args(["archive", "--format=tar"])
            .arg(format!("--prefix={prefix}"))
            .arg(format!("--output={}", to.display()))
            .arg(commit)
            .output();
        archived.map(drop).map_err(|e| {
            let mut error = Error::failed(format!("git cannot archive {commit} of {}", self.url));
            for line in e.causes() {
                error = error.detail(line.clone());
            }
            if has_pointers {
                error = error.hint("some of its files are in Git LFS: their server must have them");
            }
            error
        })
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
    (virtualenv, index): (&str, usize),
    terms: &Terms<'_>,
    environment: Environment<'_>,
    inputs: &Inputs,
) -> Result<Locked> {
    let repository = Repository::new(source.url.as_str(), environment, terms.reach)?;
    let (name, commit) = if let Some(tag) = &source.tag {
        let name = format!("refs/tags/{tag}");
        match repository.fetch(&name, false) {
            Ok(commit) => (name, commit),
            Err(error) if terms.may_be_branch => {
                let name = format!("refs/heads/{tag}");
                let commit = repository.fetch(&name, false).map_err(|_| error)?;
                (name, commit)
            }
            Err(error) => return Err(repository.branch(tag.as_str()).unwrap_or(error)),
        }
    } else {
        let name = reference(source);
        let commit = repository.fetch(name, source.commit.is_some())?;
        (name.to_owned(), commit)
    };
    let below = source.subdirectory.as_ref().map(AsRef::as_ref);
    if let Some(below) = below {
        repository.check_directory(&commit, reference(source), below)?;
    }
    let scheme = repository.scheme(&commit, below);
    let described = if scheme.is_git() {
        repository.fetch_history(&name)?;
        scheme.describe(&|| repository.alone(), &commit)
    } else {
        None
    };
    if !terms.is_told {
        let is_shallow = described.is_none() && scheme::is_shallow(&|| repository.alone());
        let url = source.url.as_str();
        scheme.check(url, false, described.as_ref(), is_shallow.then_some(url))?;
    }
    let (sha256, size) = repository.keep(&commit, described.as_ref(), None, inputs)?;
    Ok(Locked {
        virtualenv: virtualenv.to_owned(),
        index,
        url: source.url.to_string(),
        reference: reference(source).to_owned(),
        commit,
        subdirectory: None,
        described,
        size,
        sha256,
    })
}

/// Retains the tree of a locked commit again, wherever its tag is now, and
/// returns the digest of what was found. Its submodules are those that were locked, and so
/// where they may be was decided then.
pub fn fetch(
    url: &str,
    locked: &Locked,
    environment: Environment<'_>,
    inputs: &Inputs,
) -> Result<Sha256> {
    let repository = Repository::new(url, environment, &|_| true)?;
    let commit = repository.fetch(&locked.commit, true)?;
    if locked.described.is_some() {
        repository.fetch_history(&locked.commit)?;
    }
    let (found, _) = repository.keep(
        &commit,
        locked.described.as_ref(),
        Some(locked.sha256),
        inputs,
    )?;
    Ok(found)
}

/// What to say of a locked tag that the repository has elsewhere now.
pub fn moved(source: &Git, locked: &Locked, environment: Environment<'_>) -> Option<String> {
    let (tag, url) = (source.tag.as_ref()?, source.url.as_str());
    let name = format!("refs/tags/{tag}");
    let peeled = format!("{name}^{{}}");
    let listed = Repository::new(url, environment, &|_| true).and_then(|repository| {
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
