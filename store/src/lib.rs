//! The reproducible artifact store.
//!
//! A tree becomes a canonical tar, the tar's digest *is* the image, and the store
//! keeps the image as chunks that it shares with every other image:
//!
//! ```text
//! tree ---------> canonical tar --chunk--> chunks --pack--> packs + indexes
//!                      |                      |
//!                   ImageId <--expands-- layout (headers and chunk references)
//!                      |
//!                   manifest (what an environment signs)
//! ```
//!
//! Reading is separate from writing. A node links this crate without the feature
//! `write` and gets [`Store`] on any [`Backend`]: get, range, verify. The feature
//! adds [`WritableStore`], which images are published into; the feature `put`, which it has in it,
//! only what a node says of itself: a key, a signature, a new object. The feature `http`
//! adds stores on web servers, the feature `s3` those in buckets.
//!
//! Each format has a page of its own in [`format`](mod@format). Each module uses only
//! those that stand below it:
//!
//! ```text
//! format         the formats, one page each
//! fuzz           private parsers, for the fuzz targets
//! copy           images, copied from one store to another
//! maintenance    what is in a store, what nobody needs, what is damaged
//! attest         what people and machines say about an image, signed
//! export         what is signed about an exported image
//! fleet          whose receipts count
//! receipt        what a node says of itself
//! tuf            environments: which images are released where, and who says so
//! delta_writer   deltas, written
//! writer         images and what belongs to them, published into a store
//! verified       what this machine verified before
//! inventory      what lies beside an image, with digests
//! store          a store, read
//! image          an image, read
//! catalogue      which images a store has, for readers who cannot list it
//! delta          what a machine that has one image lacks of another
//! hint           in which packs an image's chunks are, for readers who cannot list
//! build_log      what the steps of a build printed
//! cache          what a reader keeps of a store on a network
//! layout         an image with its content replaced by chunk references
//! pack           packs and their indexes: how chunks lie in files
//! audit          what an audit says about an image
//! manifest       all that is known about an image, as JSON
//! foreign_tar    any tar, on its way to a canonical tar
//! canonical_tar  the one byte stream that a tree maps to
//! chunker        where content is cut into chunks
//! chunk          the unit of storage, and references to it
//! backend        where the objects of a store are: directories, web servers, buckets
//! dsse           signed envelopes
//! keys           public and private keys
//! json           JSON, read strictly and written canonically
//! random         random numbers of the kernel
//! parallel       a parallel map
//! sharded        a hash table for very many keys
//! name           names of images and environments
//! digest         digests that know which function made them
//! error          what can go wrong: one sentence and one kind
//! ```

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

#[cfg(feature = "write")]
pub mod fleet;

#[cfg(feature = "put")]
pub mod receipt;

pub mod tuf;

#[cfg(feature = "write")]
pub mod delta_writer;

#[cfg(feature = "write")]
mod writer;

#[cfg(feature = "write")]
mod verified;

#[cfg(feature = "write")]
pub mod inventory;

mod store;

mod image;

mod catalogue;

pub mod delta;

mod hint;

mod build_log;

mod cache;

mod layout;

mod pack;

#[cfg(feature = "write")]
pub mod audit;

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

mod random;

#[cfg(feature = "write")]
mod parallel;

mod sharded;

pub mod name;

pub mod digest;

mod error;

#[cfg(feature = "s3")]
pub use self::backend::BucketUrl;
#[cfg(all(feature = "http", feature = "put"))]
pub use self::backend::ObjectFolder;
#[cfg(all(feature = "s3", feature = "write"))]
pub use self::backend::ProbeCheck;
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
pub use self::verified::Verified;
#[cfg(feature = "write")]
pub use self::writer::{Inputs, Progress, Published, WritableStore};
