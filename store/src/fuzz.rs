//! The private parsers, for the fuzz targets in `tests/fuzz`.
//!
//! Each function reads bytes as a reader of that format does. What it accepts it
//! hands back: encoded again by the writer where there is one, and in parts from
//! which a target checks what the format's page promises.

use crate::build_log::BuildLog;
use crate::canonical_tar::Entry;
use crate::chunk::ChunkRef;
use crate::delta::{DeltaInfo, Table, patch as delta_patch};
use crate::fleet::Fleet;
use crate::hint::Hint;
use crate::keys::KeyPair;
use crate::layout;
use crate::pack::Index;
use crate::receipt::SignedReceipt;

/// One entry of a layout, its header byte for byte, and its references.
pub type Item = (Entry, Vec<u8>, Vec<ChunkRef>);

/// One frame of an index: its offset, its stored bytes, and its chunks.
pub type Frame = (u64, u32, Vec<ChunkRef>);

/// The entries of a layout.
pub fn layout(bytes: &[u8]) -> Option<Vec<Item>> {
    let mut reader = layout::Reader::new(bytes);
    let mut items = Vec::new();
    while let Some(item) = reader.next().ok()? {
        items.push((item.entry, item.header, item.chunks));
    }
    Some(items)
}

/// The frames of an index, and the index encoded again.
pub fn index(bytes: &[u8]) -> Option<(Vec<Frame>, Vec<u8>)> {
    let index = Index::parse(bytes).ok()?;
    let parts = index.frames().iter().map(|frame| {
        let chunks = index.chunks_of(frame).to_vec();
        (frame.offset, frame.stored, chunks)
    });
    Some((parts.collect(), index.encode()))
}

/// Where an index says its chunks are: frame and offset in it, chunk by chunk.
pub fn places(bytes: &[u8]) -> Option<Vec<(u32, usize)>> {
    let index = Index::parse(bytes).ok()?;
    (0..index.chunks().len() as u32)
        .map(|chunk| index.place(chunk))
        .collect()
}

/// How many frames the rows of a delta's table describe, and the rows written again.
pub fn delta(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let table = Table::from_rows(bytes).ok()?;
    Some((table.groups.len(), table.to_rows()))
}

/// What a patch makes of `prior`, at most `most` bytes.
pub fn patch(bytes: &[u8], prior: &[u8], most: usize) -> Option<Vec<u8>> {
    delta_patch::apply(bytes, prior, |size| size <= most).ok()
}

/// A description of a delta, encoded again.
pub fn pair(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(DeltaInfo::from_json(bytes).ok()?.to_json())
}

/// A hint, encoded again.
pub fn hint(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Hint::from_json(bytes).ok()?.to_json())
}

/// A log, encoded again.
pub fn log(bytes: &[u8]) -> Option<(BuildLog, Vec<u8>)> {
    let log = BuildLog::decode(bytes).ok()?;
    let again = log.encode().ok()?;
    Some((log, again))
}

/// A receipt, encoded again.
pub fn receipt(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(SignedReceipt::read(bytes).ok()?.to_json())
}

/// A list of nodes, encoded again.
pub fn fleet(bytes: &[u8]) -> Option<Vec<u8>> {
    Fleet::encoded_again(bytes)
}

/// A key, and whether it comes back from the form in which it would be stored.
pub fn key(pem: &str) -> Option<bool> {
    use crate::keys::Signer as _;

    let pair = KeyPair::from_pem(pem).ok()?;
    let stored = pair.to_pem().ok()?;
    let again = KeyPair::from_pem(&stored).ok()?;
    Some(again.public() == pair.public())
}
