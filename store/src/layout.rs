//! Layouts: an image with its content replaced by chunk references.
//!
//! A layout is the canonical tar itself, header by header, except that where the
//! tar has a file's content and padding, the layout has references to the chunks
//! of that content. Expanding it is therefore nothing but copying: headers stay,
//! references become chunks, padding follows from the size. It names chunks and
//! never packs, so packs can be rewritten without touching an image.
//!
//! Because the headers are the tar's own, they go through the same reader and the
//! same rules; what a tar may not contain, a layout cannot either. The format has
//! its page at [`crate::format::layout`].

use std::io::{self, Read};

use crate::canonical_tar::{Entry, HeaderReader, padding};
use crate::chunk::{self, ChunkRef, REF_LEN};
use crate::error::{Error, Result};

/// The first bytes of a layout: name and version of the format.
pub(crate) const MAGIC: [u8; 8] = *b"imglyt\x00\x01";

/// An entry of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    /// The exact bytes of the entry's header.
    pub(crate) header: Vec<u8>,
    /// What its content is made of.
    pub(crate) chunks: Vec<ChunkRef>,
}

/// Reads a layout from any stream of its bytes.
pub(crate) struct Reader<R> {
    input: Counted<R>,
    headers: HeaderReader,
    /// Bytes of the tar that may still come.
    left: u64,
    begun: bool,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        let input = Counted { input, offset: 0 };
        Self {
            input,
            headers: HeaderReader::default(),
            left: u64::MAX,
            begun: false,
            ended: false,
        }
    }

    /// Refuses a layout that expands to more than a tar of `size` bytes: before it
    /// is expanded, and before its references are kept.
    pub(crate) fn limited(mut self, size: u64) -> Self {
        self.left = size;
        self
    }

    /// The next entry; `None` at the end, when nothing follows it.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        if self.ended {
            return Ok(None);
        }
        if !self.begun {
            let mut magic = [0; MAGIC.len()];
            self.input.read_exact(&mut magic).map_err(failed)?;
            if magic != MAGIC {
                return Err(damaged(
                    "it is not a layout of a version that this program reads",
                ));
            }
            self.begun = true;
        }
        let mut header = Vec::new();
        let offset = self.input.offset;
        let Some(entry) = self.headers.read(&mut self.input, offset, &mut header)? else {
            if self.input.read(&mut [0]).map_err(failed)? != 0 {
                return Err(damaged("there is something behind its end"));
            }
            self.ended = true;
            return Ok(None);
        };
        let content = entry.size() + padding(entry.size()) as u64;
        self.left = self
            .left
            .checked_sub(header.len() as u64 + content)
            .ok_or_else(|| damaged("it describes more than the image has"))?;
        let chunks = self.chunks(entry.size())?;
        Ok(Some(Item {
            entry,
            header,
            chunks,
        }))
    }

    /// The references that make up `size` bytes.
    fn chunks(&mut self, size: u64) -> Result<Vec<ChunkRef>> {
        let mut chunks = Vec::new();
        let mut left = size;
        while left > 0 {
            let mut bytes = [0; REF_LEN];
            self.input.read_exact(&mut bytes).map_err(failed)?;
            let chunk = ChunkRef::decode(&bytes)
                .ok_or_else(|| damaged("a chunk's length is out of range"))?;
            left = left
                .checked_sub(chunk.len().into())
                .ok_or_else(|| damaged("a file's chunks are longer than the file"))?;
            if left > 0 && size <= chunk::MAX as u64 {
                return Err(damaged("a small file has more than one chunk"));
            }
            if left > 0 && chunk.len() < chunk::MIN as u32 {
                return Err(damaged("a file is cut into chunks that are too small"));
            }
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

fn damaged(why: &str) -> Error {
    Error::corrupt("the layout", why)
}

/// An error of the stream below, which may carry one of ours.
fn failed(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        Err(error) => {
            Error::new(crate::ErrorKind::Io, "the layout could not be read").with_source(error)
        }
    }
}

struct Counted<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.offset += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical_tar::{END, Kind, encode};
    use crate::digest::Blake3;
    use crate::error::ErrorKind;

    fn header(path: &str, kind: Kind) -> Vec<u8> {
        let path = path.as_bytes().to_vec();
        let (mode, uid, gid, mtime) = (0o755, 0, 0, 0);
        encode(&Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs: std::collections::BTreeMap::new(),
        })
        .unwrap()
    }

    fn reference(len: u32) -> Vec<u8> {
        [&Blake3::of(b"x").bytes()[..], &len.to_le_bytes()].concat()
    }

    fn read(parts: &[&[u8]]) -> Result<Vec<Item>> {
        let bytes = parts.concat();
        let mut reader = Reader::new(&bytes[..]);
        let mut items = Vec::new();
        while let Some(item) = reader.next()? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn headers_and_references() {
        let root = header("", Kind::Directory);
        let file = header("f", Kind::File { size: 300_000 });
        let (one, two) = (reference(200_000), reference(100_000));
        let items = read(&[&MAGIC, &root, &file, &one, &two, &END]).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[1].header, file);
        let lengths: Vec<_> = items[1].chunks.iter().map(ChunkRef::len).collect();
        assert_eq!(lengths, [200_000, 100_000]);
    }

    #[test]
    fn no_more_than_the_image() {
        let root = header("", Kind::Directory);
        let file = header("f", Kind::File { size: 1 << 62 });
        let bytes = [&MAGIC[..], &root, &file, &reference(262_144), &END].concat();
        let refusal = |size| {
            let mut reader = Reader::new(&bytes[..]).limited(size);
            let first = reader.next().map(|_| ());
            first
                .and_then(|()| reader.next().map(|_| ()))
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(1 << 40).contains("more than the image has"));
        assert!(refusal(511).contains("more than the image has"));
        // Without a limit, what follows is taken for references, to the last of them.
        assert!(refusal(u64::MAX).contains("out of range"));
    }

    #[test]
    fn what_is_refused() {
        let root = header("", Kind::Directory);
        let file = header("f", Kind::File { size: 10 });
        let [half, ten, eleven] = [5, 10, 11].map(reference);
        let zero = reference(0);
        let large = header("f", Kind::File { size: 300_000 });
        let [most, dust, rest] = [262_145, 16_383, 200_000].map(reference);
        let small = read(&[&MAGIC, &root, &large, &dust, &rest, &END]).unwrap_err();
        assert!(small.to_string().contains("too small"), "{small}");
        let cases: [(&str, &[&[u8]]); 10] = [
            ("a chunk too large", &[&MAGIC, &root, &large, &most, &END]),
            ("nothing", &[]),
            ("another version", &[b"imglyt\x00\x02", &root, &END]),
            ("no end", &[&MAGIC, &root]),
            ("half an end", &[&MAGIC, &root, &END[..512]]),
            ("bytes after the end", &[&MAGIC, &root, &END, &[0]]),
            ("an empty chunk", &[&MAGIC, &root, &file, &zero, &ten, &END]),
            ("too much content", &[&MAGIC, &root, &file, &eleven, &END]),
            (
                "a small file in pieces",
                &[&MAGIC, &root, &file, &half, &half, &END],
            ),
            ("too little content", &[&MAGIC, &root, &file, &half, &END]),
        ];
        for (what, parts) in cases {
            let error = read(parts).expect_err(what);
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotCanonical),
                "{what}: {error:?}"
            );
        }
        let twice = read(&[&MAGIC, &root, &file, &ten, &file, &ten, &END]).unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::NotCanonical);
        assert!(twice.to_string().contains("appears twice"), "{twice}");
    }
}
