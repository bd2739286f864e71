//! The bytes of the archive, and the file in which content can be read again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use super::error::broken;
use crate::canonical_tar::{BLOCK, Change, Changes, padding};
use crate::error::{Error, Result};

/// The bytes of a tar, not compressed.
pub enum TarInput<'a> {
    /// A regular file, read where it lies; nobody may write to it meanwhile.
    File(File),
    /// Anything else, read once.
    Stream(&'a mut dyn Read),
}

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

/// An archive that is being read.
pub(super) struct Source<'a> {
    reader: Reader<'a>,
    /// Bytes of the archive so far.
    at: u64,
}

enum Reader<'a> {
    /// Content stays where it is.
    InPlace { file: BufReader<File>, len: u64 },
    /// Content goes to the spool.
    Spooled {
        stream: &'a mut dyn Read,
        spool: BufWriter<File>,
        len: u64,
        piece: Vec<u8>,
    },
}

impl<'a> Source<'a> {
    pub(super) fn new(input: TarInput<'a>, spool: File) -> Result<Self> {
        let reader = match input {
            TarInput::File(file) => {
                let meta = file
                    .metadata()
                    .map_err(|error| Error::io("examine", "the tar", error))?;
                Reader::InPlace {
                    file: BufReader::with_capacity(64 << 10, file),
                    len: meta.len(),
                }
            }
            TarInput::Stream(stream) => Reader::Spooled {
                stream,
                spool: BufWriter::with_capacity(PIECE, spool),
                len: 0,
                piece: vec![0; PIECE],
            },
        };
        Ok(Self { reader, at: 0 })
    }

    /// Where the next byte is in the archive.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next block; `None` if the archive ends right here.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let got =
            read_up_to(self.reader.read(), &mut block).map_err(|error| failed(error, self.at))?;
        match got {
            0 => return Ok(None),
            BLOCK => self.at += BLOCK as u64,
            _ => return Err(truncated(self.at)),
        }
        Ok(Some(block))
    }

    /// The next `len` bytes, which the caller has found to be few, and their
    /// padding.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize + padding(len)];
        let got =
            read_up_to(self.reader.read(), &mut bytes).map_err(|error| failed(error, self.at))?;
        if got < bytes.len() {
            return Err(truncated(self.at));
        }
        self.at += bytes.len() as u64;
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    /// Keeps the next `len` bytes, and skips their padding; returns where they are
    /// in the file that [`finish`](Self::finish) hands out.
    pub(super) fn keep(&mut self, len: u64) -> Result<u64> {
        let behind = len.checked_add(padding(len) as u64);
        let behind = behind.and_then(|len| self.at.checked_add(len));
        let behind = behind.ok_or_else(|| truncated(self.at))?;
        let here = match &mut self.reader {
            Reader::InPlace { file, len: whole } => {
                if behind > *whole {
                    return Err(truncated(self.at));
                }
                let by = i64::try_from(behind - self.at).map_err(|_| truncated(self.at))?;
                file.seek_relative(by)
                    .map_err(|error| failed(error, self.at))?;
                self.at
            }
            Reader::Spooled { len: spooled, .. } => {
                let here = *spooled;
                self.copy(len)?;
                let pad = padding(len);
                let mut zeros = [0; BLOCK];
                let got = read_up_to(self.reader.read(), &mut zeros[..pad])
                    .map_err(|error| failed(error, self.at))?;
                if got < pad {
                    return Err(truncated(self.at));
                }
                here
            }
        };
        self.at = behind;
        Ok(here)
    }

    /// Copies `len` bytes to the spool.
    fn copy(&mut self, len: u64) -> Result<()> {
        let at = self.at;
        let Reader::Spooled {
            stream,
            spool,
            len: spooled,
            piece,
        } = &mut self.reader
        else {
            return Ok(());
        };
        let mut left = len;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let got = read_up_to(*stream, &mut piece[..want]).map_err(|error| failed(error, at))?;
            if got == 0 {
                return Err(truncated(at));
            }
            spool
                .write_all(&piece[..got])
                .map_err(|error| Error::io("write", "the archive's content", error))?;
            left -= got as u64;
        }
        *spooled += len;
        Ok(())
    }

    /// Reads what follows the archive's end, so that a compressed one is known to
    /// be whole, and hands out the file with the content.
    pub(super) fn finish(mut self, changes: &mut Changes) -> Result<File> {
        let mut piece = vec![0; PIECE];
        let mut seen = false;
        loop {
            let got = read_up_to(self.reader.read(), &mut piece)
                .map_err(|error| failed(error, self.at))?;
            if got == 0 {
                break;
            }
            // tar(1) fills its last record, and very old ones not with zeros.
            if !seen && piece[..got].iter().any(|byte| *byte != 0) {
                seen = true;
                changes.add(Change::NotContent, b"(behind the end)");
            }
        }
        match self.reader {
            Reader::InPlace { file, .. } => Ok(file.into_inner()),
            Reader::Spooled { spool, .. } => {
                let mut spool = spool.into_inner().map_err(|error| {
                    Error::io("write", "the archive's content", error.into_error())
                })?;
                spool
                    .seek(SeekFrom::Start(0))
                    .map_err(|error| Error::io("read", "the archive's content", error))?;
                Ok(spool)
            }
        }
    }
}

impl Reader<'_> {
    fn read(&mut self) -> &mut dyn Read {
        match self {
            Self::InPlace { file, .. } => file,
            Self::Spooled { stream, .. } => *stream,
        }
    }
}

/// Fills the buffer, or what of it there are bytes for.
fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn truncated(at: u64) -> Error {
    broken("the archive is cut short", at)
}

/// A compressed stream that ends early is a truncated archive as well.
fn failed(error: io::Error, at: u64) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(at).with_source(error),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            broken("the archive cannot be decompressed", at).with_source(error)
        }
        _ => Error::io("read", "the archive", error),
    }
}
