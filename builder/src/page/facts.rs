//! What a store says about its environments: releases, histories, what has run out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use store::keys::PublicKey;
use store::tuf::{Action, Environment, LogEntry, Release, revoked_images};
use store::{EnvName, ImageId, ImageName, Store};

use super::html::Notice;
use crate::error::{Error, Result};
use crate::release::ceremony;
use crate::release::keyring::{Keyring, Names};
use crate::stores::{FIRST_ENVIRONMENT, environments};

/// All that the pages say of environments.
pub(super) struct Facts {
    /// In the order of the columns.
    pub(super) environments: Vec<Env>,
    /// Every key that has a name here or in a policy.
    pub(super) names: Names,
    /// The newest time that an environment's log has.
    pub(super) newest: Option<Timestamp>,
}

/// An environment.
pub(super) struct Env {
    pub(super) name: EnvName,
    /// The digest of its first root.
    pub(super) fingerprint: String,
    /// When each role runs out, and whether it has.
    pub(super) expiries: Vec<(&'static str, Timestamp, bool)>,
    /// What its policy asks.
    pub(super) policy: Vec<String>,
    /// By name, the oldest first.
    pub(super) releases: BTreeMap<ImageName, Vec<Released>>,
    /// Images that must not run.
    pub(super) revoked: BTreeMap<ImageId, Revocation>,
    /// What is wrong with all of it.
    pub(super) notices: Vec<Notice>,
}

/// What the log says about a revocation.
#[derive(Clone, Debug, Default)]
pub(super) struct Revocation {
    pub(super) time: Option<Timestamp>,
    pub(super) reason: Option<String>,
}

/// A release.
pub(super) struct Released {
    pub(super) release: Release,
    /// The digest of its manifest in hexadecimal.
    pub(super) manifest: String,
    /// When it was made, where the log says so.
    pub(super) time: Option<Timestamp>,
    /// The release that it was promoted from.
    pub(super) from: Option<String>,
    /// Who signed it.
    pub(super) signers: Vec<String>,
    pub(super) state: State,
}

/// What nodes may do with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The newest of its name.
    Newest,
    /// Nodes may go back to it.
    Older,
    /// Nodes may not go back so far.
    TooOld,
    /// Its image must not run.
    Revoked,
}

impl State {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Newest => "Newest",
            Self::Older => "Earlier",
            Self::TooOld => "Too old to go back to",
            Self::Revoked => "Revoked",
        }
    }
}

impl Released {
    pub(super) fn image(&self) -> ImageId {
        self.release.image
    }

    /// `ENV/NAME/SEQ`.
    pub(super) fn shown(&self) -> String {
        let Release {
            name, seq, custom, ..
        } = &self.release;
        format!("{}/{name}/{seq}", custom.env)
    }
}

impl Env {
    /// The newest release of a name.
    pub(super) fn newest(&self, name: &ImageName) -> Option<&Released> {
        self.releases.get(name)?.last()
    }
}

impl Facts {
    /// Reads these environments, or all that the store has, in the order in which images go
    /// through them.
    pub(super) fn read(
        store: &Store,
        chosen: &[EnvName],
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Self> {
        let listed = if chosen.is_empty() {
            all(store)?
        } else {
            chosen.to_vec()
        };
        let mut opened = Vec::new();
        for name in &listed {
            opened.push(ceremony::open(store, name)?);
        }
        if chosen.is_empty() {
            in_order(&mut opened);
        }
        let mut names = keyring.names(None)?;
        for env in &opened {
            names = names.with(env.policy());
        }
        let mut environments = Vec::new();
        let mut newest = None;
        for env in &opened {
            let entries = env.log(usize::MAX);
            let entries = entries.map_err(|e| ceremony::unreadable(env.name(), &e))?;
            newest = newest.max(entries.first().map(|entry| entry.time));
            environments.push(Env::of(env, &entries, &names, keyring, now)?);
        }
        Ok(Self {
            environments,
            names,
            newest,
        })
    }

    /// Every release, by environment, name and number.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Released> {
        let names = self
            .environments
            .iter()
            .flat_map(|env| env.releases.values());
        names.flatten()
    }

    /// That an image was revoked, and why. Where it is looked at in one environment, a revocation in
    /// another one is a warning.
    pub(super) fn notices(&self, image: &ImageId, at: Option<&EnvName>) -> Vec<Notice> {
        let revoked = self.environments.iter();
        let revoked = revoked.filter_map(|env| Some((&env.name, env.revoked.get(image)?)));
        let notice = |(name, revocation): (&EnvName, &Revocation)| {
            let mut text = format!("revoked in {name}");
            if let Some(time) = revocation.time {
                let time = time.to_string();
                let _ = write!(text, " on {}", time.split('T').next().unwrap_or(&time));
            }
            if let Some(reason) = &revocation.reason {
                let _ = write!(text, ": {reason}");
            }
            if at.is_none_or(|at| at == name) {
                Notice::bad(text)
            } else {
                Notice::warning(text)
            }
        };
        revoked.map(notice).collect()
    }

    /// What keys are called, each with its first digits.
    pub(super) fn who(&self, keys: &[PublicKey]) -> Vec<String> {
        who(&self.names, keys)
    }
}

/// A name alone says little: whoever reads compares the digits.
fn who(names: &Names, keys: &[PublicKey]) -> Vec<String> {
    let shown = keys.iter().map(|key| {
        let digits = &key.hex()[..16];
        match names.of(key) {
            Some(name) => format!("{name} ({digits})"),
            None => format!("key {digits}"),
        }
    });
    shown.collect()
}

/// The environments that the store lists.
fn all(store: &Store) -> Result<Vec<EnvName>> {
    let listed = environments::listed(store)?.ok_or_else(|| {
        Error::usage("this store cannot list its environments").hint("name them with --env ENV")
    })?;
    if listed.is_empty() {
        return Err(Error::failed("the store has no environment")
            .hint("`imgbuild RECIPE` and `imgbuild import` release in dev"));
    }
    Ok(listed)
}

/// An environment comes after those whose releases it takes, `dev` before others, else by name.
fn in_order(environments: &mut Vec<Environment<'_>>) {
    let sources = |env: &Environment<'_>| -> BTreeSet<EnvName> {
        env.policy()
            .map(|policy| policy.from.clone())
            .unwrap_or_default()
    };
    let key = |env: &Environment<'_>| {
        (
            env.name().as_str() != FIRST_ENVIRONMENT,
            env.name().as_str().to_owned(),
        )
    };
    environments.sort_by_key(key);
    let mut ordered: Vec<Environment<'_>> = Vec::new();
    while !environments.is_empty() {
        let waits = |env: &Environment<'_>| {
            let wanted = sources(env);
            environments
                .iter()
                .any(|other| other.name() != env.name() && wanted.contains(other.name()))
        };
        // Environments that take from each other are in the order of their names.
        let next = environments.iter().position(|env| !waits(env)).unwrap_or(0);
        ordered.push(environments.remove(next));
    }
    *environments = ordered;
}

impl Env {
    fn of(
        env: &Environment<'_>,
        entries: &[LogEntry],
        names: &Names,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Self> {
        let name = env.name();
        let all = ceremony::releases(env)?;
        let signers = env
            .log_signers(entries)
            .map_err(|e| ceremony::unreadable(name, &e))?;
        let mut made = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        for (entry, signers) in entries.iter().zip(&signers) {
            match entry.act {
                Action::Release | Action::Promote => {
                    made.insert((&entry.name, entry.seq), (entry, signers));
                }
                // The newest entry is the first.
                Action::Revoke => {
                    reasons.entry(entry.image).or_insert_with(|| Revocation {
                        time: Some(entry.time),
                        reason: entry.reason.clone(),
                    });
                }
                Action::MinSeq | Action::Widen | Action::Halt | Action::Resume => {}
            }
        }
        let revoked: BTreeMap<ImageId, Revocation> = revoked_images(&all)
            .into_iter()
            .map(|image| (image, reasons.remove(&image).unwrap_or_default()))
            .collect();
        let mut releases: BTreeMap<ImageName, Vec<Released>> = BTreeMap::new();
        for release in all {
            let (entry, signers) = made.get(&(&release.name, release.seq)).copied().unzip();
            let file = release.target_path.rsplit('/').next().unwrap_or_default();
            let manifest = file.split('.').next().unwrap_or_default().to_owned();
            let from = entry.and_then(|entry| entry.from.as_ref());
            releases
                .entry(release.name.clone())
                .or_default()
                .push(Released {
                    manifest,
                    time: entry.map(|entry| entry.time),
                    from: from.map(|from| format!("{}/{}/{}", from.env, release.name, from.seq)),
                    signers: signers.map(|keys| who(names, keys)).unwrap_or_default(),
                    state: State::Older,
                    release,
                });
        }
        for of_name in releases.values_mut() {
            of_name.sort_by_key(|one| one.release.seq);
            let ends = of_name
                .last()
                .map(|one| (one.release.seq, one.release.custom.min_seq));
            let (newest, least) = ends.unwrap_or_default();
            for one in of_name {
                one.state = match one.release.seq {
                    _ if revoked.contains_key(&one.release.image) => State::Revoked,
                    seq if seq == newest => State::Newest,
                    seq if seq < least => State::TooOld,
                    _ => State::Older,
                };
            }
        }
        let expiries = env.expiries().map(|(role, time)| (role, time, time <= now));
        let mut notices: Vec<Notice> = expiries
            .iter()
            .filter(|(.., over)| *over)
            .map(|(role, time, _)| {
                Notice::bad(format!(
                    "the signatures of {role} ran out at {time}: nodes refuse {name}"
                ))
            })
            .collect();
        if keyring.vouches_for(env).is_err() {
            notices.push(Notice::warning(format!(
                "whoever wrote these pages has not vouched for {name}: compare its first root"
            )));
        }
        Ok(Self {
            name: name.clone(),
            fingerprint: env.fingerprint().to_string(),
            expiries: expiries.into(),
            policy: env
                .policy()
                .map(store::tuf::Policy::sentences)
                .unwrap_or_default(),
            releases,
            revoked,
            notices,
        })
    }
}
