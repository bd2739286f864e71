//! One error type for the whole builder.
//!
//! An error is a sentence (what failed, on what), optionally the reason below
//! it, optionally a hint that says what to do. Its kind decides the exit code;
//! nothing else does. `main` shows it, and where several recipes are built, the one of each.

use std::fmt;
use std::path::Path;

pub use common::ErrorKind;

/// A failure with its reason and a hint.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// The builder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of the given kind.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// A plain failure.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, what)
    }

    /// A mistake in what the user wrote.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, what)
    }

    /// The run was ended by a signal.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Adds the reason below the sentence, with that reason's own reasons.
    #[must_use]
    ///
    /// What the store says should be done about it stands until something else is said.
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            if self.hint.is_none() {
                let store = error.downcast_ref::<store::Error>();
                self.hint = store.and_then(store::Error::own_hint).map(str::to_owned);
            }
            let text = error.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Names the file that it is about, in front of the sentence.
    #[must_use]
    pub fn about(mut self, path: &Path) -> Self {
        self.what = format!("{}: {}", path.display(), self.what);
        self
    }

    /// Adds a line of evidence below the sentence.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.causes.push(line.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The class of this failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The lines of evidence, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What to do, if something is known to help.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

/// Turns foreign errors into ours with a sentence around them.
pub trait Context<T> {
    /// Wraps the error with what was being done, e.g. `cannot write x.lock`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::failed(what()).because(&e))
    }
}
