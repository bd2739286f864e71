//! An archive on its way in: a file or standard input, compressed or not.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};

use store::foreign_tar::TarInput;

use crate::compression::{Compression, MAGIC, Unread};
use crate::error::{Context, Error, Result};
use crate::interrupt;

/// An archive, opened.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// Bytes of the file; none for a pipe.
    size: Option<u64>,
    kind: Compression,
    /// What was read to know the kind, when it cannot be read again.
    begun: Vec<u8>,
}

impl Archive {
    /// Opens the archive and looks what it is.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let mut file = if path == Path::new("-") {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Error::usage("standard input is a terminal, not an archive")
                    .hint("docker export NAME | imgbuild import - --name NAME"));
            }
            let fd = rustix::io::dup(&stdin).context(failed)?;
            File::from(fd)
        } else {
            File::open(path).map_err(|e| {
                Error::usage(failed()).because(&e).hint(
                    "name a directory, a tar (plain, gz, xz or zst), or `-` for standard input",
                )
            })?
        };
        let meta = file.metadata().context(failed)?;
        // Standard input may be a file that somebody has read the beginning of.
        let seekable = meta.is_file() && path != Path::new("-");
        let mut begun = Vec::new();
        Read::by_ref(&mut file)
            .take(MAGIC as u64)
            .read_to_end(&mut begun)
            .context(failed)?;
        let kind = Compression::of(&begun).map_err(|why| unread(why, path))?;
        if seekable {
            file.rewind().context(failed)?;
            begun.clear();
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            size: meta.is_file().then_some(meta.len()),
            kind,
            begun,
        })
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Compression::Plain => "tar",
            Compression::Gzip => "tar, gzip",
            Compression::Xz => "tar, xz",
            Compression::Zstd => "tar, zstd",
        }
    }

    /// Hands the tar to `read`. `progress` hears how many bytes of the file were
    /// read, and of how many, when that is known.
    pub fn with_input<T>(
        &mut self,
        progress: &mut dyn FnMut(u64, u64),
        read: impl FnOnce(TarInput<'_>) -> store::Result<T>,
    ) -> store::Result<T> {
        let again = |error| store::Error::io("read", &self.path, error);
        let file = self.file.try_clone().map_err(again)?;
        if self.kind == Compression::Plain && self.begun.is_empty() && self.size.is_some() {
            return read(TarInput::File(file));
        }
        let begun = io::Cursor::new(std::mem::take(&mut self.begun));
        let watched = Watched {
            input: begun.chain(file),
            done: 0,
            total: self.size.unwrap_or(0),
            progress,
        };
        let buffered = BufReader::with_capacity(256 << 10, watched);
        let mut stream = self.kind.decoder(buffered).map_err(again)?;
        read(TarInput::Stream(&mut *stream))
    }
}

/// Why an archive is not read, and what to do.
fn unread(why: Unread, path: &Path) -> Error {
    let shown = path.display();
    match why {
        Unread::Zip => Error::usage(format!("{shown} is a zip archive")).hint(
            "zip keeps no owners: unpack it with `unzip`, set what is missing, and import the \
             directory",
        ),
        Unread::Compressed { with, program } => {
            let from = if path == Path::new("-") {
                String::new()
            } else {
                format!(" {shown}")
            };
            Error::usage(format!(
                "{shown} is compressed with {with}, which is not read here"
            ))
            .hint(format!(
                "{program} -dc{from} | imgbuild import - --name NAME"
            ))
        }
    }
}

/// Counts what is read, and ends when the process is to end.
struct Watched<'p, R> {
    input: R,
    done: u64,
    total: u64,
    progress: &'p mut dyn FnMut(u64, u64),
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if interrupt::check().is_err() {
            // Not `Interrupted`, which means: try again.
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "interrupted"));
        }
        let len = self.input.read(buffer)?;
        self.done += len as u64;
        (self.progress)(self.done, self.total.max(self.done));
        Ok(len)
    }
}
