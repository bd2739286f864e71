//! What an operation says while it works.
//!
//! The library does not print. It tells an [`Observer`] what it does; the command line turns that
//! into lines on stderr.

/// Something that an operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The beginning of a phase, in words.
    Phase(&'a str),
    /// The progress of a phase.
    Progress {
        /// Bytes done so far.
        done: u64,
        /// Bytes in total.
        total: u64,
    },
    /// The words of a command of the host that is run.
    Command(&'a [String]),
    /// Something the operator should know although the operation goes on.
    Note(&'a str),
}

/// A receiver of events.
pub trait Observer: Sync {
    /// Receives each event, in order, from the operating thread.
    fn event(&self, event: Event<'_>);
}

/// A receiver that drops all events.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}
