//! The verification core, behind the few verbs that the workflow needs.
//!
//! The set of trusted metadata is `sigstore-tuf`'s: it passed the public
//! conformance suite, does no I/O and takes the time as an argument. It is
//! before its 1.0, so nothing outside of this file knows it. What it leaves to
//! its callers (ambiguous JSON, one key under two ids, floors that outlive the
//! timestamp they came with) is the business of [`precheck`](super::precheck) and
//! [`workflow`](super::workflow).

use jiff::Timestamp as Time;
use serde_json::Value;
use sigstore_tuf::metadata::Role as _;
use sigstore_tuf::{Error as Tuf, MetaFile, TargetFile, TrustedMetadataSet};

use super::error::Result;
use super::provider;

/// Version, length and hash of a file, as the file before it says.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) version: u64,
    pub(super) length: Option<u64>,
    pub(super) sha256: Option<String>,
}

/// Length and hashes of a target, as targets says.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) length: u64,
    pub(super) sha256: Option<String>,
    pub(super) sha512: Option<String>,
    pub(super) custom: Value,
}

/// A role that another targets role lets speak for some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delegation {
    pub(super) role: String,
    /// Whether no role after it is asked.
    pub(super) terminating: bool,
}

/// Why the core did not take a file.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Too few signatures, or one id twice.
    Signatures(String),
    /// A version below the trusted one, of the file itself or of what it pins.
    Rollback {
        what: String,
        trusted: u64,
        new: u64,
    },
    /// A root that does not follow the trusted one.
    RootVersion { trusted: u64, new: u64 },
    /// A file that has expired.
    Expired { expires: Time },
    /// A file that is not the one that was pinned, or drops what was there before.
    Mismatch(String),
    /// A file that is no metadata of its kind.
    Malformed(String),
}

/// Whether a timestamp was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It was newer, and is the trusted one now.
    Newer,
    /// It has the version that is trusted already, and was dropped.
    Same,
}

/// The time at which nothing has run out: for loading what was trusted before,
/// which is still a floor after it has run out.
pub(super) const TIMELESS: Time = Time::MIN;

/// A list of targets.
pub(super) trait Listing {
    fn target(&self, name: &str) -> Option<Target>;
    fn target_names(&self) -> Vec<&str>;
}

/// A set of trusted metadata, growing from a root. Files must come in the order
/// root, timestamp, snapshot, targets; a new root drops the other three.
pub(super) trait Core: Listing + Send {
    fn update_root(&mut self, bytes: &[u8]) -> Result<(), Refusal>;
    fn update_timestamp(&mut self, bytes: &[u8], now: Time) -> Result<News, Refusal>;
    fn update_snapshot(&mut self, bytes: &[u8], now: Time) -> Result<(), Refusal>;
    fn update_targets(&mut self, bytes: &[u8], now: Time) -> Result<(), Refusal>;

    fn root_version(&self) -> u64;
    fn root_expires(&self) -> Time;
    fn consistent_snapshot(&self) -> bool;
    fn timestamp_version(&self) -> Option<u64>;
    fn timestamp_expires(&self) -> Option<Time>;
    fn snapshot_pin(&self) -> Option<Pin>;
    fn snapshot_expires(&self) -> Option<Time>;
    /// Every file that the snapshot pins, with its version.
    fn snapshot_lists(&self) -> Vec<(String, u64)>;
    fn targets_pin(&self) -> Option<Pin>;
    fn targets_expires(&self) -> Option<Time>;

    // Delegations, which environments do not use.

    /// What the snapshot says about a delegated role.
    fn delegated_pin(&self, role: &str) -> Option<Pin>;
    /// Takes the metadata of a role, under the keys that `by` lists for it.
    fn update_delegated(
        &mut self,
        bytes: &[u8],
        role: &str,
        by: &str,
        now: Time,
    ) -> Result<(), Refusal>;
    /// Whether a role that was taken before may also speak for `by`.
    fn recheck_delegated(&self, role: &str, by: &str, now: Time) -> Result<(), Refusal>;
    /// Whether the metadata of a role was taken.
    fn has_role(&self, role: &str) -> bool;
    /// What a role says about a target.
    fn target_of(&self, role: &str, name: &str) -> Option<Target>;
    /// The roles that `role` lets speak for a target, in order.
    fn delegations(&self, role: &str, name: &str) -> Result<Vec<Delegation>, Refusal>;
}

/// Begins a set of trusted metadata from a root that is trusted because a
/// person or the local state says so. It must still be signed by its own keys.
pub(super) fn begin(root: &[u8]) -> Result<Result<Box<dyn Core>, Refusal>> {
    provider::install()?;
    Ok(match TrustedMetadataSet::from_root(root) {
        Ok(set) => Ok(Box::new(set)),
        Err(e) => Err(refusal(e)),
    })
}

impl Listing for TrustedMetadataSet {
    fn target(&self, name: &str) -> Option<Target> {
        self.target_of("targets", name)
    }

    fn target_names(&self) -> Vec<&str> {
        let targets = self.targets_role("targets").map(|t| &t.targets);
        targets
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

impl Core for TrustedMetadataSet {
    fn update_root(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.update_root(bytes).map_err(refusal)
    }

    fn update_timestamp(&mut self, bytes: &[u8], now: Time) -> Result<News, Refusal> {
        match self.update_timestamp(bytes, now) {
            Ok(()) => Ok(News::Newer),
            Err(Tuf::EqualVersion { .. }) => Ok(News::Same),
            Err(e) => Err(refusal(e)),
        }
    }

    fn update_snapshot(&mut self, bytes: &[u8], now: Time) -> Result<(), Refusal> {
        self.update_snapshot(bytes, now).map_err(refusal)
    }

    fn update_targets(&mut self, bytes: &[u8], now: Time) -> Result<(), Refusal> {
        self.update_targets(bytes, now).map(drop).map_err(refusal)
    }

    fn root_version(&self) -> u64 {
        self.root().version
    }

    fn root_expires(&self) -> Time {
        self.root().expires()
    }

    fn consistent_snapshot(&self) -> bool {
        self.root().consistent_snapshot
    }

    fn timestamp_version(&self) -> Option<u64> {
        self.timestamp().map(|t| t.version)
    }

    fn timestamp_expires(&self) -> Option<Time> {
        self.timestamp().map(|t| t.expires)
    }

    fn snapshot_pin(&self) -> Option<Pin> {
        self.timestamp()?.snapshot_meta().map(pin)
    }

    fn snapshot_expires(&self) -> Option<Time> {
        self.snapshot().map(|s| s.expires)
    }

    fn snapshot_lists(&self) -> Vec<(String, u64)> {
        let meta = self.snapshot().map(|s| &s.meta);
        meta.into_iter()
            .flatten()
            .map(|(file, pin)| (file.clone(), pin.version))
            .collect()
    }

    fn targets_pin(&self) -> Option<Pin> {
        self.snapshot()?.meta.get("targets.json").map(pin)
    }

    fn targets_expires(&self) -> Option<Time> {
        self.targets_role("targets").map(|t| t.expires)
    }

    fn delegated_pin(&self, role: &str) -> Option<Pin> {
        self.snapshot()?.meta.get(&format!("{role}.json")).map(pin)
    }

    fn update_delegated(
        &mut self,
        bytes: &[u8],
        role: &str,
        by: &str,
        now: Time,
    ) -> Result<(), Refusal> {
        self.update_delegated_targets(bytes, role, by, now)
            .map(drop)
            .map_err(refusal)
    }

    fn recheck_delegated(&self, role: &str, by: &str, now: Time) -> Result<(), Refusal> {
        self.verify_delegated_targets(role, by, now)
            .map(drop)
            .map_err(refusal)
    }

    fn has_role(&self, role: &str) -> bool {
        self.targets_role(role).is_some()
    }

    fn target_of(&self, role: &str, name: &str) -> Option<Target> {
        let TargetFile {
            length,
            hashes,
            custom,
            ..
        } = self.targets_role(role)?.target(name)?;
        Some(Target {
            length: *length,
            sha256: hashes.get("sha256").cloned(),
            sha512: hashes.get("sha512").cloned(),
            custom: custom.clone().unwrap_or_default(),
        })
    }

    fn delegations(&self, role: &str, name: &str) -> Result<Vec<Delegation>, Refusal> {
        let block = self.targets_role(role).and_then(|t| t.delegations.as_ref());
        let mut found = Vec::new();
        for child in block.into_iter().flat_map(|block| &block.roles) {
            if child.matches_path(name).map_err(refusal)? {
                found.push(Delegation {
                    role: child.name.clone(),
                    terminating: child.terminating,
                });
            }
        }
        Ok(found)
    }
}

fn pin(meta: &MetaFile) -> Pin {
    let sha256 = meta
        .hashes
        .as_ref()
        .and_then(|hashes| hashes.get("sha256").cloned());
    Pin {
        version: meta.version,
        length: meta.length,
        sha256,
    }
}

fn refusal(e: Tuf) -> Refusal {
    match e {
        Tuf::ThresholdNotMet {
            found, threshold, ..
        } => Refusal::Signatures(format!("it has {found} of {threshold} valid signatures")),
        Tuf::DuplicateSignature { key_id, .. } => {
            Refusal::Signatures(format!("key {key_id} signs it twice"))
        }
        Tuf::Rollback { role, trusted, new } => Refusal::Rollback {
            what: role,
            trusted,
            new,
        },
        Tuf::BadRootVersion { trusted, new } => Refusal::RootVersion { trusted, new },
        Tuf::Expired { expires, .. } => Refusal::Expired { expires },
        Tuf::IntegrityMismatch(why) => Refusal::Mismatch(why),
        Tuf::Json(e) => Refusal::Malformed(e.to_string()),
        Tuf::Malformed(why) => Refusal::Malformed(why),
        other => Refusal::Malformed(other.to_string()),
    }
}
