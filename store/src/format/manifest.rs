//! Manifests, schema 1.
//!
//! A JSON object with the fields of [`crate::manifest::Manifest`], under the names
//! and in the order that they have there. Digests are `blake3:` or `sha256:` and 64
//! lower-case hexadecimal digits; a layout's chunks are `blake3:HEX:LENGTH`. Paths
//! are as [`crate::canonical_tar::display`] writes them. `run` is left out when the image
//! is not meant to be run.
//!
//! A writer writes two spaces of indentation, map keys sorted, and one newline at
//! the end. Nothing depends on the time or place of the publication.
//!
//! # A reader refuses
//!
//! - more than 32 MiB, before it reads them; another schema;
//! - unknown, duplicate or missing keys, floats, wrong types, anything behind the
//!   object;
//! - names outside their grammar, digests in any other spelling;
//! - a layout whose chunks do not add up to its size; a size that no tar of so many
//!   entries can have;
//! - a manifest of another image than the object's name says.
