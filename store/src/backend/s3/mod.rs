//! Buckets of S3, and of servers that speak its protocol, as backends.
//!
//! `rusty-s3` signs requests and reads answers; the requests themselves go through
//! the client that web servers are read with ([`crate::backend::http`]), with the same
//! retries, limits, proxies and certificates. Signatures go into the query of a URL
//! (presigned, AWS Signature Version 4) that lasts a few minutes, is made anew for
//! each attempt, and appears in no error.
//!
//! | what happens | what is done |
//! |---|---|
//! | what a web server may do | the same as there |
//! | the object changed between two requests for it | fetched anew (`If-Match`) |
//! | wrong credentials, no bucket, no permission, a wrong clock or region | refused, with what to do |
//! | a conditional write that was repeated is refused | the object is looked at: the first attempt may have arrived |
//! | content that is not what was sent (`Content-MD5`) | sent again |
//!
//! Who asks comes from where AWS's own programs have it: see `backend::aws`. How
//! writers and collectors keep out of each other's way without a kernel's locks is
//! on the page [`crate::format::maintenance`].
//!
//! ```text
//! backend  a bucket as a backend
//! folder   a part of a bucket as a folder of small objects
//! probe    whether a bucket keeps what several writers rely on
//! lease    leases and locks, renewed by their owner
//! upload   objects that are too long to be in memory
//! client   requests, each repeated until it is answered
//! bucket   signed requests, and lists
//! url      the address of a bucket
//! error    what a server refuses
//! ```

#[cfg(feature = "write")]
mod backend;
mod bucket;
#[cfg(feature = "write")]
mod client;
mod error;
#[cfg(feature = "write")]
mod folder;
#[cfg(feature = "write")]
mod lease;
#[cfg(feature = "write")]
mod probe;
#[cfg(feature = "write")]
mod upload;
mod url;

#[cfg(feature = "write")]
pub(crate) use self::backend::S3Backend;
#[cfg(feature = "write")]
pub(crate) use self::folder::BucketFolder;
#[cfg(feature = "write")]
pub use self::probe::ProbeCheck;
pub use self::url::BucketUrl;
use crate::backend::client::{ClientOptions, ObjectClient};
use crate::backend::prefetch::Prefetch;
use crate::error::Result;

/// The read side of the store at `location`. Nothing is asked yet.
pub(crate) fn open(location: &BucketUrl, access: &ClientOptions) -> Result<Prefetch> {
    Ok(Prefetch::new(client(location, access)?))
}

/// A client of the bucket at `location`. Nothing is asked yet.
pub(crate) fn client(location: &BucketUrl, access: &ClientOptions) -> Result<ObjectClient> {
    let (client, bucket) = bucket::prepare(location, access)?;
    Ok(ObjectClient::new(client, Box::new(bucket), access))
}
