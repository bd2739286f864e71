//! From header bytes to an entry, refusing every form but one.

use std::io::{self, Read};

use super::header::{self, MAGIC, field};
use super::pax::{self, Records, XATTR};
use super::rules::Rules;
use super::{BLOCK, END, Entry, Error, ErrorKind, Kind, padding, path};

/// Reads the headers of one tar, in order, and holds them to the rules.
///
/// What stands between two headers is the caller's: content in a tar, chunk
/// references in a layout.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    rules: Rules,
}

impl HeaderReader {
    /// The next entry, its exact header left in `raw`; `None` at the two zero
    /// blocks that end the tar, which are then in `raw`. `offset` is where in the
    /// tar this header begins, for errors.
    pub(crate) fn read(
        &mut self,
        input: &mut impl Read,
        offset: u64,
        raw: &mut Vec<u8>,
    ) -> Result<Option<Entry>, Error> {
        raw.clear();
        let fail = |kind| Error::at(kind, offset, None);
        let mut block = read_block(input, offset, raw)?;
        if block == END[..BLOCK] {
            // A lone zero block followed by anything else is an end that was lost.
            let second = read_block(input, offset, raw)?;
            if self.entries() == 0 {
                return Err(fail(ErrorKind::MissingRoot));
            }
            return if second == END[BLOCK..] {
                Ok(None)
            } else {
                Err(fail(ErrorKind::MissingEnd))
            };
        }
        let mut records = Records::new();
        if check_block(&block).map_err(fail)? == b'x' {
            let size = number(&block, field::SIZE).map_err(fail)?;
            if size > pax::MAX_BODY {
                return Err(fail(ErrorKind::PaxPlacement));
            }
            let start = raw.len();
            read_exact(input, offset, raw, size as usize + padding(size))?;
            records = pax::parse(&raw[start..start + size as usize]).map_err(fail)?;
            block = read_block(input, offset, raw)?;
            if block == END[..BLOCK] || check_block(&block).map_err(fail)? == b'x' {
                return Err(fail(ErrorKind::PaxPlacement));
            }
        }
        let entry = decode(&block, records).map_err(fail)?;
        let fail = |kind| Error::at(kind, offset, Some(entry.path.clone()));
        let canonical = header::encode(&entry).map_err(|error| fail(error.kind()))?;
        if canonical != *raw {
            return Err(fail(ErrorKind::NotCanonical));
        }
        self.rules.admit(&entry).map_err(fail)?;
        Ok(Some(entry))
    }

    /// How many entries there were so far.
    pub(crate) fn entries(&self) -> u64 {
        self.rules.entries()
    }

    /// Holds an entry that does not come from a tar to the same rules.
    #[cfg(feature = "write")]
    pub(crate) fn admit(&mut self, entry: &Entry) -> Result<(), Error> {
        self.rules
            .admit(entry)
            .map_err(|kind| Error::on(kind, &entry.path))
    }
}

/// Checks what makes a block a ustar header and returns its type.
fn check_block(block: &[u8; BLOCK]) -> Result<u8, ErrorKind> {
    if number(block, field::CHECKSUM).ok() != Some(header::checksum(block)) {
        return Err(ErrorKind::Checksum);
    }
    match block[field::TYPE] {
        flag @ (b'0' | b'1' | b'2' | b'5' | b'x') => {
            if block[field::MAGIC] == MAGIC[..] {
                Ok(flag)
            } else {
                Err(ErrorKind::NotUstar)
            }
        }
        b'3' | b'4' | b'6' => Err(ErrorKind::Device),
        b'g' => Err(ErrorKind::GlobalPax),
        b'S' => Err(ErrorKind::Sparse),
        b'D' | b'K' | b'L' | b'M' | b'N' | b'V' => Err(ErrorKind::GnuExtension),
        _ => Err(ErrorKind::UnknownType),
    }
}

/// What a header says, its PAX records included.
fn decode(block: &[u8; BLOCK], mut pax: Records) -> Result<Entry, ErrorKind> {
    let flag = block[field::TYPE];
    let name = match pax.remove(&b"path"[..]) {
        Some(name) => name,
        None => join(text(block, field::PREFIX), text(block, field::NAME)),
    };
    let link = match pax.remove(&b"linkpath"[..]) {
        Some(link) => link,
        None => text(block, field::LINK).to_vec(),
    };
    let size = number(block, field::SIZE)?;
    let size = match pax.remove(&b"size"[..]) {
        // Where PAX states the size, ustar states none: two can never disagree.
        Some(text) if size == 0 => decimal(&text)?,
        Some(_) => return Err(ErrorKind::SizeConflict),
        None => size,
    };
    let mut id = |key: &[u8], range| match pax.remove(key) {
        Some(text) => u32::try_from(decimal(&text)?).map_err(|_| ErrorKind::Range),
        None => number(block, range).map(|number| number as u32),
    };
    let (uid, gid) = (id(b"uid", field::UID)?, id(b"gid", field::GID)?);
    let kind = match flag {
        b'5' => Kind::Directory,
        b'2' => Kind::Symlink { target: link },
        b'1' => Kind::Hardlink {
            target: path::unspell(&link, false).map_err(|kind| match kind {
                ErrorKind::AbsolutePath | ErrorKind::DotSegment => ErrorKind::HardlinkOutside,
                other => other,
            })?,
        },
        _ => Kind::File { size },
    };
    let mut xattrs = std::collections::BTreeMap::new();
    for (key, value) in pax {
        match key.strip_prefix(XATTR) {
            Some(name) => xattrs.insert(name.to_vec(), value),
            None if key.starts_with(b"GNU.sparse.") => return Err(ErrorKind::Sparse),
            None => return Err(ErrorKind::UnknownPax),
        };
    }
    Ok(Entry {
        path: path::unspell(&name, flag == b'5')?,
        kind,
        mode: u32::try_from(number(block, field::MODE)?).map_err(|_| ErrorKind::Range)?,
        uid,
        gid,
        mtime: number(block, field::MTIME)?,
        xattrs,
    })
}

/// A number field: octal digits, then NULs or spaces. What precisely may stand
/// around the digits is decided by encoding again.
fn number(block: &[u8; BLOCK], range: std::ops::Range<usize>) -> Result<u64, ErrorKind> {
    let bytes = &block[range];
    if bytes[0] & 0x80 != 0 {
        return Err(ErrorKind::Base256);
    }
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(bytes.len());
    bytes[..end]
        .iter()
        .try_fold(0_u64, |number, byte| match byte {
            b'0'..=b'7' => Ok(number << 3 | u64::from(byte - b'0')),
            _ => Err(ErrorKind::BadNumber),
        })
}

fn decimal(text: &[u8]) -> Result<u64, ErrorKind> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .ok_or(ErrorKind::MalformedPax)?;
    text.parse().map_err(|_| ErrorKind::Range)
}

/// A text field, up to its first NUL.
fn text(block: &[u8; BLOCK], range: std::ops::Range<usize>) -> &[u8] {
    let bytes = &block[range];
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

fn join(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

fn read_block(input: &mut impl Read, offset: u64, raw: &mut Vec<u8>) -> Result<[u8; BLOCK], Error> {
    let start = raw.len();
    read_exact(input, offset, raw, BLOCK)?;
    let mut block = [0; BLOCK];
    block.copy_from_slice(&raw[start..]);
    Ok(block)
}

fn read_exact(
    input: &mut impl Read,
    offset: u64,
    raw: &mut Vec<u8>,
    len: usize,
) -> Result<(), Error> {
    let start = raw.len();
    raw.resize(start + len, 0);
    input
        .read_exact(&mut raw[start..])
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::at(ErrorKind::MissingEnd, offset, None),
            _ => Error::io(offset, error),
        })
}
