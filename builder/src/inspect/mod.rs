//! What images are made of and how they differ.
//!
//! ```text
//! compare  two images -> their differences, by package and by entry
//! sbom     an image -> its bill of materials (SPDX, CycloneDX)
//! logs     what the steps of a build printed
//! ```

pub mod compare;
pub mod logs;
pub mod sbom;
