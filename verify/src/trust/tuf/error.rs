//! Why an environment was not followed.

use std::fmt;

use crate::error::Kind;

/// Shorthand for results of the TUF client.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The refusals and failures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not JSON, ambiguous JSON, or not the kind of file it should be.
    Malformed,
    /// Too few valid signatures, or one key id signing twice.
    Signatures,
    /// A role counts one key twice, under one id or two.
    DuplicateKey,
    /// A role asks for no signature at all.
    ZeroThreshold,
    /// A key of bad length, or one that anybody can sign with.
    BadKey,
    /// A root that is not the direct successor of the trusted one.
    RootVersion,
    /// More new roots than a client follows.
    TooManyRoots,
    /// A version below one that was trusted before.
    Rollback,
    /// A signature that has expired.
    Expired,
    /// Not the file that was vouched for: other hash, length or version.
    Mismatch,
    /// Longer than a file of its kind may be.
    TooLarge,
    /// Signed for another environment.
    Environment,
    /// The clock is behind a time that was seen before.
    Clock,
    /// There is no release of that name or number.
    NoRelease,
    /// The image was revoked.
    Revoked,
    /// The release is older than the environment allows.
    TooOld,
    /// The waves of the release have not reached this node, or it is halted.
    NotReached,
    /// A release that contradicts its own manifest, or lacks fields.
    Release,
    /// The environment does not have a file that it must have.
    Missing,
    /// The environment does not have yet what its own signed files name.
    Incomplete,
    /// The transport failed; the cause says how.
    Transport,
    /// Nothing was refreshed yet.
    NotRefreshed,
    /// There is no state here to follow an environment with.
    NotInitialised,
    /// There is other state here already.
    AlreadyInitialised,
    /// The local state is damaged.
    CorruptState,
    /// Another process uses the local state.
    Busy,
    /// The operating system refused; the cause says why.
    Io,
}

impl ErrorKind {
    /// The kind of this crate's error that a command ends with because of it.
    pub fn class(self) -> Kind {
        match self {
            Self::Busy | Self::Incomplete => Kind::Busy,
            Self::NoRelease
            | Self::Missing
            | Self::Transport
            | Self::NotRefreshed
            | Self::NotInitialised
            | Self::AlreadyInitialised
            | Self::Io => Kind::Failed,
            _ => Kind::Refused,
        }
    }
}

impl ErrorKind {
    /// Whether a broken transfer, or a cache that kept bytes for too long, can be the reason.
    pub(super) fn may_be_transient(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::Signatures
                | Self::DuplicateKey
                | Self::ZeroThreshold
                | Self::BadKey
                | Self::RootVersion
                | Self::Rollback
                | Self::Expired
                | Self::Mismatch
                | Self::TooLarge
                | Self::Environment
                | Self::Release
        )
    }
}

/// One refusal or failure: what, on which file, why, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            source: None,
        }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The refusal or failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The kind of this crate's error that a command ends with because of it.
    pub fn class(&self) -> Kind {
        self.kind.class()
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as _)
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        Self::new(error.class(), error.to_string()).sources_of(&error, error.hint())
    }
}
