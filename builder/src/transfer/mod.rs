//! Images from and for other tools.
//!
//! ```text
//! import  a directory, a tarball or an OCI layout -> an image
//! export  an image -> a tarball, an OCI layout, a SquashFS, ...
//! ```

pub mod export;
pub mod import;
