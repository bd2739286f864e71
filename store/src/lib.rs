//! The reproducible artifact store.
//!
//! A tree becomes a canonical tar, the tar's digest *is* the image, and the store
//! keeps the image as chunks that it shares with every other image:
//!
//! ```text
//! tree --canon--> canonical tar --chunk--> chunks --pack--> packs + indexes
//!                      |                      |
//!                   ImageId <--expands-- layout (headers and chunk references)
//!                      |
//!                   manifest (what an environment signs)
//! ```
//!
//! Reading is separate from writing. A node links this crate without the feature
//! `write` and gets [`Store`] on any [`Backend`]: get, range, verify. The feature
//! adds [`WritableStore`], which images are published into. The feature `http`
//! adds stores on web servers, the feature `s3` those in buckets.
//!
//! Each format has a page of its own in [`format`](mod@format).

#[cfg(feature = "write")]
pub mod attest;
pub mod backend;
mod build_log;
mod cache;
pub mod canonical_tar;
mod catalogue;
pub mod chunk;
#[cfg(feature = "write")]
mod chunker;
#[cfg(feature = "write")]
pub mod copy;
pub mod delta;
pub mod digest;
#[cfg(feature = "write")]
mod dir;
pub mod dsse;
mod error;
pub mod export;
#[cfg(feature = "http")]
mod far;
#[cfg(feature = "write")]
pub mod foreign_tar;
#[cfg(doc)]
pub mod format;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod hint;
#[cfg(feature = "http")]
mod http;
mod image;
pub mod keys;
mod layout;
#[cfg(feature = "write")]
pub mod maintenance;
pub mod manifest;
pub mod name;
mod pack;
#[cfg(feature = "write")]
mod parallel;
mod place;
#[cfg(feature = "s3")]
mod s3;
mod store;
pub mod tuf;
#[cfg(feature = "write")]
pub mod writable;
#[cfg(feature = "write")]
mod writer;

pub use self::backend::{Backend, LocalReader, ObjectRange, Traffic};
pub use self::build_log::{BuildLog, StepLog};
pub use self::cache::Cache;
pub use self::digest::{Blake3, ImageId, Sha256};
pub use self::error::{Error, ErrorKind, Result};
#[cfg(feature = "http")]
pub use self::http::{Access, HttpBackend, HttpUrl};
pub use self::image::{Entries, Image, Part};
pub use self::manifest::Manifest;
pub use self::name::{EnvName, ImageName};
pub use self::place::StoreUrl;
#[cfg(feature = "s3")]
pub use self::s3::BucketUrl;
pub use self::store::{ListedImage, Store};
#[cfg(feature = "write")]
pub use self::writable::{ListableBackend, WritableBackend};
#[cfg(feature = "write")]
pub use self::writer::{Inputs, Progress, Published, WritableStore};
