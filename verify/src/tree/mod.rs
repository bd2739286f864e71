//! Trees of images on disk: reading, writing and comparing them.

pub mod compare;
pub mod extract;
pub mod openat;
pub mod packages;
pub mod patch;
pub mod reuse;
pub mod walk;
