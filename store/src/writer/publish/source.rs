//! Where entries and content come from: the files of a tree, and noticing when they
//! are not what was scanned, or a tar that was read.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::canonical_tar::{EntryList, FileStamp, ListedEntry, Scanned, changed};
use crate::chunk;
use crate::chunker;
use crate::digest::Blake3;
use crate::error::{Error, Result};
use crate::foreign_tar::{Content, ForeignTar};

/// Bytes of a large file that are in memory at once.
const WINDOW: usize = 4 << 20;

/// Entries in canonical order, and their content, which can be read again.
pub(crate) trait Source {
    /// The entries.
    fn entries(&self) -> &EntryList;

    /// What is the same again only for the same entries and contents, if that can be told
    /// without reading them.
    fn seal(&self) -> Option<&Blake3>;

    /// Hands out the content of one of them, chunk by chunk.
    fn read(
        &self,
        file: &ListedEntry,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()>;
}

/// A tar that was read.
impl Source for ForeignTar {
    fn entries(&self) -> &EntryList {
        &self.entries
    }

    fn seal(&self) -> Option<&Blake3> {
        None
    }

    fn read(
        &self,
        file: &ListedEntry,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let entry = &file.entry;
        let extents = self.extents(file);
        let mut content = Content::new(&self.content, &extents, entry.size());
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(&entry.path),
            _ => Error::io("read", "the archive's content", error),
        };
        chunks(&mut content, entry.size(), buffer, &failed, each)?;
        self.unchanged()
    }
}

/// The files of one tree.
pub(crate) struct Files<'a> {
    pub(crate) tree: &'a Path,
    pub(crate) scanned: Scanned,
}

impl Source for Files<'_> {
    fn entries(&self) -> &EntryList {
        &self.scanned.list
    }

    fn seal(&self) -> Option<&Blake3> {
        self.scanned.seal.as_ref()
    }

    fn read(
        &self,
        file: &ListedEntry,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let scanned = &file.entry;
        let stamp = FileStamp::noted(file.place);
        let path = self.tree.join(OsStr::from_bytes(&scanned.path));
        // Not through a symlink, and without waiting for a FIFO's other end:
        // whatever came here since the scan is found by its stamp.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        let mut file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Error::io("read", &path, error),
            _ => changed(&scanned.path).with_source(error),
        })?;
        let stamped = |file: &File| {
            let meta = file
                .metadata()
                .map_err(|error| Error::io("examine", &path, error))?;
            if FileStamp::of(&meta) == stamp {
                Ok(())
            } else {
                Err(changed(&scanned.path))
            }
        };
        stamped(&file)?;
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(&scanned.path),
            _ => Error::io("read", &path, error),
        };
        let size = scanned.size();
        chunks(&mut file, size, buffer, &failed, each)?;
        // Also a byte more than before, or a time that moved, is a change.
        stamped(&file)
    }
}

/// Hands out what `content` yields, `size` bytes, chunk by chunk. `buffer` is
/// anything, and kept for the next file.
pub(super) fn chunks(
    content: &mut dyn Read,
    size: u64,
    buffer: &mut Vec<u8>,
    failed: &dyn Fn(std::io::Error) -> Error,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    buffer.clear();
    let mut left = size;
    while left > 0 {
        // The window always has room: what is left over is less than a chunk.
        let start = buffer.len();
        let len = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW - start);
        buffer.reserve(len);
        // Into memory that nobody has filled with zeros before.
        let got = content
            .take(len as u64)
            .read_to_end(buffer)
            .map_err(failed)?;
        if got < len {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        left -= len as u64;
        let done = hand_out(buffer, size, left == 0, each)?;
        buffer.drain(..done);
    }
    Ok(())
}

/// Hands out the chunks that can be cut from the window; returns their bytes.
fn hand_out(
    window: &[u8],
    size: u64,
    last: bool,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    if size <= chunk::MAX as u64 {
        each(window)?;
        return Ok(window.len());
    }
    let mut done = 0;
    while done < window.len()
        && let Some(len) = chunker::CONTENT.cut(&window[done..], last)
    {
        each(&window[done..done + len])?;
        done += len;
    }
    Ok(done)
}
