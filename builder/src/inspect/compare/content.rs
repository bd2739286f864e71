//! Content of files, as far as it must be read.

use store::chunk::ChunkRef;

use super::{Reading, unreadable};
use crate::error::Result;

/// Whether two contents are the same bytes.
///
/// Equal chunks say so at once, and so does a first difference between chunks of
/// one length. Only where the cuts differ are bytes read, up to the first that is
/// not the same: a large file may come from a store that cut elsewhere.
pub(super) fn same(
    old: &[ChunkRef],
    new: &[ChunkRef],
    one: Reading<'_>,
    other: Reading<'_>,
) -> Result<bool> {
    let common = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (mut olds, mut news) = (&old[common..], &new[common..]);
    let left = |chunks: &[ChunkRef]| chunks.iter().map(|c| u64::from(c.len())).sum::<u64>();
    if left(olds) != left(news) {
        return Ok(false);
    }
    if let (Some(a), Some(b)) = (olds.first(), news.first())
        && a.len() == b.len()
    {
        return Ok(false);
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        refill(&mut a, &mut olds, one)?;
        refill(&mut b, &mut news, other)?;
        let len = a.len().min(b.len());
        if len == 0 {
            return Ok(a.len() == b.len());
        }
        if a[..len] != b[..len] {
            return Ok(false);
        }
        a.drain(..len);
        b.drain(..len);
    }
}

fn refill(bytes: &mut Vec<u8>, chunks: &mut &[ChunkRef], side: Reading<'_>) -> Result<()> {
    if let Some((first, rest)) = chunks.split_first().filter(|_| bytes.is_empty()) {
        *bytes = fetch(side, first)?;
        *chunks = rest;
    }
    Ok(())
}

/// One chunk of an image.
pub(super) fn fetch((manifest, image): Reading<'_>, chunk: &ChunkRef) -> Result<Vec<u8>> {
    image.fetch(chunk).map_err(|e| unreadable(manifest, &e))
}

/// A whole file, or its beginning if it is longer than `most` bytes.
pub(in crate::inspect) fn read(
    side: Reading<'_>,
    chunks: &[ChunkRef],
    most: usize,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        if bytes.len() + chunk.len() as usize > most {
            break;
        }
        bytes.extend(fetch(side, chunk)?);
    }
    Ok(bytes)
}
