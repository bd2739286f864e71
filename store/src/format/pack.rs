//! Packs, version 1.
//!
//! ```text
//! pack    = magic frame+
//! magic   = "imgpak" 0x00 version
//! version = 0x01
//! frame   = one zstd frame, with the size of its content in its header
//! ```
//!
//! A frame's content is whole chunks, one directly after the other: at most 4 MiB
//! and 8192 chunks. Which chunks they are is in the [`super::index`], not in the
//! pack. A frame holds either content of files or parts of layouts.
//!
//! A pack has at most 256 MiB and 2^18 chunks; writers end one at 128 MiB. Its
//! name is the blake3 of all its bytes.
//!
//! # A reader refuses
//!
//! - a frame that does not announce exactly the size that the index's chunks have,
//!   before it decodes anything;
//! - a frame that zstd refuses, or bytes behind the frame in its range;
//! - a frame in which any chunk is not what its digest says.
//!
//! A reader never needs the pack's own digest: it is for those who copy packs, or
//! look for damage in parts that no image needs.
//!
//! Packs of the same chunks need not have the same bytes: another version of zstd
//! compresses otherwise. Nothing depends on it, since chunks are named by what they
//! decode to.
//!
//! # Example
//!
//! The pack in the [example](super#a-store-byte-by-byte), 2124 bytes. Its frames
//! store their content as it is, which is also zstd (RFC 8878, section 3.1.1):
//!
//! ```text
//!  0  69 6d 67 70 61 6b 00 01       "imgpak" NUL, version 1
//!  8  28 b5 2f fd                   a zstd frame
//! 12  20 05                         its content has 5 bytes
//! 14  29 00 00                      its last block: raw, 5 bytes
//! 17  68 65 6c 6c 6f                "hello"
//! 22  28 b5 2f fd                   a zstd frame
//! 26  60 2c 07                      its content has 1836 + 256 bytes
//! 29  61 41 00                      its last block: raw, 2092 bytes
//! 32  69 6d 67 6c 79 74 00 01 ..    the layout
//! ```
