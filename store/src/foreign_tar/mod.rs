//! Any tar, read leniently: what comes from elsewhere on its way to a canonical tar.
//!
//! A canonical tar is sorted, and what comes in is not: hard links may stand before
//! their files, a name may come twice, directories may be missing. So an entry's
//! place in the image is known only when the whole archive was read, and its
//! content has to be kept until then. There are two ways to keep it:
//!
//! - as chunks, compressed into packs while the archive streams by. Reading them
//!   back in sorted order would decode a frame of 4 MiB for nearly every file, as
//!   the packs would have the order of the archive, and so would every later
//!   reader of the image, for ever;
//! - as bytes in a file, read again in sorted order by position. This is what
//!   happens here. It costs the archive's size on the store's disk for as long as
//!   the import runs. The file has no name, so it is gone with the process, and a
//!   tar that is a plain file is not copied at all: it is read where it lies.
//!
//! In memory stay the entries alone, as when a directory is packed, and from
//! there on both take the same way.
//!
//! Nothing is ever unpacked. The names are played through as tar(1) would: a later
//! entry takes the place of an earlier one, while hard links made before keep the
//! file they were made to. What would be below a file or symlink is refused: no
//! link is followed, as there is nothing to follow it in.
//!
//! # What may come in
//!
//! v7, ustar, GNU (long names, base-256, sparse) and PAX (local, global, sparse
//! 0.0, 0.1 and 1.0). Where two readers may understand an archive in two ways, it
//! is refused: two different long names or sizes for one entry, links with
//! content, a header for the whole archive that names or sizes one file. Owners
//! are the numbers, names of users are not looked at.
//!
//! # What is where
//!
//! ```text
//! tree    the tree that the archive would unpack to
//! member  the members of an archive: headers, and what others before them add
//! pax     PAX records, and numbers of every dialect
//! sparse  where the content of a file with holes is
//! source  the bytes of the archive, and the file in which content is read again
//! error   what is wrong, and at which byte
//! ```

mod error;
mod member;
mod pax;
mod source;
mod sparse;
mod tree;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;

use self::source::Source;
pub use self::source::TarInput;
pub(crate) use self::sparse::Content;
use self::sparse::{Data, Extent};
use crate::canonical_tar::{Changes, EntryList, FileStamp, ListedEntry};
use crate::error::{Error, ErrorKind, Result};

/// A tar that was read: what it has in canonical form, and where its content is.
#[derive(Debug)]
pub struct ForeignTar {
    /// The place of a file says where its content is: see [`tree::SPARSE`].
    pub(crate) entries: EntryList,
    /// The pieces of the sparse files.
    sparse: Vec<Box<[Extent]>>,
    pub(crate) content: File,
    changes: Changes,
    /// What the file was like when it was read, if it is the caller's.
    stamp: Option<FileStamp>,
}

impl ForeignTar {
    /// Reads a tar to its end. `spool` is an empty file for the content of a
    /// stream. Times later than `epoch`, if there is one, become `epoch`.
    pub(crate) fn read(input: TarInput<'_>, spool: File, epoch: Option<u64>) -> Result<Self> {
        let stamp = match &input {
            TarInput::File(file) => Some(stamp(file)?),
            TarInput::Stream(_) => None,
        };
        let mut source = Source::new(input, spool)?;
        let mut changes = Changes::default();
        let mut tree = tree::Tree::new();
        let mut members = member::Members::default();
        while let Some(member) = members.next(&mut source, &mut changes)? {
            tree.add(member, &mut changes)?;
        }
        let (entries, sparse) = tree.finish(epoch, &mut changes)?;
        let content = source.finish(&mut changes)?;
        Ok(Self {
            entries,
            sparse,
            content,
            changes,
            stamp,
        })
    }

    /// Refuses a file that somebody wrote to since it was read.
    pub(crate) fn unchanged(&self) -> Result<()> {
        match &self.stamp {
            Some(then) if stamp(&self.content)? != *then => Err(Error::new(
                ErrorKind::Changed,
                "the archive changed while it was read",
            )),
            _ => Ok(()),
        }
    }

    /// Where the content of a file is.
    pub(crate) fn extents(&self, file: &ListedEntry) -> Cow<'_, [Extent]> {
        if file.place & tree::SPARSE == 0 {
            Data::whole(file.place, file.entry.size()).to_vec().into()
        } else {
            let number = file.place & !tree::SPARSE;
            Cow::Borrowed(&self.sparse[number as usize])
        }
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.entries.len() <= 1
    }

    /// Those of some paths that the tree has.
    pub fn present<'p>(&self, paths: &[&'p str]) -> BTreeSet<&'p str> {
        let mut present = BTreeSet::new();
        for ListedEntry { entry, .. } in self.entries.iter() {
            let mut paths = paths.iter();
            present.extend(paths.find(|path| path.as_bytes() == entry.path));
        }
        present
    }

    /// What is not as it came in.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

fn stamp(file: &File) -> Result<FileStamp> {
    let meta = file.metadata();
    Ok(FileStamp::of(&meta.map_err(|error| {
        Error::io("examine", "the archive", error)
    })?))
}
