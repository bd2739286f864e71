//! A package file: an archive of ar(5) that holds two of tar (deb(5)).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use crate::compression::Compression;

/// What an archive of ar(5) begins with.
pub(crate) const MAGIC: &[u8] = b"!<arch>\n";

/// What the header of a member ends with.
const HEADER_END: &[u8] = b"`\n";

/// Bytes of the header of a member.
const HEADER: usize = 60;

/// Where its name and its size, decimal, stand in a header.
pub(crate) const NAME: std::ops::Range<usize> = 0..16;
pub(crate) const SIZE: std::ops::Range<usize> = 48..58;

/// What describes a package, and what its maintainer's scripts are in.
pub(crate) const CONTROL: &str = "control.tar";

/// The files of a package.
pub(crate) const DATA: &str = "data.tar";

/// No control file is larger.
const MAX_CONTROL: u64 = 16 << 20;

/// One of the two tar archives of the package at `deb`, decompressed.
pub(crate) fn member(deb: &Path, wanted: &str) -> io::Result<Box<dyn Read>> {
    let mut input = BufReader::with_capacity(1 << 18, File::open(deb)?);
    begin(&mut input)?;
    while let Some(header) = header(&mut input)? {
        let size = number(&header[SIZE])?;
        let name = String::from_utf8_lossy(&header[NAME]).into_owned();
        let rest = name.trim_end().trim_end_matches('/').strip_prefix(wanted);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            let mut member = input.take(size);
            let compression = Compression::of(member.fill_buf()?).map_err(|_| {
                wrong(&format!(
                    "its {wanted} is compressed in a way that is not read here"
                ))
            })?;
            return compression.decoder(member);
        }
        // Members begin at even places.
        let padded = i64::try_from(size + size % 2).map_err(|_| wrong("a member is too large"))?;
        input.seek_relative(padded)?;
        if input.stream_position()? > input.get_ref().metadata()?.len() {
            return Err(wrong("a member is not as long as its header says"));
        }
    }
    Err(wrong(&format!("it has no {wanted}")))
}

/// The control file of the package at `deb`.
pub(crate) fn control(deb: &Path) -> io::Result<String> {
    for entry in tar::Archive::new(member(deb, CONTROL)?).entries()? {
        let entry = entry?;
        let is_control = entry
            .path()?
            .file_name()
            .is_some_and(|name| name == "control");
        if is_control && entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            entry.take(MAX_CONTROL).read_to_end(&mut text)?;
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Err(wrong("it has no control file"))
}

/// Reads what every package begins with.
pub(crate) fn begin(input: &mut impl Read) -> io::Result<()> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if magic == MAGIC {
        return Ok(());
    }
    Err(wrong("it is not an archive of ar(5)"))
}

/// The header of the next member; none at the end.
pub(crate) fn header(input: &mut impl Read) -> io::Result<Option<[u8; HEADER]>> {
    let mut header = Vec::with_capacity(HEADER);
    input.take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    match <[u8; HEADER]>::try_from(header) {
        Ok(header) if header.ends_with(HEADER_END) => Ok(Some(header)),
        _ => Err(wrong("the header of a member is damaged")),
    }
}

/// A number of a header.
pub(crate) fn number(field: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    let number = text.trim_end().parse();
    number.map_err(|_| wrong("the size of a member is not a number"))
}

pub(crate) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
