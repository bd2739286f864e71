//! What can go wrong on a node, as sentences for the operator.
//!
//! One type for the whole crate: a [`Kind`] that decides the exit code, one sentence that says what
//! failed on what, the causes below it in falling order of generality, and, where there is one, the
//! thing to do. Only the command line prints it; everything else passes it up and may add a
//! sentence on the way with [`Context`]. What a store reports is mapped here, what the TUF client
//! reports in [`trust::tuf`](crate::trust::tuf), and nowhere else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

pub use common::ErrorKind as Kind;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with its causes and, where there is one, what to do about it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Error {
    /// An error of `kind`; `what` says what failed on what.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// An error of [`Kind::Failed`]: something on this machine did not work.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// An error of [`Kind::Usage`]: the request itself is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// An error of [`Kind::Refused`]: verification failed, or a rule of this node forbids it.
    pub fn refused(what: impl Into<String>) -> Self {
        Self::new(Kind::Refused, what)
    }

    /// Adds what lies behind this error.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and everything it names as its source.
    #[must_use]
    pub fn source(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let line = error.to_string();
            // Many error types repeat their source in their own sentence.
            if !self.causes.iter().any(|said| said.ends_with(&line)) {
                self.causes.push(line);
            }
            next = error.source();
        }
        self
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a more general sentence above this error, which becomes its first cause.
    #[must_use]
    pub fn under(mut self, what: impl Into<String>) -> Self {
        let old = std::mem::replace(&mut self.what, what.into());
        self.causes.insert(0, old);
        self
    }

    /// The reason, which decides the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence without causes.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The causes, general ones first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What the operator can do, if that is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code of a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    /// Adds the sources of `error` as causes, each as it is, and `hint` if there is one.
    #[must_use]
    pub(crate) fn sources_of(mut self, error: &dyn std::error::Error, hint: Option<&str>) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            self = self.cause(cause.to_string());
            next = cause.source();
        }
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

/// What to do when a store lacks what was signed.
pub(crate) const INCOMPLETE: &str = "the store is incomplete, as a mirror is while it is brought \
    up to date: try again later; if it stays so, `imgbuild store fsck` there says what is lost";

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        use store::ErrorKind as E;
        let kind = match error.kind() {
            // A store that garbles what was signed is not to be believed.
            E::Corrupt | E::NotCanonical | E::Foreign => Kind::Refused,
            // Signed, and not there: as of a mirror that is being brought up to date.
            E::Missing | E::Busy => Kind::Busy,
            E::Invalid | E::Ambiguous => Kind::Usage,
            _ => Kind::Failed,
        };
        // Its general hints are for those who write stores.
        let general = match error.kind() {
            E::Missing => Some(INCOMPLETE),
            _ => (kind == Kind::Refused).then_some("the store is damaged; nothing of it was used"),
        };
        let hint = error.own_hint().or(general);
        Self::new(kind, error.to_string()).sources_of(&error, hint)
    }
}

/// Ends an operation with [`Kind::Interrupted`] when `cancel` is set.
pub fn check_cancelled(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::new(Kind::Interrupted, "interrupted"));
    }
    Ok(())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds the sentence that only the caller knows to an error from below.
pub trait Context<T> {
    /// Puts "what failed on what" above the error, which becomes its cause.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(
            |error| match (&error as &dyn std::any::Any).downcast_ref::<Error>() {
                Some(own) => Error {
                    kind: own.kind,
                    what: own.what.clone(),
                    causes: own.causes.clone(),
                    hint: own.hint.clone(),
                }
                .under(what()),
                None => Error::failed(what()).source(&error),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_kind_and_hint_of_our_own_errors() {
        let below: Result<()> = Err(Error::refused("the digest differs").hint("fetch again"));
        let error = below.context(|| "cannot install web").unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert_eq!(error.advice(), Some("fetch again"));
        assert_eq!(error.to_string(), "cannot install web: the digest differs");
    }

    #[test]
    fn foreign_errors_are_failures_with_their_sources() {
        let below: std::io::Result<()> = Err(std::io::Error::other("disk on fire"));
        let error = below.context(|| "cannot write /x").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "cannot write /x: disk on fire");
    }
}
