//! The receipts of one node, from where they were read last.
//!
//! The first look takes the newest ones and asks nothing about those before. From then on each
//! receipt has to follow the one before: its counter is the next, and it names the other's digest.

use std::fmt;

use serde::{Deserialize, Serialize};
use store::Sha256;
use store::fleet::Node;
use store::name::NodeName;
use store::receipt::{self, FOLDER, MAX_BYTES, Receipt, SignedReceipt};

use super::Place;
use crate::error::Result;
use crate::stores;

/// How many receipts of a node the first look takes.
const FIRST_LOOK: usize = 32;

/// The most receipts of a node that one look takes.
const MOST: usize = 5000;

/// How many counters without a receipt are passed over, where nothing lists them.
const AHEAD: u64 = 8;

/// What is known of a node's receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The key that they were verified with, in hexadecimal.
    key: String,
    /// The newest.
    pub newest: Option<Newest>,
    /// What is wrong with them.
    pub faults: Vec<Fault>,
}

/// The newest receipt of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// What it says.
    pub receipt: Receipt,
    /// Its digest.
    pub sha256: Sha256,
    /// When it was written where it lies, in seconds since 1970, if that is said there.
    pub modified: Option<u64>,
}

/// What is wrong with receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Receipts are missing that no later one says were dropped.
    Gap {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Receipts that were read before are not there any more, and they were the newest.
    Gone {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Two receipts with one counter: somebody else has the key.
    Twice {
        /// The counter.
        counter: u64,
    },
    /// A receipt that was written under another counter.
    Replayed {
        /// The counter under which it lies.
        counter: u64,
        /// Its own.
        of: u64,
    },
    /// A receipt that names another one before it than is there.
    Chain {
        /// Its counter.
        counter: u64,
    },
    /// A signature that is not by the key of the node.
    Signature {
        /// The counter under which it lies.
        counter: u64,
    },
    /// No receipt at all.
    Unreadable {
        /// The counter under which it lies.
        counter: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Signed by this node, under another name.
    Renamed {
        /// Its counter.
        counter: u64,
        /// The name.
        node: NodeName,
    },
}

impl Fault {
    /// The last counter that it is about.
    fn counter(&self) -> u64 {
        match self {
            Self::Gap { last, .. } | Self::Gone { last, .. } => *last,
            Self::Twice { counter }
            | Self::Replayed { counter, .. }
            | Self::Chain { counter }
            | Self::Signature { counter }
            | Self::Unreadable { counter, .. }
            | Self::Renamed { counter, .. } => *counter,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |first: &u64, last: &u64| {
            if first == last {
                format!("receipt {first} is")
            } else {
                format!("receipts {first} to {last} are")
            }
        };
        match self {
            Self::Gap { first, last } => write!(f, "{} missing", range(first, last)),
            Self::Gone { first, last } => {
                write!(f, "{} gone, and had been there", range(first, last))
            }
            Self::Twice { counter } => write!(
                f,
                "there are two receipts {counter}: another machine has its key"
            ),
            Self::Replayed { counter, of } => {
                write!(
                    f,
                    "what lies as receipt {counter} is receipt {of} once more"
                )
            }
            Self::Chain { counter } => write!(
                f,
                "receipt {counter} follows another one than is there: another machine has its key, \
                 or its state was put back"
            ),
            Self::Signature { counter } => {
                write!(f, "receipt {counter} is not signed with its key")
            }
            Self::Unreadable { counter, why } => write!(f, "receipt {counter}: {why}"),
            Self::Renamed { counter, node } => {
                write!(f, "receipt {counter} says that it is {node}")
            }
        }
    }
}

/// Reads what is new of a node. `kept` is where its receipts begin, for places that list nothing.
pub fn look(
    place: &Place,
    node: &Node,
    before: Option<&Seen>,
    kept: u64,
    is_fresh: impl Fn(&Newest) -> bool,
) -> Result<Seen> {
    let what = || format!("cannot read the receipts of {} in {}", node.name, place.url);
    let key = node.key().hex();
    // A node that got another key begins anew.
    let before = before.filter(|seen| seen.key == key).cloned();
    let mut reader = Reader {
        place,
        node,
        seen: before.unwrap_or(Seen {
            key,
            newest: None,
            faults: Vec::new(),
        }),
        dropped: Vec::new(),
    };
    let folder = format!("{FOLDER}/{}", node.name);
    let listed = place.folder.list(&folder);
    match listed.map_err(|e| stores::failed(what(), &e))? {
        Some(listed) => {
            let objects = listed.into_iter().filter_map(|one| {
                let counter = receipt::counter(&one.name)?;
                Some((counter, one.name, one.modified))
            });
            reader.listed(objects.collect())
        }
        None => reader.asked(kept, is_fresh),
    }
    .map_err(|e| stores::failed(what(), &e))?;
    Ok(reader.finish())
}

struct Reader<'a> {
    place: &'a Place,
    node: &'a Node,
    seen: Seen,
    /// What the receipts that were read now say was dropped.
    dropped: Vec<(u64, u64)>,
}

impl Reader<'_> {
    fn last(&self) -> u64 {
        let newest = self.seen.newest.as_ref();
        newest.map_or(0, |newest| newest.receipt.counter)
    }

    /// Reads what a list has and is new.
    fn listed(&mut self, objects: Vec<(u64, String, Option<u64>)>) -> store::Result<()> {
        let first = objects.iter().map(|one| one.0).min();
        let last = objects.iter().map(|one| one.0).max().unwrap_or(0);
        let seen = self.last();
        // What was wrong before what is kept is over; what is gone is seen anew.
        self.seen.faults.retain(|fault| {
            !matches!(fault, Fault::Gone { .. })
                && first.is_some_and(|first| fault.counter() >= first)
        });
        if last < seen {
            self.fault(Fault::Gone {
                first: last + 1,
                last: seen,
            });
        }
        let is_new = |(counter, name, _): &(u64, String, Option<u64>)| {
            let second = name.len() > "000000000000.json".len();
            let in_gap = || {
                let mut gaps = self.seen.faults.iter();
                gaps.any(|fault| matches!(fault, Fault::Gap { first, last } if (first..=last).contains(&counter)))
            };
            let known = self
                .seen
                .faults
                .contains(&Fault::Twice { counter: *counter });
            *counter > seen || (second && !known) || in_gap()
        };
        let mut new: Vec<_> = objects.into_iter().filter(is_new).collect();
        // The second name of a counter comes after the first.
        new.sort_unstable_by(|a, b| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
        let most = if seen == 0 { FIRST_LOOK } else { MOST };
        let skipped = new.len().saturating_sub(most);
        for (counter, name, modified) in new.into_iter().skip(skipped) {
            let object = format!("{FOLDER}/{}/{name}", self.node.name);
            match self.place.folder.get(&object, MAX_BYTES) {
                Ok(Some(bytes)) => self.take(counter, modified, &bytes)?,
                // Somebody removes old ones.
                Ok(None) => {}
                Err(e) if e.kind() == store::ErrorKind::Corrupt => self.fault(Fault::Unreadable {
                    counter,
                    why: e.to_string(),
                }),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Asks for one counter after the other, where nothing lists them.
    fn asked(&mut self, kept: u64, is_fresh: impl Fn(&Newest) -> bool) -> store::Result<()> {
        let mut next = (self.last() + 1).max(kept);
        let (mut missed, mut taken) = (0, 0);
        while taken < MOST {
            match self
                .place
                .folder
                .get(&receipt::key(&self.node.name, next), MAX_BYTES)?
            {
                Some(bytes) => {
                    self.take(next, None, &bytes)?;
                    missed = 0;
                    taken += 1;
                }
                None => missed += 1,
            }
            // A node that is heard of has its newest receipt here.
            let fresh = self.seen.newest.as_ref().is_some_and(&is_fresh);
            if missed > AHEAD || (missed > 0 && fresh) {
                break;
            }
            next += 1;
        }
        Ok(())
    }

    fn take(&mut self, counter: u64, modified: Option<u64>, bytes: &[u8]) -> store::Result<()> {
        let read = match SignedReceipt::read(bytes) {
            Ok(read) => read,
            Err(e) => {
                let why = e.to_string();
                self.fault(Fault::Unreadable { counter, why });
                return Ok(());
            }
        };
        let said = &read.receipt;
        if !read.is_by(&self.node.key()) {
            self.fault(Fault::Signature { counter });
        } else if said.counter != counter {
            let of = said.counter;
            self.fault(Fault::Replayed { counter, of });
        } else if said.node != self.node.name {
            let node = said.node.clone();
            self.fault(Fault::Renamed { counter, node });
        } else if counter <= self.last() {
            self.late(counter, &read)?;
        } else {
            self.follow(read, modified);
        }
        Ok(())
    }

    /// A receipt that is not newer than the newest.
    fn late(&mut self, counter: u64, read: &SignedReceipt) -> store::Result<()> {
        let gaps = |fault: &Fault| matches!(fault, Fault::Gap { first, last } if (first..=last).contains(&&counter));
        if self.seen.faults.iter().any(gaps) {
            // It came later than those after it.
            subtract(&mut self.seen.faults, &[(counter, counter)]);
            self.dropped.extend(&read.receipt.dropped);
            return Ok(());
        }
        let newest = self.seen.newest.as_ref();
        let same = newest.filter(|newest| newest.receipt.counter == counter);
        let other = if let Some(newest) = same {
            newest.sha256 != read.sha256
        } else {
            let first = receipt::key(&self.node.name, counter);
            let there = self.place.folder.get(&first, MAX_BYTES)?;
            there.is_none_or(|there| Sha256::of(&there) != read.sha256)
        };
        if other {
            self.fault(Fault::Twice { counter });
        }
        Ok(())
    }

    /// A receipt that is newer than the newest.
    fn follow(&mut self, read: SignedReceipt, modified: Option<u64>) {
        let counter = read.receipt.counter;
        if let Some(before) = &self.seen.newest {
            let last = before.receipt.counter;
            if counter > last + 1 {
                self.fault(Fault::Gap {
                    first: last + 1,
                    last: counter - 1,
                });
            } else if read.receipt.previous != Some(before.sha256) {
                self.fault(Fault::Chain { counter });
            }
        }
        self.dropped.extend(&read.receipt.dropped);
        self.seen.newest = Some(Newest {
            sha256: read.sha256,
            receipt: read.receipt,
            modified,
        });
    }

    fn fault(&mut self, fault: Fault) {
        if !self.seen.faults.contains(&fault) {
            self.seen.faults.push(fault);
        }
    }

    fn finish(mut self) -> Seen {
        subtract(&mut self.seen.faults, &self.dropped);
        self.seen
    }
}

/// Takes counters out of what is missing.
fn subtract(faults: &mut Vec<Fault>, there: &[(u64, u64)]) {
    let mut left = Vec::new();
    for fault in faults.drain(..) {
        let Fault::Gap { first, last } = fault else {
            left.push(fault);
            continue;
        };
        let mut pieces = vec![(first, last)];
        for (from, to) in there {
            let cut = |(first, last): (u64, u64)| {
                let before = (first, last.min(from.saturating_sub(1)));
                let after = (first.max(to + 1), last);
                let pieces = [before, after].into_iter();
                let whole = (*to < first || *from > last).then_some((first, last));
                match whole {
                    Some(whole) => vec![whole],
                    None => pieces.filter(|(a, b)| a <= b).collect(),
                }
            };
            pieces = pieces.into_iter().flat_map(cut).collect();
        }
        let gaps = pieces.into_iter();
        left.extend(gaps.map(|(first, last)| Fault::Gap { first, last }));
    }
    *faults = left;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_not_missing() {
        let gap = |first, last| Fault::Gap { first, last };
        for (there, left) in [
            (&[(1, 4), (21, 30)][..], vec![gap(5, 20)]),
            (&[(5, 20)], vec![]),
            (&[(1, 30)], vec![]),
            (&[(5, 5), (20, 20)], vec![gap(6, 19)]),
            (&[(7, 8), (10, 10)], vec![gap(5, 6), gap(9, 9), gap(11, 20)]),
            (&[(20, 25), (1, 5)], vec![gap(6, 19)]),
        ] {
            let mut faults = vec![gap(5, 20)];
            subtract(&mut faults, there);
            assert_eq!(faults, left, "{there:?}");
        }
    }
}
