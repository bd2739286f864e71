//! The store's marker, version 1.
//!
//! ```text
//! marker  = "imgbuild store " version newline
//! version = "1"
//! ```
//!
//! The object `imgbuild-store` says that this is a store, and that every object in
//! it has the form described here. A reader refuses a store without it, and one of
//! another version. A version is a decimal number without leading zeros or sign.
//!
//! A store is readable with GET and ranges. `locks` and `tmp`, which only writers
//! on the same machine use, are not part of it.
