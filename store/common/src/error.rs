//! Kinds of failure.

/// Why a command ended; each kind has one exit code, which depends on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something did not work: exit code 1.
    Failed,
    /// The command line or a file that a person wrote is wrong: exit code 2.
    Usage,
    /// Bytes, signatures or files are not what was signed, or policy forbids it: exit code 3.
    Refused,
    /// The command did what it should, and found what it was to look for: exit code 4.
    Found,
    /// Somebody else holds what is needed; later it may work: exit code 75.
    Busy,
    /// A signal ended the command: exit code 130.
    Interrupted,
}

impl ErrorKind {
    /// The exit code of a command that ends with an error of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Found => 4,
            Self::Busy => 75,
            Self::Interrupted => 130,
        }
    }
}
