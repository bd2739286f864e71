//! The formats, one page each.
//!
//! These modules contain no code and exist only in the documentation. Each page
//! has the grammar, the version, and what a reader must refuse. All integers in
//! binary formats are little-endian; `digest` is the 32 bytes of a blake3 digest.
//!
//! | page | object | may change |
//! |---|---|---|
//! | [`tar`] | none: it is what an image expands to | never |
//! | [`pack`] | `packs/HEX.pack` | never |
//! | [`index`] | `packs/HEX.index` | never |
//! | [`layout`] | chunks in packs | never |
//! | [`manifest`] | `images/HEX.json` | never |
//! | [`hint`] | `hints/HEX.json` | yes |
//! | [`log`] | `logs/HEX.json.zst` | yes |
//! | [`store`] | `imgbuild-store` | never |
//! | [`care`] | `pins/HEX.json`, `quarantine/KEY` | yes |
//! | [`catalogue`] | `catalogue.json` | yes |
//!
//! `HEX` is 64 lower-case hexadecimal digits: of the pack's digest for packs and
//! indexes, of the image's for manifests, hints and logs.

pub mod care;
pub mod catalogue;
pub mod hint;
pub mod index;
pub mod layout;
pub mod log;
pub mod manifest;
pub mod pack;
pub mod store;
pub mod tar;
