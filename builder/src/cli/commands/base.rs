//! What commands show of the image that another one begins with.

use serde::Serialize;
use store::{Manifest, Store};

use crate::error::Result;
use crate::stores::ancestry;

/// The image that another one begins with, and what became of its release.
#[derive(Serialize)]
pub(super) struct ShownBase {
    pub(super) image: String,
    /// `ENV/NAME/NUMBER` as it was locked; null where it was locked by its digest.
    pub(super) release: Option<String>,
    /// The newest release of that name, where it is another image.
    pub(super) newer: Option<String>,
    pub(super) revoked: bool,
}

impl ShownBase {
    pub(super) fn of(store: &Store, manifest: &Manifest) -> Result<Option<Self>> {
        let Some(base) = ancestry::base(store, manifest)? else {
            return Ok(None);
        };
        let ancestry::Standing { newer, revoked } = ancestry::standing(store, &base);
        Ok(Some(Self {
            image: base.image.to_string(),
            release: base.release,
            newer,
            revoked,
        }))
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let name = self.release.as_deref().unwrap_or(&self.image[..19]);
        let revoked = if self.revoked {
            ", which was revoked"
        } else {
            ""
        };
        let newer = self.newer.iter();
        let newer: String = newer.map(|newer| format!("; {newer} is newer")).collect();
        format!("{name}{revoked}{newer}")
    }
}
