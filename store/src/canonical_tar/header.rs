//! From an entry to the bytes of its header: one entry, one encoding.

use super::path::{self, spell};
use super::pax::{self, Records, XATTR};
use super::{BLOCK, Entry, Error, ErrorKind, Kind, is_host_xattr, padding};

/// The largest number in a field of eight bytes: seven octal digits and a NUL.
pub(super) const MAX_OCTAL_8: u64 = 0o777_7777;

/// The largest number in a field of twelve bytes.
pub(super) const MAX_OCTAL_12: u64 = 0o777_7777_7777;

/// Every size that tools keep in a signed number.
const MAX_SIZE: u64 = i64::MAX as u64;

/// The name of a PAX header itself. Nobody unpacks it, so it is always the same.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Where the fields of a ustar header are.
pub(super) mod field {
    use std::ops::Range;

    pub(crate) const NAME: Range<usize> = 0..100;
    pub(crate) const MODE: Range<usize> = 100..108;
    pub(crate) const UID: Range<usize> = 108..116;
    pub(crate) const GID: Range<usize> = 116..124;
    pub(crate) const SIZE: Range<usize> = 124..136;
    pub(crate) const MTIME: Range<usize> = 136..148;
    pub(crate) const CHECKSUM: Range<usize> = 148..156;
    pub(crate) const TYPE: usize = 156;
    pub(crate) const LINK: Range<usize> = 157..257;
    pub(crate) const MAGIC: Range<usize> = 257..265;
    pub(crate) const DEVICE: [Range<usize>; 2] = [329..337, 337..345];
    pub(crate) const PREFIX: Range<usize> = 345..500;
}

/// `ustar`, NUL, version 00.
pub(super) const MAGIC: &[u8; 8] = b"ustar\x0000";

/// The header of `entry`: one block, or three and more with a PAX header before
/// it. Fails on an entry that no canonical tar can contain.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, Error> {
    check(entry).map_err(|kind| Error::on(kind, &entry.path))?;

    let mut pax = Records::new();
    for (name, value) in &entry.xattrs {
        pax.insert([XATTR, name].concat(), value.clone());
    }
    let mut block = [0; BLOCK];
    let name = spell(&entry.path, entry.kind == Kind::Directory);
    if let Some((prefix, name)) = split(&name) {
        put(&mut block, field::PREFIX, prefix);
        put(&mut block, field::NAME, name);
    } else {
        put(&mut block, field::NAME, &name[..field::NAME.len()]);
        pax.insert(b"path".to_vec(), name);
    }
    let (flag, link) = match &entry.kind {
        Kind::File { .. } => (b'0', Vec::new()),
        Kind::Hardlink { target } => (b'1', spell(target, false)),
        Kind::Symlink { target } => (b'2', target.clone()),
        Kind::Directory => (b'5', Vec::new()),
    };
    if link.len() <= field::LINK.len() {
        put(&mut block, field::LINK, &link);
    } else {
        put(&mut block, field::LINK, &link[..field::LINK.len()]);
        pax.insert(b"linkpath".to_vec(), link);
    }
    // A number that does not fit is 0 in ustar and stands in PAX.
    let mut number = |range: std::ops::Range<usize>, max, key: &[u8], value: u64| {
        if value > max {
            pax.insert(key.to_vec(), value.to_string().into_bytes());
        }
        octal(&mut block, range, if value > max { 0 } else { value });
    };
    number(field::UID, MAX_OCTAL_8, b"uid", entry.uid.into());
    number(field::GID, MAX_OCTAL_8, b"gid", entry.gid.into());
    number(field::SIZE, MAX_OCTAL_12, b"size", entry.size());
    octal(&mut block, field::MODE, entry.mode.into());
    octal(&mut block, field::MTIME, entry.mtime);
    seal(&mut block, flag);

    if pax.is_empty() {
        return Ok(block.to_vec());
    }
    let body = pax::encode(&pax);
    if body.len() as u64 > pax::MAX_BODY {
        return Err(Error::on(ErrorKind::Xattr, &entry.path));
    }
    let mut header = Vec::with_capacity(3 * BLOCK + body.len());
    header.extend_from_slice(&pax_block(body.len() as u64));
    header.extend_from_slice(&body);
    header.resize(header.len() + padding(body.len() as u64), 0);
    header.extend_from_slice(&block);
    Ok(header)
}

/// What the profile can say about a single entry.
fn check(entry: &Entry) -> Result<(), ErrorKind> {
    path::check(&entry.path)?;
    if entry.path.is_empty() && entry.kind != Kind::Directory {
        return Err(ErrorKind::MissingRoot);
    }
    match &entry.kind {
        Kind::Symlink { target } => path::check_target(target)?,
        // The root is no file.
        Kind::Hardlink { target } if target.is_empty() => return Err(ErrorKind::HardlinkTarget),
        Kind::Hardlink { target } => path::check(target).map_err(|kind| match kind {
            ErrorKind::AbsolutePath | ErrorKind::DotSegment => ErrorKind::HardlinkOutside,
            other => other,
        })?,
        Kind::Directory | Kind::File { .. } => {}
    }
    let symlink = matches!(entry.kind, Kind::Symlink { .. });
    if entry.mode > 0o7777 || (symlink && entry.mode != 0o777) {
        return Err(ErrorKind::Range);
    }
    // To chown(2) it means "as it is".
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(ErrorKind::Range);
    }
    if entry.mtime > MAX_OCTAL_12 || entry.size() > MAX_SIZE {
        return Err(ErrorKind::Range);
    }
    if matches!(entry.kind, Kind::Hardlink { .. }) && !entry.xattrs.is_empty() {
        return Err(ErrorKind::Xattr);
    }
    if !entry.xattrs.keys().all(|name| is_xattr_name(name)) {
        return Err(ErrorKind::Xattr);
    }
    Ok(())
}

/// Whether an extended attribute of that name belongs in an image, and PAX can
/// carry it.
pub(crate) fn is_xattr_name(name: &[u8]) -> bool {
    // GNU tar escapes `=` and `%` in names, others do not; no real name has them.
    let odd = |byte: &u8| !byte.is_ascii_graphic() || b"=%".contains(byte);
    (1..=255).contains(&name.len()) && !name.iter().any(odd) && !is_host_xattr(name)
}

/// Splits a name into prefix and name fields, if it fits them: no prefix when
/// none is needed, else the shortest. If the shortest is too long, all are.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(over) = name.len().checked_sub(field::NAME.len() + 1) else {
        return Some((b"", name));
    };
    let slash = over + name[over..].iter().position(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (prefix.len() <= field::PREFIX.len() && !rest.is_empty()).then_some((prefix, rest))
}

/// The header of a PAX body of `len` bytes.
fn pax_block(len: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, field::NAME, PAX_NAME);
    octal(&mut block, field::MODE, 0o644);
    octal(&mut block, field::UID, 0);
    octal(&mut block, field::GID, 0);
    octal(&mut block, field::SIZE, len);
    octal(&mut block, field::MTIME, 0);
    seal(&mut block, b'x');
    block
}

/// Writes what every header has, the checksum last.
fn seal(block: &mut [u8; BLOCK], flag: u8) {
    block[field::TYPE] = flag;
    put(block, field::MAGIC, MAGIC);
    for range in field::DEVICE {
        octal(block, range, 0);
    }
    let sum = format!("{:06o}\0 ", checksum(block));
    put(block, field::CHECKSUM, sum.as_bytes());
}

/// The sum of all bytes, those of the checksum itself taken as spaces.
pub(super) fn checksum(block: &[u8; BLOCK]) -> u64 {
    sum(block) - sum(&block[field::CHECKSUM]) + 8 * u64::from(b' ')
}

/// The sum of bytes whose number is a multiple of 8, and at most 1024.
///
/// Eight at a time, as four sums of 16 bits: byte by byte, an imgbuild that is not optimised spent a
/// sixth of its time here in a test that mostly checks and copies images.
fn sum(bytes: &[u8]) -> u64 {
    const EVERY_OTHER: u64 = 0x00ff_00ff_00ff_00ff;
    let mut four = 0;
    for eight in bytes.chunks_exact(8) {
        let eight = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        four += (eight & EVERY_OTHER) + (eight >> 8 & EVERY_OTHER);
    }
    (0..4).map(|part| four >> (16 * part) & 0xffff).sum()
}

fn put(block: &mut [u8; BLOCK], range: std::ops::Range<usize>, value: &[u8]) {
    block[range][..value.len()].copy_from_slice(value);
}

/// Octal digits that fill the field up to its final NUL.
fn octal(block: &mut [u8; BLOCK], range: std::ops::Range<usize>, mut value: u64) {
    let (_, digits) = block[range].split_last_mut().expect("a field is not empty");
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}
