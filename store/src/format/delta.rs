//! Deltas, version 2.
//!
//! A delta makes the chunks that one image, TO, has and another one, FROM, has not.
//! It is disposable: no image depends on it, and what it makes is compared with the
//! digests in TO's layout.
//!
//! ```text
//! delta   = magic frame* table
//! magic   = "imgdlt" 0x00 version
//! version = 0x02
//! frame   = a zstd frame (RFC 8878) that says its content's size: a patch
//! table   = one zstd frame of rows, at most 16 MiB   check
//! rows    = from to groups group{groups}
//! from    = digest                 ; the image FROM
//! to      = digest                 ; the image TO
//! group   = stored prior fresh     ; one for each frame, in order
//! stored  = number                 ; the frame's bytes in the delta
//! prior   = runs                   ; of FROM, at most 12 MiB: what the patch is of
//! fresh   = runs                   ; of TO, at least one: what the patch makes
//! runs    = number run{number}
//! run     = step first count
//! step    = number                 ; from the last run's entry to this one's; even
//!                                  ; for 2n: n further, odd for 2n - 1: n back
//! first   = number                 ; the first chunk of the entry
//! count   = number                 ; how many chunks, at least one
//! number  = LEB128 of at most 32 bits, in its shortest form
//! check   = digest                 ; of the table's bytes before it
//! ```
//!
//! Entries are counted from 1 in the order of the layout; 0 is the layout itself,
//! with the chunks that the manifest lists. The first run of `prior` and of `fresh`
//! counts its step from 0. Runs in the layout come first in `fresh`. A patch is of
//! the content of all chunks of `prior` one after the other; what it makes is that
//! of the chunks of `fresh`, at most 4 MiB, and it is at most twice as long as that
//! and 16 bytes. As a patch is always of content of FROM,
//! no frame needs another, and there are no cycles.
//!
//! ```text
//! patch      = number op{number} difference literal
//! op         = copy insert step
//! copy       = number              ; bytes that are made from prior content
//! insert     = number              ; new bytes behind them; not both are zero
//! step       = number              ; from where the last op's copy ended in prior
//!                                  ; content to where this one begins, the first one
//!                                  ; counting from 0; even and odd as above
//! difference = byte*               ; one for each byte of all copies: it is added to
//!                                  ; the byte of prior content, modulo 256
//! literal    = byte*               ; the bytes of all inserts
//! ```
//!
//! No chunk of FROM is made, and none twice. What a machine that has FROM cannot get
//! from a delta, it gets from packs.
//!
//! # The description
//!
//! `deltas/TO/FROM.json`, of the two images' digests in hexadecimal:
//!
//! ```json
//! {"schema": 2, "from": "blake3:HEX", "to": "blake3:HEX", "delta": "blake3:HEX",
//!  "size": 1, "table": 1, "packs": 1, "whole": 1}
//! ```
//!
//! The delta is `deltas/HEX.delta`, of its own digest; it has `size` bytes, of which
//! the last `table` are the table. `packs` is what a machine with FROM would fetch
//! from packs, `whole` what one without it would, indexes included, in bytes. It
//! decides about ways and never about content, so nobody signs it. It may be
//! replaced; a delta is not.
//!
//! # A reader refuses
//!
//! - a description over 4 KiB, of a later schema, with unknown or missing keys, of other
//!   images than its name says, or with a table over 17 MiB or longer than the delta;
//! - a table with a wrong check, of other images than the description says, over its
//!   limits, or with anything behind it; numbers in a longer form;
//! - over 65536 groups; over 8192 runs or chunks in `prior` or `fresh`, or over 1048576
//!   chunks in all of them together, which readers keep in memory; a frame
//!   longer than zstd could make it; frames that are not as long together as all
//!   before the table;
//! - runs in entries that have not so many chunks; `prior` or `fresh` over its limit;
//! - a frame that announces a longer patch than its chunks allow, before it is decoded;
//! - a patch with a step or a copy out of its prior content, with an op that does nothing,
//!   or is shorter or longer than its ops say; one that makes another size than its
//!   chunks have, before it makes anything;
//! - at last, a chunk, of `prior` as well as of `fresh`, that has another digest.
//!
//! # Version 1
//!
//! Its frames were not patches but the content itself, compressed with that of `prior`
//! as a prefix. Deltas of version 1 are left where they are, until they are made again
//! or collected, and nobody reads them: packs give the same chunks.
