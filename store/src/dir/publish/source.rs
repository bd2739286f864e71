//! Reading the files of a tree, and noticing when they are not what was scanned.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::canon::{Scanned, Stamp, changed};
use crate::chunk;
use crate::cut;
use crate::error::{Error, Result};

/// Bytes of a large file that are in memory at once.
const WINDOW: usize = 4 << 20;

/// The files of one tree.
pub(super) struct Source<'a> {
    tree: &'a Path,
    buffer: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn new(tree: &'a Path) -> Self {
        Self {
            tree,
            buffer: Vec::new(),
        }
    }

    /// Hands out the content of a file, chunk by chunk.
    pub(super) fn read(
        &mut self,
        scanned: &Scanned,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.tree.join(OsStr::from_bytes(&scanned.entry.path));
        // Not through a symlink, and without waiting for a FIFO's other end:
        // whatever came here since the scan is found by its stamp.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        let mut file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Error::io("read", &path, error),
            _ => changed(&scanned.entry.path).with_source(error),
        })?;
        let stamped = |file: &File| {
            let meta = file
                .metadata()
                .map_err(|error| Error::io("examine", &path, error))?;
            if Stamp::of(&meta) == scanned.stamp {
                Ok(())
            } else {
                Err(changed(&scanned.entry.path))
            }
        };
        stamped(&file)?;
        self.buffer.clear();
        let mut left = scanned.entry.size();
        while left > 0 {
            // The window always has room: what is left over is less than a chunk.
            let start = self.buffer.len();
            let len = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW - start);
            self.buffer.resize(start + len, 0);
            file.read_exact(&mut self.buffer[start..])
                .map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => changed(&scanned.entry.path),
                    _ => Error::io("read", &path, error),
                })?;
            left -= len as u64;
            let done = hand_out(&self.buffer, scanned.entry.size(), left == 0, each)?;
            self.buffer.drain(..done);
        }
        // Also a byte more than before, or a time that moved, is a change.
        stamped(&file)
    }
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
        && let Some(len) = cut::CONTENT.cut(&window[done..], last)
    {
        each(&window[done..done + len])?;
        done += len;
    }
    Ok(done)
}
