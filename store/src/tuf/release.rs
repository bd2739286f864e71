//! What a release says beside its manifest.
//!
//! TUF leaves a `custom` object in every target (TUF 4.5). Ours carries what a
//! node must know before it believes a manifest, under the same signature as
//! the manifest's hash.

#[cfg(feature = "write")]
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::waves::Waves;
use crate::digest::ImageId;
use crate::name::EnvName;
#[cfg(feature = "write")]
use crate::name::ImageName;

/// The signed field, in root and targets, with the environment's name.
///
/// TUF does not bind a repository to a name: without this, whoever serves the
/// files could answer for prod with all of dev, correctly signed by dev's keys
/// once a node was made to start from dev's root.
pub const ENVIRONMENT_FIELD: &str = "x-imgbuild-environment";

/// One release of an environment.
#[cfg(feature = "write")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The image's name.
    pub name: ImageName,
    /// The number of the release among those of its name.
    pub seq: u64,
    /// The image.
    pub image: ImageId,
    /// Where its manifest lies in the store.
    pub target_path: String,
    /// Everything that was signed beside the manifest.
    pub custom: ReleaseCustom,
    /// Whether this call made the release; false if it was there already.
    pub new: bool,
}

/// The `custom` object of a release. Fields that a later version adds are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCustom {
    /// The image that is released: the digest of its canonical tar.
    pub image: ImageId,
    /// The environment it is released in.
    pub env: EnvName,
    /// The architecture it runs on.
    pub arch: String,
    /// The number of the release, the same as in its name: 1, 2, 3, ...
    pub seq: u64,
    /// Nodes may go back to this release and no further. Only the newest
    /// release of a name is asked.
    pub min_seq: u64,
    /// The size of the canonical tar.
    pub size: u64,
    /// Images that must no longer run in this environment, under any name. Only
    /// the newest release of a name is asked; every new release takes the list over.
    pub revoked: Vec<ImageId>,
    /// The stages in which it reaches nodes; without, it reaches all of them at once. Each release
    /// has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
}

impl ReleaseCustom {
    /// Whether this release, the newest of its name, allows `image` as release
    /// `seq`.
    pub fn allows(&self, image: &ImageId, seq: u64) -> Verdict {
        if self.revoked.contains(image) {
            Verdict::Revoked
        } else if seq < self.min_seq {
            Verdict::TooOld
        } else {
            Verdict::Allowed
        }
    }
}

/// Images that must no longer run, whatever they are called: what the newest release of each
/// name revokes holds for the whole environment.
#[cfg(feature = "write")]
pub fn revoked_images(releases: &[Release]) -> BTreeSet<ImageId> {
    let mut newest: BTreeMap<&ImageName, &Release> = BTreeMap::new();
    for release in releases {
        let known = newest.entry(&release.name).or_insert(release);
        if known.seq < release.seq {
            *known = release;
        }
    }
    let revoked = newest.values().flat_map(|release| &release.custom.revoked);
    revoked.copied().collect()
}

/// What the newest release says about another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allowed,
    /// Its image was revoked.
    Revoked,
    /// It is below `min_seq`.
    TooOld,
}
