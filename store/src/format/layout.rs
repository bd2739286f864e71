//! Layouts, version 1.
//!
//! ```text
//! layout    = magic entry+ end
//! magic     = "imglyt" 0x00 version
//! version   = 0x01
//! entry     = header reference*
//! header    = the entry's header in the canonical tar, PAX included, byte for byte
//! reference = digest len           ; a chunk of the entry's content
//! len       = u32                  ; the chunk's bytes, 1 to 262144
//! end       = 1024 zero bytes, and nothing after them
//! ```
//!
//! An entry has references until their lengths add up to the size in its header:
//! none for an empty file and for all that is not a file, one for a file of at
//! most 256 KiB. Of a larger file, every chunk but the last has at least 16 KiB, so
//! that the number of references follows from the size. Replacing each file's references by the chunks and the padding
//! gives the canonical [`super::tar`].
//!
//! A layout is stored as chunks of its own, 4 to 64 KiB, which the manifest lists.
//!
//! # A reader refuses
//!
//! - another magic or version; chunks that do not add up to the digest and size in
//!   the manifest;
//! - whatever a reader of the canonical tar refuses in a header;
//! - lengths out of range or beyond the file's size; a second reference for a file
//!   of at most 256 KiB; a chunk under 16 KiB before the end of a larger one;
//! - more headers, content and padding than the image has bytes, before it keeps
//!   the references of what is too much;
//! - an end that is cut short, or anything behind it;
//! - at last, a layout that expands to another tar than the manifest names.
//!
//! # Example
//!
//! The layout of the image in the [example](super#a-store-byte-by-byte), 2092 bytes:
//!
//! ```text
//!    0  69 6d 67 6c 79 74 00 01     "imglyt" NUL, version 1
//!    8  2e 2f 00 ..                 the header of `./`, 512 bytes, as in the tar
//!  520  2e 2f 68 69 00 ..           the header of `./hi`, whose size field says 5
//! 1032  ea 8f 16 .. .. .. 20 0f     the digest of "hello"
//! 1064  05 00 00 00                 its 5 bytes: all of the file
//! 1068  00 ..                       1024 zero bytes
//! ```
