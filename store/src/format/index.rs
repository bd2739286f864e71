//! Indexes, version 1.
//!
//! ```text
//! index   = magic pack frames frame{frames} check
//! magic   = "imgidx" 0x00 version
//! version = 0x01
//! pack    = digest                 ; of the pack that this is the index of
//! frames  = u32                    ; how many, at least one
//! frame   = stored chunks chunk{chunks}
//! stored  = u32                    ; the frame's bytes in the pack: at least one, at
//!                                  ; most size + size / 256 + 1024, if its chunks
//!                                  ; have size bytes together
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
//! - counts or lengths out of range: frames over 4 MiB of content, frames longer
//!   than zstd could make them, packs over 256 MiB, more than 2^18 chunks;
//! - anything between the last frame and the check.
//!
//! The check guards against accidents, not against malice: that an index is true
//! is known when its chunks are decoded. No writer puts a chunk into a pack twice;
//! of an index that says so, a reader uses one place.
//!
//! # Example
//!
//! The index of the pack in the [example](super#a-store-byte-by-byte), 164 bytes:
//!
//! ```text
//!   0  69 6d 67 69 64 78 00 01      "imgidx" NUL, version 1
//!   8  01 64 bb .. .. .. a4 15      the digest of the pack
//!  40  02 00 00 00                  two frames
//!  44  0e 00 00 00  01 00 00 00     14 bytes from byte 8 of the pack: one chunk
//!  52  ea 8f 16 .. .. .. 20 0f      its digest
//!  84  05 00 00 00                  its 5 bytes
//!  88  36 08 00 00  01 00 00 00     2102 bytes from byte 22: one chunk
//!  96  bd bf 27 .. .. .. f5 eb      its digest
//! 128  2c 08 00 00                  its 2092 bytes
//! 132  .. .. .. .. .. .. .. ..      the digest of bytes 0 to 131
//! ```
