//! A change of an environment that is not published yet: one file, passed from hand
//! to hand until enough have signed it.
//!
//! It holds the new metadata whole, so that what is signed is what will be published,
//! byte for byte of the signed part. Nothing in it is believed: whoever signs or
//! publishes compares it with the environment as it stands
//! ([`Environment::review`](super::Environment::review)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Policy;
use super::error::{Error, ErrorKind, Result};
use super::metadata::{DraftFile, Role, Root, Targets};
use crate::digest::Sha256;
use crate::json;
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The longest file that is read: metadata twice, and some manifests.
const MAX_BYTES: usize = 64 << 20;

/// A change, with the signatures that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    schema: u32,
    /// The environment that it is for.
    pub environment: EnvName,
    /// The next root, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<DraftFile>,
    /// The next targets, if they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) targets: Option<DraftFile>,
    /// Manifests of new releases, by the names of their targets, as JSON texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) manifests: BTreeMap<String, String>,
    /// New entries of the log, in order, as JSON texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) log: Vec<String>,
}

/// The signatures that one file of a change needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSignatures {
    /// The role whose file it is, and whose keys: `root`, `targets`, or `old root`
    /// where the keys of the root before must sign as well.
    pub role: &'static str,
    /// The keys that count, and whether each has signed.
    pub keys: Vec<(PublicKey, bool)>,
    /// How many it takes.
    pub threshold: u64,
}

impl RequiredSignatures {
    /// How many signatures are still missing.
    pub fn missing(&self) -> u64 {
        let have = self.keys.iter().filter(|(_, signed)| *signed).count() as u64;
        self.threshold.saturating_sub(have)
    }
}

impl Proposal {
    pub(super) fn new(environment: EnvName) -> Self {
        Self {
            schema: SCHEMA,
            environment,
            root: None,
            targets: None,
            manifests: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// Reads a file, without believing it.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| {
            let text = format!("this is not the file of a proposed change: {e}");
            Error::new(ErrorKind::Malformed, text)
        };
        if bytes.len() > MAX_BYTES {
            return Err(wrong(&format_args!("it is longer than {MAX_BYTES} bytes")));
        }
        let value = json::parse(bytes).map_err(|e| wrong(&e))?;
        let proposal: Self = serde_json::from_value(value).map_err(|e| wrong(&e))?;
        if proposal.schema != SCHEMA {
            return Err(wrong(&format_args!("its schema is {}", proposal.schema)));
        }
        if proposal.root.is_none() && proposal.targets.is_none() {
            return Err(wrong(&"it changes nothing"));
        }
        Ok(proposal)
    }

    /// The file.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| {
            Error::new(
                ErrorKind::Malformed,
                format!("cannot write a proposal: {e}"),
            )
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Whether it releases or revokes an image: each such act is in the log.
    pub fn changes_releases(&self) -> bool {
        !self.log.is_empty() || !self.manifests.is_empty()
    }

    /// The policy of the root that it brings.
    pub fn policy(&self) -> Option<Policy> {
        self.next_root().ok()??.signed.policy
    }

    /// Whether the root changes: then the ceremony is the root's.
    pub fn changes_root(&self) -> bool {
        self.root.is_some()
    }

    /// The digest of the root that it would publish, if it begins an environment.
    pub fn first_root(&self) -> Result<Option<Sha256>> {
        let (Some(part), Some(next)) = (&self.root, self.next_root()?) else {
            return Ok(None);
        };
        if next.signed.head.version != 1 {
            return Ok(None);
        }
        let part = part.with_good_signatures::<Root>(&[&next.signed])?;
        Ok(Some(Sha256::of(&part.bytes::<Root>()?)))
    }

    /// The keys that sign snapshots and timestamps from then on, if the root changes.
    pub fn online_keys(&self) -> Result<Option<Vec<PublicKey>>> {
        let Some(next) = self.next_root()? else {
            return Ok(None);
        };
        let mut keys = next.signed.keys_of("timestamp")?;
        for key in next.signed.keys_of("snapshot")? {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Some(keys))
    }

    pub(super) fn next_root(&self) -> Result<Option<super::metadata::SignedFile<Root>>> {
        self.root
            .as_ref()
            .map(|part| part.signed_file("the proposed root"))
            .transpose()
    }

    pub(super) fn next_targets(&self) -> Result<Option<super::metadata::SignedFile<Targets>>> {
        self.targets
            .as_ref()
            .map(|part| part.signed_file("the proposed targets"))
            .transpose()
    }

    /// What it needs, where `old` is the root as it stands; none before the first.
    pub(super) fn needs(&self, old: Option<&Root>) -> Result<Vec<RequiredSignatures>> {
        let mut needs = Vec::new();
        let next = self.next_root()?;
        if let Some(next) = &next {
            for (role, root) in [("old root", old), ("root", Some(&next.signed))] {
                if let Some(root) = root {
                    needs.push(Self::need(role, root, next)?);
                }
            }
            // Where nothing changes for the root's own keys, once is enough.
            if needs.len() == 2 && keys(&needs[0]) == keys(&needs[1]) {
                needs.remove(0);
            }
        }
        let governing = next.as_ref().map(|next| &next.signed).or(old);
        if let (Some(targets), Some(root)) = (self.next_targets()?, governing) {
            needs.push(Self::need("targets", root, &targets)?);
        }
        Ok(needs)
    }

    fn need<T: Role>(
        role: &'static str,
        root: &Root,
        file: &super::metadata::SignedFile<T>,
    ) -> Result<RequiredSignatures> {
        let signed = file.signers(root)?;
        let keys = root.keys_of(T::TYPE)?;
        Ok(RequiredSignatures {
            role,
            keys: keys
                .into_iter()
                .map(|key| (key, signed.contains(&key)))
                .collect(),
            threshold: root.role(T::TYPE)?.threshold,
        })
    }

    /// Adds the signatures of those keys that count; returns how many signatures
    /// were given. That is none if no key in hand counts for anything here.
    pub(super) fn add(&mut self, old: Option<&Root>, keys: &[&dyn Signer]) -> Result<usize> {
        let needs = self.needs(old)?;
        let mut given = 0;
        for key in keys {
            let public = key.public();
            let counts = |roles: &[&str]| {
                let mut fitting = needs.iter().filter(|need| roles.contains(&need.role));
                fitting.any(|need| need.keys.iter().any(|(known, _)| *known == public))
            };
            if let Some(part) = self.root.as_mut().filter(|_| counts(&["root", "old root"])) {
                part.sign(*key)?;
                given += 1;
            }
            if let Some(part) = self.targets.as_mut().filter(|_| counts(&["targets"])) {
                part.sign(*key)?;
                given += 1;
            }
        }
        Ok(given)
    }

    /// Takes over signatures of a copy of the same change that somebody else signed.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let bare = |proposal: &Self| {
            let mut bare = proposal.clone();
            for part in [&mut bare.root, &mut bare.targets].into_iter().flatten() {
                part.signatures.clear();
            }
            bare
        };
        if bare(self) != bare(other) {
            let text = "the files are not copies of the same proposed change";
            return Err(Error::new(ErrorKind::Untrusted, text));
        }
        for (ours, theirs) in [
            (&mut self.root, &other.root),
            (&mut self.targets, &other.targets),
        ] {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                for signature in &theirs.signatures {
                    // A bad one is not taken for a good one: those that count are published.
                    if !ours.signatures.contains(signature) {
                        ours.signatures.push(signature.clone());
                    }
                }
                ours.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
            }
        }
        Ok(())
    }
}

fn keys(need: &RequiredSignatures) -> (Vec<&PublicKey>, u64) {
    (
        need.keys.iter().map(|(key, _)| key).collect(),
        need.threshold,
    )
}
