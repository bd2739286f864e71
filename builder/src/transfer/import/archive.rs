//! An archive on its way in: a file or standard input, compressed or not.
//!
//! The compression is known by the first bytes, not by the name. Decoders are held
//! to a window of 128 MiB, which is what zstd's and xz's own programs use at most
//! without being told otherwise.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};

use store::foreign_tar::TarInput;

use crate::error::{Context, Error, Result};
use crate::interrupt;

/// Bytes of memory that an xz decoder may have.
const XZ_MEMORY: u64 = 160 << 20;

/// The longest beginning by which a compression is known.
const MAGIC: usize = 6;

/// An archive, opened.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// Bytes of the file; none for a pipe.
    size: Option<u64>,
    kind: Kind,
    /// What was read to know the kind, when it cannot be read again.
    begun: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Xz,
    Zstd,
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
        let kind = Kind::of(&begun, path)?;
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
            Kind::Plain => "tar",
            Kind::Gzip => "tar, gzip",
            Kind::Xz => "tar, xz",
            Kind::Zstd => "tar, zstd",
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
        if self.kind == Kind::Plain && self.begun.is_empty() && self.size.is_some() {
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
        let mut stream: Box<dyn Read + '_> = match self.kind {
            Kind::Plain => Box::new(buffered),
            Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
            Kind::Xz => {
                let decoder =
                    xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED);
                let decoder = decoder.map_err(|e| again(e.into()))?;
                Box::new(xz2::bufread::XzDecoder::new_stream(buffered, decoder))
            }
            Kind::Zstd => {
                Box::new(zstd::stream::read::Decoder::with_buffer(buffered).map_err(again)?)
            }
        };
        read(TarInput::Stream(&mut *stream))
    }
}

impl Kind {
    fn of(begun: &[u8], path: &Path) -> Result<Self> {
        if let [b'P', b'K', 3 | 5, 4 | 6, ..] = begun {
            return Err(Error::usage(format!("{} is a zip archive", path.display())).hint(
                "zip keeps no owners: unpack it with `unzip`, set what is missing, and import the \
                 directory",
            ));
        }
        let (other, program) = match begun {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return Ok(Self::Xz),
            // A frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                return Ok(Self::Zstd);
            }
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => ("bzip2", "bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => ("lz4", "lz4"),
            [b'L', b'Z', b'I', b'P', ..] => ("lzip", "lzip"),
            [0x1f, 0x9d, ..] => ("compress", "gzip"),
            [0x5d, 0, 0, ..] => ("lzma", "xz"),
            _ => return Ok(Self::Plain),
        };
        let shown = path.display();
        let from = if path == Path::new("-") {
            String::new()
        } else {
            format!(" {shown}")
        };
        Err(Error::usage(format!(
            "{shown} is compressed with {other}, which is not read here"
        ))
        .hint(format!(
            "{program} -dc{from} | imgbuild import - --name NAME"
        )))
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
