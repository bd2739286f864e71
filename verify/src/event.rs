//! What an operation says while it works.
//!
//! The library does not print. It tells an [`Observer`] what it does; the command line turns that
//! into lines on stderr.

/// One thing worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A phase begins.
    Phase(&'a str),
    /// A phase moved on: bytes done, bytes in total.
    Progress {
        /// Bytes done so far.
        done: u64,
        /// Bytes there are.
        total: u64,
    },
    /// A command of the host is run: its words.
    Command(&'a [String]),
    /// Something the operator should know although the operation goes on.
    Note(&'a str),
}

/// Somebody who listens.
pub trait Observer: Sync {
    /// Called for each event, in order, from the operating thread.
    fn event(&self, event: Event<'_>);
}

/// Nobody listens.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}
