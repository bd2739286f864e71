//! What images are made of and how they differ.
//!
//! ```text
//! audit    what is known against an image: pending security updates, advisories
//! compare  two images -> their differences, by package and by entry
//! survey   an image -> what takes how much space, sources of packages, groups
//! sbom     an image -> its bill of materials (CycloneDX, SPDX)
//! files    files of a stored image, by path
//! logs     what the steps of a build printed
//! ```

pub mod audit;
pub mod compare;
pub(crate) mod files;
pub mod logs;
pub mod sbom;
pub mod survey;
