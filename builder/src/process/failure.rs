//! Why a program did not succeed.

use std::process::ExitStatus;

use crate::error::Error;

/// Why a tool did not succeed; becomes an [`Error`] with [`ToolFailure::into_error`].
#[derive(Debug)]
pub struct ToolFailure {
    pub(super) what: String,
    pub(super) ended: bool,
    pub(super) code: Option<i32>,
    pub(super) tail: Vec<String>,
}

impl ToolFailure {
    /// The program's exit code, when it ended by itself.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// What became of the program.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether we ended it: its time was over, or what it downloads stood still.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The last lines of output.
    pub fn tail(&self) -> &[String] {
        &self.tail
    }

    /// An error with the last lines as evidence.
    pub fn into_error(self) -> Error {
        let mut error = Error::failed(self.what);
        for line in self.tail {
            error = error.detail(line);
        }
        error
    }
}

impl From<ToolFailure> for Error {
    fn from(failure: ToolFailure) -> Self {
        failure.into_error()
    }
}

/// How a program ended, in words.
pub(super) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".into(),
    }
}
