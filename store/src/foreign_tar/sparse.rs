//! Where the content of a file is, also that of one with holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::error::{broken, refuse};
use super::pax::{Records, decimal, last, number};
use super::source::Source;
use crate::canonical_tar::BLOCK;
use crate::error::Result;

/// The most pieces of one file: more than any file system makes of one by
/// itself, and 24 MiB of memory.
const MAX_EXTENTS: usize = 1 << 20;

/// Where the content of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// In one piece.
    At(u64),
    /// In pieces, ascending, with zeros between them.
    Sparse(Box<[Extent]>),
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it is in the file that it is a piece of.
    pub(crate) offset: u64,
    /// Its bytes, at least one.
    pub(crate) len: u64,
    /// Where they are stored.
    pub(crate) at: u64,
}

/// A file's map, as an archive states it: the size, and offset and length of each
/// piece.
pub(super) struct Map {
    pub(super) size: u64,
    pieces: Vec<(u64, u64)>,
}

impl Map {
    /// The map of an old GNU header, which may go on behind it.
    pub(super) fn gnu(header: &Header, source: &mut Source<'_>) -> Result<Self> {
        let at = source.at();
        let wrong = || broken("the map of a sparse file is malformed", at);
        let Some(gnu) = header.as_gnu() else {
            return Err(wrong());
        };
        let size = field(&gnu.realsize).ok_or_else(wrong)?;
        let mut pieces = Vec::new();
        let mut add = |headers: &[GnuSparseHeader]| {
            for one in headers.iter().filter(|one| !one.is_empty()) {
                let piece = field(&one.offset).zip(field(&one.numbytes));
                pieces.push(piece.ok_or_else(wrong)?);
            }
            if pieces.len() > MAX_EXTENTS {
                return Err(wrong());
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let block = source.block()?.ok_or_else(wrong)?;
            let mut next = GnuExtSparseHeader::new();
            next.as_mut_bytes().copy_from_slice(&block);
            add(next.sparse())?;
            more = next.is_extended();
        }
        Ok(Self { size, pieces })
    }

    /// The map of PAX records, in one of their three forms; for the third it stands
    /// before the content, and `stored` becomes less by it.
    pub(super) fn pax(
        records: &Records,
        source: &mut Source<'_>,
        stored: &mut u64,
    ) -> Result<Option<Self>> {
        let at = source.at();
        let wrong = || broken("the map of a sparse file is malformed", at);
        let get = |key: &[u8]| last(records, key);
        let number = |key: &[u8]| get(key).and_then(decimal);
        if let Some(major) = get(b"GNU.sparse.major") {
            if (major, get(b"GNU.sparse.minor")) != (b"1", Some(b"0")) {
                return Err(broken("the sparse file has an unknown form", at));
            }
            let size = number(b"GNU.sparse.realsize").ok_or_else(wrong)?;
            let pieces = Self::before_content(source, stored)?;
            return Ok(Some(Self { size, pieces }));
        }
        let Some(size) = number(b"GNU.sparse.size") else {
            let any = records
                .iter()
                .any(|(key, _)| key.starts_with(b"GNU.sparse."));
            return if any { Err(wrong()) } else { Ok(None) };
        };
        let numbers: Option<Vec<u64>> = if let Some(map) = get(b"GNU.sparse.map") {
            map.split(|byte| *byte == b',').map(decimal).collect()
        } else {
            let keys: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];
            let both = records
                .iter()
                .filter(|(key, _)| keys.contains(&key.as_slice()));
            let ordered = both
                .clone()
                .zip(keys.iter().cycle())
                .all(|((key, _), expected)| key == expected);
            both.map(|(_, value)| decimal(value).filter(|_| ordered))
                .collect()
        };
        let numbers = numbers
            .filter(|n| n.len() % 2 == 0 && n.len() / 2 <= MAX_EXTENTS)
            .ok_or_else(wrong)?;
        let pieces = numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(Some(Self { size, pieces }))
    }

    /// Lines of decimal numbers in blocks of their own: how many pieces, then
    /// offset and length of each.
    fn before_content(source: &mut Source<'_>, stored: &mut u64) -> Result<Vec<(u64, u64)>> {
        let at = source.at();
        let wrong = || broken("the map of a sparse file is malformed", at);
        let mut line = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            *stored = stored.checked_sub(BLOCK as u64).ok_or_else(wrong)?;
            for byte in source.block()?.ok_or_else(wrong)? {
                if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = decimal(&line).ok_or_else(wrong)?;
                line.clear();
                match wanted {
                    None if number <= MAX_EXTENTS as u64 => wanted = Some(number as usize * 2),
                    None => return Err(wrong()),
                    Some(_) => numbers.push(number),
                }
            }
            if line.len() > 20 {
                return Err(wrong());
            }
        }
        Ok(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// The file's content, whose `stored` bytes are at `at`.
    pub(super) fn data(self, path: &[u8], stored: u64, at: u64, offset: u64) -> Result<Data> {
        let wrong = || refuse(path, "the map of the sparse file is malformed", offset);
        let mut extents = Vec::new();
        let (mut end, mut used) = (0, 0_u64);
        for (offset, len) in self.pieces {
            let next = offset.checked_add(len).ok_or_else(wrong)?;
            if offset < end || next > self.size {
                return Err(wrong());
            }
            if len > 0 {
                let at = at + used;
                extents.push(Extent { offset, len, at });
            }
            used += len;
            end = next;
        }
        if used != stored {
            return Err(wrong());
        }
        Ok(Data::Sparse(extents.into()))
    }
}

fn field(bytes: &[u8]) -> Option<u64> {
    number(bytes).and_then(|number| u64::try_from(number).ok())
}

/// The content of one file, read in order.
pub(crate) struct Content<'a> {
    file: &'a File,
    extents: &'a [Extent],
    size: u64,
    position: u64,
}

impl Data {
    /// The one piece, for files that have no map.
    pub(crate) fn whole(at: u64, size: u64) -> [Extent; 1] {
        [Extent {
            offset: 0,
            len: size,
            at,
        }]
    }
}

impl<'a> Content<'a> {
    /// The content of `size` bytes that `extents` of `file` make up.
    pub(crate) fn new(file: &'a File, extents: &'a [Extent], size: u64) -> Self {
        Self {
            file,
            extents,
            size,
            position: 0,
        }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(first) = self.extents.first()
            && self.position >= first.offset + first.len
        {
            self.extents = &self.extents[1..];
        }
        let (end, stored) = match self.extents.first() {
            Some(first) if self.position >= first.offset => {
                let at = first.at + (self.position - first.offset);
                (first.offset + first.len, Some(at))
            }
            Some(first) => (first.offset, None),
            None => (self.size, None),
        };
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let got = if let Some(at) = stored {
            self.file.read_at(&mut buffer[..want], at)?
        } else {
            buffer[..want].fill(0);
            want
        };
        if got == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += got as u64;
        Ok(got)
    }
}
