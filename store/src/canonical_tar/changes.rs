//! What an import changed or left out, counted, with the first few paths.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::display::display;

/// Paths that are kept of each kind of change. The counts are always complete.
const EXAMPLES: usize = 20;

/// One way in which an image is not what came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Change {
    /// A block or character device was left out.
    Device,
    /// A FIFO was left out.
    Fifo,
    /// A socket was left out.
    Socket,
    /// Of two entries of one name the later one was taken.
    Duplicate,
    /// A directory that things are in was not in the archive and was added.
    MissingDirectory,
    /// A name that began with a slash was taken below the root.
    AbsoluteName,
    /// An extended attribute was left out: one that the machine that made the
    /// archive had set by itself, or that no tar can carry.
    Xattr,
    /// An access control list in the text form of tar was left out.
    Acl,
    /// A fraction of a second was cut off.
    SubSecond,
    /// A time later than the epoch that was asked for became the epoch.
    LaterThanEpoch,
    /// A time before 1970 became 1970.
    Before1970,
    /// The archive's label, or what follows its end, was left out.
    NotContent,
}

impl Change {
    /// What happened, for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Device => "devices left out",
            Self::Fifo => "FIFOs left out",
            Self::Socket => "sockets left out",
            Self::Duplicate => "names that came more than once; the last one counts",
            Self::MissingDirectory => "directories that were missing, added as 0755 of root",
            Self::AbsoluteName => "names that began with a slash, taken below the root",
            Self::Xattr => "extended attributes left out",
            Self::Acl => "access control lists in text form left out",
            Self::SubSecond => "times cut to whole seconds",
            Self::LaterThanEpoch => "times later than SOURCE_DATE_EPOCH, set to it",
            Self::Before1970 => "times before 1970, set to 1970",
            Self::NotContent => "labels and bytes behind the end of the archive left out",
        }
    }
}

/// How often a change happened, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeExamples {
    /// How often.
    pub count: u64,
    /// The first paths, as [`display`] writes them.
    pub paths: Vec<String>,
}

/// All that an import changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes {
    found: BTreeMap<Change, ChangeExamples>,
}

impl Changes {
    /// Counts one.
    pub(crate) fn add(&mut self, change: Change, path: &[u8]) {
        let found = self.found.entry(change).or_default();
        found.count += 1;
        if found.paths.len() < EXAMPLES {
            let root = path.is_empty();
            let shown = if root { "./".to_owned() } else { display(path) };
            found.paths.push(shown);
        }
    }

    /// The time as an image has it, in seconds since 1970, and what that changed.
    pub(crate) fn time(
        &mut self,
        (seconds, fraction): (i64, bool),
        epoch: Option<u64>,
        path: &[u8],
    ) -> u64 {
        if fraction {
            self.add(Change::SubSecond, path);
        }
        let time = u64::try_from(seconds).unwrap_or_else(|_| {
            self.add(Change::Before1970, path);
            0
        });
        match epoch {
            Some(epoch) if time > epoch => {
                self.add(Change::LaterThanEpoch, path);
                epoch
            }
            _ => time,
        }
    }

    /// Each kind that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Change, &ChangeExamples)> {
        self.found.iter().map(|(change, found)| (*change, found))
    }

    /// How often something happened.
    pub fn count(&self, change: Change) -> u64 {
        self.found.get(&change).map_or(0, |found| found.count)
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}
