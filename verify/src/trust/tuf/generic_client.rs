//! A client of any TUF repository.
//!
//! [`Client`](super::Client) follows an environment: one name, signed, whose targets
//! are releases. This one knows nothing of that. It runs the same workflow on the
//! same state, and finds targets of any kind, delegated ones too (TUF 5.6.7). What
//! it leaves out is what TUF does not ask for: the environment's name and the floor
//! of the clock.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp as Time;
use sha2::{Digest as _, Sha512};
use store::digest::Sha256;

use super::core::{Delegation, TIMELESS, Target};
use super::error::{Error, ErrorKind, Result};
use super::limits::TARGETS_LIMIT;
use super::precheck;
use super::refusal::refused;
use super::repository::Repository;
use super::state::{Floor, State, not_initialised};
use super::workflow::{self, Trusted, encoded, fetch_pinned, fits};

/// The most roles that are asked for one target (TUF 5.6.7.1).
const MOST_ROLES: usize = 64;

/// The names that no delegated role can have: their files are others'.
const TOP_LEVEL: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// Follows a repository, from a directory of trusted state that it keeps locked.
pub struct GenericClient {
    state: State,
    trusted: Option<(Trusted, Time)>,
}

impl GenericClient {
    /// Starts to follow a repository from a root file that a person vouches for. It
    /// must be signed by its own keys. Nothing is asked of anybody.
    pub fn init(directory: &Path, root: &[u8]) -> Result<Self> {
        workflow::examine_root(root, None)?;
        let state = State::create(directory)?;
        if state.read("root.json")?.is_some() {
            let text = format!("{} follows a repository already", directory.display());
            return Err(Error::new(ErrorKind::AlreadyInitialised, text));
        }
        state.write_floor(&Floor::default())?;
        state.write("root.json", root)?;
        Ok(Self {
            state,
            trusted: None,
        })
    }

    /// Opens what [`init`](Self::init) has made.
    pub fn open(directory: &Path) -> Result<Self> {
        let state = State::open(directory)?;
        if state.read("root.json")?.is_none() {
            return Err(not_initialised(directory));
        }
        Ok(Self {
            state,
            trusted: None,
        })
    }

    /// Brings the trusted metadata up to date, as of `now`.
    pub fn refresh(&mut self, repository: &dyn Repository, now: Time) -> Result<()> {
        self.trusted = None;
        let trusted = workflow::refresh(&self.state, None, repository, now)?;
        self.trusted = Some((trusted, now));
        Ok(())
    }

    /// The content of a target: `kept`, if that is what the repository signed for,
    /// else what it serves. Needs a [`refresh`](Self::refresh) before.
    pub fn target(
        &mut self,
        repository: &dyn Repository,
        name: &str,
        kept: Option<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let target = self.find(repository, name)?;
        if let Some(kept) = kept
            && is_content(&kept, &target)
        {
            return Ok(kept);
        }
        let (trusted, _) = self.trusted.as_ref().ok_or_else(not_refreshed)?;
        let hash = target.sha256.as_ref().or(target.sha512.as_ref());
        let hash = hash.ok_or_else(|| {
            let text = format!("the target {name:?} has no hash of a kind that is known here");
            Error::new(ErrorKind::Mismatch, text)
        })?;
        // TUF 5.7.3
        let path = match name.rsplit_once('/') {
            _ if !trusted.core.consistent_snapshot() => name.to_owned(),
            Some((folder, file)) => format!("{folder}/{hash}.{file}"),
            None => format!("{hash}.{name}"),
        };
        let bytes = repository.target(&path, target.length)?.ok_or_else(|| {
            let text = format!("the repository does not have the target {name:?}");
            Error::new(ErrorKind::Missing, text)
        })?;
        if !is_content(&bytes, &target) {
            let text = format!("what comes for the target {name:?} is not what was signed for");
            return Err(Error::new(ErrorKind::Mismatch, text));
        }
        Ok(bytes)
    }

    /// 5.6.7: asks targets and the roles that it delegates to, each once, the first
    /// child before the second child and before the parent's sibling.
    fn find(&mut self, repository: &dyn Repository, name: &str) -> Result<Target> {
        let mut asked = BTreeSet::new();
        // The next one to ask is the last.
        let mut open = vec![("targets".to_owned(), String::new())];
        while let Some((role, by)) = open.pop() {
            if asked.contains(&role) {
                continue;
            }
            if asked.len() == MOST_ROLES {
                let text =
                    format!("more than {MOST_ROLES} roles would have to be asked for {name:?}");
                return Err(Error::new(ErrorKind::NoRelease, text));
            }
            if !by.is_empty() && !self.load(repository, &role, &by)? {
                continue;
            }
            let core = &self.trusted.as_ref().ok_or_else(not_refreshed)?.0.core;
            if let Some(target) = core.target_of(&role, name) {
                return Ok(target);
            }
            let children = core
                .delegations(&role, name)
                .map_err(|r| refused(&file(&role), r, None))?;
            let mut next = Vec::new();
            for Delegation {
                role: child,
                terminating,
            } in children
            {
                // Its file would be another's.
                if TOP_LEVEL.contains(&&*child) {
                    continue;
                }
                next.push((child, role.clone()));
                if terminating {
                    open.clear();
                    break;
                }
            }
            asked.insert(role);
            open.extend(next.into_iter().rev());
        }
        let text = format!("there is no target {name:?} in this repository");
        Err(Error::new(ErrorKind::NoRelease, text))
    }

    /// Takes the metadata of a delegated role, from the state if that still holds.
    /// False if the snapshot knows no such role.
    fn load(&mut self, repository: &dyn Repository, role: &str, by: &str) -> Result<bool> {
        let (trusted, now) = self.trusted.as_mut().ok_or_else(not_refreshed)?;
        let (core, now) = (&mut *trusted.core, *now);
        let file = file(role);
        if core.has_role(role) {
            // Reached once more, perhaps under other keys.
            core.recheck_delegated(role, by, now)
                .map_err(|r| refused(&file, r, Some(now)))?;
            return Ok(true);
        }
        let Some(pin) = core.delegated_pin(role) else {
            return Ok(false);
        };
        if let Some(stored) = self.state.read(&file)?
            && fits(&stored, &pin).is_ok()
            && precheck::signed(&stored, &file).is_ok()
            && core.update_delegated(&stored, role, by, TIMELESS).is_ok()
            && core.recheck_delegated(role, by, now).is_ok()
        {
            return Ok(true);
        }
        let (fetched, bytes) = fetch_pinned(core, repository, &file, &pin, TARGETS_LIMIT)?;
        precheck::signed(&bytes, &fetched)?;
        core.update_delegated(&bytes, role, by, now)
            .map_err(|r| refused(&fetched, r, Some(now)))?;
        self.state.write(&file, &bytes)?;
        Ok(true)
    }
}

fn file(role: &str) -> String {
    format!("{}.json", encoded(role))
}

fn not_refreshed() -> Error {
    Error::new(ErrorKind::NotRefreshed, "the metadata was not refreshed")
}

/// Whether the bytes have the length and every known hash of a target, and at
/// least one.
fn is_content(bytes: &[u8], target: &Target) -> bool {
    let sha256 = target
        .sha256
        .as_ref()
        .map(|want| (want, Sha256::of(bytes).hex()));
    let sha512 = target.sha512.as_ref().map(|want| {
        let found = common::hex::encode(&Sha512::digest(bytes));
        (want, found)
    });
    let known = [sha256, sha512];
    let mut known = known.iter().flatten().peekable();
    bytes.len() as u64 == target.length
        && known.peek().is_some()
        && known.all(|(want, found)| want.eq_ignore_ascii_case(found))
}
