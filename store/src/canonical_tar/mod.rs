//! The canonical tar: the one byte stream that a tree maps to.
//!
//! An image *is* the digest of its canonical tar, so the mapping has to be a
//! function in both directions. From a tree: the order, the clock, the host and
//! the tool must not matter. From bytes: two streams that unpack to the same tree
//! must not both be accepted, or a signature would say less than it seems to.
//!
//! The second half is what makes this reader short. It does not try to list all
//! the ways in which a header can be odd. It parses a header into an [`Entry`],
//! encodes that entry again, and demands the very same bytes: whatever [`encode`]
//! would not write is refused. The named checks before that exist to say *what*
//! is wrong, and the rules about the tree as a whole (order, parents, hard links)
//! live in one small state machine that the tar reader, the layout reader and the
//! writer all pass through.
//!
//! The profile itself is on one page: [`crate::format::tar`].
//!
//! ```text
//! scan         a tree -> the sorted list of its entries
//! list         that list, in little memory
//! seal         whether a tree is as it was
//! xattr        the extended attributes of a file that are the image's
//! reader       a tar -> entries and content, strictly
//! rules        what must hold between the entries of one tree
//! header       an entry -> the bytes of its header
//! parse        the bytes of a header -> an entry
//! pax          PAX records
//! path         which paths an image may contain
//! installable  which extended attributes every node can have
//! entry        one entry of a tree
//! changes      what an import changed or left out
//! display      a path, as a person may see it
//! error        what is refused, one kind for each act
//! ```

#[cfg(feature = "write")]
mod changes;
mod display;
mod entry;
mod error;
mod header;
#[cfg(feature = "write")]
mod installable;
#[cfg(feature = "write")]
mod list;
mod parse;
mod path;
mod pax;
mod reader;
mod rules;
#[cfg(feature = "write")]
mod scan;
#[cfg(feature = "write")]
mod seal;
#[cfg(feature = "write")]
mod xattr;

#[cfg(feature = "write")]
pub use self::changes::{Change, ChangeExamples, Changes};
pub use self::display::display;
#[cfg(feature = "write")]
pub(crate) use self::display::display_short;
pub use self::entry::{Entry, Kind, is_host_xattr, order};
pub use self::error::{Error, ErrorKind};
pub use self::header::encode;
#[cfg(feature = "write")]
pub(crate) use self::header::is_xattr_name;
#[cfg(feature = "write")]
pub(crate) use self::installable::is_installable;
pub use self::path::{MAX_DEPTH, MAX_PATH};
pub use self::reader::{Content, Reader};
#[cfg(feature = "write")]
pub use self::scan::{Scanned, scan};

#[cfg(feature = "write")]
pub(crate) use self::list::{EntryList, ListedEntry, Position};
pub(crate) use self::parse::HeaderReader;
#[cfg(feature = "write")]
pub(crate) use self::path::{check as check_path, check_target, parent};
#[cfg(feature = "write")]
pub(crate) use self::pax::split_record as split_pax_record;
#[cfg(all(test, feature = "write"))]
pub(crate) use self::scan::scan_settled;
#[cfg(feature = "write")]
pub(crate) use self::scan::{FileStamp, changed, scan_lenient};

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;

/// The two zero blocks that end a canonical tar.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The most entries of one image, the root included.
pub const MAX_ENTRIES: u64 = 1 << 20;

/// How many zero bytes follow a content of `size` bytes.
pub(crate) const fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

#[cfg(all(test, feature = "write"))]
mod tests;
