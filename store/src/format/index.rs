//! Indexes, version 1.
//!
//! ```text
//! index   = magic pack frames frame{frames} check
//! magic   = "imgidx" 0x00 version
//! version = 0x01
//! pack    = digest                 ; of the pack that this is the index of
//! frames  = u32                    ; how many, at least one
//! frame   = stored chunks chunk{chunks}
//! stored  = u32                    ; the frame's bytes in the pack, at least one
//! chunks  = u32                    ; how many, 1 to 8192
//! chunk   = digest len
//! len     = u32                    ; the chunk's bytes, 1 to 262144
//! check   = digest                 ; of everything before it
//! ```
//!
//! The first frame begins at byte 8 of the pack, each other where the one before
//! it ends, and the pack ends with the last: an index cannot describe overlapping
//! frames or gaps. Chunks stand in the order in which they are in the frame.
//!
//! # A reader refuses
//!
//! - more than 11.5 MiB, before it reads them; another magic or version;
//! - a wrong check; an index of another pack than its name says;
//! - counts or lengths out of range: frames over 4 MiB of content, packs over
//!   256 MiB, more than 2^18 chunks;
//! - anything between the last frame and the check.
//!
//! The check guards against accidents, not against malice: that an index is true
//! is known when its chunks are decoded.
