//! What was read of receipts before, in the work directory: of each node the newest, and what was
//! wrong with those before it. It may be removed at any time.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::fleet::Fleet;
use store::name::NodeName;
use store::{Blake3, StoreUrl};

use super::read::Seen;
use crate::atomic_file;
use crate::settings::Settings;

/// The version of the file.
const SCHEMA: u32 = 1;

/// What was read of an environment's nodes.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    schema: u32,
    /// By the names of the nodes.
    pub nodes: BTreeMap<NodeName, Seen>,
}

fn path(fleet: &Fleet, place: &StoreUrl, settings: &Settings) -> PathBuf {
    let place = Blake3::of(place.to_string().as_bytes()).hex();
    let (root, env) = (fleet.root.hex(), &fleet.environment);
    let name = format!("{env}-{}-{}.json", &root[..16], &place[..16]);
    settings.work.join("fleet").join(name)
}

impl Cache {
    /// Reads what is there. What cannot be read was not there.
    pub fn read(fleet: &Fleet, place: &StoreUrl, settings: &Settings) -> Self {
        let bytes = fs::read(path(fleet, place, settings)).unwrap_or_default();
        let read: Self = serde_json::from_slice(&bytes).unwrap_or_default();
        if read.schema == SCHEMA {
            read
        } else {
            Self::default()
        }
    }

    /// Writes it for the next time.
    pub fn write(
        &mut self,
        fleet: &Fleet,
        place: &StoreUrl,
        settings: &Settings,
    ) -> std::io::Result<()> {
        self.schema = SCHEMA;
        let path = path(fleet, place, settings);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        atomic_file::replace(&path, serde_json::to_vec(self)?)
    }
}
