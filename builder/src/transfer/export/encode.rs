//! Compressed forms of a tar that come out the same on every machine.
//!
//! Both encoders cut what they are given into blocks of a fixed size and compress
//! each by itself, on as many threads as there are cores; how many there are changes
//! nothing. Both libraries are linked statically, in versions that the lock pins. (With one thread the libraries would take another
//! way by default, whose bytes differ: the threaded one is always taken.)
//!
//! More threads need more memory, so there are at most as many as fit a budget.

use std::io::{self, Write};
use std::thread;

use clap::ValueEnum;
use store::export;
use xz2::stream::{Check, Filters, LzmaOptions, MtStreamBuilder};
use zstd::zstd_safe::{self, CParameter};

/// Memory that the threads of an encoder may have.
const BUDGET: u64 = 160 << 20;

const ZSTD_LEVEL: i32 = 9;

/// Bytes that one thread of zstd compresses at once.
const ZSTD_JOB: u32 = 8 << 20;

/// What a thread of zstd needs at that level, about: tables, window and a job.
const ZSTD_THREAD: u64 = 32 << 20;

const XZ_PRESET: u32 = 6;

/// Smaller than that preset's, so that two threads fit the budget.
const XZ_DICTIONARY: u32 = 4 << 20;

/// Bytes of the tar in one block of xz.
const XZ_BLOCK: u64 = 8 << 20;

/// The version that lzma-sys 0.1.20 brings along.
const XZ_VERSION: &str = "5.2.5";

/// A form in which an image is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The canonical tar; its blake3 is the image's name
    #[value(name = "tar")]
    Tar,
    /// Compressed with zstd
    #[value(name = "tar.zst")]
    Zstd,
    /// Compressed with xz: a fifth smaller, and many times slower
    #[value(name = "tar.xz")]
    Xz,
}

impl Format {
    const ALL: [Self; 3] = [Self::Tar, Self::Zstd, Self::Xz];

    /// The format that a file of that name should have.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| name.ends_with(&format!(".{}", format.as_str())))
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zstd => "tar.zst",
            Self::Xz => "tar.xz",
        }
    }

    /// All that decides about the bytes.
    pub fn encoder(self) -> Option<export::Encoder> {
        let (name, version, settings) = match self {
            Self::Tar => return None,
            Self::Zstd => (
                "zstd",
                zstd_safe::version_string(),
                format!("multithreaded, level {ZSTD_LEVEL}, jobs of {ZSTD_JOB} bytes, checksum"),
            ),
            Self::Xz => (
                "liblzma",
                XZ_VERSION,
                format!(
                    "multithreaded, preset {XZ_PRESET}, dictionary of {XZ_DICTIONARY} bytes, \
                     blocks of {XZ_BLOCK} bytes, crc64"
                ),
            ),
        };
        Some(export::Encoder {
            name: name.to_owned(),
            version: version.to_owned(),
            settings,
        })
    }
}

/// Compresses what is written to it.
pub enum Encode<W: Write> {
    /// Passes it on.
    Tar(W),
    /// As one zstd frame.
    Zstd(zstd::stream::write::Encoder<'static, W>),
    /// As one xz stream.
    Xz(xz2::write::XzEncoder<W>),
}

impl<W: Write> Encode<W> {
    /// An encoder for `size` bytes that uses all cores.
    pub fn new(format: Format, size: u64, output: W) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads(format, size, output, cores as u32)
    }

    fn with_threads(format: Format, size: u64, output: W, threads: u32) -> io::Result<Self> {
        Ok(match format {
            Format::Tar => Self::Tar(output),
            Format::Zstd => {
                let most = (BUDGET / ZSTD_THREAD) as u32;
                let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.multithread(threads.clamp(1, most))?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB))?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(size))?;
                Self::Zstd(encoder)
            }
            Format::Xz => Self::Xz(xz2::write::XzEncoder::new_stream(output, xz(threads)?)),
        })
    }

    /// Where the compressed bytes go.
    pub fn output(&self) -> &W {
        match self {
            Self::Tar(output) => output,
            Self::Zstd(encoder) => encoder.get_ref(),
            Self::Xz(encoder) => encoder.get_ref(),
        }
    }

    /// Writes what is left, and hands back the output.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Tar(output) => Ok(output),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
        }
    }
}

/// An xz encoder with as many threads as asked for, or as fit.
fn xz(threads: u32) -> io::Result<xz2::stream::Stream> {
    let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
    options.dict_size(XZ_DICTIONARY);
    let builder = |threads| {
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let mut builder = MtStreamBuilder::new();
        builder
            .threads(threads)
            .block_size(XZ_BLOCK)
            .timeout_ms(0)
            .filters(filters)
            .check(Check::Crc64);
        builder
    };
    let mut fit = threads.max(1);
    while fit > 1 && builder(fit).memusage() > BUDGET {
        fit -= 1;
    }
    Ok(builder(fit).encoder()?)
}

impl<W: Write> Write for Encode<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tar(output) => output.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
        }
    }

    /// Nothing is forced out of an encoder: it would end its block there.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tar(output) => output.flush(),
            Self::Zstd(_) | Self::Xz(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Text with a little noise in each kilobyte, more than two blocks of either encoder.
    fn sample() -> Vec<u8> {
        let text = b"a file of some text that comes again and again, ";
        let mut bytes = text.repeat((18 << 20) / text.len());
        let mut noise = blake3::Hasher::new().finalize_xof();
        for kilobyte in bytes.chunks_mut(1 << 10) {
            noise.fill(&mut kilobyte[..8]);
        }
        bytes
    }

    fn encode(format: Format, bytes: &[u8], threads: u32, piece: usize) -> Vec<u8> {
        let size = bytes.len() as u64;
        let mut encoder = Encode::with_threads(format, size, Vec::new(), threads).unwrap();
        for piece in bytes.chunks(piece) {
            encoder.write_all(piece).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn the_same_bytes_whatever_the_threads_and_pieces() {
        let sample = sample();
        for format in [Format::Zstd, Format::Xz] {
            let one = encode(format, &sample, 1, 1 << 20);
            let more = encode(format, &sample, 3, 1_234_567);
            assert!(one == more, "{format:?} depends on threads");
            let mut back = Vec::new();
            if format == Format::Zstd {
                zstd::stream::copy_decode(&one[..], &mut back).unwrap();
            } else {
                let mut decoder = xz2::read::XzDecoder::new(&one[..]);
                decoder.read_to_end(&mut back).unwrap();
            }
            assert!(back == sample, "{format:?}");
        }
    }

    #[test]
    fn memory_stays_in_its_budget() {
        const { assert!(BUDGET / ZSTD_THREAD >= 2) };
        // Two cores are used, and more do not break the budget.
        let mut options = LzmaOptions::new_preset(XZ_PRESET).unwrap();
        options.dict_size(XZ_DICTIONARY);
        let mut filters = Filters::new();
        filters.lzma2(&options);
        let mut builder = MtStreamBuilder::new();
        builder.threads(2).block_size(XZ_BLOCK).filters(filters);
        let two = builder.memusage();
        assert!(two <= BUDGET, "{two}");
        xz(1000).unwrap();
    }

    #[test]
    fn the_version_on_record_is_the_one_that_is_linked() {
        let lock = include_str!("../../../../Cargo.lock");
        let lock = lock.replace('\n', " ");
        assert!(lock.contains("name = \"lzma-sys\" version = \"0.1.20\""));
    }

    #[test]
    fn formats_by_name() {
        for (name, format) in [
            ("a.tar", Some(Format::Tar)),
            ("a.tar.zst", Some(Format::Zstd)),
            ("a.tar.xz", Some(Format::Xz)),
            ("a.zst", None),
            ("tar", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
