//! Trees of images on disk: writing, reading and comparing them.
//!
//! ```text
//! extract         verified content -> a tree, whatever the image tries
//! patch           the copy of one generation -> what of the next is there, what has to go
//! reuse           what the previous generation has already: its content, by chunks
//! packages        the Debian package of a path that differs
//! local_changes   was a tree changed in place since it was finished
//! compare         the tree on disk -> is it the image
//! merge           two sorted walks side by side: the tree and the signed entries
//! walk            reading a tree in canonical order
//! open            an open tree, and what has to stay mounted for it
//! openat          names in a tree, which cannot lead out of it
//! ```

pub mod compare;
pub mod extract;
pub mod local_changes;
mod merge;
pub mod open;
pub mod openat;
pub mod packages;
pub mod patch;
pub mod reuse;
pub mod walk;
