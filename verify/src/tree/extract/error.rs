//! What goes wrong with an entry, and what to do about it.

use rustix::io::Errno;
use store::canonical_tar::{self, Entry};

use crate::error::Error;

pub(super) fn io_error(entry: &Entry, error: &std::io::Error) -> Error {
    write_error(entry, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

pub(super) fn hostile(entry: &Entry, why: &str) -> Error {
    Error::refused(format!(
        "the image cannot be unpacked safely: {}",
        canonical_tar::display(&entry.path)
    ))
    .cause(why)
}

pub(super) fn parent_error(entry: &Entry, errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::XDEV => hostile(
            entry,
            "its path leads through a symbolic link or out of the tree",
        ),
        Errno::NOENT => hostile(entry, "its directory is not in the image"),
        Errno::NOTDIR => hostile(
            entry,
            "its path leads through something that is not a directory",
        ),
        errno => write_error(entry, errno),
    }
}

pub(super) fn create_error(entry: &Entry, errno: Errno) -> Error {
    match errno {
        Errno::EXIST => hostile(entry, "the path comes twice"),
        Errno::NAMETOOLONG => hostile(entry, "its name is too long"),
        errno => write_error(entry, errno),
    }
}

pub(super) fn set_error(entry: &Entry, errno: Errno) -> Error {
    let error = Error::failed(format!(
        "cannot set owner, mode or attributes of {}",
        canonical_tar::display(&entry.path)
    ))
    .source(&errno);
    match errno {
        Errno::PERM => error.hint("imgnode needs root with CAP_CHOWN, CAP_FOWNER and CAP_SETFCAP"),
        Errno::OPNOTSUPP => error
            .hint("the target's file system has no extended attributes; choose another --target"),
        _ => error,
    }
}

fn write_error(entry: &Entry, errno: Errno) -> Error {
    let error = Error::failed(format!(
        "cannot write {}",
        canonical_tar::display(&entry.path)
    ))
    .source(&errno);
    match errno {
        Errno::NOSPC | Errno::DQUOT => error.hint("make room, or choose another --target"),
        Errno::NOSYS => error.hint("imgnode needs Linux 5.6 or newer (openat2)"),
        _ => error,
    }
}
