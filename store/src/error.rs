//! What can go wrong with a store, as one sentence and one kind.
//!
//! The sentence is for a person: what failed, on what, why. The kind is for the
//! program: a command maps it to an exit code and a hint without reading the
//! sentence.

use std::fmt;
use std::io;
use std::path::Path;

/// The result of anything that touches a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or the transport refused.
    Io,
    /// The file system is full, or a quota is used up.
    Full,
    /// The server does not let us read an object, or does not say that it has none.
    Forbidden,
    /// The store may be read but not written by this process.
    ReadOnly,
    /// Another process holds the lock; trying later helps.
    Busy,
    /// Not a store, or a store of another format version.
    Foreign,
    /// Something that the store should hold is not there.
    Missing,
    /// Bytes are not what their name, digest or format says.
    Corrupt,
    /// A tree or tar is outside the canonical profile.
    NotCanonical,
    /// The tree changed while it was read.
    Changed,
    /// A name or prefix fits more than one image.
    Ambiguous,
    /// The caller asked for something that cannot be.
    Invalid,
}

/// A failed store operation.
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Gives the error advice of its own, instead of what is true in general.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// `could not VERB PATH`, with the kind that the system's error implies.
    pub fn io(verb: &str, path: impl AsRef<Path>, source: io::Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::ReadOnlyFilesystem | Io::PermissionDenied => ErrorKind::ReadOnly,
            Io::WouldBlock => ErrorKind::Busy,
            _ => ErrorKind::Io,
        };
        Self::new(
            kind,
            format!("could not {verb} {}", path.as_ref().display()),
        )
        .with_source(source)
    }

    /// `WHAT is damaged: WHY`.
    pub fn corrupt(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{what} is damaged: {why}"))
    }

    /// `WHAT is missing from WHERE`.
    pub fn missing(what: impl fmt::Display, place: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Missing,
            format!("{what} is missing from {place}"),
        )
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What a person can do about it, if this error knows more than its kind.
    pub fn own_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What a person can do about it, where there is something to say.
    pub fn hint(&self) -> Option<&str> {
        if self.hint.is_some() {
            return self.own_hint();
        }
        match self.kind {
            ErrorKind::Full => {
                Some("free some space and run the command again; nothing was published")
            }
            ErrorKind::ReadOnly => {
                Some("run as the store's owner, or name another store with --store")
            }
            ErrorKind::Busy => {
                Some("another command is working on this store; try again when it is done")
            }
            ErrorKind::Foreign => Some("name a directory that is empty or already a store"),
            ErrorKind::Missing | ErrorKind::Corrupt => {
                Some("`imgbuild store fsck` says which images are hurt and what can be restored")
            }
            ErrorKind::Changed => Some("stop whatever writes to the tree and build again"),
            ErrorKind::Ambiguous => Some("give more digits of the digest"),
            ErrorKind::Io | ErrorKind::Forbidden | ErrorKind::NotCanonical | ErrorKind::Invalid => {
                None
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_keep_their_meaning() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::io("write", "/store/tmp/x", full);
        assert_eq!(error.kind(), ErrorKind::Full);
        assert_eq!(error.to_string(), "could not write /store/tmp/x");
        assert!(error.hint().is_some());
        assert!(std::error::Error::source(&error).is_some());
    }
}
