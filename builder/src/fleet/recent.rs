//! The last receipts of a node, as they lie in the folder.

use store::keys::PublicKey;
use store::name::NodeName;
use store::receipt::{self, FOLDER, MAX_BYTES, Receipt, SignedReceipt};

use super::Place;
use crate::error::Result;
use crate::stores;

/// What lies as a receipt of a node.
pub struct Recent {
    /// The name of its object.
    pub name: String,
    /// Whether the key of the node has signed it.
    pub signed: bool,
    /// What it says; none where that cannot be read.
    pub receipt: Option<Receipt>,
}

/// The names of the last receipts of a node, the oldest first. Where nothing lists them, they are
/// those up to `last`, the counter of the newest.
pub fn names(place: &Place, node: &NodeName, last: u64, most: usize) -> Result<Vec<String>> {
    let what = || format!("cannot list the receipts of {node} in {}", place.url);
    let listed = place.folder.list(&format!("{FOLDER}/{node}"));
    let listed = listed.map_err(|e| stores::failed(what(), &e))?;
    let mut names: Vec<String> = if let Some(listed) = listed {
        let names = listed.into_iter().map(|one| one.name);
        names
            .filter(|name| receipt::counter(name).is_some())
            .collect()
    } else {
        let first = last.saturating_sub(most as u64) + 1;
        let counters = first..=last;
        counters
            .map(|counter| format!("{counter:012}.json"))
            .collect()
    };
    names.sort_unstable();
    let skipped = names.len().saturating_sub(most);
    names.drain(..skipped);
    Ok(names)
}

/// Reads receipts of a node by their names. One that is gone meanwhile is left out.
pub fn read(
    place: &Place,
    node: &NodeName,
    key: &PublicKey,
    names: Vec<String>,
) -> Result<Vec<Recent>> {
    let what = || format!("cannot read the receipts of {node} in {}", place.url);
    let mut found = Vec::new();
    for name in names {
        let bytes = match place
            .folder
            .get(&format!("{FOLDER}/{node}/{name}"), MAX_BYTES)
        {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            // Longer than any receipt.
            Err(e) if e.kind() == store::ErrorKind::Corrupt => Vec::new(),
            Err(e) => return Err(stores::failed(what(), &e)),
        };
        let read = SignedReceipt::read(&bytes).ok();
        found.push(Recent {
            name,
            signed: read.as_ref().is_some_and(|read| read.is_by(key)),
            receipt: read.map(|read| read.receipt),
        });
    }
    Ok(found)
}
