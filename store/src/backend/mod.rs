//! Backends: where the objects of a store are kept.
//!
//! | backend | reads | lists | writes |
//! |---|---|---|---|
//! | a directory (`local`) | yes | yes | yes |
//! | a web server (`http`) | yes | no | no |
//! | a bucket of S3 (`s3`) | yes | yes | yes |
//!
//! Reading a store needs two verbs: get an object, get a range of an object. Any
//! static web server has both. Listing is a third that some backends lack, so
//! nothing that a node needs depends on it. A backend moves bytes and verifies
//! nothing; whoever asked checks what came.
//!
//! Keys are relative paths of plain segments (`packs/<hex>.pack`). A key that
//! could leave the store is refused before anything is opened.
//!
//! Receipts of nodes are no store: they are put into a `folder`, which is in any of these places.
//!
//! Stores at the other end of a network are read through `prefetch`, which asks for
//! several ranges at once, and through one HTTP client (`client`).

#[cfg(all(feature = "http", feature = "put"))]
mod folder;

mod url;

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "s3")]
pub(crate) mod s3;

pub(crate) mod local;

#[cfg(feature = "http")]
mod prefetch;

#[cfg(feature = "http")]
mod client;

#[cfg(feature = "s3")]
mod aws;

#[cfg(feature = "write")]
mod writable;

mod readable;

mod key;

#[cfg(feature = "http")]
pub use self::client::{ClientOptions, HttpUrl};
#[cfg(all(feature = "http", feature = "write"))]
pub use self::folder::Listed;
#[cfg(all(feature = "http", feature = "put"))]
pub use self::folder::ObjectFolder;
#[cfg(feature = "http")]
pub use self::http::HttpBackend;
pub use self::key::{check_key, is_key};
pub use self::local::LocalReader;
pub(crate) use self::readable::get_checked;
pub use self::readable::{Backend, ObjectRange, Traffic, forbidden_is_absent};
#[cfg(feature = "s3")]
pub use self::s3::BucketUrl;
#[cfg(all(feature = "s3", feature = "write"))]
pub use self::s3::ProbeCheck;
pub use self::url::StoreUrl;
#[cfg(feature = "write")]
pub use self::writable::{
    ETag, Guard, ListableBackend, ObjectMeta, ObjectWriter, WritableBackend, Writers,
};

/// The key of the object that says: this is a store, in this format.
pub(crate) const MARKER: &str = "imgbuild-store";

/// The key of the catalogue, which is replaced with each publication.
pub(crate) const CATALOGUE: &str = "catalogue.json";

/// The longest object that a store has: a pack.
pub(crate) const OBJECT_MAX: u64 = 256 << 20;
