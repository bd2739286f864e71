//! Real servers on loopback, and a proxy that does to answers what networks do.
//!
//! A crate of its own, without the crates under test, so that each of them can use it.

// A panic in here is a failed test, as it should be.
#![allow(clippy::missing_panics_doc)]

pub mod bucket;
pub mod nginx;
pub mod proxy;
pub mod weed;
