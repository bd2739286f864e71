//! What can go wrong with a key.

use std::fmt;
use std::io;

/// A `Result` whose error is this module's.
pub type Result<T> = std::result::Result<T, Error>;

/// Which refusal or failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file of that name is there already, and keys are never overwritten.
    Exists,
    /// There is no such key file.
    Missing,
    /// Others could read or replace the file or its directory.
    Permissions,
    /// The key is encrypted with a passphrase, and there is none.
    Encrypted,
    /// The passphrase is not the one.
    Passphrase,
    /// The bytes are no ed25519 key.
    Malformed,
    /// The public key is a point of small order: anybody can sign as it.
    Weak,
    /// A signature does not verify.
    BadSignature,
    /// A signer could not sign.
    Signer,
    /// The operating system refused.
    Io,
}

/// One failure: what failed, on what, why.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

impl Error {
    /// An error of `kind` that reads as `what`. Public so that a [`Signer`]
    /// outside this crate can say why it did not sign.
    ///
    /// [`Signer`]: trait@super::Signer
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            source: None,
        }
    }

    #[cfg(feature = "put")]
    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::NotFound => ErrorKind::Missing,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            what: what.into(),
            hint: None,
            source: Some(source),
        }
    }

    #[cfg(feature = "put")]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Which refusal or failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
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
        self.source.as_ref().map(|e| e as _)
    }
}
