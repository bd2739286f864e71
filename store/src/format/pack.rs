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
