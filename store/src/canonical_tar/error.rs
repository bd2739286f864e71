//! What is wrong with a tar or tree: one kind for each act that is refused.

use std::fmt;
use std::io;

use super::display::display_short;

/// Why something is not canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input could not be read.
    Io,
    /// The input ends before the two blocks that end a tar.
    MissingEnd,
    /// There are bytes after the end.
    TrailingData,
    /// The first entry is not the root directory.
    MissingRoot,
    /// A path is absolute.
    AbsolutePath,
    /// A path has a `.` or `..` segment.
    DotSegment,
    /// A path has an empty segment, or a file's path ends in a slash.
    EmptySegment,
    /// A path is not spelled `./PATH`, or a directory's lacks its final slash.
    Spelling,
    /// A name, or what a link says, contains NUL.
    Nul,
    /// A path, a segment of it, or what a link says is too long.
    TooLong,
    /// A link says nothing.
    EmptyTarget,
    /// A path has too many segments.
    TooDeep,
    /// There are too many entries.
    TooManyEntries,
    /// A path comes after one that sorts behind it.
    Unsorted,
    /// A path comes twice, whatever its types.
    Duplicate,
    /// The directory that an entry is in does not come before it.
    MissingParent,
    /// What an entry is in is not a directory but, for example, a symlink.
    ParentNotDirectory,
    /// A hard link's target leaves the tree.
    HardlinkOutside,
    /// A hard link's target does not come before it.
    HardlinkMissing,
    /// A hard link's target is not a regular file's first path.
    HardlinkTarget,
    /// A hard link names another owner, mode or time than its target has.
    HardlinkOwner,
    /// A device, FIFO or socket.
    Device,
    /// An entry type that this profile does not have.
    UnknownType,
    /// A PAX header for the whole archive.
    GlobalPax,
    /// A GNU long name, sparse map or other extension of its own.
    GnuExtension,
    /// A sparse file, however it is described.
    Sparse,
    /// A number in base 256.
    Base256,
    /// A number that is not octal digits.
    BadNumber,
    /// A header's checksum is wrong.
    Checksum,
    /// A header that is not POSIX ustar.
    NotUstar,
    /// PAX records that do not follow their grammar.
    MalformedPax,
    /// A PAX header with no entry after it, or too long to be read.
    PaxPlacement,
    /// A PAX record that this profile does not have.
    UnknownPax,
    /// PAX and ustar state two sizes.
    SizeConflict,
    /// An extended attribute whose name or value the profile cannot carry, or that
    /// is the kernel's own.
    Xattr,
    /// A mode, time or size beyond what the profile can say.
    Range,
    /// Content is followed by something other than zeros.
    Padding,
    /// A header that means the right thing in another way than the one way.
    NotCanonical,
}

impl ErrorKind {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Io => "the input could not be read",
            Self::MissingEnd => "the tar ends too early",
            Self::TrailingData => "there is data after the end of the tar",
            Self::MissingRoot => "the first entry is not the root directory `./`",
            Self::AbsolutePath => "the path is absolute",
            Self::DotSegment => "the path contains `.` or `..`",
            Self::EmptySegment => "the path contains an empty segment",
            Self::Spelling => {
                "the path is not spelled `./PATH`, with a final slash for directories only"
            }
            Self::Nul => "a name contains NUL",
            Self::TooLong => "a name is too long",
            Self::EmptyTarget => "the link has no target",
            Self::TooDeep => "the path is nested too deeply",
            Self::TooManyEntries => "there are too many entries",
            Self::Unsorted => "the path is not in sorted order",
            Self::Duplicate => "the path appears twice",
            Self::MissingParent => "the directory that the entry is in does not come before it",
            Self::ParentNotDirectory => "what the entry is in is not a directory",
            Self::HardlinkOutside => "the hard link's target is outside the tree",
            Self::HardlinkMissing => "the hard link's target does not come before it",
            Self::HardlinkTarget => {
                "the hard link's target is not the first path of a regular file"
            }
            Self::HardlinkOwner => {
                "the hard link states another owner, mode or time than its target"
            }
            Self::Device => "devices, FIFOs and sockets cannot be in an image",
            Self::UnknownType => "the entry has an unknown type",
            Self::GlobalPax => "global PAX headers are not allowed",
            Self::GnuExtension => "GNU extensions are not allowed",
            Self::Sparse => "sparse files are not allowed",
            Self::Base256 => "base-256 numbers are not allowed",
            Self::BadNumber => "a number is not written in octal digits",
            Self::Checksum => "the header's checksum is wrong",
            Self::NotUstar => "the header is not POSIX ustar",
            Self::MalformedPax => "the PAX records are malformed",
            Self::PaxPlacement => "the PAX header is too long or not followed by its entry",
            Self::UnknownPax => "a PAX record of this name is not allowed",
            Self::SizeConflict => "PAX and ustar state different sizes",
            Self::Xattr => "an extended attribute has a name or size that cannot be stored",
            Self::Range => "a mode, owner, time or size is out of range",
            Self::Padding => "the content is not padded with zeros",
            Self::NotCanonical => "the header is not in its canonical form",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A tar or tree that is not canonical, and where.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    path: Option<Vec<u8>>,
    offset: Option<u64>,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn at(kind: ErrorKind, offset: u64, path: Option<Vec<u8>>) -> Self {
        Self {
            kind,
            path,
            offset: Some(offset),
            source: None,
        }
    }

    pub(crate) fn on(kind: ErrorKind, path: &[u8]) -> Self {
        Self {
            kind,
            path: Some(path.to_vec()),
            offset: None,
            source: None,
        }
    }

    pub(crate) fn io(offset: u64, source: io::Error) -> Self {
        Self {
            kind: ErrorKind::Io,
            path: None,
            offset: Some(offset),
            source: Some(source),
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The path of the entry, where one was known.
    pub fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }

    /// Where in the tar the refused header begins.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            let shown = if path.is_empty() {
                "./".to_owned()
            } else {
                display_short(path)
            };
            write!(f, "{shown}: ")?;
        }
        write!(f, "{}", self.kind)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset} of the tar)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Io => crate::error::ErrorKind::Io,
            _ => crate::error::ErrorKind::NotCanonical,
        };
        let message = error.to_string();
        match error.source.map(io::Error::downcast::<Self>) {
            // The stream below was a store's, whose error says more.
            Some(Ok(ours)) => ours,
            Some(Err(source)) => Self::new(kind, message).with_source(source),
            None => Self::new(kind, message),
        }
    }
}
