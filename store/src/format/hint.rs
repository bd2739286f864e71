//! Hints.
//!
//! ```json
//! {"packs": ["blake3:HEX", ...], "published": 1700000000}
//! ```
//!
//! `packs` are those that hold the image's chunks, `published` is when, in seconds
//! since 1970. A hint lets a reader find everything with plain GETs; it is replaced
//! whenever packs are rewritten, and nobody signs it.
//!
//! # A reader ignores
//!
//! a hint that it cannot parse or that has more than 1 MiB, and a pack whose index
//! is not there or damaged. It then lists `packs/`, where it can. It reads no more
//! indexes once they have 2^21 chunks together, and each once: nobody vouches for
//! how much a hint asks for.
