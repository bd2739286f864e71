//! A strict reader of canonical tars: it never needs more than one entry in
//! memory, and it finds nothing acceptable that the writer would not have written.

use std::io::{self, Read};

use super::parse::HeaderReader;
use super::{BLOCK, Entry, Error, ErrorKind, padding};

/// Reads a canonical tar from any stream.
///
/// Call [`Reader::next_entry`] until it returns `None`; only then was the whole
/// tar canonical. After each entry, [`Reader::content`] reads the file's content;
/// what is left unread is skipped, and still checked for being there.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    headers: HeaderReader,
    raw: Vec<u8>,
    /// Where the next byte of the input is in the tar.
    offset: u64,
    /// Bytes of the current content that were not read yet.
    left: u64,
    /// Zero bytes after the current content.
    padding: usize,
    done: bool,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which should be buffered.
    pub fn new(input: R) -> Self {
        Self {
            input,
            headers: HeaderReader::default(),
            raw: Vec::new(),
            offset: 0,
            left: 0,
            padding: 0,
            done: false,
        }
    }

    /// The next entry, or `None` at the end, when nothing follows it.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if self.done {
            return Ok(None);
        }
        self.finish_content()?;
        let entry = self
            .headers
            .read(&mut self.input, self.offset, &mut self.raw)?;
        self.offset += self.raw.len() as u64;
        if let Some(entry) = &entry {
            self.left = entry.size();
            self.padding = padding(entry.size());
        } else {
            self.expect_nothing()?;
            self.done = true;
        }
        Ok(entry)
    }

    /// The exact bytes of the current entry's header.
    pub fn header(&self) -> &[u8] {
        &self.raw
    }

    /// The content of the current entry.
    pub fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// How many entries there were so far.
    pub fn entries(&self) -> u64 {
        self.headers.entries()
    }

    /// Moves behind the content and padding of the current entry.
    fn finish_content(&mut self) -> Result<(), Error> {
        let offset = self.offset;
        io::copy(&mut self.content(), &mut io::sink()).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::at(ErrorKind::MissingEnd, offset, None),
            _ => Error::io(offset, error),
        })?;
        let mut zeros = [0; BLOCK];
        let zeros = &mut zeros[..std::mem::take(&mut self.padding)];
        self.input
            .read_exact(zeros)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::at(ErrorKind::MissingEnd, self.offset, None),
                _ => Error::io(self.offset, error),
            })?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(Error::at(ErrorKind::Padding, self.offset, None));
        }
        self.offset += zeros.len() as u64;
        Ok(())
    }

    fn expect_nothing(&mut self) -> Result<(), Error> {
        let mut byte = [0];
        match self.input.read_exact(&mut byte) {
            Ok(()) => Err(Error::at(ErrorKind::TrailingData, self.offset, None)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(Error::io(self.offset, error)),
        }
    }
}

/// The content of one entry of a [`Reader`].
#[derive(Debug)]
pub struct Content<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.0;
        let want = buffer
            .len()
            .min(usize::try_from(reader.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = reader.input.read(&mut buffer[..want])?;
        if got == 0 {
            // A content that ends early must not look like a shorter content.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.left -= got as u64;
        reader.offset += got as u64;
        Ok(got)
    }
}
