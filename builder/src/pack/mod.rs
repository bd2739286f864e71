//! From a finished tree to an image in the store.
//!
//! ```text
//! image  a tree -> its canonical tar, a manifest, retained recipe and lock
//! leak   refuses a tree that holds something of the building machine
//! ```

pub mod image;
pub mod leak;
