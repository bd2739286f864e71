//! What a proposed change would change, in sentences for whoever is to sign it.

mod root;
mod targets;

use self::root::roots;
use self::targets::targets;
use super::Environment;
use super::consistency::{contradicts, of_another_time, only_known_fields, root_is_plain};
use super::environment::Current;
use super::error::{Error, ErrorKind, Result};
use super::log::LogEntry;
use super::metadata::next_version;
use super::proposal::{Proposal, RequiredSignatures};
use crate::keys::Signer;
use crate::manifest::Manifest;
use crate::name::EnvName;

/// A change as it stands, compared with its environment.
#[derive(Clone, Debug)]
pub struct Review {
    /// What changes, a sentence each.
    pub changes: Vec<String>,
    /// What must not be overlooked: releases that vanish, fewer signatures than
    /// before.
    pub warnings: Vec<String>,
    /// The signatures that are required, and those that are there.
    pub needs: Vec<RequiredSignatures>,
    /// The new releases.
    pub releases: Vec<Manifest>,
    /// The entries that the log gets.
    pub entries: Vec<LogEntry>,
}

impl Review {
    /// Whether enough have signed.
    pub fn complete(&self) -> bool {
        self.needs.iter().all(|need| need.missing() == 0)
    }
}

impl Environment<'_> {
    /// Compares a change with the environment. It must be the very next one, and
    /// say nothing that its parts contradict.
    pub fn review(&self, proposal: &Proposal) -> Result<Review> {
        review(&self.name, Some(&self.current), proposal)
    }

    /// Reviews the first version of an environment.
    pub fn review_init(proposal: &Proposal) -> Result<Review> {
        review(&proposal.environment, None, proposal)
    }

    /// Signs a change with those keys in hand that count; refused if none does.
    pub fn sign(&self, proposal: &mut Proposal, keys: &[&dyn Signer]) -> Result<Review> {
        sign(&self.name, Some(&self.current), proposal, keys)
    }

    /// Signs the first version of an environment.
    pub fn sign_init(proposal: &mut Proposal, keys: &[&dyn Signer]) -> Result<Review> {
        let name = proposal.environment.clone();
        sign(&name, None, proposal, keys)
    }
}

fn sign(
    name: &EnvName,
    current: Option<&Current>,
    proposal: &mut Proposal,
    keys: &[&dyn Signer],
) -> Result<Review> {
    let before = review(name, current, proposal)?;
    let root = current.map(|current| &current.root.signed);
    if proposal.add(root, keys)? == 0 {
        let wanted = before.needs.iter().map(|need| {
            let ids: Vec<_> = need.keys.iter().map(|(key, _)| key.hex()).collect();
            format!("{} by {} of {}", need.role, need.threshold, ids.join(", "))
        });
        let wanted: Vec<_> = wanted.collect();
        let in_hand: Vec<_> = keys.iter().map(|key| key.public().hex()).collect();
        let text = match &*in_hand {
            [] => "there is no key in hand to sign this with".to_owned(),
            ids => format!("no key in hand counts for this change: {}", ids.join(", ")),
        };
        return Err(Error::new(ErrorKind::WrongKey, text)
            .with_hint(format!("it is to be signed as {}", wanted.join("; as "))));
    }
    review(name, current, proposal)
}

pub(super) fn review(
    name: &EnvName,
    current: Option<&Current>,
    proposal: &Proposal,
) -> Result<Review> {
    let stale = |what: &str, version: u64, next: u64| {
        let text = format!(
            "the proposed {what} is version {version}, and the next one of {name} is {next}"
        );
        let hint = match current {
            None => "this store has no environment of that name: is it the right one (--store)?",
            Some(_) if version > next => {
                "this store is behind the one where it was proposed: bring it up to date"
            }
            Some(_) => "the environment has moved on since it was proposed: propose it again",
        };
        Error::new(ErrorKind::Stale, text).with_hint(hint)
    };
    if proposal.environment != *name {
        let text = format!("the change is for {}, not for {name}", proposal.environment);
        return Err(Error::new(ErrorKind::Untrusted, text));
    }
    let mut review = Review {
        changes: Vec::new(),
        warnings: Vec::new(),
        needs: Vec::new(),
        releases: Vec::new(),
        entries: Vec::new(),
    };
    let old_root = current.map(|current| &current.root.signed);
    let next_root = proposal.next_root()?;
    if let Some(next) = &next_root {
        let version = next_version(old_root.map_or(0, |old| old.head.version))?;
        if next.signed.head.version != version {
            return Err(stale("root", next.signed.head.version, version));
        }
        next.signed.check()?;
        if let Some(policy) = &next.signed.policy {
            policy.check()?;
        }
        if next.signed.environment != *name {
            return Err(contradicts(format!(
                "its root is for {}",
                next.signed.environment
            )));
        }
        if let Some(part) = &proposal.root {
            let before = old_root.map(|old| (old, &old.extra));
            only_known_fields(part, &next.signed, &next.signed.extra, before)?;
        }
        root_is_plain(old_root, &next.signed)?;
        roots(old_root, &next.signed, &mut review);
    } else if old_root.is_none() {
        return Err(contradicts("it begins an environment without a root"));
    }
    if let Some(next) = proposal.next_targets()? {
        let old = current.map(|current| &current.targets);
        let version = next_version(old.map_or(0, |old| old.signed.head.version))?;
        if next.signed.head.version != version {
            return Err(stale("targets", next.signed.head.version, version));
        }
        if next.signed.environment != *name {
            return Err(contradicts(format!(
                "its targets are for {}",
                next.signed.environment
            )));
        }
        if let Some(part) = &proposal.targets {
            let before = old.map(|old| (&old.signed, &old.signed.extra));
            only_known_fields(part, &next.signed, &next.signed.extra, before)?;
        }
        targets(old, &next, proposal, &mut review)?;
        let days = old_root.map(|root| root.lifetimes);
        let odd = days.and_then(|days| of_another_time(&review.entries, &next.signed, days));
        if let Some(entry) = odd {
            let warning = format!(
                "the log will say that this was drafted at {}, and its targets run out at {}: \
                 that does not fit the days that targets last",
                entry.time, next.signed.head.expires
            );
            review.warnings.push(warning);
        }
    } else if old_root.is_none() {
        return Err(contradicts("it begins an environment without targets"));
    } else if !proposal.log.is_empty() || !proposal.manifests.is_empty() {
        return Err(contradicts("it has releases and no targets"));
    }
    review.needs = proposal.needs(old_root)?;
    Ok(review)
}
