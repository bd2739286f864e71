//! What can go wrong while an environment is written.

use std::fmt;

use crate::keys;

/// A `Result` whose error is this module's.
pub type Result<T> = std::result::Result<T, Error>;

/// Which refusal or failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is an environment of that name already.
    Exists,
    /// There is no such environment.
    Missing,
    /// A metadata file is not what it must be: not JSON, a wrong type, a
    /// version that its name or its parent does not say.
    Malformed,
    /// A metadata file in the store is not signed by the keys that count.
    Untrusted,
    /// A key in hand does not belong to the role it is wanted for.
    WrongKey,
    /// A proposed change does not follow on the environment as it stands.
    Stale,
    /// The role needs more signatures than this call can give.
    Threshold,
    /// A key could not be used; the cause says why.
    Key,
    /// The store could not be read or written; the cause says why.
    Store,
    /// A time or a number is out of its range.
    Range,
    /// This machine's clock stands before the last signature.
    Clock,
}

/// One failure: what failed, on what, why.
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

    pub(super) fn store(what: impl Into<String>, source: crate::Error) -> Self {
        Self {
            source: Some(Box::new(source)),
            ..Self::new(ErrorKind::Store, what)
        }
    }

    /// Which refusal or failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| {
            let source = self.source.as_deref()?;
            let store = source
                .downcast_ref::<crate::Error>()
                .and_then(crate::Error::hint);
            store.or_else(|| source.downcast_ref::<keys::Error>()?.hint())
        })
    }
}

impl From<keys::Error> for Error {
    fn from(source: keys::Error) -> Self {
        let what = "a key of the environment cannot be used";
        Self {
            source: Some(Box::new(source)),
            ..Self::new(ErrorKind::Key, what)
        }
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
