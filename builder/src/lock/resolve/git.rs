//! Git sources: a tag or commit becomes the tar archive of its tree.
//!
//! git(1) of the host does the work, with the calling user's own credential
//! helpers; it never asks on the terminal. What is kept is `git archive` of the
//! commit, without history.

use std::path::Path;

use store::Inputs;

use crate::error::{Context, Error, Result};
use crate::lockfile::Git as Locked;
use crate::process::Tool;
use crate::recipe::Git;

/// Bytes a second below which a server is given up...
const SLOWEST: &str = "1024";
/// ...after so many seconds.
const PATIENCE: &str = "60";

/// Variables that git needs from the caller to reach servers.
const PASSED: [&str; 9] = [
    "HOME",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
];

/// Resolves one Git source and retains its tree.
pub fn resolve(
    source: &Git,
    virtualenv: &str,
    index: usize,
    environment: &dyn Fn(&str) -> Option<String>,
    inputs: &Inputs,
) -> Result<Locked> {
    let reference = match (&source.tag, &source.commit) {
        (Some(tag), _) => format!("refs/tags/{tag}"),
        (None, Some(commit)) => commit.to_string(),
        (None, None) => "HEAD".to_owned(),
    };
    let dir = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
    let git = |arguments: &[&str]| -> Result<Vec<u8>> {
        let mut tool = Tool::new("git")
            .tied()
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", SLOWEST)
            .env("GIT_HTTP_LOW_SPEED_TIME", PATIENCE);
        for name in PASSED {
            if let Some(value) = environment(name) {
                tool = tool.env(name, value);
            }
        }
        tool.arg("-C").arg(dir.path()).args(arguments).output()
    };
    git(&["init", "--quiet", "--bare"])?;
    let url = source.url.as_str();
    let fetched = git(&["fetch", "--quiet", "--depth=1", url, &reference]);
    // Servers may refuse to hand out a commit by its id: take all of it then.
    let fetched = match fetched {
        Err(_) if source.commit.is_some() => {
            git(&["fetch", "--quiet", url, "+refs/*:refs/fetched/*"])
        }
        other => other,
    };
    fetched.map_err(|e| unreachable_source(url, &reference, &e))?;
    let name = source.commit.as_ref().map_or("FETCH_HEAD", |c| c.as_str());
    let commit = git(&["rev-parse", "--verify", &format!("{name}^{{commit}}")])
        .map_err(|e| unreachable_source(url, &reference, &e))?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let archive = dir.path().join("tree.tar");
    let output = format!("--output={}", archive.display());
    git(&["archive", "--format=tar", &output, &commit])?;
    let (sha256, size) = retain(&archive, inputs)?;
    Ok(Locked {
        virtualenv: virtualenv.to_owned(),
        index,
        reference: source
            .tag
            .as_ref()
            .map_or_else(|| commit.clone(), ToString::to_string),
        commit,
        size,
        sha256,
    })
}

fn retain(archive: &Path, inputs: &Inputs) -> Result<(store::digest::Sha256, u64)> {
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
