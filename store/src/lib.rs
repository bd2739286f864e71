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

// The order of the flow: a module uses only what stands after it.

#[cfg(doc)]
pub mod format;

#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;

#[cfg(feature = "write")]
pub mod copy;

#[cfg(feature = "write")]
pub mod maintenance;

#[cfg(feature = "write")]
pub mod attest;

pub mod export;

pub mod tuf;

#[cfg(feature = "write")]
pub mod delta_writer;

#[cfg(feature = "write")]
mod writer;

mod store;

mod image;

mod catalogue;

pub mod delta;

mod hint;

mod build_log;

mod cache;

mod layout;

mod pack;

pub mod manifest;

#[cfg(feature = "write")]
pub mod foreign_tar;

pub mod canonical_tar;

#[cfg(feature = "write")]
mod chunker;

pub mod chunk;

pub mod backend;

pub mod dsse;

pub mod keys;

pub mod json;

#[cfg(feature = "write")]
mod parallel;

pub mod name;

pub mod digest;

mod error;

#[cfg(feature = "s3")]
pub use self::backend::BucketUrl;
pub use self::backend::{Backend, LocalReader, ObjectRange, StoreUrl, Traffic};
#[cfg(feature = "http")]
pub use self::backend::{ClientOptions, HttpBackend, HttpUrl};
#[cfg(feature = "write")]
pub use self::backend::{ListableBackend, WritableBackend};
pub use self::build_log::{BuildLog, StepLog};
pub use self::cache::Cache;
pub use self::catalogue::ListedImage;
pub use self::digest::{Blake3, ImageId, Sha256};
pub use self::error::{Error, ErrorKind, Result};
pub use self::image::{Entries, Image, ReplayEvent};
pub use self::manifest::Manifest;
pub use self::name::{EnvName, ImageName};
pub use self::store::Store;
#[cfg(feature = "write")]
pub use self::writer::{Inputs, Progress, Published, WritableStore};
