//! The log: what was done to an environment, one file for each act.
//!
//! Each entry names the digest of the one before it, and the targets metadata names
//! the last: who signs a release signs all of the history with it. So nobody can
//! change, drop or insert an entry later without a targets key. The page of the
//! format is [`crate::format::environment`].

use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorKind, Result};
use super::lifetimes::Expires;
use super::waves::{MAX_REASON, Waves};
use super::{MetadataStore, paths};
use crate::digest::{ImageId, Sha256};
use crate::name::{EnvName, ImageName};

/// The version of the format.
const SCHEMA: u32 = 1;

/// The longest entry that is read.
const MAX_ENTRY: u64 = 64 << 10;

/// Where the log ends, as targets metadata says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogHead {
    /// How many entries there are.
    pub(super) length: u64,
    /// The digest of the last.
    pub(super) sha256: Sha256,
}

/// An action that the log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// An image was released that was built or imported here.
    Release,
    /// An image was released that another environment had.
    Promote,
    /// An image must no longer run.
    Revoke,
    /// Releases below a number must no longer run.
    MinSeq,
    /// The waves of a release went on by one stage.
    Widen,
    /// A release reaches nobody any more who does not have it.
    Halt,
    /// The halt of a release is over.
    Resume,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    schema: u32,
    /// 1, 2, 3, ...
    pub number: u64,
    /// The digest of the entry before; none before the first.
    pub previous: Option<Sha256>,
    /// When it was drafted, by the clock of whoever did so.
    pub time: Time,
    /// What was done.
    pub act: Action,
    /// The image's name.
    pub name: ImageName,
    /// The image.
    pub image: ImageId,
    /// The number of the release that was made or revoked; of `min-seq`, of the newest.
    pub seq: u64,
    /// The version of the targets metadata that says so: whoever signed that signed
    /// this.
    pub targets: u64,
    /// Where the image came from: an environment and the number of its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PromotedFrom>,
    /// The oldest release that nodes may go back to, where that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_seq: Option<u64>,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The waves of the release from then on, where it has some and they began or changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
}

/// A release of another environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotedFrom {
    /// The environment.
    pub env: EnvName,
    /// The number of the release there.
    pub seq: u64,
}

impl LogEntry {
    pub(super) fn new(act: Action, name: ImageName, image: ImageId, seq: u64, time: Time) -> Self {
        Self {
            schema: SCHEMA,
            number: 0,
            previous: None,
            // Whole seconds, as in metadata.
            time: Expires::at(time).time(),
            act,
            name,
            image,
            seq,
            targets: 0,
            from: None,
            min_seq: None,
            reason: None,
            waves: None,
        }
    }

    /// Puts the entry at the end of a log; returns its text and the new end.
    pub(super) fn chain(mut self, end: Option<LogHead>, targets: u64) -> Result<(String, LogHead)> {
        self.number = end.map_or(0, |end| end.length) + 1;
        self.previous = end.map(|end| end.sha256);
        self.targets = targets;
        let mut text = serde_json::to_string_pretty(&self).map_err(|e| {
            Error::new(
                ErrorKind::Malformed,
                format!("cannot write a log entry: {e}"),
            )
        })?;
        text.push('\n');
        let head = LogHead {
            length: self.number,
            sha256: Sha256::of(text.as_bytes()),
        };
        Ok((text, head))
    }

    /// Whether a text is what is written of it, and of a length that is read.
    pub(super) fn is_written_as(&self, text: &str) -> bool {
        let reason = self.reason.as_ref().map_or(0, String::len);
        serde_json::to_string_pretty(self).is_ok_and(|mut own| {
            own.push('\n');
            own == text && own.len() as u64 <= MAX_ENTRY && reason <= MAX_REASON
        })
    }

    /// Reads an entry that should be at a place of a log.
    pub(super) fn read(text: &[u8], head: LogHead) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            let text = format!("entry {} of the log cannot be believed: {why}", head.length);
            Error::new(ErrorKind::Untrusted, text)
                .with_hint("somebody changed the store: compare it with another copy")
        };
        if Sha256::of(text) != head.sha256 {
            return Err(wrong(&"its digest is not the one that was signed for"));
        }
        let entry: Self = serde_json::from_slice(text).map_err(|e| wrong(&e))?;
        if entry.schema != SCHEMA || entry.number != head.length {
            return Err(wrong(&"it has another schema or number"));
        }
        if (entry.number == 1) != entry.previous.is_none() {
            return Err(wrong(&"it does not say what is before it"));
        }
        Ok(entry)
    }
}

/// The entries of a log, the newest first, at most `most`; each compared with what
/// was signed for.
pub(super) fn read(
    store: &dyn MetadataStore,
    env: &EnvName,
    end: Option<LogHead>,
    most: usize,
) -> Result<Vec<LogEntry>> {
    let mut entries = Vec::new();
    let mut next = end;
    while let Some(head) = next.filter(|_| entries.len() < most) {
        let what = || format!("cannot read entry {} of the log of {env}", head.length);
        let text = store
            .read(&paths::log(env, head.length), MAX_ENTRY)
            .map_err(|e| Error::store(what(), e))?;
        let text = text.ok_or_else(|| {
            Error::new(ErrorKind::Malformed, format!("{}: it is missing", what()))
        })?;
        let entry = LogEntry::read(&text, head)?;
        next = entry.previous.map(|sha256| LogHead {
            length: head.length - 1,
            sha256,
        });
        entries.push(entry);
    }
    Ok(entries)
}
