//! What an imported image has in place of a lock.

use serde::{Deserialize, Serialize};
use store::canonical_tar::Changes;

/// Version of [`ImportRecord`].
pub(crate) const SCHEMA: u32 = 1;

/// What the store retains about an import, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRecord {
    pub(crate) schema: u32,
    pub(crate) imported: ImportKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    pub(crate) changes: Changes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImportKind {
    Directory,
    Tar,
}

impl ImportRecord {
    /// Whether a retained text is the record of an import.
    pub fn is(text: &[u8]) -> bool {
        serde_json::from_slice::<Self>(text).is_ok_and(|record| record.schema == SCHEMA)
    }
}
