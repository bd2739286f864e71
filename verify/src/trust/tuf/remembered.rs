//! The list of releases that was trusted last, read again where the store cannot be asked.
//!
//! It was verified before it was kept, and only root can change what is kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::core::{Listing, Target};
use super::error::Result;
use super::state::State;

/// A list of releases as it was kept.
pub(super) struct Remembered(BTreeMap<String, Listed>);

#[derive(Deserialize)]
struct File {
    signed: Signed,
}

#[derive(Deserialize)]
struct Signed {
    targets: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
struct Listed {
    length: u64,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(default)]
    custom: Value,
}

impl Remembered {
    /// Reads it; none if no list was ever trusted.
    pub(super) fn read(state: &State) -> Result<Option<Self>> {
        const FILE: &str = "targets.json";
        let Some(bytes) = state.read(FILE)? else {
            return Ok(None);
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| state.corrupt(FILE, &e))?;
        Ok(Some(Self(file.signed.targets)))
    }
}

impl Listing for Remembered {
    fn target(&self, name: &str) -> Option<Target> {
        let listed = self.0.get(name)?;
        Some(Target {
            length: listed.length,
            sha256: listed.hashes.get("sha256").cloned(),
            sha512: listed.hashes.get("sha512").cloned(),
            custom: listed.custom.clone(),
        })
    }

    fn target_names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}
