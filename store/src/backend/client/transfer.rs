//! What is asked for, what takes it, and how far that is.

use std::ops::Range;

use super::content_range::Part;
use super::error::RequestError;
use crate::backend::OBJECT_MAX;
use crate::error::{Error, Result};

/// The longest object that is taken whole because its server knows no ranges.
pub(crate) const WHOLE_MAX: u64 = OBJECT_MAX;

/// A range that is asked for.
pub(crate) struct RangeRequest<'a> {
    pub(crate) key: &'a str,
    pub(crate) range: Range<u64>,
    /// The longest object that is taken in place of the range.
    pub(crate) limit: u64,
    pub(crate) caution: Caution,
}

/// How an object is asked for that came wrong before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caution {
    /// It did not.
    #[default]
    None,
    /// No cache on the way may answer.
    Fresh,
    /// Nor cut a range out of it: all of it is taken.
    Whole,
}

impl<'a> RangeRequest<'a> {
    pub(crate) fn new(key: &'a str, range: Range<u64>, caution: Caution) -> Self {
        Self {
            key,
            range,
            limit: WHOLE_MAX,
            caution,
        }
    }
}

/// What takes the bytes of a range.
pub(crate) trait RangeReceiver {
    /// The server sends the whole object, from its first byte.
    fn whole(&mut self) -> Result<()>;

    /// The bytes from `at` on. They may come a second time.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;
}

/// The error for an object that ends before a range does.
pub(crate) fn too_short(key: &str, store: &str, size: u64, range: &Range<u64>) -> Error {
    let len = range.end - range.start;
    Error::corrupt(
        format_args!("{key} in {store}"),
        format_args!(
            "it has {size} bytes, but {len} from byte {} are needed",
            range.start
        ),
    )
}

/// Takes a whole object.
#[derive(Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl RangeReceiver for Bytes {
    fn whole(&mut self) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.0.truncate(at as usize);
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What is being fetched, and how far.
pub(super) struct Transfer<'a> {
    pub(super) key: &'a str,
    /// `None` for a whole object.
    pub(super) range: Option<Range<u64>>,
    /// The longest object that is taken as a whole.
    pub(super) limit: u64,
    pub(super) caution: Caution,
    /// The next byte that is needed.
    pub(super) at: u64,
    /// What the object that is being fetched is known by (RFC 9110, 8.8).
    pub(super) validator: Option<String>,
}

impl Transfer<'_> {
    /// The first byte that is wanted at all.
    pub(super) fn start(&self) -> u64 {
        self.range.as_ref().map_or(0, |range| range.start)
    }

    /// Whether what a cache has may answer.
    pub(super) fn may_be_old(&self) -> bool {
        self.caution == Caution::None && never_changes(self.key)
    }

    /// Whether bytes of the range are missing.
    pub(super) fn is_short(&self) -> bool {
        self.range.as_ref().is_some_and(|range| self.at < range.end)
    }

    /// The fault of a range that is not the one that was asked for: the whole object may be right.
    pub(super) fn odd_range(&mut self, why: &str) -> RequestError {
        if self.range.is_none() || self.caution == Caution::Whole {
            return RequestError::permanent(why);
        }
        self.caution = Caution::Whole;
        RequestError::transient(why)
    }

    /// Refuses a part that is not the one that was asked for.
    pub(super) fn check(&mut self, part: &Part, store: &str) -> Result<(), RequestError> {
        if part.range.start != self.at || part.range.is_empty() {
            return Err(self.odd_range("the server sends other bytes than were asked for"));
        }
        if let Some(range) = &self.range {
            if let Some(size) = part.size.filter(|size| *size < range.end) {
                let short = too_short(self.key, store, size, range);
                return Err(RequestError::Content(short));
            }
            if part.range.end > range.end {
                return Err(self.odd_range("the server sends more than it was asked for"));
            }
        } else if part.size.is_none_or(|size| size > self.limit) || part.range.end > self.limit {
            let why = format_args!("it has more bytes than the {} that it may have", self.limit);
            let error = Error::corrupt(format_args!("{} in {store}", self.key), why);
            return Err(RequestError::Content(error));
        }
        Ok(())
    }
}

/// Whether an object has the same bytes for as long as it is there, and is asked for because another one
/// names it: those that are called by their digest, and numbered ones. Whether there is a further root
/// is asked before there is one, so that a cache must not say no in its place.
fn never_changes(key: &str) -> bool {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let top = folder.split('/').next().unwrap_or_default();
    match top {
        "packs" | "inputs" => true,
        "attestations" => folder != top,
        "deltas" => folder == top,
        "env" if folder.ends_with("/metadata") => {
            name.starts_with(|first: char| first.is_ascii_digit()) && !name.ends_with(".root.json")
        }
        "env" => folder.contains("/targets/") || folder.ends_with("/log"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::never_changes;

    #[test]
    fn what_is_named_by_content_or_number_may_come_from_a_cache() {
        for key in [
            "packs/00ff.pack",
            "packs/00ff.index",
            "inputs/sha256/00ff",
            "attestations/00ff/11ee.json",
            "deltas/00ff.delta",
            "env/prod/metadata/12.targets.json",
            "env/prod/metadata/13.snapshot.json",
            "env/prod/targets/web/00ff.3.json",
            "env/prod/log/3.json",
        ] {
            assert!(never_changes(key), "{key}");
        }
        for key in [
            "imgbuild-store",
            "catalogue.json",
            "hints/00ff.json",
            "images/00ff.json",
            "inventory/00ff.json",
            "logs/00ff.json.zst",
            "pins/00ff.json",
            "attestations/00ff.json",
            "deltas/00ff/11ee.json",
            "env/prod/metadata/timestamp.json",
            "env/prod/metadata/2.root.json",
            "env/prod/history.json",
            "env/prod/witness/00ff.json",
            "receipts/web01/000000000001.json",
        ] {
            assert!(!never_changes(key), "{key}");
        }
    }
}
